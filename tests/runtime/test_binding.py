"""What is handed on of an object is what a pass reads, and nothing of what writers of the object keep there."""

from __future__ import annotations

import json

import kopf

from vectorops.runtime.binding import LAST_APPLIED, configure, slim


def test_a_body_is_handed_on_without_what_its_writers_keep_there() -> None:
    meta = {"name": "a", "namespace": "shop", "uid": "u", "resourceVersion": "7"}
    kept = {LAST_APPLIED: json.dumps({"spec": "all of it" * 100}), "vectorops.dev/approve": "4f2a", "team": "search"}
    whole = {
        "apiVersion": "vectorops.dev/v1alpha1",
        "kind": "VectorIndex",
        "metadata": {**meta, "managedFields": [{"manager": "kubectl"}], "annotations": kept},
        "spec": {"suspend": True},
        "status": {"observedGeneration": 1},
    }
    slimmed = slim(whole)
    assert slimmed["spec"] is whole["spec"]
    assert slimmed["status"] is whole["status"]
    assert slimmed["metadata"] == {**meta, "annotations": {"vectorops.dev/approve": "4f2a", "team": "search"}}
    assert LAST_APPLIED in kept, "Kopf's own body is left alone"


def test_an_object_without_status_and_annotations_is_handed_on_too() -> None:
    assert slim({"metadata": {"name": "a"}, "spec": {}}) == {"metadata": {"name": "a", "annotations": {}}, "spec": {}}


def test_nothing_limits_how_many_objects_are_heard_at_once() -> None:
    """A worker of Kopf keeps its place for a while after it has handed over: a limit would limit objects a second."""
    settings = kopf.OperatorSettings()
    configure(settings)
    assert settings.queueing.worker_limit is None
