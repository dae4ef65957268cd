"""A status that this version cannot read is an empty one, but for the end of a run."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vectorops.kinds import KINDS
from vectorops.runtime.completion import ended
from vectorops.runtime.kind import Family, Kind
from vectorops.runtime.passes.readable import readable

RUNS = [kind for kind in KINDS if kind.family is Family.RUN_TO_COMPLETION]
COMPLETE = {"type": "Complete", "status": "True", "reason": "Succeeded", "lastTransitionTime": "2026-01-01T10:00:00Z"}
READY = {**COMPLETE, "type": "Ready"}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def index_kind() -> Kind[Any, Any, Any]:
    return next(kind for kind in KINDS if kind.names.kind == "VectorIndex")


def test_a_field_of_another_version_is_left_out_and_the_rest_stays() -> None:
    kind = index_kind()
    written = {"observedGeneration": 3, "index": "5 MB", "conditions": [READY]}
    assert readable(kind.status, written, kind.family, None) == {"observedGeneration": 3, "conditions": [READY]}


def test_a_status_that_can_be_read_is_left_alone() -> None:
    kind = index_kind()
    written = {"observedGeneration": 3, "conditions": [READY], "later": {"of": "a newer version"}}
    assert readable(kind.status, written, kind.family, None) == written


@pytest.mark.parametrize("kind", RUNS, ids=lambda kind: kind.names.kind)
@pytest.mark.parametrize(
    "broken",
    [
        {"observedGeneration": "three"},
        {"conditions": [{**COMPLETE, "lastTransitionTime": 7, "observedGeneration": "x"}, READY]},
        {"conditions": [{"type": "Complete", "status": "True"}, {"type": ["Ready"]}, 5]},
        {"completionTime": "long ago", "progress": 5},
        {"runToken": ["a"]},
    ],
)
def test_a_run_that_has_ended_stays_ended_whatever_else_cannot_be_read(
    kind: Kind[Any, Any, Any], broken: dict[str, Any]
) -> None:
    written = {"runToken": "a", "conditions": [COMPLETE, READY]} | broken
    status = kind.status.model_validate(readable(kind.status, written, kind.family, "a"))
    assert ended("a", status) is not None


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=50)
@given(st.dictionaries(st.sampled_from(["conditions", "index", "build", "progress", "plan", "x"]), json_values))
def test_whatever_stands_in_a_status_it_can_be_read_afterwards(written: dict[str, Any]) -> None:
    for kind in KINDS:
        kind.status.model_validate(readable(kind.status, written, kind.family, None))
