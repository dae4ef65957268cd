"""The probes answer whoever else connects, on both families, with one thread."""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection

import pytest

from vectorops.runtime.probes import server as module
from vectorops.runtime.probes.health import Health
from vectorops.runtime.probes.server import CONNECTIONS, serve


@pytest.fixture
def port() -> int:
    health = Health()
    health.not_ready = None
    return serve(health, "", 0)


@pytest.fixture
def crowd() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def open_idle(crowd: ExitStack, port: int, count: int) -> list[socket.socket]:
    """So many connections that say a letter and no more."""
    made = []
    for _ in range(count):
        one = crowd.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
        one.sendall(b"G")
        made.append(one)
    return made


def get(port: int, path: str = "/healthz", host: str = "127.0.0.1") -> int:
    connection = HTTPConnection(host, port, timeout=10)
    connection.request("GET", path)
    status = connection.getresponse().status
    connection.close()
    return status


def test_800_idle_connections_leave_the_probe_answering_and_cost_no_thread(port: int, crowd: ExitStack) -> None:
    before = threading.active_count()
    idle = open_idle(crowd, port, 800)
    assert [get(port, path) for path in ("/healthz", "/readyz", "/metrics")] == [200, 200, 200]
    assert threading.active_count() == before
    ended = 0
    for one in idle[: 800 - CONNECTIONS]:  # the oldest went, each when a newer one came
        try:
            ended += one.recv(1) == b""
        except ConnectionResetError:
            ended += 1
    assert ended == 800 - CONNECTIONS


def test_who_connects_and_says_nothing_is_let_go(port: int, crowd: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEAD_SECONDS", 0.05)
    [one] = open_idle(crowd, port, 1)
    with pytest.raises(ConnectionResetError):
        assert one.recv(1) == b""
        raise ConnectionResetError  # ended in order, which will do as well
    assert get(port) == 200


def test_both_families_are_served_on_one_port(port: int) -> None:
    assert get(port, host="127.0.0.1") == 200
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    assert get(port, host="::1") == 200


def test_an_address_of_one_family_is_served_alone() -> None:
    port = serve(Health(), "127.0.0.1", 0)
    with pytest.raises(OSError):
        socket.create_connection(("::1", port), timeout=1)


@pytest.mark.parametrize(
    "said", [b"POST / HTTP/1.1\r\n\r\n", b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\n\xff\xfe: \x00\r\n\r\n", b"\r\n\r\n"]
)
def test_nonsense_gets_an_answer_and_ends_nothing(port: int, said: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as one:
        one.sendall(said)
        assert one.recv(12)[:9] == b"HTTP/1.1 "
    assert get(port) == 200


def test_a_head_without_end_is_let_go(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as one, pytest.raises(OSError):
        for _ in range(1000):
            one.sendall(b"GET / HTTP/1.1\r\nx: " + b"y" * 10_000)
        while one.recv(65536):
            pass
        raise ConnectionResetError  # ended in order
    assert get(port) == 200


def test_metrics_can_be_asked_for_as_prometheus_does(port: int) -> None:
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}/metrics?name[]=vectorops_loop_lag_seconds", headers={"Accept": "text/plain"}
    )
    with urllib.request.urlopen(asked, timeout=5) as answer:
        text = answer.read().decode()
        assert answer.headers["Content-Type"].startswith("text/plain")
    assert "vectorops_loop_lag_seconds" in text
    assert "vectorops_reconcile_total" not in text
