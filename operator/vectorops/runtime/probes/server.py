"""The server of the probes: one thread with an event loop of its own, whatever connects.

A thread, because the point of `/healthz` is to say so when the operator's event loop is blocked, which a server inside
that loop could not. An event loop in it, because a connection then costs a few kilobytes and never a thread: whoever
connects and says nothing is let go after a few seconds, and when too many do, the one that has waited longest goes
first, so that a probe is always heard. Refused: bodies, more than one request a connection, heads over 8 KiB.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
import threading
from http.client import parse_headers
from urllib.parse import unquote

from vectorops.errors import frames
from vectorops.runtime.probes.health import Application, Health, application

HEAD_SECONDS = 5.0  # for a whole request to arrive; a kubelet's and a Prometheus' comes in one packet
ANSWER_SECONDS = 10.0  # for the answer to be taken, a megabyte of metrics included
CONNECTIONS = 128  # at once; far above kubelet and scrapers, far below the file descriptors of a process
BACKLOG = 128  # connections that the kernel keeps while the thread is busy with another answer
HEAD_BYTES = 8192


class _Server:
    def __init__(self, answer: Application) -> None:
        self._answer = answer
        self._waiting: dict[asyncio.StreamWriter, None] = {}  # in the order they came

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request and its answer; every way in which it can fail ends with a closed connection."""
        while len(self._waiting) >= CONNECTIONS:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            oldest.transport.abort()
        self._waiting[writer] = None
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
            async with asyncio.timeout(ANSWER_SECONDS):
                writer.write(self._respond(head))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError, EOFError, asyncio.LimitOverrunError):
            pass
        finally:
            self._waiting.pop(writer, None)
            writer.transport.abort()

    def _respond(self, head: bytes) -> bytes:
        line, _, rest = head.partition(b"\r\n")
        words = line.decode("latin-1").split()
        if len(words) != 3 or words[0] not in ("GET", "HEAD"):
            return _message("400 Bad Request", [], b"GET only\n")
        path, _, query = words[1].partition("?")
        said: list[tuple[str, list[tuple[str, str]]]] = []
        try:
            headers = parse_headers(io.BytesIO(rest))
            environ = {
                "REQUEST_METHOD": words[0],
                "PATH_INFO": unquote(path),
                "QUERY_STRING": query,
                **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()},
            }
            body = b"".join(self._answer(environ, lambda status, fields: said.append((status, fields))))
        except Exception as error:  # nonsense in a head must not end the server; it names the type and nothing else
            return _message("400 Bad Request", [], frames(error).partition("\n")[0].encode() + b"\n")
        status, fields = said[0]
        return _message(status, fields, body, whole=words[0] == "GET")


def _message(status: str, fields: list[tuple[str, str]], body: bytes, *, whole: bool = True) -> bytes:
    fields = [*fields, ("Content-Length", str(len(body))), ("Connection", "close")]
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in fields), "", ""]
    return "\r\n".join(lines).encode("latin-1") + (body if whole else b"")


def serve(health: Health, host: str, port: int) -> int:
    """Serve in a daemon thread. No host: every address, of IPv4 and IPv6. Port 0 takes any free one. Returns the port.

    Raises OSError when it cannot listen there.
    """
    listening = _listen(host, port)
    server = _Server(application(health))

    async def run() -> None:
        made = await asyncio.start_server(server.connected, sock=listening, limit=HEAD_BYTES, backlog=BACKLOG)
        await made.serve_forever()

    threading.Thread(target=lambda: asyncio.run(run()), name="http", daemon=True).start()
    return int(listening.getsockname()[1])


def _listen(host: str, port: int) -> socket.socket:
    """One socket for both families where the machine has both: two would get two ports where any is taken."""
    if host in ("", "::"):
        with contextlib.suppress(OSError):  # a kernel without IPv6
            return socket.create_server(("::", port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)
