"""The long work of a VectorIndex: build, drop what is over, retire what was replaced, drop what is deleted.

Each runs supervised on a connection of its own that holds the table's advisory lock, and looks again under that lock
before it does anything: the world may have moved since the plan. Nothing here decides what is wanted. What `observe`
shows of the work stands in `Notes`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from vectorops.clients.locks import try_table_lock
from vectorops.clients.postgres import Connection, Database, speaking, sqlstate_of
from vectorops.errors import OperatorError, Reason, Stalled, Transient, Waiting
from vectorops.kinds.vectorindex import sizing, steps
from vectorops.kinds.vectorindex.actions import Discard, DropIndex, Retire, StartBuild
from vectorops.kinds.vectorindex.observation import JobKind, Step
from vectorops.kinds.vectorindex.parts import OnShutdown
from vectorops.kinds.vectorindex.reasons import Why
from vectorops.kinds.vectorindex.resource import VectorIndexSpec
from vectorops.runtime.context import Context
from vectorops.runtime.store import Store
from vectorops.runtime.work import Job

NOTES = "vectorindex"  # key in Job.notes
LOCK_POLL = 1.0  # seconds: two heavy operations queue for minutes, a second is not felt
SPILL = re.compile(r"^hnsw graph no longer fits into maintenance_work_mem after (\d+) tuples")
WHERE_REFUSED = frozenset({"22P02", "22007", "22008", "22003", "42703", "42883", "42804", "42P17"})
"""SQLSTATEs of a literal that is none of the column's type, of a column or operator that is not there."""


def application_name(uid: str) -> str:
    """Of the sessions that work for the object: how they are found again after a restart."""
    return f"vectorops:vidx:{uid}"


@dataclass
class Notes:
    """What the pass may see of running work."""

    kind: JobKind
    build_name: str
    database: Database
    started: datetime
    step: str
    pid: int | None = None
    backend_start: datetime | None = None
    memory: int | None = None
    workers: int | None = None
    note: str = ""
    spill: sizing.Spill | None = None
    ended: datetime | None = None
    ending: bool = False  # asked to end before its statement is sent


@dataclass(frozen=True)
class Site:
    """Where the work is done, and for whom."""

    ctx: Context
    store: Store
    owner: steps.Owner
    spec: VectorIndexSpec
    extension: tuple[int, ...] = ()

    @property
    def schema(self) -> str:
        """The schema of the table, and so of its indexes."""
        return self.spec.schema_name


Body = Callable[[Connection, Notes, Job], Awaitable[None]]


def start(site: Site, kind: JobKind, name: str, table_oid: int, step: str, body: Body) -> None:
    """Start `body` as the object's supervised work, on a session that holds the table's lock."""

    notes = Notes(kind, name, site.store.database, site.ctx.clock(), step)

    async def run(job: Job) -> None:
        try:
            async with _at_work(site, notes, table_oid) as connection:
                await body(connection, notes, job)
        finally:
            notes.ended = site.ctx.clock()
            site.ctx.stores.forget(site.store)

    job = site.ctx.work.start(site.owner.uid, f"{kind} {name}", run)
    job.notes.setdefault(NOTES, notes)  # before it first runs: a pass that looks meanwhile must see that it is at work


@asynccontextmanager
async def _at_work(site: Site, notes: Notes, table_oid: int) -> AsyncIterator[Connection]:
    """A session that holds the table's lock. Only tried, never waited for in the server: see `clients/locks.py`."""
    wanted, database = notes.step, site.store.database
    async with database.session(application_name(site.owner.uid)) as connection:
        with speaking("looking at the own session"):
            notes.pid = connection.get_server_pid()
            notes.backend_start = await connection.fetchval(steps.QUERIES["own_backend_start"])
        while not await try_table_lock(connection, table_oid):
            notes.step = Why.WaitingForTableLock
            _still_wanted(notes)
            await asyncio.sleep(LOCK_POLL)
        notes.step = wanted
        _still_wanted(notes)
        yield connection


def _still_wanted(notes: Notes) -> None:
    if notes.ending:
        raise Waiting(Reason.QueryCanceled, "The work was ended before it began.", after=1.0)


def start_build(site: Site, action: StartBuild) -> None:
    """CREATE INDEX CONCURRENTLY under the build's name."""

    async def body(connection: Connection, notes: Notes, job: Job) -> None:
        await steps.refuse_rivals(connection, site.owner, site.schema, action.index_name)
        await _still_the_table(connection, site, action.table_oid)
        if await _own_leftover(connection, site, action.build_name, action.table_oid):
            return  # it is there and valid: what is left is to verify it
        await steps.write_intent(
            connection, site.owner, schema=site.schema, index_name=action.index_name, build_name=action.build_name,
            table_oid=action.table_oid, build_oid=None, definition=action.definition, attempt=action.attempt,
            step=Step.BUILDING, run_token=action.run_token,
        )  # fmt: skip
        site.ctx.stores.forget(site.store)
        await _create(connection, site, action, notes, job)

    start(site, "build", action.build_name, action.table_oid, Why.Building, body)


async def _still_the_table(connection: Connection, site: Site, table_oid: int) -> None:
    """The statement names the table; raises Transient where another one has taken the name since it was planned."""
    with speaking("looking for the table"):
        wanted = (site.schema, site.spec.table, site.spec.column)
        row = await connection.fetchrow(steps.QUERIES["look_up_target"], *wanted)
    if row is None or row["table_oid"] != table_oid:
        raise Transient(Reason.LockContended, "Another table has taken the name meanwhile; it is looked at again.")


async def _create(connection: Connection, site: Site, action: StartBuild, notes: Notes, job: Job) -> None:
    """Size the session and build; serially, once more, where shared memory is too small for a parallel build."""
    with speaking("sizing the build"):
        limits = sizing.Limits(**dict(await connection.fetchrow(steps.QUERIES["read_limits"]) or {}))
    sized = sizing.size(site.spec, action.rows, action.dimensions, limits, site.extension)
    notes.note = sized.note
    connection.add_log_listener(_spill_listener(site, notes))
    try:
        await _send(connection, site, action, sized, notes, job)
    except OperatorError as error:
        if site.spec.where and sqlstate_of(error) in WHERE_REFUSED:
            raise Stalled(Why.WhereInvalid, f"The server refuses the condition. {Why.WhereInvalid.next_step}") from None
        if error.reason != Reason.SharedMemoryExhausted or sized.workers == 0:
            raise
        notes.note = "serial: /dev/shm of the server is too small for a parallel build"
        await steps.send_drop(connection, site.schema, action.build_name)
        await _send(connection, site, action, sizing.Sizing(sized.memory, 0), notes, job)


async def _send(
    connection: Connection, site: Site, action: StartBuild, sized: sizing.Sizing, notes: Notes, job: Job
) -> None:
    notes.memory, notes.workers = sized.memory, sized.workers
    with speaking("sizing the build"):
        await connection.execute(steps.QUERIES["size_build"], f"{sized.memory // sizing.KIB}kB", str(sized.workers))
    _still_wanted(notes)
    detach = site.spec.build.on_shutdown is OnShutdown.DETACH
    job.detach = connection.terminate if detach else None
    try:
        await steps.send_create(connection, action.statement, None if detach else _aborting(notes))
    except asyncio.CancelledError:
        if not detach:
            await _drop_in_time(connection, site, action.build_name)
        raise
    finally:
        job.detach = None


def _aborting(notes: Notes) -> Callable[[], asyncio.Future[bool]]:
    def abort() -> asyncio.Future[bool]:
        assert notes.pid is not None and notes.backend_start is not None
        return asyncio.ensure_future(steps.cancel(notes.database, notes.pid, notes.backend_start))

    return abort


async def _drop_in_time(connection: Connection, site: Site, name: str) -> None:
    """After an abort, inside the grace of the shutdown; what is not done by then is done after the restart."""
    dropping = asyncio.ensure_future(steps.send_drop(connection, site.schema, name))
    await asyncio.wait([dropping], timeout=steps.DROP_SECONDS)
    if not dropping.done():
        connection.terminate()
        await asyncio.wait([dropping])
    if not dropping.cancelled():
        dropping.exception()  # there is nobody left to tell; the intent stays


def _spill_listener(site: Site, notes: Notes) -> Callable[[Any, Any], None]:
    def heard(_: Any, message: Any) -> None:
        found = SPILL.match(str(message.message))
        if found is not None and notes.spill is None:
            notes.spill = sizing.Spill(int(found[1]), site.ctx.clock())

    return heard


async def _own_leftover(connection: Connection, site: Site, name: str, table_oid: int) -> bool:
    """Drop an invalid index of that name if our intent says it is ours. True: there is one, and it is valid.

    Raises Stalled for one that is not ours, Waiting for one that is being built.
    """
    with speaking("looking for what an earlier attempt left"):
        index = await connection.fetchrow(steps.QUERIES["find_index"], site.schema, name)
        intent = await connection.fetchrow(steps.QUERIES["find_intent"], site.owner.uid, name)
    if index is None:
        return False
    if intent is None or index["table_oid"] not in (table_oid, intent["table_oid"]):
        raise Stalled(Why.NameTaken, f'"{name}" is there and not ours by any intent; it is not touched.')
    if index["being_built"]:
        raise Waiting(Why.BuildByOthers, f'"{name}" is being built.', after=5.0)
    if index["valid"] and intent["step"] == Step.BUILDING:
        return True
    await steps.send_drop(connection, site.schema, name)
    return False


def start_discard(site: Site, action: Discard) -> None:
    """Drop what an attempt that is over left, valid or not."""

    async def body(connection: Connection, notes: Notes, job: Job) -> None:
        if await _own_leftover(connection, site, action.build_name, action.table_oid):
            await steps.send_drop(connection, site.schema, action.build_name)
        if not action.keep:
            await steps.forget_intent(connection, site.owner.uid, action.build_name)

    start(site, "discard", action.build_name, action.table_oid, Why.CleaningUp, body)


def start_retire(site: Site, action: Retire) -> None:
    """Drop the replaced index, if it is still the one we wrote down; ANALYZE; strike the intent out."""

    async def body(connection: Connection, notes: Notes, job: Job) -> None:
        if action.old_name is not None and action.old_oid is not None:
            await _drop_exactly(connection, site, action.old_name, action.old_oid)
        try:
            await steps.send_analyze(connection, site.schema, site.spec.table)
        except Stalled as error:
            if error.reason != Reason.TargetNotFound:  # dropped or renamed meanwhile: there is nothing to analyze
                raise
        await steps.forget_intent(connection, site.owner.uid, action.build_name)

    start(site, "retire", action.build_name, action.table_oid, Why.DroppingOld, body)


def start_drop(site: Site, action: DropIndex) -> None:
    """deletionPolicy Delete: the index itself."""

    async def body(connection: Connection, notes: Notes, job: Job) -> None:
        await steps.refuse_rivals(connection, site.owner, site.schema, action.index_name)
        await steps.mark_dropping(connection, site.owner.uid, action.index_name)
        await _drop_exactly(connection, site, action.index_name, action.index_oid)

    start(site, "drop", action.index_name, action.table_oid, Why.CleaningUp, body)


async def _drop_exactly(connection: Connection, site: Site, name: str, oid: int) -> None:
    """Drop the index of that name if it is that very one; another one, or none, is left alone."""
    with speaking("looking at the index to be dropped"):
        index = await connection.fetchrow(steps.QUERIES["find_index"], site.schema, name)
    if index is not None and index["oid"] == oid:
        await steps.send_drop(connection, site.schema, name)
