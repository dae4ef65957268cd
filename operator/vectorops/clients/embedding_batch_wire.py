"""The wire to a provider's files and batches: one HTTP request at a time, its answer as JSON, or one of our errors.

The official client speaks, held as short as for embeddings: no retries of its own, no redirects, no compressed
answers, bounds on every size and time. An input file is streamed out of a file, an output file comes line by line. What
it imports is heavy: import this module only when a request is about to be sent, in a thread.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import IO, Any, TypeAlias

import httpx2

from vectorops.clients.embedding_batches import Gone, NotSupported
from vectorops.clients.embedding_errors import RejectedInput, Unanswered
from vectorops.clients.embedding_packing import answer_bytes
from vectorops.clients.embedding_wire import QUIET, bounded_client, broken, refused
from vectorops.clients.foreign import jsontext
from vectorops.errors import OperatorError, Reason

UPLOAD_SECONDS = 900.0  # 90 MB at a megabit a second and more
ANSWER_BYTES = 2 << 20  # a page of a hundred batches with all their metadata is half of that
ANSWER_VALUES = 50_000  # in it: a batch has thirty, and sixteen pairs of metadata
PAGE = 100  # entries of a list at a time, the most there are
PAGES = 20  # pages that are looked through: what was lost is among the newest
NO_INTERFACE = frozenset({400, 404, 405, 415, 422, 501})  # what servers without batches say to a well-formed request


Special: TypeAlias = Callable[[int], type[OperatorError] | None]  # what a status means beyond the table


class BatchWire:
    """A connection pool to one base URL with one key."""

    def __init__(self, base_url: str, api_key: str | None, timeout: float, trust: ssl.SSLContext | None = None) -> None:
        """`trust` None: the system's CAs."""
        import openai

        for name in QUIET:
            logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger(name).level))
        self._timeout = timeout
        http = bounded_client(timeout, trust)
        self._client = openai.AsyncOpenAI(
            api_key=api_key or "none", base_url=base_url, organization="", project="", max_retries=0, http_client=http
        )
        self._headers = {} if api_key else {"Authorization": openai.Omit()}

    async def close(self) -> None:
        """Close the connections; open requests break."""
        await self._client.close()

    async def upload(self, name: str, file: IO[bytes]) -> dict[str, Any]:
        """POST /files."""
        files = self._client.files.with_streaming_response
        ask = files.create(file=(name, file, "application/jsonl"), purpose="batch", extra_headers=self._headers)
        return await self._json(ask, UPLOAD_SECONDS, no_interface)

    async def create(self, input_file: str, metadata: dict[str, str]) -> dict[str, Any]:
        """POST /batches."""
        ask = self._client.batches.with_streaming_response.create(
            input_file_id=input_file,
            endpoint="/v1/embeddings",
            completion_window="24h",
            metadata=metadata,
            extra_headers=self._headers,
        )
        return await self._json(ask, self._timeout, no_interface)

    async def retrieve(self, batch_id: str) -> dict[str, Any]:
        """GET /batches/{id}."""
        ask = self._client.batches.with_streaming_response.retrieve(batch_id, extra_headers=self._headers)
        return await self._json(ask, self._timeout, gone)

    async def cancel(self, batch_id: str) -> None:
        """POST /batches/{id}/cancel; 409 of one that has ended is fine."""
        ask = self._client.batches.with_streaming_response.cancel(batch_id, extra_headers=self._headers)
        try:
            await self._json(ask, self._timeout, ended)
        except Gone:
            return

    async def delete(self, file_id: str) -> None:
        """DELETE /files/{id}; one that is gone is fine."""
        ask = self._client.files.with_streaming_response.delete(file_id, extra_headers=self._headers)
        try:
            await self._json(ask, self._timeout, gone)
        except Gone:
            return

    async def batches(self) -> AsyncIterator[dict[str, Any]]:
        """GET /batches, newest first, page by page."""
        async for entry in self._pages(self._client.batches.with_streaming_response.list, {}):
            yield entry

    async def files(self) -> AsyncIterator[dict[str, Any]]:
        """GET /files of purpose batch, newest first, page by page."""
        query = {"purpose": "batch", "order": "desc"}
        async for entry in self._pages(self._client.files.with_streaming_response.list, query):
            yield entry

    async def lines(self, file_id: str, dimensions: int) -> AsyncIterator[bytes]:
        """GET /files/{id}/content, line by line. Each chunk must come within the timeout, the whole may take longer."""
        import openai

        ask = self._client.files.with_streaming_response.content(file_id, extra_headers=self._headers)
        rest, most = b"", answer_bytes(1, dimensions, as_text=True)
        try:
            async with ask as response:
                async for chunk in response.iter_bytes():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        if line.strip():
                            yield line
                    if len(rest) > most:
                        raise Unanswered(Reason.InvalidAnswer, "a line of the results is longer than any result can be")
        except (openai.OpenAIError, httpx2.HTTPError, TimeoutError) as exc:
            raise _translated(exc, gone) from exc
        if rest.strip():
            yield rest

    async def _pages(self, listing: Callable[..., Any], query: dict[str, str]) -> AsyncIterator[dict[str, Any]]:
        after: dict[str, Any] = {}
        for _ in range(PAGES):
            ask = listing(limit=PAGE, extra_headers=self._headers, **query, **after)
            page = await self._json(ask, self._timeout, no_interface)
            entries = [entry for entry in page.get("data") or [] if isinstance(entry, dict)]
            for entry in entries:
                yield entry
            if not page.get("has_more") or not entries:
                return
            after = {"after": str(entries[-1].get("id"))}

    async def _json(
        self,
        ask: AbstractAsyncContextManager[Any],
        seconds: float,
        special: Special,
    ) -> dict[str, Any]:
        import openai

        try:
            async with asyncio.timeout(seconds), ask as response:
                body = bytearray()
                async for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > ANSWER_BYTES:
                        raise Unanswered(Reason.InvalidAnswer, "the answer is larger than any answer can be")
            found = jsontext.parse(body, ANSWER_VALUES)
        except (openai.OpenAIError, httpx2.HTTPError, TimeoutError) as exc:
            raise _translated(exc, special) from exc
        except ValueError:
            raise Unanswered(Reason.InvalidAnswer, "the server behind the base URL answered with no JSON") from None
        if not isinstance(found, dict):
            raise Unanswered(Reason.InvalidAnswer, "the server behind the base URL answered with no object")
        return found


def no_interface(status: int) -> type[OperatorError] | None:
    """To a well-formed request: the server takes no batches."""
    return NotSupported if status in NO_INTERFACE else None


def gone(status: int) -> type[OperatorError] | None:
    """To a request about something that was there."""
    return Gone if status in (404, 410) else None


def ended(status: int) -> type[OperatorError] | None:
    """To a cancellation."""
    return Gone if status in (400, 404, 409, 410) else None


def _translated(exc: Exception, special: Special) -> OperatorError:
    import openai

    if not isinstance(exc, openai.APIStatusError):
        return broken(exc.__cause__ or exc if isinstance(exc, openai.APIConnectionError) else exc)
    error = refused(exc)
    kind = special(exc.status_code)
    if kind is not None and error.reason not in (Reason.QuotaExhausted, Reason.ProviderAuthenticationFailed):
        return kind(Reason.ProviderRejected, f"the provider says HTTP {exc.status_code} to a request about batches")
    if isinstance(error, RejectedInput):
        return Unanswered(Reason.ProviderUnavailable, f"the provider answered HTTP {exc.status_code}")
    return error
