"""What batch mode does to the world, one function an effect. No policy.

The process may die right after any of them; what that costs is said at each. Whoever does one holds the table's lock,
but for a look at a batch, which changes nothing but the figures.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Any

from vectorops.clients.dead_peers import transaction
from vectorops.clients.embedding_batches import Seen
from vectorops.clients.embedding_tokens import Load
from vectorops.clients.foreign.jsontext import from_database
from vectorops.clients.postgres import speaking, statements
from vectorops.errors import OperatorError
from vectorops.kinds.embeddingbackfill.batch import Row
from vectorops.kinds.embeddingbackfill.effects import PACKAGE, deposed, scope
from vectorops.kinds.embeddingbackfill.run import Run

SQL = "batching.sql"
KEY_VALUES = 5_000  # signs that a key's own text may hold; a key has at most eight columns
UNANSWERED_SECONDS = 30.0  # a provider's list may lag: so long a batch that may have been created is looked for

ORPHAN_SECONDS = 300.0  # a run that is alive looks once a minute: what has ended for so long is nobody's


@dataclass(frozen=True)
class Kept:
    """A batch as the database remembers it."""

    nonce: str
    request_uid: str
    run_token: str
    template_hash: bytes
    model: str
    dimensions: int
    state: str  # Preparing, Uploading, Creating, Sent
    batch_id: str | None
    texts: int
    tokens_reserved: int
    done: int
    failed: int
    created_at: datetime
    idle: float  # seconds in which nothing has changed
    rows: int

    def of(self, run: Run) -> bool:
        """Whether this very run has sent it."""
        return (self.request_uid, self.run_token) == run.account

    @property
    def in_doubt(self) -> bool:
        """Whether the provider's list may not show it yet."""
        return self.state == "Creating" and self.idle < UNANSWERED_SECONDS

    def left_alone(self, run: Run) -> bool:
        """Whether whoever sent it is to take its results: this run, or another that is surely gone."""
        return not self.of(run) and self.idle < ORPHAN_SECONDS

    def fits(self, run: Run) -> bool:
        """Whether its vectors are what the table is to hold now."""
        _, _, template, model = scope(run.target)
        wanted = (template, model, run.target.declared.dimensions)
        return (self.template_hash, self.model, self.dimensions) == wanted


async def open_batches(run: Run) -> list[Kept]:
    """All batches of the table that are not settled. A look, not an effect."""
    table, column, _, _ = scope(run.target)
    rows = await _fetch(run, "open_batches", table, column)
    return [Kept(**dict(row)) for row in rows]


async def peek_batches(run: Run) -> list[Kept]:
    """The same on the watching connection, while the run has no session."""
    table, column, _, _ = scope(run.target)
    rows = await run.database.fetch(statements(PACKAGE, SQL)["open_batches"], table, column)
    return [Kept(**dict(row)) for row in rows]


async def begin_batch(run: Run, nonce: str) -> None:
    """The intent. Dying after it costs nothing: nothing is outside."""
    table, column, template, model = scope(run.target)
    fixed = (table, column, template, model, run.target.declared.dimensions)
    await _held(run, "begin_batch", nonce, *run.account, *fixed)


async def texts_at_provider(run: Run, rows: Sequence[Row]) -> dict[bytes, str]:
    """The nonces of the batches that these rows' texts are in. A look."""
    hashes = list({row.text_hash for row in rows})
    fixed = (*scope(run.target), run.target.declared.dimensions)
    return {row["text_hash"]: row["nonce"] for row in await _fetch(run, "texts_at_provider", hashes, *fixed)}


async def add_rows(run: Run, rows: Sequence[tuple[str, Row]]) -> None:
    """Remember which rows wait for which batch. Dying after it costs nothing."""
    if rows:
        nonces, keys = [nonce for nonce, _ in rows], [row.row_key for _, row in rows]
        columns = [json.dumps(row.key) for _, row in rows], [row.text_hash for _, row in rows]
        await _held(run, "add_rows", nonces, keys, *columns, [row.load.size for _, row in rows])


async def reserve_batch(run: Run, nonce: str, tokens: int, texts: int) -> bool:
    """Reserve the most it can cost. False: not within the budget. Dying after it costs nothing; it is given back."""
    args = (*run.account, nonce, tokens, run.terms.budget, texts)
    return bool(await _held(run, "reserve_batch", *args))


async def upload_file(run: Run, nonce: str, file: IO[bytes]) -> str:
    """Upload the input file. Dying after it leaves a file, which is deleted by its name; uploading is not billed."""
    return await run.embedder.batches.upload(nonce, file)


async def note_file(run: Run, nonce: str, input_file: str) -> None:
    """Remember the file, and that the batch is created next. Dying after it: the batch is looked for and not found."""
    await _held(run, "note_file", nonce, input_file)


async def create_batch(run: Run, nonce: str, input_file: str) -> Seen:
    """The paid step. Dying after it: the batch is found by its nonce, and nothing is paid twice."""
    return await run.embedder.batches.create(nonce, input_file)


async def note_batch(run: Run, nonce: str, seen: Seen) -> None:
    """Remember what it is called at the provider. Dying after it costs nothing."""
    await _held(run, "note_batch", nonce, seen.id, seen.state)


async def note_progress(run: Run, nonce: str, seen: Seen) -> None:
    """Remember how far it is, for the status. On the watching connection: the run has no session while it waits."""
    sql = statements(PACKAGE, SQL)["note_progress"]
    await run.database.write_row(sql, nonce, seen.state, seen.done, seen.failed)


async def rows_of_texts(run: Run, nonce: str, hashes: Sequence[bytes]) -> list[Row]:
    """The rows that wait for these texts; their texts themselves are not kept. A look."""
    found = await _fetch(run, "rows_of_texts", nonce, list(hashes))
    return [
        Row(tuple(from_database(r["key"], KEY_VALUES)), r["row_key"], "", r["text_hash"], Load(r["size"]))
        for r in found
    ]


async def forget_rows(run: Run, nonce: str, rows: Sequence[Row]) -> None:
    """These rows have had their answer. Dying before it: they have it a second time, and it changes nothing."""
    await _held(run, "forget_rows", nonce, [row.row_key for row in rows])


async def settle_batch(run: Run, nonce: str, billed: int, *, release: bool = True) -> None:
    """The bill of a batch, and that it is done with. Dying before it: its results are read again and change nothing."""
    await _held(run, "settle_batch", nonce, billed, release)


async def cancel_batch(run: Run, batch_id: str) -> None:
    """Ask the provider to end it. What is done by then is billed and written."""
    await run.embedder.batches.cancel(batch_id)


async def delete_files(run: Run, files: Sequence[str | None]) -> None:
    """Clear up at the provider. At best: a file that stays costs nothing and holds what the provider had anyway."""
    for file in files:
        if file:
            with suppress(OperatorError):
                await run.embedder.batches.delete_file(file)


async def _fetch(run: Run, name: str, *args: Any) -> list[Any]:
    async with run.using:
        with speaking("keeping the records of a batch"):
            found: list[Any] = await run.session.fetch(statements(PACKAGE, SQL)[name], *args)
    return found


async def _held(run: Run, name: str, *args: Any) -> list[Any]:
    """The same for what guards money: Stalled(Deposed), and nothing changed, where another has the account."""
    async with run.using:
        with speaking("keeping the records of a batch"):
            async with transaction(run.session):
                if not await run.session.fetchval(statements(PACKAGE)["hold_term"], *run.account, run.term):
                    raise deposed()
                found: list[Any] = await run.session.fetch(statements(PACKAGE, SQL)[name], *args)
    return found
