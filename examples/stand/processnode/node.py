"""The node: it takes pending pods, keeps them running as processes, and says where they are.

It asks the API server for pods and Services four times a second and watches nothing: a cut connection, a restarted
server or a lost event is then nothing special. A trouble with one pod ends no other; it stands in `node.log`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from stand.cluster import Cluster
from stand.processnode import addresses
from stand.processnode.api import Api, ApiFailed
from stand.processnode.container import stamp
from stand.processnode.pod import Pod

TICK_SECONDS: Final = 0.05
LIST_SECONDS: Final = 0.25
LEASE_SECONDS: Final = 10.0  # the controller manager takes a node for lost after 40
STOP_GRACE: Final = 5.0  # at the node's own end every process has so long
ENDED: Final = ("Succeeded", "Failed")


class ProcessNode:
    """One node. `with` registers it and begins; at the end every process is ended and the Node deleted."""

    def __init__(
        self,
        cluster: Cluster,
        directory: Path,
        *,
        name: str = "stand-node",
        namespaces: Collection[str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """It takes pods of `namespaces` (None: of all); `env` is given to every process."""
        self.name = name
        self.directory = directory
        self.addresses_file = directory / "addresses.json"
        self._namespaces, self._env = set(namespaces) if namespaces is not None else None, dict(env or {})
        self._cluster = cluster
        self._pods: dict[str, Pod] = {}
        self._table: addresses.Table = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._log = logging.getLogger(f"stand.node.{name}.{id(self)}")

    def __enter__(self) -> Self:
        """Register and begin."""
        logs = self.directory / "pods"
        logs.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(self.directory / "node.log")
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        self._log.addHandler(handler)
        self._log.setLevel(logging.INFO)
        self._log.propagate = False
        self._api = Api(self._cluster.kubeconfig)
        config = json.loads(self._cluster.kubectl("config", "view", "--minify", "--flatten", "--raw", "-ojson"))
        self._kubeconfig_cluster = config["clusters"][0]["cluster"]
        addresses.write(self.addresses_file, {})
        self._register()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every process; the Node goes."""
        self._stop.set()
        self._thread.join(timeout=30)
        deadline = time.monotonic() + STOP_GRACE
        pods = list(self._pods.values())
        while not all([pod.end(STOP_GRACE) for pod in pods]) and time.monotonic() < deadline:
            time.sleep(TICK_SECONDS)
        for pod in pods:
            pod.close()
        with contextlib.suppress(ApiFailed):
            self._api.delete(f"/api/v1/nodes/{self.name}")
        self._api.close()
        for handler in list(self._log.handlers):
            handler.close()
            self._log.removeHandler(handler)

    def addresses(self, namespace: str, service: str, port: int) -> list[str]:
        """Where the ready pods of a Service are; empty where there is none."""
        return list(self._table.get(f"{namespace}/{service}:{port}", ()))

    def log_of(self, namespace: str, pod_prefix: str) -> str:
        """What the processes of the pods whose name begins so have said, the latest last."""
        files = (self.directory / "pods").glob(f"{namespace}_{pod_prefix}*.log")
        oldest_first = sorted(files, key=lambda file: file.stat().st_mtime)
        return "\n".join(file.read_text(errors="replace") for file in oldest_first)

    def pids(self) -> list[int]:
        """Of the processes that run."""
        return [pod.container.pid for pod in self._pods.values() if pod.container is not None and pod.container.running]

    # -- the loop -----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        listed = leased = 0.0
        services: list[dict[str, Any]] = []
        with ThreadPoolExecutor(4, thread_name_prefix="probe") as executor:
            while not self._stop.wait(TICK_SECONDS):
                try:
                    if time.monotonic() - leased > LEASE_SECONDS:
                        leased = time.monotonic()
                        self._renew()
                    if time.monotonic() - listed > LIST_SECONDS:
                        listed = time.monotonic()
                        self._take(self._list("pods"))
                        services = self._list("services")
                except ApiFailed as error:
                    self._log.warning("the API server: %s", error)
                self._publish(services)  # nobody is sent to a process that is about to be ended
                self._tick(executor)
                self._publish(services)

    def _tick(self, executor: ThreadPoolExecutor) -> None:
        for uid, pod in list(self._pods.items()):
            try:
                pod.tick(executor)
            except ApiFailed as error:
                self._log.warning("%s: %s", pod.path, error)
            except Exception:  # one pod's trouble is not another's
                self._log.exception("%s", pod.path)
            if pod.gone:
                del self._pods[uid]

    def _publish(self, services: list[dict[str, Any]]) -> None:
        table = addresses.table_of(services, self._pods.values())
        if table != self._table:
            self._table = table
            addresses.write(self.addresses_file, table)

    def _take(self, listed: list[dict[str, Any]]) -> None:
        """Bind what is pending, remember what is ours, forget what is gone."""
        present = set()
        for body in listed:
            spec, uid = body["spec"], body["metadata"]["uid"]
            if not spec.get("nodeName"):
                self._bind(body)
            elif spec["nodeName"] == self.name:
                present.add(uid)
                if uid in self._pods:
                    self._pods[uid].body = body
                elif body.get("status", {}).get("phase") not in ENDED or "deletionTimestamp" in body["metadata"]:
                    logs = self.directory / "pods"
                    self._pods[uid] = Pod(self._api, body, logs, self.name, self._kubeconfig_cluster, self._env)
        for uid in [uid for uid in self._pods if uid not in present]:  # deleted by force
            self._pods.pop(uid).close()

    def _bind(self, body: dict[str, Any]) -> None:
        meta = body["metadata"]
        if "deletionTimestamp" in meta or body["spec"].get("schedulingGates"):
            return
        target = {"apiVersion": "v1", "kind": "Node", "name": self.name}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": meta["name"]}, "target": target}
        with contextlib.suppress(ApiFailed):  # another node was faster, or it is gone
            self._api.post(f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/binding", binding)

    def _list(self, plural: str) -> list[dict[str, Any]]:
        if self._namespaces is None:
            return list(self._api.get(f"/api/v1/{plural}?resourceVersion=0")["items"])
        found: list[dict[str, Any]] = []
        for namespace in sorted(self._namespaces):
            found += self._api.get(f"/api/v1/namespaces/{namespace}/{plural}?resourceVersion=0")["items"]
        return found

    # -- the Node -----------------------------------------------------------------------------------------------------

    def _register(self) -> None:
        labels = {"kubernetes.io/hostname": self.name, "stand.vectorops.dev/processes": "true"}
        body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name, "labels": labels}}
        with contextlib.suppress(ApiFailed):  # left by a node of that name
            self._api.post("/api/v1/nodes", body)
        room = {"cpu": "8", "memory": "16Gi", "pods": "110"}
        now = stamp(datetime.now(UTC))
        ready = {"type": "Ready", "status": "True", "reason": "Processes", "message": "pods are local processes"}
        ready |= {"lastHeartbeatTime": now, "lastTransitionTime": now}
        status = {"capacity": room, "allocatable": room, "conditions": [ready]}
        self._api.merge(f"/api/v1/nodes/{self.name}/status", {"status": status})

    def _renew(self) -> None:
        base = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": self.name, "leaseDurationSeconds": 40, "renewTime": now}
        if self._api.find(f"{base}/{self.name}") is None:
            meta = {"name": self.name}
            body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}
            self._api.post(base, body)
        else:
            self._api.merge(f"{base}/{self.name}", {"spec": spec})
