"""A TCP proxy between the operator and a server, for tests of what networks do. Refused: anything but 127.0.0.1.

With `tls` it speaks TLS to whoever connects and hands on what is inside: a server that has none gets some.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress


class Proxy:
    """A TCP proxy that can cut every connection, or let nothing through any more."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._to, self.port, self.deaf, self._tls = port, 0, False, tls
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None
        self._pipes: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """Reset every connection on both sides."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        self._writers += [writer, back]
        for source, target in ((reader, back), (there, writer)):
            pipe = asyncio.create_task(self._pipe(source, target))
            self._pipes.add(pipe)
            pipe.add_done_callback(self._pipes.discard)

    async def _pipe(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                if not self.deaf:
                    target.write(data)
            target.close()
