"""The results of one ended batch into the table: vectors written, refusals recorded, the bill settled, files deleted.

Read line by line, so memory does not grow with 50,000 vectors. Dying anywhere on the way means reading them again:
rows that have their vector take none twice, and the bill is settled once, at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vectorops.clients.embedding_batches import Gone, Outcome, Result, Seen
from vectorops.clients.embedding_packing import STRICT_BYTES
from vectorops.errors import Reason, Stalled
from vectorops.kinds.embeddingbackfill import batching_effects as effects
from vectorops.kinds.embeddingbackfill.batch import Batch, Row
from vectorops.kinds.embeddingbackfill.batching_effects import Kept
from vectorops.kinds.embeddingbackfill.batching_queue import Queue
from vectorops.kinds.embeddingbackfill.delivery import LEAST_HALVED, PATIENCE, give_up, write_rows
from vectorops.kinds.embeddingbackfill.run import Run

SHORT_READS = 3  # readings of an output file that holds fewer lines than were done; then what it holds is all


@dataclass
class Tally:
    """What a batch brought."""

    vectors: int = 0
    unusable: int = 0
    refused: int = 0
    again: int = 0
    tokens: int = 0
    unstated: int = 0  # billed lines without usage
    useless: set[bytes] = field(default_factory=set)  # texts that were billed and have no vector

    def count(self, result: Result) -> None:
        """One line."""
        self.vectors += result.outcome is Outcome.VECTOR
        if result.outcome is Outcome.UNUSABLE:
            self.unusable += 1
            self.useless.add(result.text_hash)
        self.refused += result.outcome is Outcome.REFUSED
        self.again += result.outcome is Outcome.AGAIN
        if result.outcome in (Outcome.VECTOR, Outcome.UNUSABLE):
            self.tokens += result.tokens or 0
            self.unstated += result.tokens is None

    def billed(self, seen: Seen, kept: Kept) -> int:
        """Tokens: as the provider says of the whole, else of each line, else by the reservation's share."""
        share = kept.tokens_reserved * self.unstated // max(1, kept.texts)
        return max(seen.tokens or 0, self.tokens + share)


async def take(run: Run, queue: Queue, kept: Kept, seen: Seen) -> bool:
    """Write what an ended batch brought, and settle it. False: not now, it is read again. Raises Stalled."""
    tally = Tally()
    try:
        for file in (seen.output_file, seen.error_file):
            if file is not None and not await read_file(run, queue, kept, file, tally):
                return False
    except Gone:  # a day has passed, or a month; what is written stays
        await effects.settle_batch(run, kept.nonce, tally.tokens, release=False)
        return True
    if tally.vectors + tally.unusable < seen.done and queue.short[kept.nonce] + 1 < SHORT_READS:
        queue.short[kept.nonce] += 1
        return False
    judge(run, kept, tally)
    queue.unusable.update(tally.useless)
    given_up = {text for text in tally.useless if queue.unusable[text] >= PATIENCE}
    await record(run, kept, given_up, Reason.InvalidAnswer)
    await effects.settle_batch(run, kept.nonce, tally.billed(seen, kept))
    await effects.delete_files(run, (seen.input_file, seen.output_file, seen.error_file))
    refuse_all_refused(tally)
    return True


async def read_file(run: Run, queue: Queue, kept: Kept, file: str, tally: Tally) -> bool:
    """One output or error file. False: halted on the way."""
    async for results in run.embedder.batches.results(file, run.target.declared.dimensions):
        if run.halted and not queue.closing:
            return False
        for result in results:
            tally.count(result)
        await write_vectors(run, kept, results)
        await set_aside(run, queue, kept, results, tally)
    return True


async def write_vectors(run: Run, kept: Kept, results: Sequence[Result]) -> None:
    """Vectors to the rows that wait for them and still have that text."""
    vectors = {result.text_hash: result.vector for result in results if result.vector is not None}
    rows = tuple(await effects.rows_of_texts(run, kept.nonce, list(vectors))) if vectors else ()
    if not rows:
        return
    await run.pace.admit(len(rows))
    await write_rows(run, rows, vectors, 0, 0)  # the bill is settled at the end
    await effects.forget_rows(run, kept.nonce, rows)


async def set_aside(run: Run, queue: Queue, kept: Kept, results: Sequence[Result], tally: Tally) -> None:
    """Texts without a vector: left to the next batch, cut shorter by it, or recorded as not embeddable."""
    for parameter in {result.parameter for result in results} - {""}:
        if run.embedder.options.get(parameter, "float") != "float":
            run.embedder.do_without(parameter)
    refused = {result.text_hash for result in results if result.outcome is Outcome.REFUSED}
    if refused and not await to_blame(run, kept, tally):
        return
    rows = await effects.rows_of_texts(run, kept.nonce, list(refused)) if refused else []
    long = {row.text_hash for row in rows if row.load.size > STRICT_BYTES} - queue.strict
    queue.strict |= long
    await record(run, kept, refused - long, "RejectedInput")


async def to_blame(run: Run, kept: Kept, tally: Tally) -> bool:
    """Whether refusals are the texts' fault: not when a whole batch is refused, nor where no text was ever taken."""
    if tally.vectors or tally.unusable:
        return True
    if kept.texts > LEAST_HALVED:
        return False
    await run.embedder.prove_innocence()
    return True


async def record(run: Run, kept: Kept, texts: set[bytes], reason: str) -> None:
    """The rows of these texts cannot be embedded."""
    rows: list[Row] = await effects.rows_of_texts(run, kept.nonce, list(texts)) if texts else []
    if rows:
        await give_up(run, Batch(tuple(rows)), reason)
        await effects.forget_rows(run, kept.nonce, rows)


def judge(run: Run, kept: Kept, tally: Tally) -> None:
    """Raise Stalled before a useless batch is settled and bought again: it stays open until a person has looked."""
    if kept.of(run) and tally.unusable > LEAST_HALVED and not tally.vectors:
        message = f"a batch of {kept.texts} texts held no usable vector. {Reason.InvalidAnswer.next_step}"
        raise Stalled(Reason.InvalidAnswer, message)


def refuse_all_refused(tally: Tally) -> None:
    """Raise Stalled when all texts of a batch were refused: nothing was billed, and no text is to blame."""
    if tally.refused > LEAST_HALVED and not (tally.vectors or tally.unusable or tally.again):
        message = f"the provider refuses all {tally.refused} texts of a batch. {Reason.ProviderRejected.next_step}"
        raise Stalled(Reason.ProviderRejected, message)
