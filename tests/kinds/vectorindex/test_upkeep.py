"""Keeping an index good: rules that build it anew, plans that wait for a person or a standby, measured recall. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.kinds.vectorindex.given import (
    BUILT_OID,
    NOW,
    READY,
    SETTLED_OID,
    UID,
    YES,
    action_of,
    attempt,
    backend,
    built,
    decided,
    empty,
    index,
    look,
    running,
    spec,
    subject,
    world,
)

from vectorops.kinds.vectorindex import KIND, actions
from vectorops.kinds.vectorindex.observation import Neighbour, ProbeSeen, Replica, Step, Table
from vectorops.kinds.vectorindex.resource import IndexStatus, Recall, VectorIndexStatus
from vectorops.kinds.vectorindex.rules import birth_of
from vectorops.kinds.vectorindex.scans import OwnScans

OTHER_M = {"hnsw": {"m": 16, "efConstruction": 64}}
TABLE = Table(1, "r", 100_000, True, "shop", "vectorops")
BORN = '{"built": "2026-04-01T00:00:00Z", "bytesPerRow": 8000, "deadRows": 1000, "pgvector": "0.8.4"}'
LATELY = '{"built": "2026-04-20T00:00:00Z", "bytesPerRow": 8000, "pgvector": "0.8.6", "cause": "recall"}'
TODAY = '{"built": "2026-05-01T06:00:00Z", "bytesPerRow": 1, "deadRows": 0, "pgvector": "0.8.4"}'
EVERY_RULE = {
    "recallBelowPercent": 90, "bytesPerRowGrowthPercent": 50, "deadTuplePercent": 20, "afterExtensionUpgrade": True,
}  # fmt: skip


def born(text: str = BORN, **changes: Any) -> Any:
    return index(comment=f"vectorops:{UID} runToken=a {{b }} {text}", **changes)


def recalled(upper: int = 85, oid: int = SETTLED_OID) -> VectorIndexStatus:
    known = Recall(percent=80, lower_bound_percent=75, upper_bound_percent=upper, sampled=256, index_oid=oid, at=NOW)
    return READY.model_copy(update={"recall": known})


# -- rules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "value", "changes", "due"),
    [
        ("bytesPerRowGrowthPercent", 50, {"index": born(size_bytes=1_200_000_000)}, False),
        ("bytesPerRowGrowthPercent", 50, {"index": born(size_bytes=1_200_100_000)}, True),
        ("bytesPerRowGrowthPercent", 50, {"index": index(size_bytes=9_000_000_000)}, False),  # adopted: never measured
        ("bytesPerRowGrowthPercent", 50, {"index": born(TODAY)}, False),  # once a day at most
        ("deadTuplePercent", 20, {"index": born(), "table": replace(TABLE, dead_rows=25_000)}, False),
        ("deadTuplePercent", 20, {"index": born(), "table": replace(TABLE, dead_rows=27_000)}, True),
        ("deadTuplePercent", 20, {"index": born(), "table": replace(TABLE, rows=9_000, dead_rows=9_000)}, False),
        ("afterExtensionUpgrade", True, {"index": born()}, True),
        ("afterExtensionUpgrade", True, {"index": born(), "extension": (0, 8, 4)}, False),
        ("afterExtensionUpgrade", True, {"index": index()}, False),
        ("afterExtensionUpgrade", False, {"index": born()}, False),
    ],
)
def test_a_rule_builds_anew_what_has_changed_enough(rule: str, value: Any, changes: dict[str, Any], due: bool) -> None:
    verdict = decided(world(**changes), spec(rebuild={rule: value}))
    assert (action_of(verdict) == "StartBuild") is due
    assert verdict.ready == "True"


@pytest.mark.parametrize(
    ("status", "found", "due"),
    [
        (recalled(89), index(), True),
        (recalled(90), index(), False),
        (recalled(89, oid=7), index(), False),  # of an index that is no more
        (READY, index(), False),
        (recalled(89), born(LATELY), False),  # a rebuild did not help
        (recalled(89), born(LATELY.replace("04-20", "03-20")), True),  # long ago
    ],
)
def test_a_recall_that_is_surely_too_low_builds_anew_once(status: VectorIndexStatus, found: Any, due: bool) -> None:
    wanted = spec(rebuild={"recallBelowPercent": 90}, probe={"enabled": True})
    verdict = decided(world(index=found, probe=ProbeSeen(False, SETTLED_OID, ended=NOW)), wanted, status)
    assert (action_of(verdict) == "StartBuild") is due


def test_a_build_that_a_rule_began_is_not_given_up_when_the_figure_moves() -> None:
    wanted = spec(rebuild={"deadTuplePercent": 20})
    calm = world(index=born(), intents=(*world().intents, attempt(wanted)), job=running(), backend=backend())
    assert decided(calm, wanted).action is None
    verified = world(index=born(), intents=(*world().intents, attempt(wanted)), indexes=built(wanted), build_canary=YES)
    assert action_of(decided(verified, wanted)) == "Swap"


@pytest.mark.parametrize(
    "comment", [None, "", "mine", "vectorops:x", "vectorops:x {", "vectorops:x {}", 'vectorops:x {"built": 7}', "x {1}"]
)
def test_a_comment_that_is_not_ours_says_nothing(comment: str | None) -> None:
    assert birth_of(index(comment=comment)) is None


def test_rules_only_propose_where_a_person_approves() -> None:
    wanted = spec(rebuild=EVERY_RULE, approval="Manual")
    verdict = decided(world(index=born()), wanted)
    assert (verdict.reason, verdict.action, verdict.ready) == ("WaitingForApproval", None, "True")
    plan = KIND.figures(look(world(index=born()), wanted)).plan
    assert plan is not None and "0.8.4" in plan.why


# -- approval ------------------------------------------------------------------------------------------------------


def test_a_plan_waits_is_shown_and_begins_when_it_is_approved() -> None:
    wanted = spec(**OTHER_M, approval="Manual")
    verdict, plan = decided(world(), wanted), KIND.figures(look(world(), wanted)).plan
    assert plan is not None
    assert (verdict.reason, verdict.suspended, verdict.ready) == ("WaitingForApproval", True, "True")
    assert f"kubectl -n shop annotate vidx products vectorops.dev/approve={plan.hash}" in verdict.message
    assert [line.split(" ")[0] for line in plan.statements] == ["CREATE", "ALTER", "ALTER", "DROP", "ANALYZE"]
    assert (plan.rows, plan.size_bytes) == (100_000, 800_000_000)
    annotated = subject(annotations={"vectorops.dev/approve": plan.hash})
    assert action_of(decided(world(), wanted, of=annotated)) == "StartBuild"
    assert action_of(decided(world(), spec(**OTHER_M, approval="Manual", approvedPlan=plan.hash))) == "StartBuild"
    other = subject(annotations={"vectorops.dev/approve": "0" * 12})
    assert decided(world(), wanted, of=other).reason == "WaitingForApproval"


def test_a_plan_goes_stale_when_what_it_was_decided_on_has_changed() -> None:
    wanted = spec(**OTHER_M, approval="Manual")

    def hash_of(observed: Any, of: Any = wanted) -> str:
        plan = KIND.figures(look(observed, of)).plan
        assert plan is not None
        return plan.hash

    assert hash_of(world(table=replace(TABLE, rows=110_000))) == hash_of(world())
    assert hash_of(world(table=replace(TABLE, rows=300_000))) != hash_of(world())
    assert hash_of(world(index=index(oid=7))) != hash_of(world())
    assert hash_of(world(), spec(approval="Manual", hnsw={"m": 20, "efConstruction": 64})) != hash_of(world())
    assert hash_of(world(), spec(**OTHER_M, approval="Manual", runToken="b")) != hash_of(world())


def test_a_first_build_waits_too() -> None:
    assert decided(empty(), spec(approval="Manual")).reason == "WaitingForApproval"


@pytest.mark.parametrize("changed", [{}, {"runToken": "b"}, {"build": {"maintenanceMemory": "2Gi"}}])
def test_an_attempt_that_failed_is_no_approval_of_the_next(changed: dict[str, Any]) -> None:
    before = spec(**OTHER_M)
    long_ago = NOW - timedelta(days=1)
    failed = attempt(before, step=Step.DROPPING, failure="BuildFailed", updated_at=long_ago)
    wanted = spec(**OTHER_M, approval="Manual", **changed)
    observed = world(intents=(*world().intents, failed))
    assert decided(observed, wanted).reason == "WaitingForApproval"
    plan = KIND.figures(look(observed, wanted)).plan
    assert plan is not None
    annotated = subject(annotations={"vectorops.dev/approve": plan.hash})
    assert action_of(decided(observed, wanted, of=annotated)) == "StartBuild"


# -- standbys ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("replicas", "reason"),
    [
        ((), "Building"),
        ((Replica("one", "streaming", None),), "Building"),  # nothing is behind
        ((Replica("one", "streaming", 30.0),), "Building"),
        ((Replica("one", "streaming", 0.1), Replica("two", "streaming", 30.5)), "WaitingForReplica"),
        ((Replica("", None),), "InsufficientPrivilege"),
    ],
)
def test_a_build_begins_only_while_the_standbys_keep_up(replicas: tuple[Replica, ...], reason: str) -> None:
    wanted = spec(**OTHER_M, build={"maxReplicaLagSeconds": 30})
    verdict = decided(world(replicas=replicas), wanted)
    assert (verdict.reason, verdict.ready) == (reason, "True")
    assert decided(world(replicas=replicas)).reason == "IndexReady"
    if reason == "WaitingForReplica":
        assert ("two" in verdict.message) or ('GRANT pg_monitor TO "vectorops"' in verdict.message)


def test_a_running_build_goes_on_and_the_lag_is_told() -> None:
    wanted = spec(**OTHER_M, build={"maxReplicaLagSeconds": 30})
    job = running(build_name=attempt(wanted).build_name)
    seen = world(intents=(*world().intents, attempt(wanted)), job=job, backend=backend())
    behind = replace(seen, replicas=(Replica("one", "streaming", 99.0),))
    assert "Standby one lags more than 30 s; it goes on." in decided(behind, wanted).message
    assert decided(behind, wanted).action is None
    assert "Standby" not in decided(seen, wanted).message


# -- the probe -------------------------------------------------------------------------------------------------------

PROBED = {"probe": {"enabled": True, "recallTargetPercent": 90, "periodSeconds": 3600}}


def measured(lower: int, upper: int, **changes: Any) -> ProbeSeen:
    made = ProbeSeen(
        False, SETTLED_OID, ended=NOW, percent=(lower + upper) // 2, lower_percent=lower, upper_percent=upper,
        sampled=256, ef_search=40,
    )  # fmt: skip
    return replace(made, **changes)


def test_a_probe_begins_on_a_settled_index_and_then_once_a_period() -> None:
    wanted = spec(**PROBED)
    assert decided(world(), wanted).action == actions.StartProbe(SETTLED_OID)
    assert decided(world()).action is None  # off by default
    assert decided(world(), spec(**PROBED, suspend=True)).action is None
    assert action_of(decided(empty(), wanted)) == "StartBuild"
    assert decided(world(), wanted, recalled()).action is None
    old = recalled()
    assert old.recall is not None
    old = old.model_copy(update={"recall": old.recall.model_copy(update={"at": NOW - timedelta(seconds=3601)})})
    assert action_of(decided(world(), wanted, old)) == "StartProbe"
    assert action_of(decided(world(), wanted, recalled(oid=BUILT_OID))) == "StartProbe"  # another index
    assert decided(world(probe=ProbeSeen(True, SETTLED_OID)), wanted).action is None
    failed = ProbeSeen(False, SETTLED_OID, ended=NOW, error_reason="DatabaseUnavailable", error_message="gone")
    assert decided(world(probe=failed), wanted).action is None  # not at once again
    rested = replace(failed, ended=NOW - timedelta(minutes=11))
    assert action_of(decided(world(probe=rested), wanted)) == "StartProbe"


def test_a_probe_ends_before_a_build_begins_and_does_not_block_it_for_ever() -> None:
    wanted = spec(**PROBED, **OTHER_M)
    probing = world(probe=ProbeSeen(True, SETTLED_OID))
    verdict = decided(probing, wanted)
    assert (verdict.reason, verdict.action) == ("Probing", actions.StopProbe())
    ending = world(probe=ProbeSeen(True, SETTLED_OID, ending=True))
    assert decided(ending, wanted).action is None
    assert action_of(decided(world(), wanted)) == "StartBuild"


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (None, ("Unknown", "NotMeasured")),
        (measured(91, 97), ("True", "RecallReached")),
        (measured(80, 89), ("False", "RecallBelowTarget")),
        (measured(85, 95), ("Unknown", "RecallUncertain")),
        (measured(91, 97, index_oid=7), ("Unknown", "NotMeasured")),
        (ProbeSeen(False, SETTLED_OID, ended=NOW, error_reason="X", error_message="gone"), ("Unknown", "ProbeFailed")),
    ],
)
def test_recall_met_says_what_is_sure(seen: ProbeSeen | None, expected: tuple[str, str]) -> None:
    shown = {c.type: (c.status, str(c.reason)) for c in KIND.conditions(look(world(probe=seen), spec(**PROBED)))}
    assert shown["RecallMet"] == expected
    assert "RecallMet" not in {c.type for c in KIND.conditions(look(world(probe=seen)))}
    assert decided(world(probe=seen), spec(**PROBED)).ready == "True"  # never part of Ready


def test_what_was_measured_is_kept_and_belongs_to_one_index() -> None:
    shown = KIND.figures(look(world(probe=measured(91, 97)), spec(**PROBED)))
    assert shown.recall is not None
    assert (shown.recall.percent, shown.recall.lower_bound_percent, shown.recall.at) == (94, 91, NOW)
    after_restart = KIND.figures(look(world(), spec(**PROBED), READY.model_copy(update={"recall": shown.recall})))
    assert after_restart.recall == shown.recall
    rebuilt = world(index=index(oid=BUILT_OID))
    assert KIND.figures(look(rebuilt, spec(**PROBED), recalled())).recall is None


def test_a_table_that_is_too_large_is_not_read() -> None:
    wanted = spec(probe={"enabled": True, "maxBytes": "64Mi"})
    assert decided(world(), wanted).action is None
    shown = {c.type: str(c.reason) for c in KIND.conditions(look(world(), wanted))}
    assert shown["RecallMet"] == "ProbeTooLarge"


# -- neighbours ------------------------------------------------------------------------------------------------------


def test_duplicates_and_unused_indexes_are_told_and_never_touched() -> None:
    seen = world(neighbours=(Neighbour("twin", 800_000_000, True), Neighbour("idle", 10_000, False)))
    (advisory,) = [c for c in KIND.conditions(look(seen)) if c.type == "Advisory"]
    assert (advisory.status, advisory.reason) == ("True", "DuplicateIndex")
    assert '"twin" (763 MB)' in advisory.message
    assert '"idle"' in advisory.message
    assert decided(seen).action is None


def test_own_scans_outlive_the_process_and_end_with_the_statistics_or_the_index() -> None:
    shown = READY.model_copy(update={"index": IndexStatus(oid=SETTLED_OID, name="i", own_scans=70)})
    ours = OwnScans()
    assert ours.of(UID, SETTLED_OID, scans=75, counted=0, status=shown) == 70
    assert ours.of(UID, SETTLED_OID, scans=76, counted=1, status=shown) == 71
    assert ours.of(UID, SETTLED_OID, scans=2, counted=1, status=shown) == 0  # reset, by a person or by a crash
    assert ours.of(UID, SETTLED_OID, scans=3, counted=2, status=shown) == 1
    assert ours.of(UID, BUILT_OID, scans=1, counted=1, status=shown) == 1  # another index
    assert OwnScans().of(UID, SETTLED_OID, scans=3, counted=0, status=shown) == 3  # reset while nobody looked
