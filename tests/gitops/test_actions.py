"""The buttons of Argo CD: which are offered when, and what they change of an object."""

from __future__ import annotations

import re
from typing import Any

import pytest

from .verdicts import acted, discovered

PLAN = {"plan": {"hash": "0123456789abcdef"}}


def body(kind: str, reason: str = "", status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """An object of the kind; `reason` is Ready's, or of the condition with which it has ended."""
    types = ["Complete", "Ready"] if reason == "Succeeded" else ["Ready"]
    stated = [{"type": type_, "status": "True", "reason": reason} for type_ in types] if reason else []
    return {"kind": kind, "metadata": {"name": "a"}, "spec": spec, "status": {"conditions": stated} | (status or {})}


@pytest.mark.parametrize(
    ("sentence", "given", "offered"),
    [
        ("a store is stopped and no more", body("VectorStore", "StoreReady"), {"suspend"}),
        ("what is suspended is resumed", body("VectorStore", "Suspended", suspend=True), {"resume"}),
        ("an index is rebuilt", body("VectorIndex", "IndexReady", {"index": {"oid": 1}}), {"suspend", "rerun"}),
        ("a plan that waits is approved", body("VectorIndex", "WaitingForApproval", PLAN), {"suspend", "approve"}),
        ("a plan that does not wait is not", body("EmbeddingBackfill", "Embedding", PLAN), {"suspend"}),
        ("a request that has ended is run again", body("CacheWarmup", "Succeeded"), {"suspend", "rerun"}),
        ("one that nobody has looked at can be stopped", {"kind": "SearchTuning", "spec": {}}, {"suspend"}),
    ],
)
def test_an_action_is_offered_where_it_means_something(sentence: str, given: dict[str, Any], offered: set[str]) -> None:
    assert discovered(given) == offered, sentence


def test_an_action_changes_one_thing() -> None:
    waiting = body("EmbeddingBackfill", "WaitingForApproval", PLAN)
    approved = acted(waiting, "approve")
    assert approved["metadata"] == {"name": "a", "annotations": {"vectorops.dev/approve": PLAN["plan"]["hash"]}}
    assert acted(waiting, "suspend")["spec"] == {"suspend": True}
    assert acted(waiting, "resume")["spec"] == {"suspend": False}
    token = acted(waiting, "rerun")["spec"]["runToken"]
    assert re.fullmatch(r"argocd-\d{8}T\d{6}Z", token)


def test_there_is_nothing_to_approve_without_a_plan() -> None:
    with pytest.raises(Exception, match="there is no plan to approve"):
        acted(body("VectorIndex", "IndexReady"), "approve")
