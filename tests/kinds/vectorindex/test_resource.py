"""The VectorIndex as written by a person: defaults, refusals, names, sizes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.kinds.vectorindex.given import UID, spec

from vectorops.kinds.vectorindex import KIND
from vectorops.kinds.vectorindex.naming import NAME_BYTES, attempt_hash, build_name, index_name, old_name, too_long
from vectorops.kinds.vectorindex.resource import Storage
from vectorops.kinds.vectorindex.sizing import (
    Limits,
    duration_text,
    graph_bytes,
    lists_for,
    quantity,
    size,
)
from vectorops.runtime.rounding import size_text

MIB = 1024 * 1024
LIMITS = Limits(64 * MIB, 128 * MIB, 4096 * MIB, 2, 8, 8)


def test_the_shortest_spec_is_the_runbooks_index() -> None:
    least = spec()
    assert index_name(least) == "idx_products_embedding_hnsw"
    assert (least.schema_name, least.method, least.storage, least.management_policy) == (
        "public",
        "HNSW",
        "Vector",
        "Manage",
    )
    assert (least.deletion_policy, least.deletion_timeout_seconds, least.build.on_shutdown) == ("Retain", 600, "Detach")
    assert least.model_dump(by_alias=True)["schema"] == "public"


@pytest.mark.parametrize(
    "fields",
    [
        {"metric": "Manhattan"},
        {"hnsw": {"m": 1}},
        {"hnsw": {"m": 101}},
        {"hnsw": {"efConstruction": 3}},
        {"hnsw": {"efConstruction": 1001}},
        {"ivfflat": {"lists": 0}},
        {"build": {"parallelWorkers": 65}},
        {"build": {"maintenanceMemory": "2 GB"}},
        {"build": {"onShutdown": "Kill"}},
        {"table": ""},
        {"table": "t" * 64},
        {"runToken": "t" * 129},
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        spec(**fields)


def test_every_reason_says_what_to_do() -> None:
    assert all(reason.next_step for reason in KIND.reasons)


def test_columns_are_those_of_the_contract() -> None:
    names = [column.name for column in KIND.columns]
    assert names == ["READY", "TABLE", "METHOD", "SIZE", "RECALL", "PROGRESS", "ETA", "REASON", "AGE"]


def test_a_name_of_64_bytes_is_found_where_characters_are_fewer() -> None:
    assert too_long(spec(table="é" * 32)) == ("table",)
    assert too_long(spec(table="é" * 31)) == ()


LETTERS = st.characters(exclude_categories=("Cc", "Cs"))  # a spec takes no control characters, and JSON no surrogates


@given(st.text(LETTERS, min_size=1, max_size=63), st.text(LETTERS, min_size=1, max_size=63))
def test_derived_names_fit_into_63_bytes_and_are_told_apart(table: str, column: str) -> None:
    wanted = spec(table=table, column=column)
    name, build = index_name(wanted), build_name(wanted, UID)
    names = (name, build, old_name(build))
    assert all(len(n.encode()) <= NAME_BYTES for n in names)
    assert len(set(names)) == 3
    assert name.endswith("_hnsw")


def test_long_names_that_begin_alike_stay_different() -> None:
    long = "a" * 60
    assert index_name(spec(table=long, column="one")) != index_name(spec(table=long, column="two"))


def test_the_name_of_a_build_depends_on_object_and_definition() -> None:
    base = build_name(spec(), UID)
    assert base == build_name(spec(build={"parallelWorkers": 3}, runToken="x"), UID)
    assert base != build_name(spec(), "another uid")
    assert base != build_name(spec(hnsw={"m": 16, "efConstruction": 64}), UID)
    assert (
        base.startswith("idx_products_embedding_hnsw_vo_") and len(base) == len("idx_products_embedding_hnsw_vo_") + 8
    )


def test_an_attempt_is_another_one_when_its_limits_or_token_change() -> None:
    assert (
        len({attempt_hash(spec()), attempt_hash(spec(runToken="x")), attempt_hash(spec(build={"parallelWorkers": 0}))})
        == 3
    )


# -- sizing ------------------------------------------------------------------------------------------------------------


def test_the_graph_of_the_runbooks_table_needs_three_quarters_of_a_gigabyte() -> None:
    assert 0.70e9 < graph_bytes(100_000, 1536, 24, Storage.VECTOR) < 0.80e9
    assert graph_bytes(100_000, 1536, 24, Storage.HALFVEC) < 0.6 * graph_bytes(100_000, 1536, 24, Storage.VECTOR)


@pytest.mark.parametrize(
    ("fields", "rows", "extension", "memory", "workers", "note"),
    [
        ({}, 100_000, (0, 8, 6), 736, 2, ""),
        ({}, 100, (0, 8, 6), 64, 0, ""),
        ({}, 5_000_000, (0, 8, 6), 1024, 2, ""),  # a quarter of effective_cache_size
        ({"build": {"maintenanceMemory": "2Gi"}}, 100, (0, 8, 6), 2048, 0, ""),
        ({"build": {"parallelWorkers": 1}}, 100, (0, 8, 6), 64, 1, ""),
        ({"build": {"parallelWorkers": 64}}, 100, (0, 8, 6), 64, 8, "the server allows 8 parallel workers"),
        ({}, 100_000, (0, 8, 1), 736, 0, "serial: parallel builds are not safe before pgvector 0.8.2"),
        (
            {"build": {"parallelWorkers": 4}},
            100_000,
            (0, 8, 1),
            736,
            0,
            "serial: parallel builds are not safe before pgvector 0.8.2",
        ),
        ({"method": "IVFFlat"}, 100_000, (0, 8, 1), 80, 2, ""),
    ],
)
def test_a_build_is_sized(
    fields: dict[str, Any], rows: int, extension: Any, memory: int, workers: int, note: str
) -> None:
    sized = size(spec(**fields), rows, 1536, LIMITS, extension)
    assert (sized.memory // MIB, sized.workers, sized.note) == (memory, workers, note)


@pytest.mark.parametrize(("rows", "lists"), [(0, 10), (50_000, 50), (1_000_000, 1000), (4_000_000, 2000)])
def test_lists_follow_pgvectors_advice(rows: int, lists: int) -> None:
    assert lists_for(rows) == lists


@pytest.mark.parametrize(
    ("text", "expected"), [("Auto", None), ("64Mi", 64 * MIB), ("2Gi", 2048 * MIB), ("512Ki", MIB // 2)]
)
def test_quantities(text: str, expected: int | None) -> None:
    assert quantity(text) == expected


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 bytes"), (8192, "8192 bytes"), (81920, "80 kB"), (819_200_000, "781 MB"), (8_000_000_000, "7.5 GB")],
)
def test_sizes_are_written_for_a_person(size_bytes: int, text: str) -> None:
    assert size_text(size_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59.6, "1m00s"), (130, "2m10s"), (3900, "1h05m"), (183_600, "2d03h")]
)
def test_durations_are_written_for_a_person(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
