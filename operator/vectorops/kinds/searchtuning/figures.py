"""The figures of the status: curve, choice, comparison, progress. Pure."""

from __future__ import annotations

from datetime import datetime

from vectorops.kinds.searchtuning.observation import Findings, WorkSeen
from vectorops.kinds.searchtuning.plan import Look, decide
from vectorops.kinds.searchtuning.reasons import Reason
from vectorops.kinds.searchtuning.resource import Status
from vectorops.runtime.api import Progress


def figures(view: Look) -> Status:
    """What the work has found, in the words of the status; of a run that is over, what was written then."""
    same = view.status.run_token == view.spec.run_token
    if view.observed.over:
        return view.status
    work, verdict = view.observed.work, decide(view)
    if work is None or work.token != (view.spec.run_token or ""):
        begun = view.status.start_time if same else None
        return Status(run_token=view.spec.run_token, start_time=begun)
    found, over = work.found, verdict.complete or verdict.failed
    return Status(
        run_token=view.spec.run_token,
        index_name=found.index_name or None,
        rows=found.rows,
        curve=list(found.curve),
        chosen=found.chosen,
        current=found.current,
        gain=gain(found),
        comparison=list(found.comparison),
        applied=found.applied,
        progress=_progress(work),
        start_time=_begun(view, work, same),
        completion_time=view.now if over else None,
    )


def _begun(view: Look, work: WorkSeen, same: bool) -> datetime | None:
    """When this run began; a try that found the table yet to be filled was none, and no deadline runs."""
    waits = any(
        trouble is not None and trouble.reason == Reason.WaitingForEmbeddings for trouble in (work.error, work.former)
    )
    return (view.status.start_time if same else None) or (None if waits else work.started_at)


def gain(found: Findings) -> str | None:
    """What the choice brings beside the value of today."""
    chosen, current = found.chosen, found.current
    if chosen is None or current is None:
        return None
    if chosen.ef_search == current.ef_search:
        return f"ef_search {chosen.ef_search} is what is set today."
    recall = f"recall {current.recall_percent} -> {chosen.recall_percent} %"
    p95 = f"p95 {current.p95_milliseconds} -> {chosen.p95_milliseconds} ms"
    blocks = f"{current.buffers} -> {chosen.buffers} blocks a search"
    return f"ef_search {current.ef_search} -> {chosen.ef_search}: {recall}, {p95}, {blocks}."


def _progress(work: WorkSeen) -> Progress | None:
    if not work.total:
        return None
    percent = 100 if work.finished else min(99, 100 * work.done // work.total)
    return Progress(done=work.done, total=work.total, percent=percent, summary=f"{percent}%")
