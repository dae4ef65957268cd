"""Ten minutes without the API server, hurried sixty times: no exit, no hot loop, no money; then on by itself."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import kopf
import pytest

from stand.scene import Scene, store_spec
from stand.world import SERVICE_ACCOUNT, SYSTEM_NAMESPACE
from vectorops import app as module
from vectorops.app import Operator
from vectorops.clients.apiserver.contact import PAUSE_AFTER
from vectorops.kinds import KINDS
from vectorops.runtime import binding
from vectorops.runtime.probes import watchdog
from vectorops.settings import Settings

from .gate import Gate

if TYPE_CHECKING:
    from stand.cluster import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

HURRY = 60.0
OUTAGE_SECONDS = 600.0 / HURRY
MOST_REQUESTS = 1_200  # of ten minutes and five kinds: two a second; a loop without rests makes thousands
KOPF_BACKOFFS = kopf.OperatorSettings().networking.error_backoffs


class Hurried:
    """An operator in a thread, whose waits are all sixty times shorter."""

    def __init__(self, namespace: str) -> None:
        self.operator: Operator
        self._namespace = namespace
        self._begun = threading.Event()
        self._ended: BaseException | None = None
        self._thread = threading.Thread(target=self._in_thread, daemon=True)

    def __enter__(self) -> Hurried:
        self._thread.start()
        assert self._begun.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self.operator.stopped.set)
        self._thread.join(30)
        assert not self._thread.is_alive()

    def alive(self) -> bool:
        return self._thread.is_alive()

    def _in_thread(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        settings = Settings(watch_namespaces=self._namespace, http_port=0, http_host="127.0.0.1")
        self.operator, self._loop = Operator(settings, kinds=KINDS), asyncio.get_running_loop()
        self.operator.kubernetes.contact.__init__(lambda: time.monotonic() * HURRY)  # type: ignore[misc]
        self.operator.watchdog._period = watchdog.PERIOD / HURRY
        self._begun.set()
        await self.operator.run()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SERVED_POLL", "POLL_CAP", "REST_FIRST", "REST_CAP"):
        monkeypatch.setattr(module, name, getattr(module, name) / HURRY)
    configure = binding.configure

    def fast(settings: kopf.OperatorSettings) -> None:
        configure(settings)
        assert settings.networking.error_backoffs == KOPF_BACKOFFS
        settings.networking.error_backoffs = tuple(one / HURRY for one in KOPF_BACKOFFS)  # type: ignore[union-attr]

    monkeypatch.setattr(binding, "configure", fast)
    for name in ("LOOK", "END_SECONDS"):
        monkeypatch.setattr(binding, name, getattr(binding, name) / HURRY)


@pytest.fixture(scope="module")
def gate(cluster: Cluster) -> Iterator[Gate]:
    with Gate(cluster, cluster.kubeconfig_for_serviceaccount(SYSTEM_NAMESPACE, SERVICE_ACCOUNT)) as gate:
        yield gate


def until(what: str, seen: Callable[[], Any], timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not seen():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.mark.parametrize("mode", ["503", "refused", "reset", "429", "410", "html"])
def test_ten_minutes_without_the_api_server(
    bare: Scene, gate: Gate, hurried: None, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(gate.kubeconfig))
    bare.apply("VectorStore", "shop", store_spec(suspend=True, tables=[]))
    with Hurried(bare.namespace) as running:
        operator, health = running.operator, running.operator.health
        bare.wait_reason("vst/shop", "Suspended")
        until("ready", lambda: health.ready() is None)
        assert operator.loops.ctx.withheld() is None
        gate.turn(mode)
        began, before, red = time.monotonic(), gate.arrived, set()
        bare.patch("vst/shop", {"healthCheckPeriodSeconds": 77})  # which nobody hears
        while time.monotonic() - began < OUTAGE_SECONDS:
            assert running.alive()
            red.add(health.alive())
            if operator.kubernetes.contact.silence() < PAUSE_AFTER / 2:
                assert operator.loops.ctx.withheld() is None, "a short outage holds nothing up"
            time.sleep(0.05)
        asked, slower = gate.arrived - before, (time.monotonic() - began) / OUTAGE_SECONDS
        print(f"{mode}: {asked} requests in {600 * slower:.0f} hurried seconds; {health.ready()}")
        assert asked < MOST_REQUESTS * slower
        assert red == {None}, "a restart would mend nothing"
        withheld = operator.loops.ctx.withheld()
        assert withheld is not None and withheld.reason == "KubernetesUnavailable"
        assert health.ready() is not None
        gate.turn("open")
        until("ready again", lambda: health.ready() is None)
        assert operator.loops.ctx.withheld() is None
        bare.wait_reason("vst/shop", "Suspended")
        assert health.alive() is None
