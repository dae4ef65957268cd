"""One batch from the table to the provider: rows to an input file, the most it can cost reserved, the file uploaded.

Rows are read page by page and their lines go to a file without a name, so memory does not grow with the batch and
nothing is left behind. A text that is in an open batch is not sent again: its row is added to those that wait for it.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from dataclasses import dataclass, replace
from typing import IO

from vectorops.clients.embedding_batches import MAX_BYTES, NotSupported, input_line
from vectorops.clients.embedding_packing import STRICT_BYTES, cut
from vectorops.clients.embedding_tokens import Load
from vectorops.errors import Stalled
from vectorops.kinds.embeddingbackfill import batching_effects as effects
from vectorops.kinds.embeddingbackfill.batch import Row
from vectorops.kinds.embeddingbackfill.batching_queue import Queue
from vectorops.kinds.embeddingbackfill.effects import read_account, read_page
from vectorops.kinds.embeddingbackfill.filling import PAGE_ROWS, adopt, to_buy
from vectorops.kinds.embeddingbackfill.reasons import Reason as Why
from vectorops.kinds.embeddingbackfill.run import Run


@dataclass
class Draft:
    """A batch in the making."""

    nonce: str
    file: IO[bytes]
    most_lines: int
    most_tokens: int | None
    open_rows: int  # of this run, in other batches
    lines: int = 0
    size: int = 0
    tokens: int = 0
    rows: int = 0

    def takes(self, line: bytes) -> bool:
        """Whether one more line is within the provider's bounds."""
        return self.lines < self.most_lines and self.size + len(line) <= MAX_BYTES

    def affords(self, tokens: int) -> bool:
        """Whether one more text is within the budget."""
        return self.most_tokens is None or self.tokens + tokens <= self.most_tokens


async def build(run: Run, queue: Queue, open_rows: int) -> bool:
    """Make and send one batch. False: there was nothing to send. Raises Stalled or Transient."""
    nonce = secrets.token_hex(16)
    await effects.begin_batch(run, nonce)
    spend = await read_account(run)
    budget = run.terms.budget
    with await asyncio.to_thread(tempfile.TemporaryFile) as file:
        draft = Draft(
            nonce,
            file,
            queue.most_lines,
            None if budget is None else budget - spend.billed - spend.reserved,
            open_rows,
        )
        await fill_draft(run, queue, draft)
        if run.halted or not draft.lines or run.held_back():
            await effects.settle_batch(run, nonce, 0)
            return False
        if not await effects.reserve_batch(run, nonce, draft.tokens, draft.lines):
            await effects.settle_batch(run, nonce, 0)
            queue.full = True
            return False
        await send(run, draft)
    queue.sent()
    return True


async def fill_draft(run: Run, queue: Queue, draft: Draft) -> None:
    """Rows from where the sweep is into the draft, until it is full or the table ends."""
    if queue.after is None:
        await adopt(run)
    while not run.halted:
        asked = PAGE_ROWS
        if run.limit is not None:
            asked = min(PAGE_ROWS, run.limit - run.rows_done - draft.open_rows - draft.rows)
        if asked <= 0:
            queue.full = True
            return
        page = await read_page(run, asked, queue.after)
        rows = await to_buy(run, page)
        taken, lines = await choose(run, queue, draft, rows)
        await effects.add_rows(run, taken)
        await asyncio.to_thread(draft.file.writelines, lines)
        if len(taken) < len(rows):
            queue.after = list(taken[-1][1].key) if taken else queue.after
            return
        if page:
            queue.after = list(page[-1].key)
        if len(page) < asked:
            queue.swept = True
            return


async def choose(run: Run, queue: Queue, draft: Draft, page: list[Row]) -> tuple[list[tuple[str, Row]], list[bytes]]:
    """Which batch each row of the page waits for, up to the first that no longer fits, and the lines that are new."""
    known = await effects.texts_at_provider(run, page)
    taken: list[tuple[str, Row]] = []
    lines: list[bytes] = []
    for read in page:
        row = cut_if_refused(queue, read)
        new = row.text_hash not in known
        line = input_line(row.text_hash, run.target.declared.model, row.text, run.embedder.options) if new else b""
        tokens = run.embedder.meter.most(row.load) if new else 0
        if new and not draft.takes(line):
            break
        if not draft.affords(tokens):
            queue.full = True
            break
        nonce = known.setdefault(row.text_hash, draft.nonce)
        taken.append((nonce, row))
        draft.rows += 1
        run.truncated += row.truncated
        if new:
            lines.append(line)
            draft.lines, draft.size, draft.tokens = draft.lines + 1, draft.size + len(line), draft.tokens + tokens
    return taken, lines


async def send(run: Run, draft: Draft) -> None:
    """Upload and create. What is not answered is found again by its nonce."""
    await asyncio.to_thread(draft.file.seek, 0)
    try:
        input_file = await effects.upload_file(run, draft.nonce, draft.file)
        await effects.note_file(run, draft.nonce, input_file)
        seen = await effects.create_batch(run, draft.nonce, input_file)
    except NotSupported as error:
        await effects.settle_batch(run, draft.nonce, 0)
        raise Stalled(Why.BatchNotSupported, f"{error.message}. {Why.BatchNotSupported.next_step}") from error
    await effects.note_batch(run, draft.nonce, seen)


def cut_if_refused(queue: Queue, row: Row) -> Row:
    """A text that was refused at its length, cut to what every tokeniser accepts; its hash stays that of the whole."""
    if row.text_hash not in queue.strict:
        return row
    text = cut(row.text, STRICT_BYTES)
    return replace(row, text=text, load=Load(len(text.encode())), truncated=True)
