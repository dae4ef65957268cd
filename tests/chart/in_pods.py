"""The chart as a user has it: installed by Helm on a cluster with a node, beside a shop whose service runs in pods."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stand.helm import Helm
from stand.localcluster import start_local_cluster
from stand.processnode import ProcessNode
from stand.scene import Scene
from stand.shop import Shop, clone_shop
from stand.world import LOOPBACK, NAMESPACE, ROOT, SEARCH_SERVICE, prepare_namespace, secret

if TYPE_CHECKING:
    from stand.cluster import Cluster
    from stand.postgres import Postgres
    from stand.provider import Provider

OPERATORS = "operators"
TOKEN = "token-of-the-service"
POD = "app.kubernetes.io/name=vectorops,app.kubernetes.io/component=operator"


class InPods:
    """A cluster, its node, the release of the chart, and the shop's namespace as a scene."""

    def __init__(self, scene: Scene, node: ProcessNode, helm: Helm, shop: Shop) -> None:
        self.scene, self.node, self.helm, self.shop = scene, node, helm, shop
        self.cluster = scene.cluster
        self.values: dict[str, Any] = {}  # as installed

    def install(self, **operator: Any) -> None:
        """helm install --wait: the operator is ready when this returns."""
        values: dict[str, Any] = {"logFormat": "text", "statusPeriodSeconds": 1, "allowedHosts": list(LOOPBACK)}
        values |= {"serviceAddresses": f"@{self.node.addresses_file}"}
        self.values = {"operator": values | operator}
        self.helm.install(self.values)

    def operator(self) -> Any:
        """The operator's pod."""
        pods = json.loads(self.cluster.kubectl("get", "pods", "-n", OPERATORS, "-l", POD, "-ojson"))["items"]
        living = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        return living[0] if living else None

    def restarts(self) -> int:
        """Of the operator's container."""
        return int(self.operator()["status"]["containerStatuses"][0]["restartCount"])

    def restart(self) -> None:
        """A new pod of the operator, ready or not."""
        old = self.operator()["metadata"]["name"]
        self.cluster.kubectl("delete", "pod", "-n", OPERATORS, old, "--timeout=60s")
        self.scene.wait("another pod", lambda: (pod := self.operator()) and pod["status"].get("phase") == "Running")

    def ask(self, path: str) -> tuple[int, str]:
        """Status and body of one of the operator's own paths; 0 while nothing listens."""
        pod = self.operator()
        address = (
            (pod or {}).get("metadata", {}).get("annotations", {}).get("stand.vectorops.dev/address", "127.0.0.1:1")
        )
        try:
            with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def errors(self, reason: str) -> float:
        """The metric of errors met, over all kinds."""
        lines = [line for line in self.ask("/metrics")[1].splitlines() if f'reason="{reason}"' in line]
        return sum(
            float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("vectorops_reconcile_errors_total")
        )

    def log(self) -> str:
        """Of all pods of the operator."""
        return self.node.log_of(OPERATORS, "vectorops")

    @contextmanager
    def without(self, group: str, resource: str, verb: str, called: str = "") -> Iterator[None]:
        """The operator's ClusterRole without one right (perhaps on one object only); given back at the end."""
        name = f"vectorops-{OPERATORS}"
        role = json.loads(self.cluster.kubectl("get", "clusterrole", name, "-ojson"))
        whole = json.dumps({"rules": role["rules"]})
        kept = []
        for rule in role["rules"]:
            if group in rule["apiGroups"] and resource in rule["resources"] and verb in rule["verbs"]:
                others = [one for one in rule["resources"] if one != resource]
                kept += [{**rule, "resources": others}] if others else []
                verbs = [one for one in rule["verbs"] if one != verb]
                kept += [{**rule, "resources": [resource], "verbs": verbs}] if verbs else []
            else:
                kept.append(rule)
        assert kept != role["rules"], f"no rule gives {verb} on {resource}"
        self.cluster.kubectl("patch", "clusterrole", name, "--type=merge", "-p", json.dumps({"rules": kept}))
        self._until_known(group, resource, verb, called, may=False)
        try:
            yield
        finally:
            self.cluster.kubectl("patch", "clusterrole", name, "--type=merge", "-p", whole)
            self._until_known(group, resource, verb, called, may=True)

    def _until_known(self, group: str, resource: str, verb: str, called: str, *, may: bool) -> None:
        """RBAC's own cache follows within moments."""
        plural, _, sub = resource.partition("/")
        one = f"/{called}" if called else ""
        what = [
            verb,
            f"{plural}.{group}{one}" if group else f"{plural}{one}",
            *([f"--subresource={sub}"] if sub else []),
        ]
        account = f"--as=system:serviceaccount:{OPERATORS}:vectorops"

        def known() -> bool:
            said = self.scene.kubectl("auth", "can-i", *what, account, check=False)
            return said.split()[:1] == ["yes" if may else "no"]  # warnings come after it

        self.scene.wait(f"can-i {what} to be {may}", known, 20)


def release(cluster: Cluster, *args: str, account: tuple[str, str] = ("vectorops-system", "vectorops")) -> Any:
    """`vectorops release` as a process, with the rights of a ServiceAccount."""
    env = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig_for_serviceaccount(*account))}
    env["PYTHONPATH"] = str(ROOT / "operator")
    command = [sys.executable, "-m", "vectorops", "release", *args]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)


@contextmanager
def in_pods(directory: Path, postgres: Postgres, template: Shop, provider: Provider) -> Iterator[InPods]:
    """Everything but the operator, which the test installs."""
    with ExitStack() as stack:
        cluster = stack.enter_context(start_local_cluster(directory / "cluster"))
        node = stack.enter_context(ProcessNode(cluster, directory / "node"))
        provider.reset()
        name = f"shop_pods_{time.monotonic_ns()}"
        shop = asyncio.run(clone_shop(postgres, template, name))
        stack.callback(lambda: postgres.drop_database(name) if postgres.alive() else None)
        prepare_namespace(cluster, NAMESPACE, shop.operator_dsn, provider.base_url, provider.api_key)
        values = {"url": shop.api_dsn, "token": TOKEN}
        cluster.kubectl("apply", "-f", "-", input=secret(NAMESPACE, "shop-api", values, "service"))
        cluster.kubectl("apply", "-f", str(SEARCH_SERVICE))
        scene = Scene.__new__(Scene)  # an operator of its own is not what this one needs
        scene.cluster, scene.namespace, scene.directory, scene.operators = cluster, NAMESPACE, directory, []
        yield InPods(scene, node, Helm(cluster, OPERATORS), shop)


def poll(seen: Callable[[], bool], seconds: float) -> list[tuple[float, bool]]:
    """Look every 0.2 s for so long: (seconds, what was seen)."""
    began, looks = time.monotonic(), []
    while (at := time.monotonic() - began) < seconds:
        looks.append((at, seen()))
        time.sleep(0.2)
    return looks
