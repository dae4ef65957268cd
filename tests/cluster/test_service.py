"""The operator and a search service that misbehaves: one condition for each, recovery by itself, Ready untouched."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stand.scene import Scene, store_spec

if TYPE_CHECKING:
    from stand.cluster import Cluster
    from stand.shop import Shop

pytestmark = pytest.mark.cluster

TOKEN = "canary-service-token"
FIGURES: dict[str, Any] = {
    "/api/vector-monitoring/health": {"status": "healthy"},
    "/api/performance/cache/stats": {"hitRate": 0.2, "hits": 20, "misses": 80},
    "/api/performance/pool/stats": {"max": 5, "active": 1, "idle": 4, "waiting": 0, "utilization": 0.2},
    "/api/embeddings/jobs/status": {"waiting": 0, "active": 0, "completed": 0, "failed": 0},
}
METRICS = "/api/vector-monitoring/metrics"


class Service:
    """A search service in a thread, whose `mood` is how it answers."""

    def __init__(self) -> None:
        self.mood, self.token, self.searches = "well", TOKEN, 0
        service = self

        class Answering(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                service.answer(self)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.server_address[1]}"

    def answer(self, asked: BaseHTTPRequestHandler) -> None:
        if self.mood == "slow":
            time.sleep(30)
        if self.mood == "redirects":
            asked.send_response(302)
            asked.send_header("Location", f"http://{self.address}/elsewhere")
            asked.end_headers()
        elif self.mood == "floods":
            asked.send_response(200)
            asked.send_header("Content-Length", str(2 << 30))
            asked.end_headers()
            for _ in range(2048):
                asked.wfile.write(b"x" * (1 << 20))
        elif asked.headers.get("Authorization") != f"Bearer {self.token}":
            asked.send_error(401)
        elif self.mood == "nonsense":
            self._send(asked, "<html>welcome</html>")
        elif asked.path == METRICS:
            self.searches += 100
            self._send(asked, self._metrics())
        else:
            self._send(asked, json.dumps(FIGURES[asked.path]))

    def _metrics(self) -> str:
        n = self.searches
        return (
            "# TYPE vector_search_duration_seconds histogram\n"
            f'vector_search_duration_seconds_bucket{{le="1"}} 0\nvector_search_duration_seconds_bucket{{le="5"}} {n}\n'
            f'vector_search_duration_seconds_bucket{{le="+Inf"}} {n}\n# TYPE vector_searches counter\n'
            f'vector_searches_total{{status="ok"}} {n}\n'
        )

    def _send(self, asked: BaseHTTPRequestHandler, text: str) -> None:
        body = text.encode()
        asked.send_response(200)
        asked.send_header("Content-Length", str(len(body)))
        asked.end_headers()
        asked.wfile.write(body)


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.server.shutdown()


def write(file: Path, *addresses: str, namespace: str) -> None:
    fresh = file.with_suffix(".fresh")
    fresh.write_text(json.dumps({f"{namespace}/api:3000": list(addresses)}))
    os.replace(fresh, file)


def test_a_misbehaving_service_is_one_condition_each_and_recovers_by_itself(
    cluster: Cluster, namespace: str, shop: Shop, service: Service, tmp_path: Path
) -> None:
    addresses = tmp_path / "addresses.json"
    write(addresses, service.address, namespace=namespace)
    scene = Scene(cluster, namespace, tmp_path, {"VECTOROPS_SERVICE_ADDRESSES": f"@{addresses}"})
    scene.secret("shop-db", url=shop.operator_dsn)
    scene.secret("shop-api", token=TOKEN)
    declared = {"serviceRef": {"name": "api", "port": 3000}, "authSecretRef": {"name": "shop-api", "key": "token"}}
    try:
        operator = scene.operator()
        scene.apply("VectorStore", "shop", store_spec(service=declared, embeddings=None))
        scene.wait_status("vst/shop", "Ready")
        scene.wait_reason("vst/shop", "Critical", condition="CacheHealthy")
        scene.wait_reason("vst/shop", "Critical", condition="LatencyHealthy")
        scene.wait_reason("vst/shop", "Healthy", condition="PoolHealthy")
        columns = scene.kubectl("get", "vst", "--no-headers").split()
        assert columns[1:6] == ["True", "4800", "0", "0%", "20"], columns
        for mood, reason in (
            ("redirects", "ServiceRedirects"),
            ("nonsense", "ServiceAnswerInvalid"),
            ("floods", "ServiceAnswerInvalid"),
            ("slow", "ServiceTimeout"),
        ):
            service.mood = mood
            scene.wait_reason("vst/shop", reason, condition="ServiceReachable")
            assert scene.condition("vst/shop", "Ready")["status"] == "True"
            service.mood = "well"
            scene.wait_status("vst/shop", "ServiceReachable")
        service.token = "another"  # the service's token is changed, then the Secret
        scene.wait_reason("vst/shop", "ServiceAuthenticationFailed", condition="ServiceReachable")
        scene.secret("shop-api", token="another")
        scene.wait_status("vst/shop", "ServiceReachable")
        write(addresses, namespace=namespace)  # no process is ready
        scene.wait_reason("vst/shop", "ServiceUnavailable", condition="ServiceReachable")
        write(addresses, service.address, namespace=namespace)
        scene.wait_status("vst/shop", "ServiceReachable", timeout=20)
        memory = operator.get("/metrics")[1]
        used = next(line for line in memory.splitlines() if line.startswith("process_resident_memory_bytes "))
        assert float(used.split()[1]) < 300e6, "an answer of 2 GB costs a bounded amount"
        assert TOKEN not in scene.logs() + scene.kubectl("get", "vst", "-oyaml") + memory
    finally:
        scene.stop()
