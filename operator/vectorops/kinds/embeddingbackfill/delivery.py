"""One batch from the provider into the table, whatever comes in between.

A refused text is narrowed down by halves and recorded; it never fails the rows beside it. What helps by waiting is
waited for, with full jitter and the provider's `Retry-After`. What a person must mend ends the run. What is not sent
when the run halts is simply left: the rows are still NULL, and the next sweep finds them.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack

from vectorops.clients.embedding_errors import RejectedInput, Unanswered, UnusableVectors
from vectorops.clients.embedding_packing import STRICT_BYTES
from vectorops.clients.embeddings import Embedded
from vectorops.errors import OperatorError, Reason, Stalled, Transient
from vectorops.kinds.embeddingbackfill import effects
from vectorops.kinds.embeddingbackfill.batch import Batch, Row
from vectorops.kinds.embeddingbackfill.observation import End
from vectorops.kinds.embeddingbackfill.reasons import Reason as Why
from vectorops.kinds.embeddingbackfill.run import Halted, Run
from vectorops.kinds.embeddingbackfill.writing import write_answer

BACKOFF_FIRST, BACKOFF_CAP = 1.0, 60.0  # seconds; a provider that is back should be noticed within a minute
PATIENCE = 3  # tries of the same texts before they are halved, or one text is given up: each may have been billed
LEAST_HALVED = 8  # texts; fewer that are not answered in time are no matter of size
NONSENSE = 5  # unusable answers in a row for each request in flight: it is not the text, and asking on may cost money
USELESS = 3  # billed answers in a row without one usable vector; a few texts may be bad, a whole batch is not
DISCARDS = 3  # answers in a row of which not one row was taken: the table refuses, and asking on costs money
SETTLE_POLL = 0.1  # seconds; only near the end of a budget, while the last calls are in flight


async def deliver(run: Run, rows: tuple[Row, ...]) -> None:
    """Embed and write these rows; returns when each is written, recorded, or left because the run halts."""
    waiting = deque([Batch(rows)])
    run.delivering += 1
    try:
        while waiting and not run.halted:
            waiting.extendleft(reversed(await attempt(run, waiting.popleft())))
    except Halted:
        return
    finally:
        run.delivering -= 1


async def attempt(run: Run, batch: Batch) -> tuple[Batch, ...]:
    """One request. Returns what is to be tried next instead. Raises Stalled, or Transient of the database."""
    embedder, tokens = run.embedder, run.embedder.meter.paced(batch.load)
    await run.unless_halted(run.limits.admit(tokens))
    async with AsyncExitStack() as place:
        await run.unless_halted(place.enter_async_context(embedder.flow.place()))
        await run.unless_halted(embedder.admit(batch.load))
        if len(batch.unique) > 1 and embedder.limits.never(tokens):
            return batch.halves()  # packed before the provider told of a lower limit
        if run.held_back():
            raise Halted
        async with run.reserving:
            batch, rest, reserved = await reserve(run, batch)
            if not batch.rows:
                run.finish(End.BUDGET)
                return ()
            run.sent += 1
            slack = embedder.meter.most(batch.load) - reserved
            run.slack += slack
        try:
            began = embedder.clock.now()
            answer = await send(run, batch)
            await place.aclose()  # the provider is free for others while this one is written
            again, delay = await take(run, batch, answer, embedder.clock.now() - began, reserved)
        finally:
            run.sent -= 1
            run.slack -= slack
    await run.unless_halted(embedder.clock.sleep(delay))
    return (*again, rest) if rest.rows else again


async def reserve(run: Run, batch: Batch) -> tuple[Batch, Batch, int]:
    """As much of the batch as the budget surely allows, the rest, and the tokens reserved; nothing when none fits."""
    nothing, meter = Batch(()), run.embedder.meter
    while not run.halted:
        expected = meter.expected(batch.load)
        # what is likely is reserved; what must fit is the most that this and all in flight can cost
        if await effects.reserve_spend(run, expected, meter.most(batch.load) + run.slack):
            return batch, nothing, expected
        if run.sent:  # what those reserved is more than what they will be billed
            await run.sleep(SETTLE_POLL)
            continue
        spend = await effects.read_account(run)
        fitting, rest = batch.within((run.terms.budget or 0) - spend.billed - spend.reserved, meter.most)
        if not fitting.rows:
            return nothing, batch, 0
        expected = meter.expected(fitting.load)
        if await effects.reserve_spend(run, expected, meter.most(fitting.load)):
            return fitting, rest, expected
    raise Halted


async def send(run: Run, batch: Batch) -> Embedded | OperatorError:
    """What comes back, good or bad."""
    try:
        return await effects.send_request(run, [row.text for row in batch.unique], batch.load)
    except OperatorError as error:
        return error


async def take(
    run: Run, batch: Batch, answer: Embedded | OperatorError, seconds: float, reserved: int
) -> tuple[tuple[Batch, ...], float]:
    """Take the answer, or the refusal, for what it is. What is next, and after how many seconds."""
    match answer:
        case RejectedInput():
            await effects.release_spend(run, reserved)
            return await narrow(run, batch, answer), 0.0
        case Transient():
            if isinstance(answer, Unanswered):
                run.size.answered(len(batch.unique), seconds)  # too slow for so many, perhaps
            return await unanswered(run, batch, answer, reserved), backoff(batch.waits, answer.after)
        case OperatorError():
            if not isinstance(answer, UnusableVectors):  # those are billed: the reservation stays at risk
                await effects.release_spend(run, reserved)
            raise answer
    run.size.answered(len(batch.unique), seconds)
    run.nonsense = 0
    await refuse_useless(run, batch, answer, reserved)
    return await write(run, batch, answer, reserved), 0.0


async def refuse_useless(run: Run, batch: Batch, answer: Embedded, reserved: int) -> None:
    """Raise Stalled when the provider bills answers without one usable vector: the texts are not to blame."""
    if any(vector is not None for vector in answer.vectors):
        run.useless = 0
        return
    run.useless += len(batch.unique) > LEAST_HALVED
    if run.useless >= USELESS:
        await effects.release_spend(run, reserved, answer.tokens)
        message = f"{run.useless} answers in a row held no usable vector. {Reason.InvalidAnswer.next_step}"
        raise Stalled(Reason.InvalidAnswer, message)


async def write(run: Run, batch: Batch, answer: Embedded, reserved: int) -> tuple[Batch, ...]:
    """Write what is usable; texts without a usable vector are tried alone, and given up after some tries."""
    texts = zip(batch.unique, answer.vectors, strict=True)
    vectors = {row.text_hash: vector for row, vector in texts if vector is not None}
    good = tuple(row for row in batch.rows if row.text_hash in vectors)
    bad = Batch(tuple(row for row in batch.rows if row.text_hash not in vectors), batch.tries)
    run.truncated += sum(row.truncated for row in good)
    await write_rows(run, good, vectors, reserved, answer.tokens)
    if not bad.rows:
        return ()
    if bad.tries + 1 >= PATIENCE:
        return await give_up(run, bad, Reason.InvalidAnswer)
    return (bad.again(),)


async def write_rows(run: Run, rows: Sequence[Row], vectors: Mapping[bytes, bytes], reserved: int, billed: int) -> None:
    """Write one answer; what the table refuses is recorded, what it did not take is noticed."""
    written = await write_answer(run, rows, vectors, reserved, billed)
    run.written += len(written.taken)
    run.advanced(len(written.taken))
    if written.refused:
        await give_up(run, Batch(tuple(written.refused)), Why.WritesDiscarded)
    settled = written.taken | {row.row_key for row in written.refused}
    await notice_lost(run, [row for row in rows if row.row_key not in settled], bool(written.taken))


async def narrow(run: Run, batch: Batch, error: RejectedInput) -> tuple[Batch, ...]:
    """A refusal: halve, down to one text; a long text is cut once more; else it is recorded."""
    if len(batch.unique) > 1:
        return batch.halves()
    if batch.load.size > STRICT_BYTES and not batch.strictly_cut:
        return (batch.cut_to(STRICT_BYTES),)
    return await give_up(run, batch, error.reason)


async def give_up(run: Run, batch: Batch, reason: str) -> tuple[Batch, ...]:
    """Record each text of the batch as not embeddable."""
    await effects.record_failure(run, batch, reason)
    run.failed += len(batch.rows)
    run.advanced(0)
    if run.max_failed is not None and run.counts.failed + run.failed > run.max_failed:
        run.finish(End.FAILURES)
    return ()


async def unanswered(run: Run, batch: Batch, error: Transient, reserved: int) -> tuple[Batch, ...]:
    """The same texts again; halved when they are not answered time and again."""
    run.told(error)
    tried = isinstance(error, Unanswered)
    if not tried:  # else it may have been billed: the reservation stays at risk
        await effects.release_spend(run, reserved)
    elif error.reason == Reason.InvalidAnswer:
        run.nonsense += 1
        if run.nonsense >= NONSENSE * run.delivering:
            message = f"{error.message}, {run.nonsense} times in a row. {Reason.InvalidAnswer.next_step}"
            raise Stalled(error.reason, message)
    if tried and batch.tries + 1 >= PATIENCE and len(batch.unique) > LEAST_HALVED:
        return batch.halves()
    return (batch.again(tried=tried),)


def backoff(tries: int, floor: float) -> float:
    """Full jitter over a doubling ceiling, on top of what the other side asked for."""
    ceiling = min(BACKOFF_CAP, BACKOFF_FIRST * 2.0 ** min(tries, 10))
    return floor + random.uniform(0, ceiling)  # noqa: S311 - jitter, no secret


async def notice_lost(run: Run, rows: list[Row], any_taken: bool) -> None:
    """A row edited or filled meanwhile is left to the next sweep; one that never takes its vector is recorded."""
    refused = 0 if any_taken or not rows else await effects.count_unchanged(run, rows)
    run.discarded = run.discarded + 1 if refused else 0
    if run.discarded >= DISCARDS:
        message = f"{run.target.declared.name} took none of the embeddings of {DISCARDS} answers. "
        raise Stalled(Why.WritesDiscarded, message + Why.WritesDiscarded.next_step)
    for row in rows:
        lost = run.lost.get((row.row_key, row.text_hash), 0) + 1
        run.lost[row.row_key, row.text_hash] = lost
        if lost >= PATIENCE:
            await give_up(run, Batch((row,)), Why.WritesDiscarded)
