"""The wire to an OpenAI-compatible provider: one HTTP request at a time, its answer's bytes, or one of our errors.

The official client speaks, held short: no retries of its own (one owner of retries), no redirects (the key would
follow), no compressed answers and bounds on their size, a bound on the whole time. What it imports is heavy: import
this module, and make a Wire, only when a request is about to be sent, in a thread.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import httpx2

from vectorops.clients.embedding_errors import Refusal, Unanswered, from_refusal, retry_after
from vectorops.clients.foreign.jsontext import ERROR_BYTES
from vectorops.clients.hosts.http import guarded
from vectorops.clients.tls.trust import flaw
from vectorops.errors import OperatorError, Reason, Stalled, Transient

if TYPE_CHECKING:
    import openai

CONNECT_SECONDS = 10.0  # a provider that does not take a connection in ten seconds is down
QUIET = ("openai", "httpx2", "httpcore2", "httpx", "httpcore")  # they log bodies and URLs at low levels
Heard = Callable[[Mapping[str, str]], None]
NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)


class Wire:
    """A connection pool to one base URL with one key."""

    def __init__(self, base_url: str, api_key: str | None, timeout: float, trust: ssl.SSLContext | None = None) -> None:
        """`trust` None: the system's CAs."""
        import openai

        for name in QUIET:
            logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger(name).level))
        self._timeout = timeout
        http = bounded_client(timeout, trust)
        # organization and project would otherwise be taken from the operator's environment
        self._client = openai.AsyncOpenAI(
            api_key=api_key or "none", base_url=base_url, organization="", project="", max_retries=0, http_client=http
        )
        self._headers = {} if api_key else {"Authorization": openai.Omit()}  # no key: the header is not sent at all

    async def close(self) -> None:
        """Close the connections; open requests break."""
        await self._client.close()

    async def post(
        self, model: str, texts: Sequence[str], options: Mapping[str, Any], heard: Heard, most: int
    ) -> bytearray:
        """POST /embeddings; the answer's body, of at most `most` bytes.

        Raises what `from_refusal` says, Unanswered, or Transient.

        `heard` is told the headers of whatever answer comes.
        """
        import openai

        ask = self._client.embeddings.with_streaming_response.create(
            model=model, input=list(texts), extra_headers=self._headers, **options
        )
        try:
            async with asyncio.timeout(self._timeout), ask as response:
                heard(response.headers)
                body = bytearray()  # grows in place: pieces that are joined at the end would be there twice
                async for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > most:
                        raise TooLarge("the answer is larger than any answer can be")
                return body
        except openai.APIStatusError as exc:
            heard(exc.response.headers)
            raise refused(exc) from exc
        except openai.APIConnectionError as exc:
            raise broken(exc.__cause__ or exc) from exc
        except (httpx2.HTTPError, TimeoutError, openai.OpenAIError) as exc:
            raise broken(exc) from exc


class TooLarge(httpx2.DecodingError):
    """More bytes than an answer to that question can have."""


def bounded_client(timeout: float, trust: ssl.SSLContext | None) -> httpx2.AsyncClient:
    """An HTTP client for the official one: no redirects, nothing compressed, bounded refusals, checked hosts."""
    import openai

    client = openai.DefaultAsyncHttpxClient(
        follow_redirects=False,
        timeout=httpx2.Timeout(timeout, connect=CONNECT_SECONDS),
        headers={"Accept-Encoding": "identity"},
        event_hooks={"response": [_bound]},
        verify=trust or True,
    )
    return guarded(client)


async def _bound(response: httpx2.Response) -> None:
    if response.headers.get("content-encoding", "identity") != "identity":
        raise httpx2.DecodingError("a compressed answer has no bound")
    if response.status_code >= HTTPStatus.MULTIPLE_CHOICES:  # the client reads and parses the whole of these
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Beginning(response.stream)


class _Beginning(httpx2.AsyncByteStream):
    """What a refusal begins with: its status says most, and a page of megabytes nothing more."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream, self._left = stream, ERROR_BYTES

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            yield chunk[: self._left]
            self._left -= len(chunk)
            if self._left <= 0:
                return

    async def aclose(self) -> None:
        await self._stream.aclose()


def refused(error: openai.APIStatusError) -> OperatorError:
    """What an error answer means."""
    body = error.body if isinstance(error.body, Mapping) else {}
    inner = body.get("error")
    words = inner if isinstance(inner, Mapping) else body
    said = {name: str(words.get(name) or "") for name in ("code", "type", "param", "message")}
    return from_refusal(Refusal(status=error.status_code, retry_after=retry_after(error.response.headers), **said))


def broken(cause: BaseException) -> OperatorError:
    """What a request that was not answered means."""
    if isinstance(cause, OperatorError):  # our own, on its way through the libraries: the host is refused
        return cause
    if isinstance(cause, httpx2.ConnectError) and (untrusted := flaw(cause)) is not None:
        text = f"the provider is not asked: {untrusted}. {Reason.ProviderTLSFailed.next_step}"
        return Stalled(Reason.ProviderTLSFailed, text)
    if isinstance(cause, NOT_SENT):
        return Transient(Reason.ProviderUnavailable, "the provider cannot be reached")
    if isinstance(cause, httpx2.DecodingError):
        return Unanswered(Reason.InvalidAnswer, "the answer is compressed, or larger than an answer can be")
    if isinstance(cause, TimeoutError | httpx2.TimeoutException):
        return Unanswered(Reason.ProviderUnavailable, "the provider took the request and did not answer in time")
    return Unanswered(Reason.ProviderUnavailable, "the connection to the provider broke before the answer was complete")
