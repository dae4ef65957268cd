"""`/metrics`, `/healthz` and `/readyz`, served from a thread of their own.

A thread, because the point of `/healthz` is to say so when the event loop is blocked, which a server inside that loop
could not. It fails when the loop has not ticked for a while or when a watch is dead; `/readyz` fails until every kind's
first listing was taken in, while stopping, and while RBAC keeps us from telling anything by status or events.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

from vectorops import metrics

logger = logging.getLogger(__name__)

BLOCKED_AFTER = 15.0  # seconds without a tick: an honest pass never blocks the loop, the largest import takes two
TICK = 1.0  # seconds


@dataclass
class Health:
    """What the probes look at. Written by the event loop, read by the server's thread."""

    last_tick: float = field(default_factory=time.monotonic)
    not_ready: str | None = "starting: the first listing has not been taken in"
    dead_watch: str | None = None
    refused: Callable[[], str | None] = lambda: None
    """What RBAC refuses us and no condition can tell."""

    def alive(self) -> str | None:
        """None, or why the process should be restarted."""
        silent = time.monotonic() - self.last_tick
        if silent > BLOCKED_AFTER:
            return f"the event loop has been blocked for {silent:.0f} s"
        return self.dead_watch

    async def tick(self) -> None:
        """The heartbeat of the event loop; its lateness is a metric."""
        while True:
            due = time.monotonic() + TICK
            await asyncio.sleep(TICK)
            self.last_tick = time.monotonic()
            metrics.loop_lag(max(0.0, self.last_tick - due))


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Probes every few seconds are no news."""


def serve(health: Health, host: str, port: int) -> int:
    """Serve in a daemon thread. Port 0 takes any free one. Returns the port."""
    server = make_server(host, port, application(health), _Server, _Quiet)
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    return int(server.server_port)


StartResponse = Callable[[str, list[tuple[str, str]]], object]


def application(health: Health) -> Callable[[dict[str, str], StartResponse], Iterable[bytes]]:
    """The WSGI application of the three paths."""
    scrape = make_wsgi_app()

    def answer(environ: dict[str, str], start: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return scrape(environ, start)  # type: ignore[no-any-return]
        if path == "/healthz":
            return _probe(health.alive(), start)
        if path == "/readyz":
            return _probe(health.not_ready or health.alive() or health.refused(), start)
        start("404 Not Found", [("Content-Type", "text/plain")])
        return [b"/metrics /healthz /readyz\n"]

    return answer


def _probe(trouble: str | None, start: StartResponse) -> list[bytes]:
    start("200 OK" if trouble is None else "503 Service Unavailable", [("Content-Type", "application/json")])
    return [json.dumps({"status": "ok" if trouble is None else "failing", "reason": trouble}).encode() + b"\n"]
