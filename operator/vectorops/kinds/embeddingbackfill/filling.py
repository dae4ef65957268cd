"""The work of a run: sweep the table in key order until a query proves that nothing is left.

    session -> account -> lock of the table -> sweep: page, batches in flight, written as they are answered
            -> proof -> done, or another sweep for rows that came or changed meanwhile

The lock is let go of between batches when an index build wants the table: a build goes first, because every row
written during it makes it longer. Who wants it is asked once a second on the watching connection: a build that runs
(anyone's), or a VectorIndex of ours that has an intent for the table and a session open to carry it out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from vectorops.clients.embedding_packing import MAX_REQUEST_TOKENS, PROVIDER_ESTIMATE
from vectorops.clients.postgres import Database, speaking, statements
from vectorops.clients.vectorcodec import register_vectors
from vectorops.errors import OperatorError, Reason, Stalled, Transient, Waiting
from vectorops.kinds.embeddingbackfill import effects
from vectorops.kinds.embeddingbackfill.batch import Row, fill, row_of
from vectorops.kinds.embeddingbackfill.delivery import backoff, deliver
from vectorops.kinds.embeddingbackfill.observation import End, Trouble
from vectorops.kinds.embeddingbackfill.resource import Reason as Why
from vectorops.kinds.embeddingbackfill.run import Run
from vectorops.kinds.embeddingbackfill.sql import page_sql, pending_sql
from vectorops.runtime.work import Job

PAGE_ROWS = 512  # at most 16 MB of texts at a time
POLL = 1.0  # seconds between two looks at who wants the table
GRACE = 8.0  # seconds for what is in flight when the process ends; the process allows ten


def session_name(uid: str) -> str:
    """application_name of the session that does the work."""
    return f"vectorops:vfill:{uid}"


async def work(job: Job, run: Run) -> End:
    """The supervised work: ends after the write in hand when it is asked to, also when the process ends."""
    job.notes["run"] = run
    job.detach = run.stop
    filling = asyncio.create_task(fill_table(run), name=f"fill {run.uid}")
    try:
        return await asyncio.shield(filling)
    except asyncio.CancelledError:
        run.stop()
        await asyncio.wait([filling], timeout=GRACE)
        filling.cancel()
        raise
    except OperatorError as error:
        run.error = Trouble(error.reason, error.message, isinstance(error, Stalled))
        raise
    except Exception as error:
        run.error = Trouble(Reason.InternalError, f"unforeseen {type(error).__name__}. {Reason.InternalError.next_step}")
        raise
    finally:
        run.ended_at = datetime.now(UTC)


async def fill_table(run: Run) -> End:
    """Sessions one after another until the work has ended: a lost one is replaced, what was in flight on it is lost."""
    tries = 0
    while not run.stopping:
        written = run.written
        try:
            async with run.database.session(session_name(run.uid)) as connection:
                run.session = connection
                return await in_session(run)
        except (Transient, Waiting) as error:
            run.told(error)
            tries = 0 if run.written > written else tries + 1
            await run.sleep(backoff(tries, error.after))
    return run.end or End.STOPPED


async def in_session(run: Run) -> End:
    """Sweeps until nothing is left, or the run stops."""
    await prepare_session(run)
    run.spend = await effects.begin_run(run)
    watcher = asyncio.create_task(watch_for_builds(run), name=f"watch {run.uid}")
    try:
        while not run.stopping:
            async with table_lock(run) as held:
                if held:
                    await sweep(run)
            if not run.halted and not await anything_pending(run):
                return End.PROVED
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
    return run.end or End.STOPPED


async def prepare_session(run: Run) -> None:
    """Pin the output formats, and teach the session to send vectors."""
    with speaking("preparing a session"):
        await run.session.fetchrow(statements(effects.PACKAGE)["pin_formats"])
    await register_vectors(run.session, run.target.type_schema)


@asynccontextmanager
async def table_lock(run: Run) -> AsyncIterator[bool]:
    """Hold the table's lock inside. False inside: the run was asked to stop before it had it."""
    held = False
    while not held and not run.stopping:
        if not run.pausing:
            held = await effects.take_table_lock(run)
        if not held:
            reason = Why.WaitingForIndexBuild if run.pausing else Why.WaitingForTableLock
            run.waiting = Trouble(reason, f"{run.target.declared.name}: {reason.next_step}")
            await run.sleep(POLL)
    if held:
        run.waiting = None
    try:
        yield held
    finally:
        if held and not run.session.is_closed():
            await effects.release_table_lock(run)


async def sweep(run: Run) -> None:
    """Once through the table in key order; requests in flight up to `concurrency`, memory bounded by that."""
    flying: set[asyncio.Task[None]] = set()
    try:
        async for rows in batches(run):
            while len(flying) >= run.concurrency:
                flying = await landed(flying)
            if run.halted:
                break
            run.in_flight += len(rows)
            flying.add(asyncio.create_task(_deliver(run, rows), name=f"deliver {run.uid}"))
        while flying:
            flying = await landed(flying)
    finally:
        # what is in flight is paid for: it is written before the first error is told
        run_out = await asyncio.gather(*flying, return_exceptions=True)
    for result in run_out:
        if isinstance(result, BaseException):
            raise result


async def landed(flying: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    """Wait for one to land; raises what it raised. Returns those still flying."""
    done, still = await asyncio.wait(flying, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        flying.discard(task)
        task.result()
    return still


async def batches(run: Run) -> AsyncIterator[tuple[Row, ...]]:
    """Pages of the table, cut into batches of what one request may hold."""
    rows: list[Row] = []
    after: list[str] | None = None
    more = True
    while (more or rows) and not run.halted:
        wanted = _wanted(run, run.size.rows)
        if wanted <= 0:
            if run.in_flight:  # some may not be written, and then others take their place: by the next sweep
                return
            run.end = End.LIMIT
            return
        while more and len(rows) < wanted and not run.halted:
            page = await next_page(run, after)
            more, after = len(page) == PAGE_ROWS, list(page[-1].key) if page else after
            rows += page
        count = fill(rows, wanted, _most_bytes(run))
        if count:
            yield tuple(rows[:count])
        rows = rows[count:]


async def next_page(run: Run, after: list[str] | None) -> list[Row]:
    """The next rows to embed behind the key `after`."""
    sql = page_sql(run.target, first=after is None)
    args: list[Any] = [*effects.scope(run.target), run.since, PAGE_ROWS] + ([] if after is None else [after])
    async with run.using:
        with speaking("reading rows to embed"):
            records = await run.session.fetch(sql, *args)
    return [row_of(record["key"], record["row_key"], record["text"], record["text_hash"]) for record in records]


async def anything_pending(run: Run) -> bool:
    """The proof: whether a selected row is left that is neither embedded, blank nor recorded."""
    async with run.using:
        with speaking("looking for rows that are left"):
            return bool(await run.session.fetchval(pending_sql(run.target), *effects.scope(run.target), run.since))


async def watch_for_builds(run: Run) -> None:
    """Pause the run while an index build wants its table."""
    while True:
        with suppress(Transient, Waiting):  # the session meets the same trouble and tells it
            run.pause(await build_wanted(run.database, run.target.oid))
        await asyncio.sleep(POLL)


async def build_wanted(database: Database, table_oid: int) -> bool:
    """Whether an index of the table is being built, or about to be by a VectorIndex of ours."""
    return bool(await database.fetchval(statements(effects.PACKAGE)["build_wanted"], table_oid))


async def _deliver(run: Run, rows: tuple[Row, ...]) -> None:
    try:
        await deliver(run, rows)
    finally:
        run.in_flight -= len(rows)


def _wanted(run: Run, rows: int) -> int:
    if run.limit is None:
        return rows
    return min(rows, run.limit - run.spend.rows_done - run.written - run.in_flight)


def _most_bytes(run: Run) -> int:
    counted = max(PROVIDER_ESTIMATE, run.embedder.rate.highest)
    tokens = min(MAX_REQUEST_TOKENS, run.embedder.limits.request_tokens, run.limits.request_tokens)
    return max(1, int(tokens / counted))
