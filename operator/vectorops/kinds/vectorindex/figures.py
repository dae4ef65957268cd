"""What a VectorIndex shows: its own status fields and the conditions beside Ready. Pure.

Shows what was observed in this pass and nothing else; the only thing carried from the last status is the history.
"""

from __future__ import annotations

from vectorops.kinds.vectorindex import ongoing
from vectorops.kinds.vectorindex.consent import plan_of
from vectorops.kinds.vectorindex.facts import (
    FAILURES,
    Look,
    attempt,
    builds,
    claim,
    claimed,
    comment_of,
    differences,
    serves_others,
)
from vectorops.kinds.vectorindex.observation import Index
from vectorops.kinds.vectorindex.probing import recall_condition, recall_status
from vectorops.kinds.vectorindex.reasons import Why
from vectorops.kinds.vectorindex.resource import Blocker, BuildStatus, IndexStatus, VectorIndexStatus
from vectorops.kinds.vectorindex.sizing import MIB, Spill
from vectorops.runtime.api import HistoryEntry, Progress
from vectorops.runtime.kind import Condition
from vectorops.runtime.rounding import size_text, two_digits

HISTORY = 10  # entries, as the CRD allows
DEFINITION = 1024  # characters of the definition that are shown, as the CRD allows
SPARE = 110  # percent of the memory that the first rows took: rows arrive while it builds
NAMED = 5  # indexes in one message
UNSURE = 10  # of our own scans so many to one may be forgotten by a restart: a figure is not written at every change
SHORT = 64  # characters of a word, as the CRD allows


def figures(look: Look) -> VectorIndexStatus:
    """The status fields of this kind."""
    held, index = claim(look), _own_index(look)
    return VectorIndexStatus(
        index=_index(look, index) if index is not None else None,
        build=_build(look),
        progress=_progress(look),
        recall=recall_status(look),
        plan=plan_of(look) if not ongoing.runs(look) and look.subject.deleting_since is None else None,
        run_token=held.run_token if held is not None else None,
        history=_history(look),
    )


def conditions(look: Look) -> tuple[Condition, ...]:
    """Valid, ParametersMatch and Used always; Rebuilding, BuildSpilled and Advisory while they are so."""
    made = [_valid(look), _parameters(look), _used(look)]
    index, job = look.observed.index, look.observed.job
    if index is not None and index.valid and _rebuilding(look):
        made.append(
            Condition(
                "Rebuilding", "True", Why.RebuildRunning, "The former index serves until the new one is verified."
            )
        )
    if job is not None and job.running and job.spill is not None:
        made.append(_spilled(look, job.spill, job.memory))
    if (recall := recall_condition(look)) is not None:
        made.append(recall)
    return (*made, *_advisory(look))


def _own_index(look: Look) -> Index | None:
    index = look.observed.index
    return None if index is None or serves_others(look, index) else index


def _index(look: Look, index: Index) -> IndexStatus:
    rows = look.observed.table.rows if look.observed.table else None
    return IndexStatus(
        oid=index.oid,
        name=index.name,
        managed=claimed(look, index),
        definition=index.definition[:DEFINITION],
        size_bytes=two_digits(index.size_bytes),
        size=size_text(index.size_bytes),
        rows=two_digits(rows) if rows is not None else None,
        scans=two_digits(_scans(look, index)),
        own_scans=look.observed.own_scans,
        bytes_per_row=two_digits(index.size_bytes // rows) if rows else None,
    )


def _build(look: Look) -> BuildStatus | None:
    if ongoing.runs(look):
        return _running(look)
    left = attempt(look) or next(iter(builds(look)), None)
    return BuildStatus(step=str(left.failure or left.step)[:SHORT], name=left.build_name) if left is not None else None


def _running(look: Look) -> BuildStatus:
    backend, intent = look.observed.backend, ongoing.running_intent(look)
    job = look.observed.job if look.observed.job is not None and look.observed.job.running else None
    waits = backend.blocker if backend is not None else None
    own = job if job is not None and job.kind == "build" else None
    return BuildStatus(
        step=str(ongoing.report(look).reason),
        phase=backend.phase[:SHORT] or None if backend is not None else None,
        name=intent.build_name if intent is not None else job.build_name if job is not None else None,
        blocked_by=Blocker(pid=waits.pid, age_seconds=waits.age_seconds, application=waits.application)
        if waits is not None
        else None,
        memory=size_text(own.memory) if own is not None and own.memory else None,
        parallel_workers=own.workers if own is not None else None,
        note=job.note or None if job is not None else None,
        start_time=ongoing.began(look).replace(microsecond=0),
    )


def _progress(look: Look) -> Progress | None:
    if not ongoing.runs(look) or not ongoing.creating(look):
        return None
    backend, percent, left = look.observed.backend, ongoing.percent(look), ongoing.estimate(look)
    loading = backend is not None and backend.blocks_total > 0
    former = look.status.progress
    advanced = former is None or former.percent != percent
    return Progress(
        done=backend.blocks_done if backend is not None and loading else None,
        total=backend.blocks_total if backend is not None and loading else None,
        percent=percent,
        summary=f"{percent}%" if percent is not None else None,
        eta_seconds=round(left.most) if left is not None else None,
        eta=left.text if left is not None else None,
        last_advance_time=look.now.replace(microsecond=0) if advanced else former.last_advance_time if former else None,
    )


def _history(look: Look) -> list[HistoryEntry]:
    """The last ten. An entry is added when another index bears the name than was last written, or an attempt failed."""
    history, made = list(look.status.history), _own_index(look)
    was = look.status.index.oid if look.status.index is not None and look.status.index.managed else None
    if made is not None and claimed(look, made) and made.oid != was:
        ours = made.comment is not None and made.comment.startswith(comment_of(look, None))
        word = Why.IndexBuilt if ours else Why.IndexAdopted
        history.insert(
            0, HistoryEntry(time=look.now.replace(microsecond=0), reason=word, message=made.definition[:DEFINITION])
        )
    job = look.observed.job
    if job is not None and job.ended is not None and job.error_reason is not None and job.kind == "build":
        ended = job.ended.replace(microsecond=0)
        failed = next(
            (i.failure for i in builds(look) if i.build_name == job.build_name and i.failure in FAILURES), None
        )
        if failed is not None and not any(e.time == ended for e in history):
            history.insert(0, HistoryEntry(time=ended, reason=failed, message=job.error_message[:DEFINITION]))
    return history[:HISTORY]


def _valid(look: Look) -> Condition:
    index, canary = _own_index(look), look.observed.canary
    if index is None:
        return Condition("Valid", "False", Why.IndexMissing, "There is no such index.")
    if not index.valid:
        return Condition("Valid", "False", Why.IndexInvalid, "pg_index says that it is not valid or not ready.")
    if canary is not None and canary.passed is False:
        return Condition("Valid", "False", Why.VerificationFailed, canary.message)
    if canary is None or canary.passed is None:
        return Condition("Valid", "Unknown", Why.NotVerified, canary.message if canary else "")
    return Condition("Valid", "True", Why.IndexValid, canary.message)


def _parameters(look: Look) -> Condition:
    index = _own_index(look)
    if index is None:
        return Condition("ParametersMatch", "Unknown", Why.ParametersUnknown, "There is no index to compare with.")
    if differs := differences(look.spec, index):
        return Condition("ParametersMatch", "False", Why.ParametersDiffer, f"{', '.join(differs)}.")
    return Condition("ParametersMatch", "True", Why.ParametersMatch)


def _scans(look: Look, index: Index) -> int:
    """Those of others: the searches that prove and measure it are no use of it."""
    return max(0, index.scans - look.observed.own_scans)


def _used(look: Look) -> Condition:
    index = _own_index(look)
    if index is None:
        return Condition("Used", "Unknown", Why.IndexMissing, "There is no such index.")
    if _scans(look, index) <= look.observed.own_scans // UNSURE:
        return Condition("Used", "False", Why.NeverScanned, "No search has used it since statistics were reset.")
    return Condition("Used", "True", Why.Scanned)


def _rebuilding(look: Look) -> bool:
    return (ongoing.runs(look) and ongoing.creating(look)) or any(i.failure is None for i in builds(look))


def _spilled(look: Look, spill: Spill, memory: int | None) -> Condition:
    """With the memory that would do: what the rows before the spill took, for all rows."""
    had = f" of {size_text(memory)}" if memory else ""
    text = f"The graph outgrew maintenance_work_mem{had} after {spill.tuples} rows; the rest is many times slower."
    rows = look.observed.table.rows if look.observed.table is not None else 0
    if memory and spill.tuples and rows > spill.tuples:
        enough = -(-memory * rows * SPARE // spill.tuples // MIB // 100)
        text += f" Next time set build.maintenanceMemory to {enough}Mi."
    return Condition("BuildSpilled", "True", Why.SpilledToDisk, text)


def _advisory(look: Look) -> tuple[Condition, ...]:
    """What a person should know, the most pressing first: its reason is the condition's."""
    told = [*_carcasses(look), *((Why.VersionAdvisory, text) for text in look.observed.advisories), *_neighbours(look)]
    if not told:
        return ()
    return (Condition("Advisory", "True", told[0][0], " ".join(text for _, text in told)),)


def _carcasses(look: Look) -> list[tuple[Why, str]]:
    carcasses = look.observed.foreign_invalid
    if not carcasses:
        return []
    names = ", ".join(f'"{name}"' for name in carcasses[:NAMED])
    return [(Why.ForeignInvalidIndex, f"Invalid indexes slow every write, and are not ours to drop: {names}.")]


def _neighbours(look: Look) -> list[tuple[Why, str]]:
    told: list[tuple[Why, str]] = []
    for duplicate, reason, what in (
        (True, Why.DuplicateIndex, "These indexes answer the very same searches"),
        (False, Why.UnusedIndex, "No search has used these indexes of the table since statistics were reset"),
    ):
        found = [n for n in look.observed.neighbours if n.duplicate is duplicate][:NAMED]
        names = ", ".join(f'"{n.name}" ({size_text(two_digits(n.size_bytes))})' for n in found)
        if found:
            told.append((reason, f"{what}: {names}."))
    return told
