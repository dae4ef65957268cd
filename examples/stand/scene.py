"""One namespace with an operator of its own: what a test of the whole needs to tell its story in few lines.

The operator watches that namespace only, so scenes do not disturb each other on one API server. Waiting is for
conditions, never for time; what was waited for and what was seen instead stand in the error.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from stand.cluster import Cluster
from stand.world import NAMESPACE, SERVICE_ACCOUNT, SYSTEM_NAMESPACE, OperatorProcess, secret

API_VERSION: Final = "vectorops.dev/v1alpha1"
POLL_SECONDS: Final = 0.1
Manifest = dict[str, Any]


class NotSeen(AssertionError):
    """What was waited for did not come."""


class Scene:
    """A namespace, its objects, and the operator that watches it."""

    def __init__(self, cluster: Cluster, namespace: str, directory: Path, env: Mapping[str, str] | None = None) -> None:
        """`env` is added to the operator's environment."""
        self.cluster, self.namespace, self.directory = cluster, namespace, directory
        self._env = {"VECTOROPS_WATCH_NAMESPACES": namespace, "VECTOROPS_STATUS_PERIOD_SECONDS": "1", **(env or {})}
        self._kubeconfig = cluster.kubeconfig_for_serviceaccount(SYSTEM_NAMESPACE, SERVICE_ACCOUNT)
        self.operators: list[OperatorProcess] = []

    # -- the operator -----------------------------------------------------------------------------------------

    def operator(self, *argv: str, env: Mapping[str, str] | None = None, wait: bool = True) -> OperatorProcess:
        """Start an operator. `argv` are arguments of Python that replace `-m vectorops run`."""
        log = self.directory / f"operator-{len(self.operators)}.log"
        command = (sys.executable, *argv) if argv else ()
        started = OperatorProcess(self._kubeconfig, log, env={**self._env, **(env or {})}, argv=command)
        self.operators.append(started)
        if wait:
            started.start()
        else:
            started.process.start()
        return started

    def stop(self) -> None:
        """End every operator that was started here."""
        for one in self.operators:
            if one.process.alive():
                one.process.terminate()

    def logs(self) -> str:
        """Everything the operators of this scene have logged."""
        return "\n".join(one.log.read_text() for one in self.operators if one.log.exists())

    # -- objects ----------------------------------------------------------------------------------------------

    def kubectl(self, *args: str, input: str | None = None, check: bool = True) -> str:
        """kubectl in this namespace."""
        return self.cluster.kubectl("--namespace", self.namespace, *args, input=input, check=check)

    def secret(self, name: str, **values: str) -> None:
        """Write a Secret."""
        self.kubectl("apply", "-f", "-", input=secret(self.namespace, name, values))

    def apply(self, kind: str, name: str, spec: Manifest, **metadata: Any) -> None:
        """Create or change an object of ours."""
        body = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name, **metadata}, "spec": spec}
        self.kubectl("apply", "-f", "-", input=json.dumps(body))

    def apply_all(self, objects: Sequence[tuple[str, str, Manifest]]) -> None:
        """Create or change many objects of ours, each (kind, name, spec), with one call of kubectl."""
        items = [
            {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
            for kind, name, spec in objects
        ]
        self.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))

    def count_ready(self, resource: str) -> int:
        """How many objects of a kind are Ready."""
        path = '{range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\\n"}{end}'
        return self.kubectl("get", resource, f"-ojsonpath={path}").split().count("True")

    def patch(self, resource: str, spec: Manifest) -> None:
        """Merge into an object's spec."""
        self.kubectl("patch", resource, "--type=merge", "-p", json.dumps({"spec": spec}))

    def get(self, resource: str) -> Manifest:
        """The object as it stands, or {} where there is none."""
        text = self.kubectl("get", resource, "-ojson", "--ignore-not-found")
        found: Manifest = json.loads(text) if text.strip() else {}
        return found

    def condition(self, resource: str, type_: str) -> Manifest:
        """A condition of the object, or {}."""
        conditions = self.get(resource).get("status", {}).get("conditions", [])
        return next((c for c in conditions if c["type"] == type_), {})

    def events(self, name: str) -> list[Manifest]:
        """Events about the object of that name, oldest first."""
        items = json.loads(self.kubectl("get", "events.events.k8s.io", "-ojson"))["items"]
        about = [e for e in items if e.get("regarding", {}).get("name") == name]
        return sorted(about, key=lambda e: str(e.get("eventTime")))

    # -- waiting ----------------------------------------------------------------------------------------------

    def wait(self, what: str, seen: Callable[[], Any], timeout: float = 60) -> Any:
        """Wait until `seen()` is true and return it."""
        deadline = time.monotonic() + timeout
        while not (value := seen()):
            if time.monotonic() > deadline:
                raise NotSeen(f"not within {timeout:.0f} s: {what}\n{self._state(what.split(maxsplit=1)[0])}")
            time.sleep(POLL_SECONDS)
        return value

    def wait_reason(self, resource: str, reason: str, timeout: float = 60, condition: str = "Ready") -> Manifest:
        """Wait until a condition of this generation shows the reason; returns the condition."""
        return self._wait_condition(resource, condition, "reason", reason, timeout)

    def wait_status(self, resource: str, condition: str, status: str = "True", timeout: float = 60) -> Manifest:
        """Wait until a condition of this generation has the status; returns the condition."""
        return self._wait_condition(resource, condition, "status", status, timeout)

    def approve(self, resource: str, timeout: float = 60) -> None:
        """Approve the plan that the object waits with, as a person would by its hash."""
        self.wait_reason(resource, "WaitingForApproval", timeout)
        plan = self.get(resource)["status"]["plan"]["hash"]
        self.kubectl("annotate", "--overwrite", resource, f"vectorops.dev/approve={plan}")

    def wait_settled(self, example: Manifest, timeout: float = 200) -> None:
        """Wait until an example stands as it should: Ready, or waiting for the night that it asks for.

        A tuning that meets a table which is still being filled rests for a minute before it looks again, perhaps twice.
        """
        resource, spec = f"{example['kind'].lower()}/{example['metadata']['name']}", example.get("spec", {})
        if spec.get("approval") == "Manual":
            self.approve(resource, timeout)
        if "window" not in spec:
            self.wait_status(resource, "Ready", timeout=timeout)
            return

        def settled() -> bool:
            ready = self.condition(resource, "Ready")
            return ready.get("status") == "True" or ready.get("reason") == "WindowClosed"

        self.wait(f"{resource} to be Ready or WindowClosed", settled, timeout)

    def _wait_condition(self, resource: str, type_: str, key: str, value: str, timeout: float) -> Manifest:
        def shown() -> Manifest:
            body = self.get(resource)
            current = body.get("metadata", {}).get("generation")
            stated = body.get("status", {}).get("conditions", [])
            matching = (c for c in stated if c["type"] == type_ and c["observedGeneration"] == current)
            return next((c for c in matching if c[key] == value), {})

        return dict(self.wait(f"{resource} to show {type_} {key} {value}", shown, timeout))

    def wait_gone(self, resource: str, timeout: float = 60) -> None:
        """Wait until the object is gone."""
        self.wait(f"{resource} to be gone", lambda: not self.get(resource), timeout)

    def _state(self, resource: str) -> str:
        """What helps to see why: the status of the object waited for (where the text begins with it), all, the log."""
        own = self.kubectl("get", resource, "-ojsonpath={.status}", check=False)[:4000] if "/" in resource else ""
        objects = self.kubectl("get", "vectorops", "-oyaml", check=False)[-6000:]
        tail = self.operators[-1].process.log_tail(30) if self.operators else ""
        return f"--- {resource}\n{own}\n--- all\n{objects}\n--- operator\n{tail}"


def store_spec(**changes: Any) -> Manifest:
    """The spec of the stand's VectorStore, looked at every 5 s."""
    spec: Manifest = {
        "database": {"connectionSecretRef": {"name": "shop-db", "key": "url"}, "maxConnections": 4},
        "embeddings": {
            "model": "e5-passage",
            "dimensions": 384,
            "apiKeySecretRef": {"name": "embeddings", "key": "apiKey"},
            "baseURLSecretRef": {"name": "embeddings", "key": "baseURL"},
            "priceUSDPerMillionTokens": "0.02",
        },
        "tables": [
            {
                "name": "products",
                "table": "products",
                "embeddingColumn": "embedding",
                "textTemplate": "{title}\n\n{description}",
            }
        ],
        "watchedTables": [{"table": "searches"}],
        "healthCheckPeriodSeconds": 5,
    }
    return spec | changes


def index_spec(**changes: Any) -> Manifest:
    """A VectorIndex on the shop's products."""
    return {"storeRef": {"name": NAMESPACE}, "table": "products", "column": "embedding", "metric": "Cosine"} | changes


def backfill_spec(**changes: Any) -> Manifest:
    """An EmbeddingBackfill of the shop's products."""
    return {"storeRef": {"name": NAMESPACE}, "tableName": "products"} | changes
