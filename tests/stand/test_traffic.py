"""People's searches in the background: a late answer is told, a refused or wrong one is an error."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path

import pytest

from stand.traffic import LIMIT, SLOW_SECONDS, Traffic

SERVICE = "shop/api:3000"
GOOD = json.dumps({"results": [{"id": 1}], "cached": None}).encode()
ENOUGH = 3  # searches: the first may be an accident


@contextmanager
def service(status: int, body: bytes) -> Iterator[int]:
    """A service that answers every search in the same way."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            if not status:  # hangs up
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def searched(directory: Path, port: int, clock: Callable[[], float]) -> Traffic:
    """Traffic that has ended after some searches."""
    addresses = directory / "addresses.json"
    addresses.write_text(json.dumps({SERVICE: [f"127.0.0.1:{port}"]}))
    enough = threading.Event()

    def ticking() -> float:
        if traffic.searches >= ENOUGH:
            enough.set()
        return clock()

    traffic = Traffic(addresses, SERVICE, "token", ["thermos"], clock=ticking)
    with traffic:
        assert enough.wait(30), "it does not search"
    return traffic


def test_a_late_answer_is_told_and_is_no_error(tmp_path: Path) -> None:
    late = count(step=2 * SLOW_SECONDS)  # every look at the clock is four seconds after the last
    with service(200, GOOD) as port:
        seen = searched(tmp_path, port, lambda: float(next(late)))
    assert seen.errors == 0 and seen.slow == seen.searches >= ENOUGH
    assert f"{seen.slow} took longer than 2 s, the slowest 4.0 s" in seen.told()


WRONG = {
    "refused": (502, b'{"error": "the embedding provider did not answer"}'),
    "no JSON": (200, b"<html>"),
    "no results": (200, b'{"cached": null}'),
    "no list": (200, b'{"results": "many"}'),
    "more than asked for": (200, json.dumps({"results": [{}] * (LIMIT + 1)}).encode()),
    "no object": (200, b"[]"),
    "hangs up": (0, b""),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_refused_or_wrong_answer_is_an_error(what: str, tmp_path: Path) -> None:
    with service(*WRONG[what]) as port:
        seen = searched(tmp_path, port, lambda: 0.0)
    assert seen.errors == seen.searches >= ENOUGH and seen.first_error
    assert "none late" in seen.told()


def test_nobody_there_is_an_error(tmp_path: Path) -> None:
    with service(200, GOOD) as port:
        pass
    assert searched(tmp_path, port, lambda: 0.0).errors >= ENOUGH
