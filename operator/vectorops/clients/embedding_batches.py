"""The provider's batch interface: texts in one file, vectors up to a day later, for half the price.

One text a line; `custom_id` is the text's SHA-256, so a result names the text it belongs to. A batch carries a nonce
in its metadata and in its file's name: one whose creation was never answered is found again by it. Nothing is retried
and nothing is waited for here. Refused: more lines or bytes than one batch may have, results that name no text,
shortening a text.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import IO, TYPE_CHECKING, Any

from pydantic import SecretStr

from vectorops.clients.embedding_errors import Refusal, RejectedInput, Unanswered, from_refusal
from vectorops.clients.foreign import jsontext, threads
from vectorops.clients.tls.renewed import Renewed
from vectorops.errors import OperatorError, Reason, Stalled

if TYPE_CHECKING:
    from vectorops.clients.embedding_batch_wire import BatchWire

MAX_LINES = 50_000  # requests of one batch, and for /v1/embeddings the texts in all of them (OpenAI's API reference)
MAX_BYTES = 90_000_000  # documented as 100 MB in some places and 200 MB in others; the smaller one, and some room
MOST_COUNTED = 2**31  # of texts or tokens in one batch: our records are integers, and no batch holds more
METADATA_KEY = "vectorops"  # under which a batch holds its nonce
OPEN_ENDED = frozenset({"completed", "expired", "cancelled", "failed"})
LOOK_SECONDS = 3600.0  # clocks may differ: batches created so much before the one that is looked for end the search
CHUNK_BYTES = 4 << 20  # and at most so many, where vectors are larger
LINE_VALUES = 1_000  # in a result's line, beside the numbers of its vector
CHUNK_LINES = 500  # read and checked at a time: 4 MB of answers of 1,536 dimensions


class NotSupported(Stalled):
    """The server has no batch interface, or none for embeddings."""


class Gone(OperatorError):
    """There is no such batch or file any more."""


class Outcome(StrEnum):
    """What became of one text."""

    VECTOR = "Vector"
    REFUSED = "Refused"  # the text will not be taken; nothing was billed
    UNUSABLE = "Unusable"  # billed, and no numbers that could be written
    AGAIN = "Again"  # not done: expired, cancelled, or an error that passes


@dataclass(frozen=True)
class Result:
    """One line of an output or error file."""

    text_hash: bytes
    outcome: Outcome
    vector: bytes | None = None  # pgvector's binary format
    tokens: int | None = None  # as billed; None when the provider does not say
    parameter: str = ""  # optional parameter of the request that was refused


@dataclass(frozen=True)
class Seen:
    """A batch as the provider shows it."""

    id: str
    state: str
    input_file: str | None
    output_file: str | None
    error_file: str | None
    total: int
    done: int
    failed: int
    created: datetime | None
    tokens: int | None  # billed in all, where the provider says it
    codes: tuple[str, ...] = ()  # why validation failed
    nonce: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.state in OPEN_ENDED


def input_line(text_hash: bytes, model: str, text: str, options: dict[str, Any]) -> bytes:
    """One text as a line of the input file."""
    body = {"model": model, "input": text, **options}
    line = {"custom_id": text_hash.hex(), "method": "POST", "url": "/v1/embeddings", "body": body}
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def file_name(nonce: str) -> str:
    """The input file's name."""
    return f"vectorops-{nonce}.jsonl"


class Batches:
    """The way to the batches of one account."""

    def __init__(self, base_url: str, api_key: SecretStr | None, timeout: float) -> None:
        self._base_url, self._api_key, self._timeout = base_url, api_key, timeout
        self.wire: Renewed[BatchWire] = Renewed(self._new_wire)

    async def close(self) -> None:
        """Close the connections."""
        await self.wire.close()

    async def upload(self, nonce: str, file: IO[bytes]) -> str:
        """Upload the input file; its id. Streamed from `file`."""
        async with self.wire.use() as wire:
            return _word(await wire.upload(file_name(nonce), file), "id")

    async def create(self, nonce: str, input_file: str) -> Seen:
        """Create the batch. Raises Unanswered when it may have been created all the same: `find` tells."""
        async with self.wire.use() as wire:
            return read_batch(await wire.create(input_file, {METADATA_KEY: nonce}))

    async def look(self, batch_id: str) -> Seen:
        """The batch now. Raises Gone."""
        async with self.wire.use() as wire:
            return read_batch(await wire.retrieve(batch_id))

    async def cancel(self, batch_id: str) -> None:
        """Ask for its end; what is done by then can still be had. One that has ended is left alone."""
        async with self.wire.use() as wire:
            await wire.cancel(batch_id)

    async def find(self, nonce: str, since: datetime) -> Seen | None:
        """The batch with that nonce, if the provider has one that was created after `since`."""
        async with self.wire.use() as wire:
            async for entry in wire.batches():
                found = read_batch(entry)
                if found.nonce == nonce:
                    return found
                if found.created and (since - found.created).total_seconds() > LOOK_SECONDS:
                    return None  # newest first
        return None

    async def find_files(self, nonce: str) -> tuple[str, ...]:
        """Input files with that nonce in their name."""
        name = file_name(nonce)
        async with self.wire.use() as wire:
            return tuple([_word(file, "id") async for file in wire.files() if file.get("filename") == name])

    async def delete_file(self, file_id: str) -> None:
        """Delete a file; one that is gone already is as good."""
        async with self.wire.use() as wire:
            await wire.delete(file_id)

    async def results(self, file_id: str, dimensions: int) -> AsyncIterator[list[Result]]:
        """The lines of an output or error file, some hundred at a time, in constant memory. Raises Gone, Stalled."""
        lines: list[bytes] = []
        size = count = 0
        async with self.wire.use() as wire:
            async for line in wire.lines(file_id, dimensions):
                lines.append(line)
                size, count = size + len(line), count + 1
                if count > MAX_LINES:
                    raise Unanswered(Reason.InvalidAnswer, "the results have more lines than a batch has texts")
                if len(lines) >= CHUNK_LINES or size >= CHUNK_BYTES:
                    yield await threads.parse(read_results, lines, dimensions)
                    lines, size = [], 0
        if lines:
            yield await threads.parse(read_results, lines, dimensions)

    async def _new_wire(self, trust: ssl.SSLContext | None) -> BatchWire:
        # half a second of imports, off the event loop
        module = await asyncio.to_thread(importlib.import_module, "vectorops.clients.embedding_batch_wire")
        key = self._api_key.get_secret_value() if self._api_key else None
        wire: BatchWire = await asyncio.to_thread(module.BatchWire, self._base_url, key, self._timeout, trust)
        return wire


def read_results(lines: Sequence[bytes], dimensions: int) -> list[Result]:
    """What the lines say. A line that cannot be read names no text: it is left out. Raises UnusableVectors."""
    found = [_result(line, dimensions) for line in lines]
    return [result for result in found if result is not None]


def _result(line: bytes, dimensions: int) -> Result | None:
    try:
        entry = jsontext.parse(line, LINE_VALUES + dimensions)
        text_hash = bytes.fromhex(entry["custom_id"])
        response = entry.get("response") or {}
        status, body = int(response.get("status_code") or 0), response.get("body")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if status == 200:
        return _vector(text_hash, body, dimensions)
    refused = _refused(status, body)
    if isinstance(refused, RejectedInput):
        return Result(text_hash, Outcome.REFUSED)
    return Result(text_hash, Outcome.AGAIN, parameter=getattr(refused, "parameter", ""))


def _vector(text_hash: bytes, body: Any, dimensions: int) -> Result:
    from vectorops.clients.embedding_answers import check_answer  # numpy

    try:
        answer = check_answer(body, 1, dimensions)
    except Unanswered:
        return Result(text_hash, Outcome.UNUSABLE)
    outcome = Outcome.UNUSABLE if answer.vectors[0] is None else Outcome.VECTOR
    return Result(text_hash, outcome, answer.vectors[0], answer.tokens)


def _refused(status: int, body: Any) -> OperatorError | None:
    if not status:  # expired or cancelled before it was done
        return None
    words = body.get("error") if isinstance(body, dict) else None
    said = words if isinstance(words, dict) else {}
    code, kind, param, message = (str(said.get(name) or "") for name in ("code", "type", "param", "message"))
    return from_refusal(Refusal(status, code, kind, param, message))


def read_batch(entry: dict[str, Any]) -> Seen:
    """A batch from the provider's JSON; what is missing or of another type is left out. Raises Unanswered: no id.

    The state goes into statuses as it is, so it is a plain word or nothing: a server may echo anything.
    """
    counts, usage, metadata, errors = (
        _object(entry.get(name)) for name in ("request_counts", "usage", "metadata", "errors")
    )
    reasons, status = errors.get("data"), entry.get("status")
    return Seen(
        id=_word(entry, "id"),
        state=status if isinstance(status, str) and re.fullmatch("[a-z_]{1,32}", status) else "",
        input_file=_text(entry.get("input_file_id")),
        output_file=_text(entry.get("output_file_id")),
        error_file=_text(entry.get("error_file_id")),
        total=_count(counts.get("total")),
        done=_count(counts.get("completed")),
        failed=_count(counts.get("failed")),
        created=_moment(entry.get("created_at")),
        tokens=_count(usage.get("total_tokens")) or None,
        codes=tuple(str(_object(one).get("code") or "") for one in (reasons if isinstance(reasons, list) else ())),
        nonce=_text(metadata.get(METADATA_KEY)) or "",
    )


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _moment(value: Any) -> datetime | None:
    try:
        return datetime.fromtimestamp(value, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _count(value: Any) -> int:
    return value if isinstance(value, int) and 0 < value < MOST_COUNTED else 0


def _word(entry: dict[str, Any], name: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 128:
        raise Unanswered(Reason.InvalidAnswer, f"the server behind the base URL answered without {name}")
    return value
