"""What `/healthz` and `/readyz` say, and `/metrics`.

`/healthz` fails when the event loop has not ticked for a while or a watch is dead: only what a restart mends. `/readyz`
fails until every kind's first listing was taken in, while stopping, while RBAC keeps us from telling anything by status
or events, and while the API server does not answer: only what a person should see.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from prometheus_client import make_wsgi_app

from vectorops import metrics

BLOCKED_AFTER = 15.0  # seconds without a tick: an honest pass never blocks the loop, the largest import takes two
TICK = 1.0  # seconds
SILENT_AFTER = 90.0  # seconds without an answer: two looks of the watchdog that failed, and some


@dataclass
class Health:
    """What the probes look at. Written by the event loop, read by the server's thread."""

    last_tick: float = field(default_factory=time.monotonic)
    not_ready: str | None = "starting: the first listing has not been taken in"
    dead_watch: str | None = None
    refused: Callable[[], str | None] = lambda: None
    """What RBAC refuses us and no condition can tell."""
    outdated: Callable[[], str | None] = lambda: None
    """What the served CRDs lack."""
    silence: Callable[[], float] = lambda: 0.0
    """Seconds since the API server last answered."""

    def alive(self) -> str | None:
        """None, or why the process should be restarted."""
        silent = time.monotonic() - self.last_tick
        if silent > BLOCKED_AFTER:
            return f"the event loop has been blocked for {silent:.0f} s"
        return self.dead_watch

    def ready(self) -> str | None:
        """None, or what a person should see. A restart would mend none of it."""
        return self.not_ready or self.alive() or self.refused() or self.outdated() or self._unanswered()

    def _unanswered(self) -> str | None:
        silent = self.silence()
        return f"the API server has not answered for {silent:.0f} s" if silent > SILENT_AFTER else None

    async def tick(self) -> None:
        """The heartbeat of the event loop; its lateness is a metric."""
        while True:
            due = time.monotonic() + TICK
            await asyncio.sleep(TICK)
            self.last_tick = time.monotonic()
            metrics.loop_lag(max(0.0, self.last_tick - due))
            metrics.unanswered(self.silence())


StartResponse = Callable[[str, list[tuple[str, str]]], object]
Application = Callable[[dict[str, str], StartResponse], Iterable[bytes]]


def application(health: Health) -> Application:
    """The WSGI application of the three paths."""
    scrape = make_wsgi_app()

    def answer(environ: dict[str, str], start: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return scrape(environ, start)  # type: ignore[no-any-return]
        if path == "/healthz":
            return _probe(health.alive(), start)
        if path == "/readyz":
            return _probe(health.ready(), start)
        start("404 Not Found", [("Content-Type", "text/plain")])
        return [b"/metrics /healthz /readyz\n"]

    return answer


def _probe(trouble: str | None, start: StartResponse) -> list[bytes]:
    start("200 OK" if trouble is None else "503 Service Unavailable", [("Content-Type", "application/json")])
    return [json.dumps({"status": "ok" if trouble is None else "failing", "reason": trouble}).encode() + b"\n"]
