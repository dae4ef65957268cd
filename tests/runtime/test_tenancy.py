"""Objects of one namespace are not told the names of another's."""

from __future__ import annotations

import pytest

from vectorops.runtime.tenancy import named


@pytest.mark.parametrize(
    ("owners", "told"),
    [
        (["team/a"], "VectorStore team/a"),
        (["team/b", "team/a", "team/a"], "VectorStore team/a, team/b"),
        (["team/a", "rival/secret-project"], "VectorStore team/a and 1 of other namespaces"),
        (["rival/secret-project"], "a VectorStore of another namespace"),
        (["rival/x", "team-2/y"], "2 VectorStore objects of other namespaces"),
    ],
)
def test_only_names_of_ones_own_namespace_are_told(owners: list[str], told: str) -> None:
    assert named("team", "VectorStore", owners) == told
