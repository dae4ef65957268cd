"""One pod of this node: what it needs is gathered, its process runs, its status is told, its end is honoured."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import Executor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from stand.cluster import write_kubeconfig
from stand.process import free_port
from stand.processnode.api import Api
from stand.processnode.container import Container, Launch, stamp
from stand.processnode.environment import (
    NotSupported,
    NotYet,
    command_of,
    container_of,
    environment_of,
    is_vectorops,
    port_variable,
)

ADDRESS: Final = "stand.vectorops.dev/address"
"""Annotation: where the pod is reached. It has no podIP: EndpointSlices refuse 127.0.0.1."""

ROOT: Final = Path(__file__).resolve().parents[3]
TOKEN_SECONDS: Final = 86_400
Json = dict[str, Any]


class Pod:
    """One pod, from its binding to its deletion."""

    def __init__(
        self, api: Api, body: Json, directory: Path, node: str, cluster: Mapping[str, Any], env: Mapping[str, str]
    ) -> None:
        """`cluster` is the kubeconfig's cluster, for the pod's own kubeconfig; `env` is given to every process."""
        self.body = body
        self._api, self._node, self._cluster, self._env = api, node, cluster, env
        meta = body["metadata"]
        self._name = f"{meta['namespace']}_{meta['name']}"
        self._logs = directory
        self._directory = directory / f"{self._name}.d"
        self._began = datetime.now(UTC)
        self._told = ""
        self._refused: str | None = None
        self._waiting = ("ContainerCreating", "")
        self.container: Container | None = None
        self.gone = False

    @property
    def path(self) -> str:
        """Of the object."""
        meta = self.body["metadata"]
        return f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"

    @property
    def deleting(self) -> bool:
        """Whether its deletion was asked for."""
        return "deletionTimestamp" in self.body["metadata"]

    @property
    def ready(self) -> bool:
        """Whether it may be sent requests."""
        return not self.deleting and self.container is not None and self.container.ready

    def tick(self, executor: Executor) -> None:
        """One step. Raises ApiFailed; the next step tries again."""
        if self.container is None and self._refused is None and not self.deleting:
            self._begin()
        elif self.container is not None:
            self.container.tick(executor)
        if self.deleting:
            self._end()
        self._tell()

    def close(self) -> None:
        """The node ends: so does the process, at once."""
        if self.container is not None:
            self.container.close()

    def end(self, grace: float | None = None) -> bool:
        """Ask the process to end; True when it has."""
        if self.container is None:
            return True
        seconds = self.body["spec"].get("terminationGracePeriodSeconds", 30) if grace is None else grace
        self.container.end(seconds)
        return not self.container.running

    # -- the beginning ------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        try:
            launch = self._prepare()
        except NotSupported as error:
            self._refused = str(error)
            return
        except NotYet as error:
            self._waiting = ("CreateContainerConfigError", str(error))
            return
        if launch.container.get("ports"):
            annotation = {"metadata": {"annotations": {ADDRESS: f"127.0.0.1:{launch.port}"}}}
            self._api.merge(self.path, annotation)
        self.container = Container(launch)
        self.container.start()

    def _prepare(self) -> Launch:
        container, meta, spec = container_of(self.body), self.body["metadata"], self.body["spec"]

        def find(plural: str, name: str) -> Json | None:
            return self._api.find(f"/api/v1/namespaces/{meta['namespace']}/{plural}/{name}")

        own = environment_of(self.body, container, find, self._node)
        self._directory.mkdir(parents=True, exist_ok=True)
        port, python = free_port(), os.environ.get("PYTHONPATH", "")
        env = {
            "PATH": os.environ.get("PATH", ""),
            "LANG": os.environ.get("LANG", "C.UTF-8"),
            "HOME": str(self._directory),
            "TMPDIR": str(self._directory),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT / "operator"), str(ROOT / "examples"), python])),
            "KUBECONFIG": str(self._kubeconfig()),
            **({"VECTOROPS_HTTP_HOST": "127.0.0.1"} if is_vectorops(container) else {}),
            **self._env,
            **own,
            port_variable(self.body, container): str(port),
        }
        return Launch(
            argv=command_of(container, env),
            env=env,
            port=port,
            directory=self._directory,
            log_prefix=self._logs / self._name,
            container=container,
            restart_policy=spec.get("restartPolicy", "Always"),
        )

    def _kubeconfig(self) -> Path:
        """The ServiceAccount's, by TokenRequest; without one, a file of a cluster that is nowhere."""
        meta, name = self.body["metadata"], self.body["spec"].get("serviceAccountName") or "default"
        path = self._directory / "kubeconfig"
        base = f"/api/v1/namespaces/{meta['namespace']}/serviceaccounts/{name}"
        mounted = self.body["spec"].get("automountServiceAccountToken")
        if mounted is None:
            account = self._api.find(base)
            if account is None:
                raise NotYet(f"serviceaccount {name} not found")
            mounted = account.get("automountServiceAccountToken", True)
        if not mounted:
            return self._directory / "none"
        wanted = {"spec": {"expirationSeconds": TOKEN_SECONDS}}
        token = self._api.post(f"{base}/token", wanted)["status"]["token"]
        return write_kubeconfig(path, self._cluster, token, namespace=meta["namespace"])

    # -- the end ------------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        meta = self.body["metadata"]
        if not self.end(meta.get("deletionGracePeriodSeconds", 30)):
            return
        self._tell()
        self._api.delete(self.path, {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}})
        shutil.rmtree(self._directory, ignore_errors=True)
        self.gone = True

    # -- the status ---------------------------------------------------------------------------------------------------

    def _tell(self) -> None:
        if self.gone:
            return
        status = self._status()
        known = json.dumps(status, sort_keys=True)
        if known != self._told:
            self._api.merge(f"{self.path}/status", {"status": status})
            self._told = known

    def _status(self) -> Json:
        if self._refused is not None:
            return {"phase": "Failed", "reason": "NotSupported", "message": self._refused}
        one = self.container
        ready, phase = self.ready, "Pending"
        if one is not None:
            phase = "Running"
            if one.over and one.ending is not None:
                phase = "Succeeded" if one.ending.code == 0 else "Failed"
        states = {"PodScheduled": True, "Initialized": True, "ContainersReady": ready, "Ready": ready}
        return {
            "phase": phase,
            "hostIP": "127.0.0.1",
            "startTime": stamp(self._began),
            "conditions": [{"type": name, "status": str(state)} for name, state in states.items()],
            "containerStatuses": [self._container_status(ready)],
        }

    def _container_status(self, ready: bool) -> Json:
        one, spec = self.container, self.body["spec"]["containers"][0]
        waiting, state = self._waiting, {}
        if one is not None and one.running:
            state = {"running": {"startedAt": stamp(one.began)}}
        elif one is not None and one.waiting is None and one.ending is not None:
            state = {"terminated": one.ending.state()}
        elif one is not None and one.waiting is not None:
            waiting = one.waiting
        last = one.ending if one is not None and one.restarts and one.ending is not None else None
        return {
            "name": spec["name"],
            "image": spec.get("image", ""),
            "imageID": "",
            "containerID": f"process://{one.pid}" if one is not None and one.running else None,
            "ready": ready,
            "started": one is not None and one.started,
            "restartCount": one.restarts if one is not None else 0,
            "state": state or {"waiting": {"reason": waiting[0], "message": waiting[1]}},
            "lastState": {"terminated": last.state()} if last is not None else {},
        }
