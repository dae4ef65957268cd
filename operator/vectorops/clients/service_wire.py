"""The wire to the search service: one HTTP request, bounded in bytes and seconds, or one of our errors.

No redirects (a token would follow), no compressed bodies and a bound on every body, so that a service that answers
with gigabytes costs the operator a few kilobytes; no proxy of the environment. What it imports is heavy: a Wire opens
nothing before its first request.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from vectorops.clients.foreign import jsontext
from vectorops.clients.foreign.lines import TooMuch, Wanted
from vectorops.clients.tls.trust import flaw
from vectorops.errors import OperatorError, Reason, Stalled, Transient

if TYPE_CHECKING:
    import httpx2

MOST_BYTES = 256 * 1024  # an answer of 10 results with titles has 2 KB
MOST_VALUES = 20_000  # in its JSON: a hundred results of fifty keys, with every comma and colon in their texts
MOST_METRICS_BYTES = 2 * 1024 * 1024  # a busy process exposes some hundred KB
CONNECT_SECONDS = 3.0  # a process in the same cluster that does not take a connection in that time is gone


@dataclass(frozen=True)
class Answer:
    """Any HTTP answer but a redirect or a refused token. `body` is the parsed JSON, or None where it is none."""

    status: int
    seconds: float
    body: Any | None = None
    text: str = field(default="", repr=False)
    retry_after: float = 0.0  # seconds, as the service asks

    @property
    def ok(self) -> bool:
        """2xx."""
        return 200 <= self.status < 300


class Wire:
    """A connection pool to the processes of one service, with one token and one idea of whom to believe."""

    def __init__(
        self, https: bool, token: SecretStr | None, name: str = "", trust: ssl.SSLContext | None = None
    ) -> None:
        """`name` is what a certificate must be for, whatever address is asked; `trust` None: the system's CAs."""
        self._scheme, self._token = "https" if https else "http", token
        self._trust, self._extensions = trust, {"sni_hostname": name} if https and name else {}
        self._http: httpx2.AsyncClient | None = None

    async def close(self) -> None:
        """Close the connections."""
        http, self._http = self._http, None  # before the wait: a request that comes meanwhile opens another one
        if http is not None:
            await http.aclose()

    async def ask(
        self, address: str, method: str, path: str, json: Any, timeout: float, wanted: Wanted | None = None
    ) -> Answer:
        """One request to `host:port`; a bounded number of bytes and `timeout` seconds for the whole of it.

        `wanted`: the answer is a text of lines, and these are all that is kept of it.

        Raises Stalled (HostRefused, ServiceAuthenticationFailed, ServiceRedirects, ServiceTLSFailed), Transient
        (ServiceUnavailable, ServiceTimeout, ServiceAnswerInvalid).
        """
        import httpx2

        began = time.perf_counter()
        headers = {"Authorization": f"Bearer {self._token.get_secret_value()}"} if self._token else {}
        try:
            url = _url(self._scheme, address, path)
            async with asyncio.timeout(timeout):
                ask = self._client().stream(method, url, json=json, headers=headers, extensions=self._extensions)
                async with ask as response:
                    body = await _bounded(response, path, wanted)
        except TimeoutError:
            text = f"{method} {path} was not answered within {timeout:g} s. {Reason.ServiceTimeout.next_step}"
            raise Transient(Reason.ServiceTimeout, text) from None
        except httpx2.InvalidURL:
            raise invalid(path, "cannot be asked for: it is no path") from None
        except httpx2.HTTPError as error:
            raise _unanswered(error, address, path) from error
        seconds = time.perf_counter() - began
        _refuse(response.status_code, path)
        text, parsed = body.decode("utf-8", errors="replace"), None if wanted is not None else _json(body)
        return Answer(response.status_code, seconds, parsed, text, _retry_after(response.headers))

    def _client(self) -> httpx2.AsyncClient:
        import httpx2

        from vectorops.clients.hosts.http import guarded

        if self._http is None:
            client = httpx2.AsyncClient(
                follow_redirects=False,
                timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS),  # the whole is bounded by each request
                headers={"Accept-Encoding": "identity", "User-Agent": "vectorops"},
                verify=self._trust or True,
                trust_env=False,  # no proxy of the environment between us and a Service
            )
            self._http = guarded(client)
        return self._http


def _url(scheme: str, address: str, path: str) -> httpx2.URL:
    """Put together out of its parts, so that none of them can be read as another one. Raises httpx2.InvalidURL."""
    import httpx2

    host, _, port = address.rpartition(":")
    return httpx2.URL(scheme=scheme, host=host, port=int(port), raw_path=path.encode())


async def _bounded(response: httpx2.Response, path: str, wanted: Wanted | None) -> bytes:
    if response.headers.get("content-encoding", "identity") != "identity":
        raise invalid(path, "is compressed, although no compression was offered")
    most = MOST_BYTES if wanted is None else MOST_METRICS_BYTES
    whole, size = bytearray(), 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > most:
            raise invalid(path, f"is larger than {most // 1024} KiB")
        if wanted is None:
            whole += part
            continue
        try:
            wanted.feed(part)
        except TooMuch:
            raise invalid(path, "has more samples of searches than are counted") from None
    return bytes(whole) if wanted is None else wanted.text()


def _unanswered(error: httpx2.HTTPError, address: str, path: str) -> OperatorError:
    import httpx2

    if isinstance(error, httpx2.ConnectError) and (untrusted := flaw(error)) is not None:
        text = f"{address} is not asked: {untrusted}. {Reason.ServiceTLSFailed.next_step}"
        return Stalled(Reason.ServiceTLSFailed, text)
    text = f"{address} did not answer {path} ({type(error).__name__}). {Reason.ServiceUnavailable.next_step}"
    return Transient(Reason.ServiceUnavailable, text)


def _refuse(status: int, path: str) -> None:
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        text = f"The search service refuses {path} (HTTP {status}). {Reason.ServiceAuthenticationFailed.next_step}"
        raise Stalled(Reason.ServiceAuthenticationFailed, text)
    if 300 <= status < 400:
        text = f"The search service redirects {path} (HTTP {status}). {Reason.ServiceRedirects.next_step}"
        raise Stalled(Reason.ServiceRedirects, text)


def invalid(path: str, why: str) -> Transient:
    """The error for an answer that cannot be used."""
    text = f"The search service's answer to {path} {why}. {Reason.ServiceAnswerInvalid.next_step}"
    return Transient(Reason.ServiceAnswerInvalid, text)


def _json(body: bytes) -> Any | None:
    try:
        return jsontext.parse(body, MOST_VALUES)
    except ValueError:
        return None


def _retry_after(headers: Any) -> float:
    value = headers.get("retry-after", "")
    return min(float(value), 3600.0) if value.isascii() and value.isdigit() else 0.0
