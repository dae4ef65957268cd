"""Neighbours that nobody should trust: a database, a provider and a service that flood, for tests of what it costs us.

Run as a process of its own, so that what it sends is not on the account of whoever receives it. The URL says how it
misbehaves: the database's name, the first part of the provider's path, the port of the service. Refused: any address
but 127.0.0.1, sending to whoever stopped reading, and sending more than MOST_BYTES to one connection.
"""

from __future__ import annotations

import asyncio
import json
import os
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from stand.process import Process

MOST_BYTES: Final = 1 << 30
"""A gigabyte to one connection is as good as no end."""

PIECE: Final = 1 << 20

LABELS: Final = ",".join(f'a{i}="1"' for i in range(170_000))
"""Two megabytes of labels of one sample: quadratic work for a parser that believes in them."""

INTEGER, TEXT, TRUTH, NUMBER = 23, 25, 16, 1700
"""Oids of types, as every PostgreSQL numbers them."""

BESIDE_LIMIT: Final = 15 << 20
"""An answer that is just small enough for the connection that watches, and made to be large in memory."""


def message(kind: bytes, body: bytes = b"") -> bytes:
    """One message of PostgreSQL's protocol."""
    return kind + struct.pack("!I", len(body) + 4) + body


def columns(*types: int) -> bytes:
    """The description of an answer with columns of these types."""
    told = (f"c{at}\0".encode() + struct.pack("!IHIhiH", 0, 0, oid, -1, -1, 0) for at, oid in enumerate(types))
    return message(b"T", struct.pack("!H", len(types)) + b"".join(told))


def row(*values: bytes | None) -> bytes:
    """One row."""
    told = (struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value for value in values)
    return message(b"D", struct.pack("!H", len(values)) + b"".join(told))


READY: Final = message(b"Z", b"I")
REPORTED: Final = (("server_version", "18.6"), ("in_hot_standby", "off"), ("default_transaction_read_only", "off"))
SETTINGS: Final = b"".join(message(b"S", f"{name}\0{value}\0".encode()) for name, value in REPORTED)
GREETING: Final = message(b"R", bytes(4)) + SETTINGS + message(b"K", b"\0\0\0\1\0\0\0\2") + READY
PREPARED: Final = message(b"1") + message(b"t", b"\0\0")
PREPARED_FOR_ONE: Final = message(b"1") + message(b"t", struct.pack("!HI", 1, INTEGER))
NESTED: Final = b'{"records":[' + b"{}," * (BESIDE_LIMIT // 3) + b"{}]}"
"""A text of JSON: three bytes for a dictionary."""

NUMBERS: Final = 1_000
NUMBER_ROW: Final = row(*[struct.pack("!HhHHH", 1, 0x7FFF, 0, 0xFFFF, 1)] * NUMBERS)
"""Ten bytes for 196,000 digits, a thousand times."""

HANDSHAKE: Final = (columns(INTEGER, TEXT, TEXT, TRUTH), row(b"\0\0\0\1", b"pg_catalog, pg_temp", None, b"\0"))
NAMES: Final = (b"pid", b"search_path", b"transaction_timeout", b"has_intents")


class Database:
    """Speaks enough of PostgreSQL to pass for it, and then never ends. One object a connection."""

    _greets = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection. What has no end: rounds, notice, settings, description, rows, row, or, unasked, idle.

        Small enough, and made to be large in memory: json, numbers.
        """
        with suppress(OSError, asyncio.IncompleteReadError):
            mode = await self._greeted(reader)
            if mode == "notice":
                writer.write(b"N\x7f\xff\xff\x00")
                await _pour(writer, b"S" * PIECE)
            elif mode == "settings":
                await _pour_numbered(writer)
            elif mode == "rounds":
                await self._haggled(reader, writer)
            writer.write(GREETING)
            while True:
                await self._answer(mode, await self._asked(reader), writer)
        writer.close()

    async def _greeted(self, reader: asyncio.StreamReader) -> str:
        size = struct.unpack("!I", await reader.readexactly(4))[0]
        words = (await reader.readexactly(size - 4))[4:].split(b"\0")
        return words[words.index(b"database") + 1].decode()

    async def _haggled(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """SCRAM, in pieces, with as many rounds as the number can be."""
        writer.write(message(b"R", struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0"))
        size = struct.unpack("!I", (await reader.readexactly(5))[1:])[0]
        nonce = (await reader.readexactly(size - 4)).rpartition(b"r=")[2]
        told = message(b"R", struct.pack("!I", 11) + b"r=" + nonce + b"x,s=c2FsdHNhbHQ=,i=2147483647")
        for piece in (told[:-8], told[-8:]):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.1)
        await reader.read(1)

    async def _asked(self, reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
        """The kinds of the messages up to the next Sync, Flush or simple query, and what was to be parsed."""
        kinds = parsed = b""
        while not kinds.endswith((b"S", b"Q", b"H")):
            kind = await reader.readexactly(1)
            body = await reader.readexactly(struct.unpack("!I", await reader.readexactly(4))[0] - 4)
            kinds, parsed = kinds + kind, parsed + (body if kind == b"P" else b"")
        return kinds, parsed

    async def _answer(self, mode: str, asked: tuple[bytes, bytes], writer: asyncio.StreamWriter) -> None:
        kinds, parsed = asked
        if kinds.startswith(b"Q"):
            writer.write(columns(TEXT) + row(b"off") + message(b"C", b"SHOW\0") + READY)
            if mode == "idle":
                await _pour(writer, message(b"N", b"MHello\0\0") * 10_000)
        elif b"P" in kinds and b"E" not in kinds:
            await self._described(mode, parsed, writer)
            writer.write(READY if kinds.endswith(b"S") else b"")
        elif self._greets:
            writer.write(message(b"2") + HANDSHAKE[1] + message(b"C", b"SELECT 1\0") + READY)
        elif mode == "json":
            writer.write(message(b"2") + row(NESTED) + message(b"C", b"SELECT 1\0") + READY)
        elif mode == "numbers":
            writer.write(message(b"2") + NUMBER_ROW * 10 + message(b"C", b"SELECT 10\0") + READY)
        else:
            writer.write(message(b"2"))
            if mode == "row":
                writer.write(b"D\x7f\xff\xff\x00")
                await _pour(writer, b"x" * PIECE)
            await _pour(writer, row() * (PIECE // 7))

    async def _described(self, mode: str, parsed: bytes, writer: asyncio.StreamWriter) -> None:
        self._greets = b"set_config('transaction_timeout'" in parsed
        prepared = PREPARED_FOR_ONE if b"$1" in parsed else PREPARED
        if self._greets:
            described = HANDSHAKE[0]
            for at, name in enumerate(NAMES):
                described = described.replace(f"c{at}".encode(), name)
            writer.write(PREPARED + message(b"T", described[5:]))
        elif mode == "description":
            writer.write(prepared + b"T\x7f\xff\xff\x00")
            await _pour(writer, b"x" * PIECE)
        else:
            types = {"json": [TEXT], "numbers": [NUMBER] * NUMBERS}.get(mode, [])
            writer.write(prepared + columns(*types))


class Provider:
    """`/huge` answers a gigabyte, `/nested` what is large in memory, `/error` refuses so, `/early`
    never comes to its answer, `/small` is harmless."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request."""
        with suppress(OSError, asyncio.IncompleteReadError):
            path = await _requested(reader)
            mode = path.split("/")[1]
            if mode == "early":
                await _pour(writer, b"HTTP/1.1 103 Early Hints\r\n\r\n" * (PIECE // 28))
            status = "500 Internal Server Error" if mode == "error" else "200 OK"
            writer.write(f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n".encode())
            if mode == "small":
                writer.write(b"{}")
            elif mode == "nested":
                writer.write(b'{"data":[' + b"[]," * (PIECE // 4) + b"[]]}")
                await writer.drain()
            else:
                writer.write(b'{"data":[')
                await _pour(writer, b"[]," * (PIECE // 3))
        writer.close()


class Service:
    """Says 2 MB of labels on its metrics; trickles a byte a second on everything else."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request."""
        with suppress(OSError, asyncio.IncompleteReadError):
            path = await _requested(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n")
            if path.endswith("/metrics"):
                writer.write(f"vector_searches_total{{{LABELS}}} 1\n".encode())
                await writer.drain()
            else:
                for _ in range(60):
                    writer.write(b" ")
                    await writer.drain()
                    await asyncio.sleep(1)
        writer.close()


class Hostile(Process):
    """The process with all three, each on a port of its own."""

    def __init__(self, folder: Path) -> None:
        self._ports = folder / "ports.json"
        command = [sys.executable, "-m", "stand.hostile", str(self._ports)]
        paths = os.pathsep.join(sys.path)
        super().__init__("hostile", command, log=folder / "hostile.log", env={**os.environ, "PYTHONPATH": paths})
        self.database = self.provider = self.service = 0

    def __enter__(self) -> Hostile:
        self.start()
        self.wait_until(self._ports.exists, "its ports", 20)
        ports = json.loads(self._ports.read_text())
        self.database, self.provider, self.service = ports["database"], ports["provider"], ports["service"]
        return self

    def __exit__(self, *_: object) -> None:
        self.terminate()


async def _requested(reader: asyncio.StreamReader) -> str:
    head = await reader.readuntil(b"\r\n\r\n")
    return head.split(b" ")[1].decode()


async def _pour(writer: asyncio.StreamWriter, piece: bytes) -> None:
    for _ in range(MOST_BYTES // len(piece)):
        writer.write(piece)
        await writer.drain()
    raise ConnectionError("enough")


async def _pour_numbered(writer: asyncio.StreamWriter) -> None:
    for begin in range(0, MOST_BYTES // 16, 10_000):
        writer.write(b"".join(message(b"S", b"s%d\0v\0" % number) for number in range(begin, begin + 10_000)))
        await writer.drain()
    raise ConnectionError("enough")


async def main(ports: Path) -> None:
    """Serve until killed."""
    found = {}
    for name, neighbour in (("database", Database), ("provider", Provider), ("service", Service)):

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, made: type = neighbour) -> None:
            await made().serve(reader, writer)

        server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 22)
        found[name] = server.sockets[0].getsockname()[1]
    written = ports.with_suffix(".new")
    written.write_text(json.dumps(found))
    written.rename(ports)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
