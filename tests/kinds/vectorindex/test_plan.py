"""What a VectorIndex does next, as tables: given a world, then a reason, an action, and whether searches are served."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kinds.vectorindex.given import (
    BUILT_OID,
    NAME,
    NO,
    NOW,
    READY,
    SETTLED_OID,
    UID,
    YES,
    action_of,
    attempt,
    backend,
    blocker,
    built,
    claim,
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
from vectorops.kinds.vectorindex.naming import build_name
from vectorops.kinds.vectorindex.observation import Canary, Column, Observation, Rival, Step, Table
from vectorops.kinds.vectorindex.resource import VectorIndexStatus
from vectorops.runtime.api import HistoryEntry

NEVER_SEEN = VectorIndexStatus()
OTHER_M = {"hnsw": {"m": 16, "efConstruction": 64}}
RIVAL = Rival("99", "other/products")
INVALID = {name: replace(i, valid=False) for name, i in built().items()}
SWAPPED = attempt(step=Step.SWAPPED, build_oid=BUILT_OID, old_name="old", old_oid=SETTLED_OID)
FAILED = attempt(step=Step.DROPPING, failure="BuildFailed")

CASES: list[tuple[str, Observation, dict[str, Any], tuple[str, str | None, str]]] = [
    # what is there
    ("a settled index is Ready and nothing is planned", world(), {}, ("IndexReady", None, "True")),
    ("an index nobody has claimed is claimed", world(intents=()), {}, ("Adopting", "Claim", "True")),
    (
        "an index that was recreated by hand is claimed anew",
        world(index=index(oid=7)),
        {},
        ("Adopting", "Claim", "True"),
    ),
    ("a missing name is claimed before anything is built", empty(intents=()), {}, ("Adopting", "Claim", "False")),
    ("a missing index is built", empty(), {}, ("Building", "StartBuild", "False")),
    ("a search that fails is told", world(canary=NO), {}, ("VerificationFailed", None, "False")),
    (
        "an index is not Ready before a search was seen",
        world(canary=None),
        {"status": NEVER_SEEN},
        ("NotVerified", None, "Unknown"),
    ),
    (
        "a canary that cannot run does not undo Ready",
        world(canary=Canary(None, "locked")),
        {},
        ("IndexReady", None, "True"),
    ),
    # parameters
    ("other parameters are rebuilt online", world(), {"wanted": spec(**OTHER_M)}, ("Building", "StartBuild", "True")),
    (
        "another method is rebuilt online",
        world(),
        {"wanted": spec(indexName=NAME, method="IVFFlat")},
        ("Building", "StartBuild", "True"),
    ),
    (
        "other parameters are told where no rebuild is allowed",
        world(),
        {"wanted": spec(**OTHER_M, rebuild={"onParameterChange": False})},
        ("ParametersDiffer", None, "False"),
    ),
    (
        "Adopt changes nothing",
        world(),
        {"wanted": spec(**OTHER_M, managementPolicy="Adopt")},
        ("ParametersDiffer", None, "False"),
    ),
    (
        "Observe changes nothing",
        world(intents=()),
        {"wanted": spec(**OTHER_M, managementPolicy="Observe")},
        ("ParametersDiffer", None, "False"),
    ),
    (
        "Observe does not even claim",
        world(intents=()),
        {"wanted": spec(managementPolicy="Observe")},
        ("IndexReady", None, "True"),
    ),
    ("Adopt builds nothing", empty(), {"wanted": spec(managementPolicy="Adopt")}, ("IndexMissing", None, "False")),
    (
        "Observe tells an invalid index",
        world(index=index(valid=False)),
        {"wanted": spec(managementPolicy="Adopt")},
        ("IndexInvalid", None, "False"),
    ),
    (
        "silence in the WITH clause means pgvector's defaults",
        world(index=index(options={})),
        {"wanted": spec(**OTHER_M)},
        ("IndexReady", None, "True"),
    ),
    # runToken
    ("a new runToken rebuilds", world(), {"wanted": spec(runToken="b")}, ("Building", "StartBuild", "True")),
    (
        "an obeyed runToken does nothing",
        world(intents=(claim(run_token="b"),)),
        {"wanted": spec(runToken="b")},
        ("IndexReady", None, "True"),
    ),
    ("a removed runToken does nothing", world(intents=(claim(run_token="b"),)), {}, ("IndexReady", None, "True")),
    # the way of a build
    (
        "a verified build takes the name",
        empty(intents=(claim(build_oid=None), attempt()), indexes=built(), build_canary=YES),
        {},
        ("Swapping", "Swap", "False"),
    ),
    (
        "a build that no search uses is given up",
        empty(intents=(claim(build_oid=None), attempt()), indexes=built(), build_canary=NO),
        {},
        ("VerificationFailed", "MarkFailed", "False"),
    ),
    (
        "a build is not swapped in unproved",
        empty(intents=(claim(build_oid=None), attempt()), indexes=built(), build_canary=Canary(None, "locked")),
        {},
        ("NotVerified", None, "False"),
    ),
    ("a swapped build retires the old index", world(intents=(claim(), SWAPPED)), {}, ("DroppingOld", "Retire", "True")),
    (
        "an intent without an index is begun again",
        empty(intents=(claim(build_oid=None), attempt())),
        {},
        ("Building", "StartBuild", "False"),
    ),
    (
        "an unfinished build is begun again, which drops what is left",
        empty(intents=(claim(build_oid=None), attempt()), indexes=INVALID),
        {},
        ("Building", "StartBuild", "False"),
    ),
    (
        "a build that is no longer wanted is dropped",
        world(intents=(claim(), attempt()), indexes=built()),
        {},
        ("CleaningUp", "Discard", "True"),
    ),
    (
        "an intent that is no longer wanted is struck out",
        world(intents=(claim(), attempt())),
        {},
        ("CleaningUp", "Forget", "True"),
    ),
    # work that runs
    ("running work is reported", empty(job=running(), backend=backend()), {}, ("Building", None, "False")),
    (
        "an online rebuild leaves Ready True",
        world(intents=(claim(), attempt(spec(**OTHER_M))), job=running(build_name=build_name(spec(**OTHER_M), UID))),
        {"wanted": spec(**OTHER_M)},
        ("Building", None, "True"),
    ),
    ("work found in the server after a restart is adopted", empty(backend=backend()), {}, ("Building", None, "False")),
    (
        "the queue for the table is told",
        empty(job=running(step="WaitingForTableLock")),
        {},
        ("WaitingForTableLock", None, "False"),
    ),
    (
        "who is waited for is told",
        empty(backend=backend(phase="waiting for old snapshots", blocker=blocker())),
        {},
        ("WaitingForOldTransactions", None, "False"),
    ),
    (
        "a short lock wait amid the build is no news",
        empty(backend=backend(blocker=blocker())),
        {},
        ("Building", None, "False"),
    ),
    ("a running drop is reported", world(job=running("retire")), {}, ("DroppingOld", None, "True")),
    (
        "a drop found after a restart is reported",
        world(backend=backend(creates=False, phase="")),
        {},
        ("CleaningUp", None, "True"),
    ),
    (
        "an index being built is commented on",
        empty(intents=(claim(build_oid=None), attempt()), indexes=INVALID, backend=backend()),
        {},
        ("Building", "WriteComment", "False"),
    ),
    (
        "a build of a spec that changed is cancelled",
        world(job=running(), backend=backend(), intents=(claim(), attempt())),
        {},
        ("CleaningUp", "CancelBuild", "True"),
    ),
    (
        "a build beyond its time is cancelled",
        empty(
            intents=(claim(build_oid=None), attempt(spec(build={"maxDurationSeconds": 99}))),
            job=running(),
            backend=backend(),
        ),
        {"wanted": spec(build={"maxDurationSeconds": 99})},
        ("CleaningUp", "CancelBuild", "False"),
    ),
    (
        "a build that waits too long is cancelled",
        empty(backend=backend(phase="waiting for old snapshots", blocker=blocker(waiting_seconds=30))),
        {"wanted": spec(build={"maxLockWaitSeconds": 29})},
        ("CleaningUp", "CancelBuild", "False"),
    ),
    (
        "a cancel is not sent at every look",
        empty(
            intents=(claim(build_oid=None), attempt(failure="BuildTimedOut", step=Step.DROPPING)),
            job=running(ending=True),
            backend=backend(),
        ),
        {},
        ("CleaningUp", None, "False"),
    ),
    (
        "a lost cancel is sent again",
        empty(
            intents=(claim(build_oid=None), attempt(failure="BuildTimedOut", updated_at=NOW - timedelta(seconds=6))),
            job=running(ending=True),
            backend=backend(),
        ),
        {},
        ("CleaningUp", "CancelBuild", "False"),
    ),
    # attempts that failed
    (
        "a build that failed is remembered",
        empty(
            intents=(claim(build_oid=None), attempt()),
            job=running(running=False, ended=NOW, error_reason="DatabaseError"),
        ),
        {},
        ("BuildFailed", "MarkFailed", "False"),
    ),
    (
        "a full disk keeps its name",
        empty(
            intents=(claim(build_oid=None), attempt()),
            job=running(running=False, ended=NOW, error_reason="DiskFull", error_stalls=True),
        ),
        {},
        ("DiskFull", "MarkFailed", "False"),
    ),
    (
        "a statement cancelled by somebody is named so",
        empty(
            intents=(claim(build_oid=None), attempt()),
            job=running(running=False, ended=NOW, error_reason="QueryCanceled"),
        ),
        {},
        ("BuildCanceled", "MarkFailed", "False"),
    ),
    (
        "a lost connection is no failure of the build",
        empty(
            intents=(claim(build_oid=None), attempt()),
            job=running(running=False, ended=NOW, error_reason="DatabaseUnavailable"),
        ),
        {},
        ("DatabaseUnavailable", None, "False"),
    ),
    (
        "work that could not begin is tried again after a pause",
        empty(job=running(running=False, ended=NOW - timedelta(seconds=11), error_reason="TooManyConnections")),
        {},
        ("Building", "StartBuild", "False"),
    ),
    (
        "the carcass of a failure is dropped, the memory kept",
        empty(intents=(claim(build_oid=None), FAILED), indexes=INVALID),
        {},
        ("CleaningUp", "Discard", "False"),
    ),
    (
        "after a failure there is a pause",
        empty(intents=(claim(build_oid=None), FAILED)),
        {},
        ("BuildFailed", None, "False"),
    ),
    (
        "after the pause it is tried again",
        empty(intents=(claim(build_oid=None), replace(FAILED, updated_at=NOW - timedelta(seconds=61)))),
        {},
        ("Building", "StartBuild", "False"),
    ),
    (
        "a changed spec is tried at once",
        empty(intents=(claim(build_oid=None), FAILED)),
        {"wanted": spec(build={"parallelWorkers": 0})},
        ("Building", "StartBuild", "False"),
    ),
    (
        "what would end the same way is not repeated",
        empty(
            intents=(
                claim(build_oid=None),
                replace(FAILED, failure="BuildTimedOut", updated_at=NOW - timedelta(days=9)),
            )
        ),
        {},
        ("BuildTimedOut", None, "False"),
    ),
    # what is in the way
    ("no table", world(table=None, column=None, index=None), {}, ("TableNotFound", None, "False")),
    ("a partitioned table", empty(table=Table(1, "p", 1, True, "shop", "me")), {}, ("PartitionedTable", None, "False")),
    ("a view", empty(table=Table(1, "v", 1, True, "shop", "me")), {}, ("NotATable", None, "False")),
    ("no column", empty(column=None), {}, ("ColumnNotFound", None, "False")),
    ("a text column", empty(column=Column("text", None)), {}, ("NotAVectorColumn", None, "False")),
    ("no dimensions", empty(column=Column("vector", None)), {}, ("DimensionsMissing", None, "False")),
    ("too many dimensions", empty(column=Column("vector", 2001)), {}, ("DimensionsTooLarge", None, "False")),
    (
        "halfvec holds more",
        empty(column=Column("vector", 4000)),
        {"wanted": spec(storage="HalfVec")},
        ("Building", "StartBuild", "False"),
    ),
    (
        "a halfvec column is not stored as vector",
        empty(column=Column("halfvec", 8)),
        {},
        ("StorageUnsupported", None, "False"),
    ),
    (
        "an old pgvector has no halfvec",
        empty(extension=(0, 6, 2)),
        {"wanted": spec(storage="HalfVec")},
        ("VersionTooOld", None, "False"),
    ),
    (
        "an old pgvector has no L1",
        empty(extension=(0, 6, 2)),
        {"wanted": spec(metric="L1")},
        ("VersionTooOld", None, "False"),
    ),
    ("not the owner", empty(table=Table(1, "r", 1, False, "boss", "me")), {}, ("OwnerRightMissing", None, "False")),
    (
        "not the owner, and nothing to do",
        world(table=Table(1, "r", 1, False, "boss", "me")),
        {},
        ("IndexReady", None, "True"),
    ),
    ("a name that is a table's", empty(taken_by="a table"), {}, ("NameTaken", None, "False")),
    ("an index of another column", world(index=index(column="title_embedding")), {}, ("NameTaken", None, "False")),
    (
        "an index of another metric",
        world(index=index(operator_class="vector_l2_ops")),
        {},
        ("NameTaken", None, "False"),
    ),
    ("a partial index", world(index=index(predicate="kind = 1"), intents=()), {}, ("NameTaken", None, "False")),
    (
        "a foreign invalid index is left alone",
        world(index=index(valid=False, oid=7)),
        {},
        ("InvalidForeignIndex", None, "False"),
    ),
    (
        "our own invalid index is rebuilt aside",
        world(index=index(valid=False)),
        {},
        ("Building", "StartBuild", "False"),
    ),
    (
        "somebody else's build of the name is waited for",
        world(index=index(valid=False, oid=7), built_by_others=True),
        {},
        ("BuildByOthers", None, "False"),
    ),
    ("two managers", world(rivals=(RIVAL,)), {}, ("ConflictingManagers", None, "False")),
    (
        "two managers, and a rebuild due",
        world(rivals=(RIVAL,)),
        {"wanted": spec(runToken="b")},
        ("ConflictingManagers", None, "False"),
    ),
    (
        "a claim is written even where another is, so that both see it",
        world(rivals=(RIVAL,), intents=()),
        {},
        ("Adopting", "Claim", "True"),
    ),
    ("a dead claim is taken over", world(rivals=(replace(RIVAL, alive=False),)), {}, ("Adopting", "TakeOver", "True")),
    ("a name of 64 bytes", world(), {"wanted": spec(indexName="é" * 32)}, ("InvalidSpec", None, "False")),
    (
        "too much memory",
        world(),
        {"wanted": spec(build={"maintenanceMemory": "2Ti"})},
        ("MemoryInvalid", None, "False"),
    ),
    ("suspended, with a build due", empty(), {"wanted": spec(suspend=True)}, ("Suspended", None, "False")),
    ("suspended, and all is well", world(), {"wanted": spec(suspend=True)}, ("Suspended", None, "True")),
    (
        "suspended work that runs is left to run",
        empty(job=running(), backend=backend()),
        {"wanted": spec(suspend=True)},
        ("Building", None, "False"),
    ),
]

GOING = subject(deleting_since=NOW, has_finalizer=True)
DELETE = spec(deletionPolicy="Delete")
DELETING: list[tuple[str, Observation, dict[str, Any], str | None, bool]] = [
    ("Retain with nothing in flight holds nothing", world(), {"of": replace(GOING, has_finalizer=False)}, None, False),
    ("the claim goes with an object that is held anyway", world(), {}, "ReleaseClaim", True),
    ("with nothing left it goes", world(intents=()), {}, None, False),
    (
        "a running build is cancelled",
        world(job=running(), backend=backend(), intents=(claim(), attempt())),
        {},
        "CancelBuild",
        True,
    ),
    ("a build in the queue is ended", world(job=running(step="WaitingForTableLock")), {}, "CancelBuild", True),
    ("a build being ended is waited for", world(job=running(ending=True)), {}, None, True),
    ("a running drop is waited for", world(job=running("discard")), {}, None, True),
    ("an unfinished index is dropped", world(intents=(claim(), attempt()), indexes=INVALID), {}, "Discard", True),
    (
        "a finished one that never served is dropped",
        world(intents=(claim(), attempt()), indexes=built()),
        {},
        "Discard",
        True,
    ),
    ("a replaced one is dropped", world(intents=(claim(), SWAPPED)), {}, "Retire", True),
    ("Delete drops the index", world(), {"wanted": DELETE}, "DropIndex", True),
    (
        "Delete leaves an index that is not the claimed one",
        world(index=index(oid=7)),
        {"wanted": DELETE},
        "ReleaseClaim",
        True,
    ),
    (
        "Delete leaves an index nobody manages",
        world(),
        {"wanted": spec(deletionPolicy="Delete", managementPolicy="Adopt")},
        "ReleaseClaim",
        True,
    ),
    (
        "Delete leaves an index that another object manages too",
        world(rivals=(RIVAL,)),
        {"wanted": DELETE},
        "ReleaseClaim",
        True,
    ),
    ("Delete with the index gone releases the claim", world(index=None), {"wanted": DELETE}, "ReleaseClaim", True),
    (
        "a drop that failed is repeated after a pause",
        world(job=running("drop", running=False, ended=NOW, error_reason="LockContended")),
        {"wanted": DELETE},
        None,
        True,
    ),
]


@pytest.mark.parametrize(("observed", "how", "then"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_given_then(observed: Observation, how: dict[str, Any], then: tuple[str, str | None, str]) -> None:
    verdict = decided(observed, **how)
    assert (str(verdict.reason), action_of(verdict), verdict.ready) == then


@pytest.mark.parametrize(("observed", "how", "action", "held"), [c[1:] for c in DELETING], ids=[c[0] for c in DELETING])
def test_deleting(observed: Observation, how: dict[str, Any], action: str | None, held: bool) -> None:
    how = {"of": GOING} | how
    verdict = decided(observed, **how)
    assert (action_of(verdict), KIND.holds(look(observed, **how))) == (action, held)
    if not held:
        assert verdict.action is None, "nothing is done for an object that is let go"


@pytest.mark.parametrize(
    ("observed", "wanted", "held"),
    [
        (world(), spec(), False),
        (world(), DELETE, True),
        (world(index=index(oid=7)), DELETE, False),
        (empty(job=running()), spec(), True),
        (empty(backend=backend()), spec(), True),
        (empty(intents=(claim(build_oid=None), attempt())), spec(), True),
        (empty(intents=(claim(build_oid=None), FAILED)), spec(), False),
        (empty(intents=(claim(build_oid=None), FAILED), indexes=INVALID), spec(), True),
        (world(intents=(claim(), SWAPPED)), spec(), True),
    ],
)
def test_the_finalizer_is_held_only_while_a_deletion_would_have_work(
    observed: Observation, wanted: Any, held: bool
) -> None:
    assert KIND.holds(look(observed, wanted)) is held


def test_what_is_half_done_is_finished_under_any_policy() -> None:
    for policy in ("Adopt", "Observe"):
        seen = world(intents=(claim(), attempt()), indexes=INVALID)
        assert action_of(decided(seen, spec(managementPolicy=policy))) == "Discard"
    assert action_of(decided(world(), spec(managementPolicy="Observe"))) == "ReleaseClaim"


def test_a_build_asks_for_the_finalizer_before_it_begins() -> None:
    verdict = decided(empty())
    assert verdict.action is not None and verdict.action.leaves


def test_a_swap_names_exactly_what_was_seen() -> None:
    wanted = spec(**OTHER_M)
    parts = {"intents": (claim(), attempt(wanted, run_token="t")), "indexes": built(wanted), "build_canary": YES}
    swap = decided(world(**parts), wanted).action
    assert isinstance(swap, actions.Swap)
    assert json.loads(swap.birth) == {
        "built": "2026-05-01T12:00:00Z", "bytesPerRow": 8000, "deadRows": 0, "pgvector": "0.8.6",
    }  # fmt: skip
    assert replace(swap, birth="") == actions.Swap(
        NAME,
        build_name(wanted, UID),
        BUILT_OID,
        build_name(wanted, UID)[: -len("_vo_12345678")] + build_name(wanted, UID)[-12:] + "_old",
        SETTLED_OID,
        1,
        "t",
        "",
    )


def test_pauses_grow_with_failures_in_a_row() -> None:
    def left(failures: int) -> float:
        history = [HistoryEntry(time=NOW, reason="BuildFailed")] * failures + [
            HistoryEntry(time=NOW, reason="IndexBuilt")
        ]
        from vectorops.kinds.vectorindex.facts import pause_over

        seen = look(empty(intents=(claim(build_oid=None), FAILED)), status=VectorIndexStatus(history=history))
        return (pause_over(seen, FAILED) - NOW).total_seconds()

    assert [left(n) for n in (1, 2, 3, 9)] == [60, 120, 240, 3600]


def test_messages_name_the_statement_to_run() -> None:
    assert 'GRANT "boss" TO "me"' in decided(empty(table=Table(1, "r", 1, False, "boss", "me"))).message
    assert "GRANT CREATE ON SCHEMA" in decided(empty(table=Table(1, "r", 1, True, "me", "me", creates=False))).message
    assert (
        'DROP INDEX CONCURRENTLY "public"."idx_products_embedding_hnsw"'
        in decided(world(index=index(valid=False, oid=7))).message
    )
    waits = empty(backend=backend(phase="waiting for old snapshots", blocker=blocker()))
    assert "pid 4711 (forgotten-psql), open for 3600 s" in decided(waits).message
    own = replace(RIVAL, owner="shop/other")
    assert "shop/other" in decided(world(rivals=(own,))).message
    assert (
        "VectorIndex of another namespace" in decided(world(rivals=(RIVAL,))).message
    )  # whose name is not ours to tell


# -- what is shown -----------------------------------------------------------------------------------------------------


def conditions(observed: Observation, **how: Any) -> dict[str, tuple[str, str]]:
    return {c.type: (c.status, str(c.reason)) for c in KIND.conditions(look(observed, **how))}


def test_conditions_of_a_settled_index() -> None:
    assert conditions(world()) == {
        "Valid": ("True", "IndexValid"),
        "ParametersMatch": ("True", "ParametersMatch"),
        "Used": ("True", "Scanned"),
    }


def test_conditions_tell_what_is_wrong() -> None:
    assert conditions(world(canary=NO))["Valid"] == ("False", "VerificationFailed")
    assert conditions(world(canary=None))["Valid"] == ("Unknown", "NotVerified")
    assert conditions(world(index=index(valid=False)))["Valid"] == ("False", "IndexInvalid")
    assert conditions(empty())["Valid"] == ("False", "IndexMissing")
    assert conditions(world(), wanted=spec(**OTHER_M))["ParametersMatch"] == ("False", "ParametersDiffer")
    assert conditions(world(index=index(scans=0)))["Used"] == ("False", "NeverScanned")
    assert conditions(world(foreign_invalid=("carcass",)))["Advisory"] == ("True", "ForeignInvalidIndex")
    assert conditions(world(advisories=("update",)))["Advisory"] == ("True", "VersionAdvisory")


def test_a_rebuild_shows_beside_ready() -> None:
    seen = world(job=running(), backend=backend(), intents=(claim(), attempt()))
    assert conditions(seen)["Rebuilding"] == ("True", "RebuildRunning")
    assert "Rebuilding" not in conditions(empty(job=running(), backend=backend()))


def test_a_spilled_build_says_so_and_widens_its_eta() -> None:
    from vectorops.kinds.vectorindex.sizing import Spill

    spilled = running(spill=Spill(25_000, NOW - timedelta(seconds=50)), memory=64 * 1024 * 1024)
    observed = empty(job=spilled, backend=backend())
    assert conditions(observed)["BuildSpilled"] == ("True", "SpilledToDisk")
    (told,) = [c.message for c in KIND.conditions(look(observed)) if c.type == "BuildSpilled"]
    assert told.endswith("set build.maintenanceMemory to 282Mi.")  # 64 MB for a quarter of the rows
    progress = KIND.figures(look(observed)).progress
    assert progress is not None and progress.eta is not None and "-" in progress.eta


def test_progress_and_eta_of_a_running_build() -> None:
    status = KIND.figures(look(empty(job=running(memory=800 << 20, workers=1), backend=backend())))
    assert status.progress is not None and status.build is not None
    assert (status.progress.summary, status.progress.done, status.progress.total) == ("42%", 500, 1000)
    assert status.progress.eta == "2m15s"
    assert (status.build.step, status.build.memory, status.build.parallel_workers) == ("Building", "800 MB", 1)


def test_a_build_that_waits_has_no_eta() -> None:
    waits = empty(backend=backend(phase="waiting for old snapshots", blocker=blocker()))
    status = KIND.figures(look(waits))
    assert status.progress is not None and status.build is not None and status.build.blocked_by is not None
    assert (status.progress.summary, status.progress.eta) == ("98%", None)
    assert status.build.blocked_by.pid == 4711


def test_figures_are_rounded_to_what_a_person_reads() -> None:
    shown = KIND.figures(look(world())).index
    assert shown is not None
    assert (shown.size, shown.size_bytes, shown.rows, shown.bytes_per_row) == ("763 MB", 800_000_000, 100_000, 8000)


def test_history_tells_what_was_done_once() -> None:
    first = KIND.figures(look(world(), status=NEVER_SEEN))
    assert [e.reason for e in first.history] == ["IndexAdopted"]
    assert KIND.figures(look(world(), status=first)).history == first.history
    ours = index(oid=BUILT_OID, comment=f"vectorops:{UID} runToken=b")
    second = KIND.figures(look(world(index=ours, intents=(claim(build_oid=BUILT_OID),)), status=first))
    assert [e.reason for e in second.history] == ["IndexBuilt", "IndexAdopted"]


def test_history_keeps_ten() -> None:
    full = VectorIndexStatus(history=[HistoryEntry(time=NOW, reason="IndexBuilt")] * 10)
    assert len(KIND.figures(look(world(), status=full)).history) == 10


# -- what is always so -------------------------------------------------------------------------------------------------

WANTS = st.fixed_dictionaries(
    {},
    optional={
        "hnsw": st.sampled_from([{"m": 24, "efConstruction": 100}, {"m": 8, "efConstruction": 40}]),
        "managementPolicy": st.sampled_from(["Manage", "Adopt", "Observe"]),
        "deletionPolicy": st.sampled_from(["Retain", "Delete"]),
        "rebuild": st.sampled_from([{"onParameterChange": True}, {"onParameterChange": False}]),
        "runToken": st.sampled_from(["a", "b"]),
        "suspend": st.booleans(),
    },
).map(lambda fields: spec(**fields))


@st.composite
def worlds(draw: st.DrawFn) -> Observation:
    """Worlds as a crash may leave them."""
    wanted = spec()
    found = draw(
        st.sampled_from(
            [None, index(), index(valid=False), index(oid=7), index(options={"m": 8}), index(predicate="kind = 1")]
        )
    )
    step = draw(st.sampled_from([Step.BUILDING, Step.SWAPPED, Step.DROPPING]))
    failure = (
        draw(st.sampled_from([None, "BuildFailed", "BuildTimedOut", "Superseded"])) if step is Step.DROPPING else None
    )
    rows = draw(
        st.lists(
            st.sampled_from([claim(), attempt(wanted, step=step, failure=failure)]), unique_by=lambda i: i.build_name
        )
    )
    left = draw(st.sampled_from([{}, built(wanted), built(wanted, valid=False)]))
    return world(
        index=found,
        canary=draw(st.sampled_from([None, YES, NO])),
        build_canary=draw(st.sampled_from([None, YES, NO])),
        intents=tuple(rows),
        indexes=left if any(i.build_name != i.index_name for i in rows) else {},
        job=draw(
            st.sampled_from(
                [None, running(), running("discard"), running(running=False, ended=NOW, error_reason="DiskFull")]
            )
        ),
        backend=draw(st.sampled_from([None, backend(), backend(creates=False, phase="")])),
        rivals=draw(st.sampled_from([(), (RIVAL,), (replace(RIVAL, alive=False),)])),
    )


@given(worlds(), WANTS, st.booleans())
def test_every_world_has_an_answer_and_none_breaks_a_promise(
    observed: Observation, wanted: Any, deleting: bool
) -> None:
    seen = look(observed, wanted, NEVER_SEEN, GOING if deleting else subject())
    verdict = KIND.decide(seen)
    KIND.figures(seen)
    KIND.conditions(seen)
    action = verdict.action
    at_work = observed.backend is not None or (observed.job is not None and observed.job.running)
    if at_work:
        assert action is None or isinstance(action, actions.CancelBuild | actions.WriteComment), (
            "nothing is begun beside work"
        )
    if wanted.management_policy != "Manage" and not deleting and not at_work:
        assert not isinstance(action, actions.StartBuild | actions.Swap | actions.DropIndex), (
            "only Manage changes an index"
        )
    if isinstance(action, actions.Swap):
        assert observed.build_canary is not None and observed.build_canary.passed
        assert observed.indexes[action.build_name].valid
    if isinstance(action, actions.DropIndex):
        assert deleting and wanted.deletion_policy == "Delete" and action.index_oid == SETTLED_OID
    if isinstance(action, actions.Discard):
        assert any(i.build_name == action.build_name for i in observed.intents), "only what our intent names is dropped"
    if verdict.ready == "True":
        assert observed.index is not None and observed.index.valid
        assert observed.canary is not None and observed.canary.passed, "unknown never reads as Ready"
    if any(r.alive for r in observed.rivals) and not deleting and not at_work:
        # a former manager gives its claim up, and finishes or undoes what it left half done
        own_things = actions.ReleaseClaim | actions.Forget | actions.Discard | actions.MarkFailed | actions.Retire
        gives_way = wanted.management_policy == "Observe" and isinstance(action, own_things)
        assert gives_way or isinstance(action, actions.Claim | actions.TakeOver | None), "of two managers none acts"


@given(WANTS)
def test_a_settled_world_plans_nothing_and_shows_the_same_again(wanted: Any) -> None:
    options = {"m": wanted.hnsw.m, "ef_construction": wanted.hnsw.ef_construction} if wanted.hnsw else index().options
    held = () if wanted.management_policy == "Observe" else (claim(run_token=wanted.run_token),)
    settled = world(index=index(options=options), intents=held)
    first = look(settled, wanted)
    assert KIND.decide(first).action is None
    status = KIND.figures(first)
    assert KIND.figures(look(settled, wanted, status)) == status


def test_ready_is_what_the_module_says() -> None:
    assert READY.conditions[0].status == "True"
