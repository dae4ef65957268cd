"""Batch mode: the same sweeps, but texts go to the provider's batch interface and vectors come up to a day later.

    under the table's lock: results of ended batches -> rows; pending rows -> new batches, until no more may be open
    without lock and session: look at the open batches, more rarely the longer nothing happens

Which batches are open stands in the database, so a run that was stopped or killed goes on with them; so does another
request of the same table, whoever sent them. The proof at the end is that of every run, and needs no batch to be open.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from functools import partial

from vectorops.clients.embedding_batches import Gone, NotSupported, Seen
from vectorops.errors import OperatorError, Reason, Stalled, Transient, Waiting
from vectorops.kinds.embeddingbackfill import batching_effects as effects
from vectorops.kinds.embeddingbackfill.batching_build import build
from vectorops.kinds.embeddingbackfill.batching_effects import Kept
from vectorops.kinds.embeddingbackfill.batching_queue import Queue
from vectorops.kinds.embeddingbackfill.batching_results import take
from vectorops.kinds.embeddingbackfill.effects import begin_run
from vectorops.kinds.embeddingbackfill.filling import GRACE, POLL, fill_table, one_session, proved
from vectorops.kinds.embeddingbackfill.observation import End, Trouble
from vectorops.kinds.embeddingbackfill.reasons import Reason as Why
from vectorops.kinds.embeddingbackfill.run import Run

FULL = frozenset({"token_limit_exceeded", "batch_limit_exceeded"})  # the provider's queue holds no more for now
WAITED_FOR = frozenset({Reason.ProviderUnavailable, Reason.RateLimited, Reason.InvalidAnswer})  # of the provider
VAIN = 3  # batches in a row that fail before they begin: waiting does not help
CLOSING_POLL = 0.25  # seconds between looks while a deleted request's batches are being cancelled


async def fill_in_batches(run: Run) -> End:
    """The work of a run in batch mode."""
    end = await fill_table(run, partial(one_round, Queue()))
    if end is End.FAILURES:
        await withdraw(run)
    return end


async def one_round(queue: Queue, run: Run) -> End | None:
    """Wait until there is something to do, then do it under the table's lock. The end, once there is nothing left.

    A provider that does not answer for an hour of a batch's day is waited for; it costs no attempt.
    """
    try:
        if queue.idle:
            await wait(run, queue)
            if run.stopping:
                return run.end or End.STOPPED
        end = await one_session(run, partial(turn, queue))
    except Transient as error:
        if error.reason not in WAITED_FOR:
            raise
        raise Waiting(error.reason, error.message, after=max(error.after, queue.troubled())) from error
    queue.troubles = 0
    return end


async def turn(queue: Queue, run: Run) -> End | None:
    """Everything that can be done now. None: it is the provider's turn, or somebody else's."""
    queue.idle = False
    run.spend, run.spent_at = await begin_run(run), run.written
    for kept in await effects.open_batches(run):
        if run.halted:
            break
        await settle(run, queue, kept)
    opened = await effects.open_batches(run)
    while may_build(run, queue, opened):
        if not await build(run, queue, sum(kept.rows for kept in opened if kept.of(run))):
            break
        opened = await effects.open_batches(run)
    if run.halted:
        return (run.end or End.STOPPED) if run.stopping else None
    if opened and not (queue.swept and await nothing_to_wait_for(run, opened)):
        run.waiting, queue.idle = waiting_for(opened), True
        return None
    return await nothing_open(run, queue)


async def nothing_open(run: Run, queue: Queue) -> End | None:
    """Proved, out of budget, at the limit, or another sweep."""
    if await proved(run):
        return End.PROVED
    if queue.full:
        run.finish(End.LIMIT if run.limit is not None and run.rows_done >= run.limit else End.BUDGET)
        return run.end
    if queue.swept and not queue.start_over(run.written):
        await run.sleep(POLL)
    if time.monotonic() < queue.not_before:
        run.waiting = Trouble(Why.WaitingForBatch, "The provider takes no batch at the moment; it is tried again.")
        queue.idle = True
    return None


def may_build(run: Run, queue: Queue, opened: list[Kept]) -> bool:
    """Whether another batch may be made now."""
    done = queue.swept or queue.full or len(opened) >= queue.most_open
    return not (done or run.halted or time.monotonic() < queue.not_before)


async def settle(run: Run, queue: Queue, kept: Kept) -> None:
    """Bring one batch as far as it can be brought now."""
    if kept.state == "Preparing":  # its maker is gone: whoever makes one holds the lock
        await effects.settle_batch(run, kept.nonce, 0)
    elif kept.state in ("Uploading", "Creating"):
        await recover(run, kept)
    elif (seen := await look(run, kept)) is not None and (kept.left_alone(run) or (not seen.ended and kept.fits(run))):
        return
    elif seen is None:
        await effects.settle_batch(run, kept.nonce, 0, release=False)  # nobody knows what it cost
    elif not kept.fits(run):  # the table is to hold other vectors by now
        if not seen.ended:
            await effects.cancel_batch(run, seen.id)
        await effects.settle_batch(run, kept.nonce, 0, release=False)
    else:
        await end(run, queue, kept, seen)


async def end(run: Run, queue: Queue, kept: Kept, seen: Seen) -> None:
    """An ended batch: its results, or why there are none."""
    written = run.written
    if seen.state == "failed" and not (seen.output_file or seen.error_file):
        others = sum(other.state == "Sent" for other in await effects.open_batches(run)) - 1
        await effects.settle_batch(run, kept.nonce, 0)
        await effects.delete_files(run, (seen.input_file,))
        refused(queue, kept, seen, others)
    elif not await take(run, queue, kept, seen):
        return
    queue.full = False  # what it had reserved or counted is free
    if run.written > written:
        queue.fruitful()
    elif kept.texts > kept.done or seen.state == "failed":
        queue.fruitless(time.monotonic())


def refused(queue: Queue, kept: Kept, seen: Seen, others: int) -> None:
    """A batch that failed before it began. Raises Stalled when waiting does not help."""
    if FULL & set(seen.codes):
        queue.refused_for_size(kept.texts, others)
    elif queue.vain + 1 >= VAIN:
        code = next((code for code in seen.codes if code.replace("_", "").isalnum()), "no code")
        message = f"the provider refuses {VAIN} batches in a row ({code}). {Reason.ProviderRejected.next_step}"
        raise Stalled(Reason.ProviderRejected, message)


async def recover(run: Run, kept: Kept) -> None:
    """Nobody knows whether the provider has it: it is found by its nonce, or surely not there and dropped."""
    batches = run.embedder.batches
    try:
        found = await batches.find(kept.nonce, kept.created_at)
    except NotSupported as error:
        await effects.settle_batch(run, kept.nonce, 0)
        raise Stalled(Why.BatchNotSupported, f"{error.message}. {Why.BatchNotSupported.next_step}") from error
    if found is not None:
        await effects.note_batch(run, kept.nonce, found)
    elif not kept.in_doubt:
        # without its file, one that shows up all the same fails before it begins
        await effects.delete_files(run, await batches.find_files(kept.nonce))
        await effects.settle_batch(run, kept.nonce, 0)


async def look(run: Run, kept: Kept) -> Seen | None:
    """The batch as it is now, noted for the status. None: the provider has it no more."""
    assert kept.batch_id is not None, "one that is sent has an id"
    try:
        seen = await run.embedder.batches.look(kept.batch_id)
    except Gone:
        return await run.embedder.batches.find(kept.nonce, kept.created_at)
    await effects.note_progress(run, kept.nonce, seen)
    return seen


async def wait(run: Run, queue: Queue) -> None:
    """Until a batch has ended, one that was in doubt can be told, or another may be made. No lock, no session."""
    while not run.stopping:
        pause = queue.looked()
        left = queue.not_before - time.monotonic()
        await run.sleep(min(pause, left) if left > 0 else pause)
        opened = await effects.peek_batches(run)
        run.waiting = waiting_for(opened) if opened else run.waiting
        if not opened or any(kept.state != "Sent" for kept in opened) or may_build(run, queue, opened):
            return
        if await any_ended(run, opened):
            return


async def any_ended(run: Run, opened: list[Kept]) -> bool:
    """Whether there are results to take; each batch's progress is noted on the way."""
    for kept in opened:
        if run.stopping:
            return False
        seen = await look(run, kept)
        if (seen is None or seen.ended) and not kept.left_alone(run):
            return True
    return False


def waiting_for(opened: list[Kept]) -> Trouble:
    """What the run waits for, in a sentence."""
    texts, done = sum(kept.texts for kept in opened), sum(kept.done for kept in opened)
    what = "a batch" if len(opened) == 1 else f"{len(opened)} batches"
    message = f"The provider works on {what}: {done} of {texts} texts are done. It may take a day; see status.batches."
    return Trouble(Why.WaitingForBatch, message)


async def nothing_to_wait_for(run: Run, opened: list[Kept]) -> bool:
    """Whether every row is filled and no batch of this run is open; one that nobody waits for is cancelled."""
    if not await proved(run):
        return False
    mine = [kept for kept in opened if kept.of(run)]
    for kept in mine:
        if kept.batch_id is not None:
            await effects.cancel_batch(run, kept.batch_id)
    return not mine


async def withdraw(run: Run) -> None:
    """The request is deleted or has failed: cancel its batches, write what is done by then if it comes in time."""
    queue = Queue(closing=True)
    with suppress(OperatorError, TimeoutError):
        async with asyncio.timeout(GRACE):
            mine = [kept for kept in await effects.peek_batches(run) if kept.of(run)]
            for kept in mine:
                if kept.batch_id is not None:
                    await effects.cancel_batch(run, kept.batch_id)
            if mine:
                await one_session(run, partial(close, queue))


async def close(queue: Queue, run: Run) -> End | None:
    """Take the results of the run's own batches as they end."""
    await begin_run(run)
    while mine := [kept for kept in await effects.open_batches(run) if kept.of(run)]:
        for kept in mine:
            await settle(run, queue, kept)
        await asyncio.sleep(CLOSING_POLL)
    return None
