"""HTTP clients that connect only to what may be connected to.

The check sits where a connection is opened, below TLS: certificates are still for the name. Where the environment names
a proxy (HTTPS_PROXY), names are resolved there and the proxy is who refuses. Also refused: answers without end before
the answer (status 1xx), which cost the event loop and come to nobody who could bound them. What it imports is heavy.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Iterable
from http.cookiejar import CookieJar
from typing import Any

import httpcore2
import httpx2

from vectorops.clients.hosts.reaching import reachable, refusal
from vectorops.clients.hosts.rules import OWN

EARLY = re.compile(rb"HTTP/[0-9][.][0-9] 1[0-9][0-9]")
"""How an answer before the answer begins; nothing that is read of a neighbour holds many of these."""

MOST_EARLY = 16
"""To one request: a server has one or two (100, 103), and 64 KiB hold thousands, read in one go."""


class Patient(httpcore2.AsyncNetworkStream):
    """A connection that takes a few answers before the answer."""

    def __init__(self, inner: httpcore2.AsyncNetworkStream) -> None:
        self._inner, self._early = inner, 0

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """The library's own. Raises RemoteProtocolError for a server that does not come to its answer."""
        data = await self._inner.read(max_bytes, timeout)
        self._early += sum(1 for _ in EARLY.finditer(data))
        if self._early > MOST_EARLY:
            raise httpcore2.RemoteProtocolError("answers without end before the answer")
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """The library's own: another request."""
        self._early = 0
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        """The library's own."""
        await self._inner.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        """The library's own, as patient."""
        return Patient(await self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """The library's own."""
        return self._inner.get_extra_info(info)


class Checked(httpcore2.AsyncNetworkBackend):
    """A network backend in front of the library's own."""

    def __init__(self, inner: httpcore2.AsyncNetworkBackend) -> None:
        self._inner = inner

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """To one of the addresses that `host` may mean, all of them within `timeout`. Raises Stalled(HostRefused)."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(timeout):
                addresses = await reachable(host, port)
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout(type(error).__name__) from error
        except OSError as error:
            raise httpcore2.ConnectError(type(error).__name__) from error
        failed: Exception | None = None
        for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            share = None if timeout is None else max(0.05, (timeout - (loop.time() - began)) / left)
            try:
                return Patient(await self._inner.connect_tcp(address, port, share, local_address, socket_options))
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failed = error
        assert failed is not None, "there is at least one address"
        raise failed

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore2.AsyncNetworkStream:
        """Never. Raises Stalled(HostRefused)."""
        raise refusal(OWN)

    async def sleep(self, seconds: float) -> None:
        """The library's own."""
        await self._inner.sleep(seconds)


class Forgetful(CookieJar):
    """Keeps nothing: a jar has no bound, and an answer's headers hold thousands of cookies for the next request."""

    def extract_cookies(self, response: Any, request: Any) -> None:
        """Not even read."""


def guarded(client: httpx2.AsyncClient) -> httpx2.AsyncClient:
    """The client, which from here on asks before it connects, and keeps no cookies. The library has no argument for
    the first."""
    client.cookies = Forgetful()
    pool = client._transport._pool  # type: ignore[attr-defined]
    if not isinstance(pool, httpcore2.AsyncConnectionPool):
        raise TypeError("the client's connections are opened elsewhere now")
    pool._network_backend = Checked(pool._network_backend)
    return client
