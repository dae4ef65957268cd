"""TLS in front of Postgres: the wheel's server is built without OpenSSL, so a small program speaks it.

`python -m stand.postgres_tls` answers a client's SSLRequest, makes the TLS handshake with a certificate of our
own authority and passes the decrypted stream on to the server. To a client it is a Postgres with ssl=on:
sslmode=verify-full, verify-ca, a wrong authority and client certificates are all real. Not real: the server
itself does not know (pg_stat_ssl says off), there is no SCRAM channel binding and no sslnegotiation=direct.

`require` says what the front insists on: "optional" (plain connections are passed on too), "required" (they are
refused, as `hostssl` lines refuse them), "mutual" (and a client certificate of our authority is needed).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import ssl
import struct
import sys
from pathlib import Path
from typing import Final, Literal

from stand.process import Process, free_port, listening

Tls = Literal["off", "optional", "required", "mutual"]

SSL_REQUEST: Final = 80877103
GSS_REQUEST: Final = 80877104
CANCEL_REQUEST: Final = 80877102
"""The codes a first message carries instead of a protocol version (protocol-message-formats)."""

REFUSAL: Final = "no pg_hba.conf entry for this host, no encryption"
"""The server's words for a plain connection where only hostssl lines match."""

CHUNK_BYTES: Final = 1 << 16
"""What one read passes on: a socket buffer's worth."""

START_SECONDS: Final = 20
"""An interpreter start, with room for a busy machine."""


class TlsFront:
    """The front as a process, with its certificates in `directory`."""

    def __init__(self, directory: Path, *, require: Tls) -> None:
        """Issue the certificates (needs the package trustme); nothing starts yet."""
        self.port = free_port()
        self.ca_file = directory / "ca.pem"
        self.client_cert_file = directory / "client.pem"
        self.client_key_file = directory / "client.key"
        self._directory = directory
        self._require = require
        self._process: Process | None = None
        self._issue()

    def serve(self, target: int) -> None:
        """Pass connections on to 127.0.0.1:target; nothing when it already does."""
        if self._process is not None and self._process.alive():
            return
        argv = [sys.executable, "-m", "stand.postgres_tls", "--port", str(self.port), "--target", str(target)]
        argv += ["--require", self._require, "--directory", str(self._directory)]
        path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        self._process = Process(
            "postgres-tls", argv, log=self._directory / "tls.log", env=os.environ | {"PYTHONPATH": path}
        )
        self._process.start()
        self._process.wait_until(lambda: listening(self.port), "the TLS port", START_SECONDS)

    def stop(self) -> None:
        """End the front; established connections end with it."""
        if self._process is not None:
            self._process.terminate()

    def _issue(self) -> None:
        import trustme  # only stands with TLS need it

        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.ca_file))
        server = authority.issue_cert("127.0.0.1", "localhost")
        server.private_key_and_cert_chain_pem.write_to_path(str(self._directory / "server.pem"))
        client = authority.issue_cert("shop_operator@example.com", common_name="shop_operator")
        client.cert_chain_pems[0].write_to_path(str(self.client_cert_file))
        client.private_key_pem.write_to_path(str(self.client_key_file))
        for private in (self._directory / "server.pem", self.client_key_file):
            private.chmod(0o600)


class _Front:
    """What the process does with each connection."""

    def __init__(self, target: int, require: Tls, directory: Path) -> None:
        self._target = target
        self._plain_allowed = require == "optional"
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(directory / "server.pem")
        if require == "mutual":
            self._context.load_verify_locations(directory / "ca.pem")
            self._context.verify_mode = ssl.CERT_REQUIRED

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, from its first message to its last byte."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            first = await reader.readexactly(8)
            if _code(first) == GSS_REQUEST:
                writer.write(b"N")
                first = await reader.readexactly(8)
            if _code(first) == SSL_REQUEST:
                writer.write(b"S")
                await writer.drain()
                await writer.start_tls(self._context)
                await self._pass_on(b"", reader, writer)
            elif self._plain_allowed or _code(first) == CANCEL_REQUEST:
                await self._pass_on(first, reader, writer)
            else:
                writer.write(_fatal("28000", REFUSAL))
                await writer.drain()
        writer.close()

    async def _pass_on(self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
        server_writer.write(first)
        both = [
            asyncio.create_task(_copy(reader, server_writer)),
            asyncio.create_task(_copy(server_reader, writer)),
        ]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)  # either end gone ends both
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)
        server_writer.close()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(CHUNK_BYTES):
        sink.write(data)
        await sink.drain()


def _code(message: bytes) -> int:
    """The protocol version or request code of a first message."""
    return int(struct.unpack("!II", message)[1])


def _fatal(sqlstate: str, text: str) -> bytes:
    """An ErrorResponse message."""
    fields = b"".join(f"{key}{value}".encode() + b"\0" for key, value in (("S", "FATAL"), ("C", sqlstate), ("M", text)))
    return b"E" + struct.pack("!I", len(fields) + 5) + fields + b"\0"


async def _serve(port: int, target: int, require: Tls, directory: Path) -> None:
    front = _Front(target, require, directory)
    server = await asyncio.start_server(front.connected, "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    """The process: everything it needs is in the directory `TlsFront` filled."""
    parser = argparse.ArgumentParser(prog="stand.postgres_tls")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--target", type=int, required=True)
    parser.add_argument("--require", choices=("optional", "required", "mutual"), required=True)
    parser.add_argument("--directory", type=Path, required=True)
    given = parser.parse_args()
    asyncio.run(_serve(given.port, given.target, given.require, given.directory))


if __name__ == "__main__":
    main()
