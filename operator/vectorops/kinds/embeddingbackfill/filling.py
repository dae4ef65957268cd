"""The work of a run: sweep the table in key order until a query proves that nothing is left.

    session -> lock of the table -> account -> sweep: page, batches in flight, written as they are answered
            -> proof -> done, or another sweep for rows that came or changed meanwhile

The lock and the session are let go of between batches when an index build wants the table: a build goes first, because
every row written during it makes it longer. Who wants it is asked once a second; see `watching.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, TypeAlias

from vectorops.clients.postgres import speaking, statements
from vectorops.clients.vectorcodec import register_vectors
from vectorops.errors import OperatorError, Reason, Stalled, Transient, Waiting
from vectorops.kinds.embeddingbackfill import effects
from vectorops.kinds.embeddingbackfill.batch import Row, fill, row_of
from vectorops.kinds.embeddingbackfill.delivery import backoff, deliver
from vectorops.kinds.embeddingbackfill.effects import Found
from vectorops.kinds.embeddingbackfill.observation import End, Trouble
from vectorops.kinds.embeddingbackfill.reasons import Reason as Why
from vectorops.kinds.embeddingbackfill.run import Halted, Run
from vectorops.kinds.embeddingbackfill.watching import Watch, failed_attempt, save_clock
from vectorops.kinds.embeddingbackfill.writing import copy_page
from vectorops.runtime.work import Job

PAGE_ROWS = 512  # at most 16 MB of texts at a time
POLL = 1.0  # seconds between two sweeps that wrote nothing, and while the table is let go of
LOCK_POLL = 2.0  # seconds between two tries for its lock; meanwhile the connection is left to those who can use it
GRACE = 8.0  # seconds for what is in flight when the process ends; the process allows ten


Step: TypeAlias = Callable[[Run], Awaitable[End | None]]  # None: to be called again


def session_name(uid: str) -> str:
    """application_name of the session that does the work."""
    return f"vectorops:vfill:{uid}"


async def work(job: Job, run: Run, fill: Callable[[Run], Coroutine[Any, Any, End]]) -> End:
    """The supervised work: ends after the write in hand when it is asked to, also when the process ends."""
    job.notes["run"] = run
    job.detach = run.stop
    filling = asyncio.create_task(fill(run), name=f"fill {run.uid}")
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
        message = f"unforeseen {type(error).__name__}. {Reason.InternalError.next_step}"
        run.error = Trouble(Reason.InternalError, message)
        await failed_attempt(run, error)
        raise
    finally:
        run.ended_at, run.ended_with = datetime.now(UTC), run.embedder.fingerprint


async def fill_table(run: Run, once: Step | None = None) -> End:
    """Sessions one after another until the work has ended; none is kept while there is something to wait for."""
    watch = Watch(run)
    await watch.look()
    watcher = asyncio.create_task(watch.forever(), name=f"watch {run.uid}")
    tries = 0
    try:
        while not run.stopping:
            written = run.written
            try:
                end = await (once or one_session)(run)
                if end is not None:
                    return end
            except (Transient, Waiting) as error:
                run.told(error)
                if not await failed_attempt(run, error):
                    raise
                tries = 0 if run.written > written or isinstance(error, Waiting) else tries + 1
                await run.sleep(backoff(tries, error.after))
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
        await save_clock(run)
    return run.end or End.STOPPED


async def one_session(run: Run, doing: Step | None = None) -> End | None:
    """Sweeps on one session until nothing is left. None: the table was let go of for an index build."""
    if run.pausing:
        run.waiting = run.paused_for
        await run.sleep(POLL)
        return None
    async with run.database.session(session_name(run.uid)) as connection:
        run.session = connection
        await prepare_session(run)
        if not await effects.take_table_lock(run):
            message = f"{run.target.declared.name}: {Why.WaitingForTableLock.next_step}"
            raise Waiting(Why.WaitingForTableLock, message, after=LOCK_POLL)
        try:
            return await (doing or sweeps)(run)
        finally:
            if not connection.is_closed():
                await effects.release_table_lock(run)


async def sweeps(run: Run) -> End | None:
    """Sweeps under the table's lock until a query proves that nothing is left. None: an index build wants the table."""
    run.waiting = None
    run.spend, run.spent_at = await effects.begin_run(run), run.written
    while not run.halted:
        written = run.written
        await adopt(run)
        await sweep(run)
        if await proved(run):
            return End.PROVED
        if run.written == written:
            await run.sleep(POLL)
    if run.stopping:
        return run.end or End.STOPPED
    return None


async def prepare_session(run: Run) -> None:
    """Pin the output formats, and teach the session to send vectors."""
    with speaking("preparing a session"):
        await run.session.fetchrow(statements(effects.PACKAGE)["pin_formats"])
        if run.selection.ids is None:
            await run.session.fetchrow(statements(effects.PACKAGE)["walk_the_key"])
    await register_vectors(run.session, run.target.type_schema)


async def adopt(run: Run) -> None:
    """Record the texts of embeddings that others have written, if the selection asks for it."""
    after: list[str] | None = None
    while run.selection.adopts and not run.halted:
        keys = await effects.adopt_page(run, after)
        if not keys:
            break
        run.adopted += len(keys)
        run.waiting = Trouble(Why.Adopting, f"{run.adopted} embeddings of others adopted. {Why.Adopting.next_step}")
        after = keys[-1]
    run.waiting = None


async def sweep(run: Run) -> None:
    """Once through the table in key order; requests in flight up to `concurrency`, memory bounded by that."""
    flying: set[asyncio.Task[None]] = set()
    try:
        async for rows in batches(run):
            while len(flying) >= run.concurrency:
                await land(flying)
            if run.halted:
                break
            run.in_flight += len(rows)
            run.flying.update(row.text_hash for row in rows)
            flying.add(asyncio.create_task(_deliver(run, rows), name=f"deliver {run.uid}"))
        while flying:
            await land(flying)
    except asyncio.CancelledError:
        for task in flying:
            task.cancel()
        raise
    except OperatorError:
        run.halt()
        raise
    finally:
        # what is in flight is paid for: it is written before the first error is told
        await asyncio.gather(*flying, return_exceptions=True)
        run.go_on()


async def land(flying: set[asyncio.Task[None]]) -> None:
    """Wait until at least one has landed, and take it out; raises what it raised."""
    done, _ = await asyncio.wait(flying, return_when=asyncio.FIRST_COMPLETED)
    flying -= done
    for task in done:
        task.result()


async def batches(run: Run) -> AsyncIterator[tuple[Row, ...]]:
    """Pages of the table, cut into batches of what one request may hold; rows of one text go together."""
    rows: list[Row] = []
    after: list[str] | None = None
    more, packed, run.left = True, run.embedder.meter.packed, 0
    while (more or rows) and not run.halted:
        wanted = run.pace.most(_allowed(run, min(run.size.rows, run.embedder.most_texts)))
        if wanted <= 0:
            if not (run.in_flight or run.left):  # else some may not be written, and others take their place: later
                run.finish(End.LIMIT)
            return
        most = run.most_request_tokens
        count = fill(rows, wanted, most, packed)
        while more and count == len(rows) < wanted and not run.halted:  # topped up: no request smaller than need be
            asked = run.pace.most(_allowed(run, PAGE_ROWS + len(rows)) - len(rows))
            if asked <= 0:  # what was copied from the last page counts
                break
            page = await effects.read_page(run, asked, after)
            more, after = len(page) == asked, list(page[-1].key) if page else after
            rows += await to_buy(run, page)
            count = fill(rows, wanted, most, packed)
        if count and await _paced(run, count):
            texts = {row.text_hash for row in rows[:count]}
            yield tuple(rows[:count] + [row for row in rows[count:] if row.text_hash in texts])
            rows = [row for row in rows[count:] if row.text_hash not in texts]


async def to_buy(run: Run, page: list[Found]) -> list[Row]:
    """The rows whose texts are to be bought. Those bought before are copied, those in flight are left for later.

    What is in flight is noted before the copying: what lands between the two was too late for it.
    """
    flying = set(run.flying)
    if not page:
        return []
    copied = await copy_page(run, page)
    if copied:
        run.written += len(copied)
        run.advanced(len(copied))
        await _paced(run, len(copied))
    rest = [found for found in page if found.row_key not in copied]
    kept = [found for found in rest if found.text_hash not in flying]
    run.left += len(rest) - len(kept)
    measured = await run.embedder.measure([found.text for found in kept])
    return [row_of(found.key, found.row_key, one, found.text_hash) for found, one in zip(kept, measured, strict=True)]


async def proved(run: Run) -> bool:
    """The proof that no row is left that is neither embedded, blank nor recorded. None is sought when halted."""
    return not run.halted and not await effects.find_left(run)


async def _deliver(run: Run, rows: tuple[Row, ...]) -> None:
    texts = {row.text_hash for row in rows}
    try:
        await deliver(run, rows)
    finally:
        run.in_flight -= len(rows)
        run.flying -= texts


async def _paced(run: Run, rows: int) -> bool:
    """Wait until so many rows may go. False: nothing more is to be sent."""
    try:
        await run.unless_halted(run.pace.admit(rows))
    except Halted:
        return False
    return True


def _allowed(run: Run, rows: int) -> int:
    if run.limit is None:
        return rows
    return min(rows, run.limit - run.rows_done - run.in_flight - run.left)
