"""The recall probe: what share of the true neighbours searches by this index find, measured now and then.

Reads the table once and searches with the settings of the service's sessions, in one snapshot, on a standby where the
store names one. Never beside a build of the table: a build would wait for the snapshot. The result stands in the
status; losing it costs another measurement.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from vectorops.clients.catalogue import Catalogue, Index
from vectorops.clients.postgres import Database
from vectorops.errors import OperatorError, Reason, Waiting, frames
from vectorops.kinds.vectorindex.observation import ProbeSeen
from vectorops.kinds.vectorindex.parts import Probe
from vectorops.recall.bound import lower_bound, upper_bound
from vectorops.recall.searching import PART, Measured, Searcher, draw_queries, snapshot, truth
from vectorops.recall.target import target_of
from vectorops.runtime.context import Context
from vectorops.runtime.work import Job

NOTES = "probe"  # key in Job.notes
TRY_AGAIN = timedelta(minutes=10)
"""After a measurement that failed: it reads a whole table."""

FEWEST_QUERIES = 32
"""Below, nothing can be said."""


@dataclass
class Notes:
    """One measurement, at work or ended."""

    index_oid: int
    started: datetime
    scans: int = 0  # of that index on the primary, by this measurement and those before it in this process
    ending: bool = False
    result: Found | None = None
    error: OperatorError | None = None
    ended: datetime | None = None


@dataclass(frozen=True)
class Found:
    """What was measured. Shares in 0..1."""

    recall: float
    lower: float
    upper: float
    sampled: int
    ef_search: int | None


def probe_key(uid: str) -> str:
    """Of the work: a measurement and a build are two pieces of work of one object."""
    return f"{uid}:probe"


def notes_of(ctx: Context, uid: str) -> Notes | None:
    """The last measurement of this process."""
    job = ctx.work.find(probe_key(uid))
    notes = job.notes.get(NOTES) if job is not None else None
    return notes if isinstance(notes, Notes) else None


def seen(ctx: Context, uid: str) -> ProbeSeen | None:
    """The last measurement of this process, as plans see it."""
    notes, job = notes_of(ctx, uid), ctx.work.find(probe_key(uid))
    if notes is None or job is None:
        return None
    found, error = notes.result, notes.error
    return ProbeSeen(
        running=job.running,
        index_oid=notes.index_oid,
        ending=notes.ending,
        ended=notes.ended,
        percent=int(100 * found.recall + 1e-9) if found is not None else None,
        lower_percent=int(100 * found.lower + 1e-9) if found is not None else None,
        upper_percent=min(100, int(100 * found.upper) + 1) if found is not None else None,
        sampled=found.sampled if found is not None else 0,
        ef_search=found.ef_search if found is not None else None,
        error_reason=error.reason if error is not None else None,
        error_message=error.message if error is not None else "",
    )


def scans(ctx: Context, uid: str, index_oid: int) -> int:
    """Scans of that index on the primary by the measurements of this process: the server counts them like anybody's."""
    notes = notes_of(ctx, uid)
    return notes.scans if notes is not None and notes.index_oid == index_oid else 0


@dataclass(frozen=True)
class Place:
    """Where it is searched, and how wide."""

    reader: Database
    standby: bool  # its scans are counted there, and not on the primary
    ef_search: int


def start_probe(ctx: Context, uid: str, place: Place, catalogue: Catalogue, index: Index, probe: Probe) -> None:
    """Start a measurement, unless one runs."""
    notes = Notes(index.oid, ctx.clock(), scans(ctx, uid, index.oid))

    async def run(job: Job) -> None:
        try:
            notes.result = await _measure(uid, place, catalogue, index, probe, notes)
        except OperatorError as error:
            notes.error = None if notes.ending else error
        except Exception as error:  # told like any other, or it would be measured again at once, for ever
            text = f"unforeseen {type(error).__name__} in {frames(error)}. {Reason.InternalError.next_step}"
            notes.error = Waiting(Reason.InternalError, text, after=60.0)
        finally:
            notes.ended = ctx.clock()

    job = ctx.work.start(probe_key(uid), "probe", run)
    job.notes.setdefault(NOTES, notes)


async def _measure(uid: str, place: Place, catalogue: Catalogue, index: Index, probe: Probe, notes: Notes) -> Found:
    target = target_of(catalogue, index)
    setting = "hnsw.ef_search" if index.method == "hnsw" else "ivfflat.probes"
    into: dict[int, Measured] = {}
    value = place.ef_search if index.method == "hnsw" else _probes(index)
    async with place.reader.session(f"vectorops:probe:{uid}") as connection, snapshot(connection):
        queries = await draw_queries(connection, target, probe.sample_size, index.rows or 0)
        if len(queries.texts) < FEWEST_QUERIES:
            text = f"Only {len(queries.texts)} rows can be searched for; a recall is measured with {FEWEST_QUERIES}."
            raise Waiting(Reason.TargetNotFound, text, after=60.0)
        _still_wanted(notes)
        exact = await truth(connection, target, queries, probe.k)
        searcher = Searcher(connection, target, queries, exact, probe.k)
        await searcher.open()
        for start in range(0, len(queries.texts), PART):
            _still_wanted(notes)
            part = range(start, min(start + PART, len(queries.texts)))
            notes.scans += 0 if place.standby else len(part)
            await searcher.measure(setting, [value], part, into)
    recalls = into[value].recalls
    lower, upper = lower_bound(recalls, len(recalls)), upper_bound(recalls, len(recalls))
    return Found(into[value].recall, lower, upper, len(recalls), value if index.method == "hnsw" else None)


def _probes(index: Index) -> int:
    """IVFFlat: pgvector's advice, the square root of the lists."""
    lists = index.options.get("lists", "100")
    return max(1, round(int(lists) ** 0.5)) if lists.isdigit() else 10


def _still_wanted(notes: Notes) -> None:
    if notes.ending:
        raise Waiting(Reason.QueryCanceled, "The measurement was ended before its end.", after=1.0)
