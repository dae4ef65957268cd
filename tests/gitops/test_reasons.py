"""One table: every reason of every kind, and what kstatus, Argo CD and Flux make of an object that shows it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from vectorops.errors import Reason
from vectorops.kinds import KINDS
from vectorops.runtime import conditions
from vectorops.runtime.context import Context
from vectorops.runtime.events import Recorder
from vectorops.runtime.kind import Family, Kind, Verdict
from vectorops.runtime.reconcile import Seen, told
from vectorops.runtime.tracked import Tracked

from .verdicts import CURRENT, FAILED, GITOPS, argo, expressions, flux, kstatus

TABLE: dict[str, dict[str, list[str]]] = yaml.safe_load(Path(__file__).with_name("reasons.yaml").read_text())
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PROGRESS, BAD, PAUSE, FINE = (
    ("InProgress", "Progressing", "InProgress"),
    ("Failed", "Degraded", "Failed"),
    ("InProgress", "Suspended", "Current"),
    ("Current", "Healthy", "Current"),
)
READ = {  # (at first sight, after the progress deadline), each (kstatus, Argo CD, Flux)
    "Good": (FINE, FINE),
    "Work": (PROGRESS, PROGRESS),
    "Awaited": (PROGRESS, BAD),
    "Wrong": (BAD, BAD),
    "Paused": (PAUSE, PAUSE),
    "Failed": (BAD, BAD),
}
SERVING = {  # the same where Ready is True: what serves is not a failure, whatever it cannot do
    "Awaited": (PROGRESS, FINE),
    "Wrong": (FINE, FINE),
    "Paused": (FINE, FINE),
}
ROWS = [
    (kind, meaning, reason)
    for kind in KINDS
    for meaning, reasons in [*TABLE[kind.names.kind].items(), *TABLE["any"].items()]
    for reason in reasons
    if meaning != "Aside"
]


@dataclass
class At:
    """As much of a context as telling needs."""

    now: datetime
    progress_deadline: timedelta = timedelta(seconds=600)

    def clock(self) -> datetime:
        return self.now


def begin(kind: Kind[Any, Any, Any]) -> Tracked:
    meta = {
        "namespace": "shop", "name": "a", "uid": "u", "generation": 3, "resourceVersion": "10",
        "creationTimestamp": "2026-01-01T10:00:00Z",
    }  # fmt: skip
    return Tracked.begin(kind, {"metadata": meta, "spec": {}}, Recorder(), timedelta(seconds=5))


def shown(tracked: Tracked, verdict: Verdict, seconds: float) -> dict[str, Any]:
    """The object as the API would hold it after that verdict."""
    now = NOON + timedelta(seconds=seconds)
    seen = told(cast("Context", At(now)), tracked, Seen(verdict, own=()))
    stated = conditions.merge([], conditions.from_verdict(seen.verdict, tracked.kind.family), 3, now)
    return {
        "kind": tracked.kind.names.kind,
        "metadata": {"generation": 3, "name": "a"},
        "spec": {},
        "status": {"observedGeneration": 3, "conditions": stated},
    }


def read(body: dict[str, Any]) -> tuple[str, str, str]:
    return kstatus(body), argo(body), flux(body)


def verdicts(kind: Kind[Any, Any, Any], meaning: str, reason: str) -> list[Verdict]:
    """Every way in which a room may say it."""
    said = Verdict(reason, "why, and the next step")
    if meaning == "Good":
        ends = kind.family is Family.RUN_TO_COMPLETION
        return [replace(said, ready="True", complete=ends)]
    if meaning == "Failed":
        return [replace(said, failed=True)]
    flags = (
        {},
        {"stalled": True},
        {"reconciling": True},
        {"suspended": True},
        {"ready": "Unknown", "reconciling": True},
    )
    return [replace(said, **cast("dict[str, Any]", flag)) for flag in flags]


@pytest.mark.parametrize("name", TABLE)
def test_the_table_has_every_reason_once(name: str) -> None:
    enums = {kind.names.kind: kind.reasons for kind in KINDS} | {"any": Reason}
    listed = [reason for reasons in TABLE[name].values() for reason in reasons]
    assert sorted(listed) == sorted(str(reason) for reason in enums[name]), (
        "add the reason to tests/gitops/reasons.yaml"
    )


@pytest.mark.parametrize(("kind", "meaning", "reason"), ROWS, ids=[f"{k.names.kind}-{r}" for k, _, r in ROWS])
def test_a_reason_reads_as_the_table_says(kind: Kind[Any, Any, Any], meaning: str, reason: str) -> None:
    early, late = READ[meaning]
    for verdict in verdicts(kind, meaning, reason):
        following = begin(kind)
        assert read(shown(following, verdict, 0)) == early
        assert read(shown(following, verdict, 599)) == early
        assert read(shown(following, verdict, 600)) == late


@pytest.mark.parametrize(
    ("meaning", "reason"), [row[1:] for row in ROWS if row[0].names.kind == "VectorIndex" and row[1] in SERVING]
)
def test_an_index_that_serves_is_no_failure(meaning: str, reason: str) -> None:
    kind = next(kind for kind in KINDS if kind.names.kind == "VectorIndex")
    following, (early, late) = begin(kind), SERVING[meaning]
    verdict = Verdict(reason, "why", ready="True", stalled=True)
    assert read(shown(following, verdict, 0)) == early
    body = shown(following, verdict, 600)
    assert read(body) == late
    assert any(c["type"] in ("Blocked", "Suspended") and c["status"] == "True" for c in body["status"]["conditions"])


def test_a_suspended_object_waits_for_nothing_and_is_never_late() -> None:
    for kind in KINDS:
        following = begin(kind)
        following.raw_spec = {"suspend": True}
        verdict = Verdict(Reason.SecretNotFound, "create it", stalled=True)
        assert read(shown(following, verdict, 0)) == read(shown(following, verdict, 6000)) == PAUSE
        assert following.waited.since is None


def test_an_object_that_nobody_has_looked_at_is_in_progress() -> None:
    new: dict[str, Any] = {"kind": "VectorIndex", "metadata": {"generation": 1}, "spec": {}}
    unseen = new | {"status": {"observedGeneration": -1}}
    assert (kstatus(unseen), argo(unseen), flux(unseen)) == PROGRESS
    assert argo(new) == "Progressing"
    ready = {"type": "Ready", "status": "True", "reason": "IndexReady", "message": "", "observedGeneration": 1}
    edited = {
        "kind": "VectorIndex", "metadata": {"generation": 2}, "spec": {},
        "status": {"observedGeneration": 1, "conditions": [ready]},
    }  # fmt: skip
    assert read(edited) == PROGRESS


def test_the_expressions_of_flux_are_those_that_are_restated_and_name_every_kind() -> None:
    assert [one["kind"] for one in expressions()] == ["VectorStore", "VectorIndex", "EmbeddingBackfill", "CacheWarmup",
                                                      "SearchTuning"]  # fmt: skip
    assert {one["kind"] for one in expressions()} == {kind.names.kind for kind in KINDS}
    for one in expressions():
        assert (one["apiVersion"], one["current"], one["failed"]) == ("vectorops.dev/v1alpha1", CURRENT, FAILED)


def test_the_config_map_of_argo_cd_holds_the_scripts_for_every_kind() -> None:
    folder = GITOPS / "argocd"
    data = yaml.safe_load((folder / "argocd-cm.yaml").read_text())["data"]
    kinds = {kind.names.kind for kind in KINDS}
    for what in ("health", "actions", "ignoreDifferences"):
        prefix = f"resource.customizations.{what}.vectorops.dev_"
        assert {key.removeprefix(prefix) for key in data if key.startswith(prefix)} == kinds
    for kind in kinds:
        assert data[f"resource.customizations.health.vectorops.dev_{kind}"] == (folder / "health.lua").read_text()
        actions = yaml.safe_load(data[f"resource.customizations.actions.vectorops.dev_{kind}"])
        assert actions["discovery.lua"].strip() == (folder / "actions" / "discovery.lua").read_text().strip()
        scripts = {one["name"]: one["action.lua"].strip() for one in actions["definitions"]}
        assert scripts == {file.stem: file.read_text().strip() for file in (folder / "actions").glob("*.lua")
                           if file.stem != "discovery"}  # fmt: skip
