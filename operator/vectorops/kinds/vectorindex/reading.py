"""Rows of the catalogue and notes of running work, as plans see them. Pure translation: nothing is asked here."""

from __future__ import annotations

from vectorops.clients import catalogue as db
from vectorops.errors import OperatorError, Reason, Stalled
from vectorops.kinds.vectorindex import build, sql
from vectorops.kinds.vectorindex.observation import Index, Intent, Job
from vectorops.runtime.context import Context


def index_of(found: db.Index) -> Index:
    """An index as plans see it."""
    cast = found.column is None
    over = sql.expression_column(found.key) if cast else None
    return Index(
        oid=found.oid,
        name=found.name,
        table_oid=found.table_oid,
        valid=found.valid and found.ready and found.live,
        method=found.method,
        operator_class=found.opclass,
        column=over[0] if over is not None else found.column,
        cast=cast,
        predicate=found.predicate,
        options={name: int(value) for name, value in found.options.items() if value.isdigit()},
        definition=found.definition,
        size_bytes=found.size_bytes,
        scans=found.scans,
        comment=found.comment,
        attached=found.is_partition,
        expression_dimensions=over[1] if over is not None else None,
    )


def intent_of(row: db.Intent) -> Intent:
    """An intent as plans see it; how an attempt ended follows its hash."""
    attempt, _, failure = row.definition_hash.partition(":")
    return Intent(
        row.build_name, row.index_name, row.table_oid, row.step, row.build_oid, row.old_name, row.old_oid,
        attempt, failure or None, row.run_token, row.updated_at, row.term,
    )  # fmt: skip


def notes_of(ctx: Context, uid: str) -> build.Notes | None:
    """What the object's work of this process says about itself."""
    job = ctx.work.find(uid)
    notes = job.notes.get(build.NOTES) if job is not None else None
    return notes if isinstance(notes, build.Notes) else None


def job_of(ctx: Context, uid: str) -> Job | None:
    """The object's work of this process, running or ended."""
    job, notes = ctx.work.find(uid), notes_of(ctx, uid)
    if job is None or notes is None:
        return None
    error = job.error
    told = error if isinstance(error, OperatorError) else None
    stalls = isinstance(error, Stalled)
    return Job(
        kind=notes.kind, running=job.running, started=notes.started, step=notes.step, build_name=notes.build_name,
        memory=notes.memory, workers=notes.workers, note=notes.note, spill=notes.spill, ended=notes.ended,
        error_reason=told.reason if told is not None else Reason.InternalError if error is not None else None,
        error_message=told.message if told is not None else "" if error is None else type(error).__name__,
        error_stalls=stalls, error_after=getattr(error, "after", 0.0) if told is not None else 0.0, ending=notes.ending,
    )  # fmt: skip
