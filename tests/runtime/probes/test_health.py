"""The probes answer from a thread of their own, so they can say that the event loop is blocked."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request

import pytest

from vectorops.runtime.probes import health as module
from vectorops.runtime.probes.health import BLOCKED_AFTER, SILENT_AFTER, Health
from vectorops.runtime.probes.server import serve


@pytest.fixture
def probes() -> tuple[Health, str]:
    health = Health()
    return health, f"http://127.0.0.1:{serve(health, '127.0.0.1', 0)}"


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_starting_process_is_alive_but_not_ready(probes: tuple[Health, str]) -> None:
    health, url = probes
    assert get(f"{url}/healthz")[0] == 200
    assert get(f"{url}/readyz")[0] == 503
    health.not_ready = None
    assert get(f"{url}/readyz")[0] == 200


def test_a_blocked_event_loop_fails_both_probes_and_says_so(probes: tuple[Health, str]) -> None:
    health, url = probes
    health.not_ready, health.last_tick = None, time.monotonic() - BLOCKED_AFTER - 1
    for path in ("/healthz", "/readyz"):
        code, body = get(url + path)
        assert code == 503
        assert "blocked" in json.loads(body)["reason"]


def test_a_dead_watch_fails_the_liveness_probe(probes: tuple[Health, str]) -> None:
    health, url = probes
    health.dead_watch = "no watcher runs for vectorindexes"
    code, body = get(f"{url}/healthz")
    assert code == 503
    assert "no watcher" in body


def test_what_rbac_refuses_and_no_condition_can_tell_fails_readiness_only(probes: tuple[Health, str]) -> None:
    health, url = probes
    health.not_ready, health.refused = None, lambda: "RBACMissing: not allowed to patch status"
    assert get(f"{url}/healthz")[0] == 200
    code, body = get(f"{url}/readyz")
    assert (code, json.loads(body)["reason"]) == (503, "RBACMissing: not allowed to patch status")


async def test_the_heartbeat_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    monkeypatch.setattr(module, "TICK", 0.001)
    health = Health(last_tick=0.0)
    task = asyncio.create_task(health.tick())
    while health.last_tick == 0.0:
        await asyncio.sleep(0.001)
    task.cancel()


def test_metrics_are_served_in_the_text_format(probes: tuple[Health, str]) -> None:
    code, body = get(f"{probes[1]}/metrics")
    assert code == 200
    assert "vectorops_" in body


def test_an_api_server_that_is_long_silent_fails_readiness_only(probes: tuple[Health, str]) -> None:
    health, url = probes
    health.not_ready, health.silence = None, lambda: SILENT_AFTER - 1
    assert get(f"{url}/readyz")[0] == 200
    health.silence = lambda: SILENT_AFTER + 1
    assert get(f"{url}/healthz")[0] == 200, "a restart would not bring the API server back"
    code, body = get(f"{url}/readyz")
    assert (code, "the API server has not answered" in body) == (503, True)
