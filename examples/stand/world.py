"""The whole stand: a Kubernetes API with a node, Postgres with the shop, an embedding server, and in pods the search
service and the operator, which its chart installs.

`with World(directory) as world:` brings it up and takes all of it down, also after Ctrl-C or a failure. `python -m
stand` does the same by hand and waits. Refused here: the story that the demo tells, and faults (tests make those).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import secrets
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from stand.cluster import Cluster, start_cluster
from stand.embedding_server import EmbeddingServer
from stand.helm import RELEASE, Helm
from stand.postgres import Postgres
from stand.process import Process, free_port
from stand.processnode import ProcessNode
from stand.shop import Shop, create_shop

ROOT: Final = Path(__file__).resolve().parents[2]
SYSTEM_NAMESPACE: Final = "vectorops-system"
SERVICE_ACCOUNT: Final = "vectorops"
NAMESPACE: Final = "shop"
READY_SECONDS: Final = 60.0
SERVED_SECONDS: Final = 30.0
LOOPBACK: Final = ("127.0.0.0/8", "::1/128", "*")
"""VECTOROPS_ALLOWED_HOSTS of the stand, whose databases, providers and services are processes of one machine: loopback
must be named, for in a cluster it is the operator's own pod; and any other name, as without the setting."""

SEARCH_SERVICE: Final = ROOT / "examples" / "stand" / "service" / "deployment.yaml"


class OperatorProcess:
    """`vectorops run` as a process of its own, which knows nothing but its kubeconfig and its environment."""

    def __init__(
        self, kubeconfig: Path, log: Path, *, env: Mapping[str, str] | None = None, argv: tuple[str, ...] = ()
    ) -> None:
        """`argv` replaces `python -m vectorops run`, for tests that start it in their own way."""
        self.port = free_port()
        settings = {
            "KUBECONFIG": str(kubeconfig),
            "PYTHONPATH": os.pathsep.join([str(ROOT / "operator"), os.environ.get("PYTHONPATH", "")]),
            "VECTOROPS_HTTP_PORT": str(self.port),
            "VECTOROPS_HTTP_HOST": "127.0.0.1",
            "VECTOROPS_LOG_FORMAT": "text",
            "VECTOROPS_ALLOWED_HOSTS": ",".join(LOOPBACK),
            "NO_COLOR": "1",
        }
        command = argv or (sys.executable, "-m", "vectorops", "run")
        self.log = log
        self.process = Process("operator", command, log=log, env={**os.environ, **settings, **(env or {})})

    def __enter__(self) -> Self:
        """Start, and wait until ready."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop gracefully."""
        self.process.terminate()

    def start(self) -> None:
        """Start and wait until `/readyz` says so."""
        self.process.start()
        self.process.wait_until(lambda: self.get("/readyz")[0] == 200, "the operator to be ready", READY_SECONDS)

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of one of the operator's own paths; 0 while nothing listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""


class World:
    """Everything the demo and the tests need, on loopback, in one directory."""

    def __init__(
        self,
        directory: Path,
        *,
        products: int = 3000,
        operator: bool = True,
        operator_values: Mapping[str, Any] | None = None,
    ) -> None:
        """Nothing starts before `with`.

        `operator_values` are values of the chart; without `operator` nobody installs it.
        """
        self.directory = directory
        self._products = products
        self._with_operator = operator
        self._operator_values = dict(operator_values or {})
        self._stack = contextlib.ExitStack()
        self.cluster: Cluster
        self.postgres: Postgres
        self.shop: Shop
        self.embeddings: EmbeddingServer
        self.node: ProcessNode
        self.api_token = secrets.token_urlsafe(24)

    @property
    def addresses(self) -> Path:
        """Where the pods behind each Service are, as VECTOROPS_SERVICE_ADDRESSES reads it."""
        return self.node.addresses_file

    def __enter__(self) -> Self:
        """Bring everything up; on a failure what was up is taken down again."""
        try:
            self.cluster = self._stack.enter_context(start_cluster(self.directory / "kubernetes"))
            self.postgres = self._stack.enter_context(Postgres(self.directory / "postgres"))
            dsn = self.postgres.create_database("shop")
            self.shop = asyncio.run(create_shop(dsn, self._products))
            self.embeddings = self._stack.enter_context(EmbeddingServer(self.directory / "embeddings"))
            self.node = self._stack.enter_context(ProcessNode(self.cluster, self.directory / "node"))
            prepare_namespace(self.cluster, NAMESPACE, self.shop.operator_dsn, self.embeddings.base_url)
            self._serve()
            if self._with_operator:
                self._operate()
            self.kubectl("rollout", "status", "deployment/api", f"--timeout={READY_SECONDS:.0f}s")
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take everything down, the operator first."""
        self._stack.close()

    def _serve(self) -> None:
        """The search service as the Deployment `api`."""
        values = {"url": self.shop.api_dsn, "token": self.api_token}
        self.cluster.kubectl("apply", "-f", "-", input=secret(NAMESPACE, "shop-api", values, "service"))
        self.cluster.kubectl("apply", "-f", str(SEARCH_SERVICE))

    def _operate(self) -> None:
        """The operator, by its chart, under the chart's rights."""
        values: dict[str, Any] = {
            "operator": {
                "logFormat": "text",
                "serviceAddresses": f"@{self.addresses}",
                "allowedHosts": list(LOOPBACK),
                **self._operator_values,
            }
        }
        Helm(self.cluster, SYSTEM_NAMESPACE).install(values)

    def operator_log(self, lines: int = 30) -> str:
        """The operator's last words."""
        return "\n".join(self.node.log_of(SYSTEM_NAMESPACE, "vectorops-").splitlines()[-lines:])

    def kubectl(self, *args: str) -> str:
        """kubectl in the shop's namespace."""
        return self.cluster.kubectl("--namespace", NAMESPACE, *args)

    def places(self) -> list[tuple[str, str]]:
        """Where everything listens."""
        install = f"{sys.executable} -m stand.helm install {RELEASE} charts/vectorops -n {SYSTEM_NAMESPACE}"
        install += f" --create-namespace --set operator.serviceAddresses=@{self.addresses}"
        install += f" --set 'operator.allowedHosts={{{','.join(LOOPBACK)}}}'"
        yours = [] if self._with_operator else [("the operator", f"is yours to install: PYTHONPATH=examples {install}")]
        return [
            *yours,
            ("kubectl", str(self.cluster.kubectl_path)),
            ("Kubernetes API", f"export KUBECONFIG={self.cluster.kubeconfig}"),
            ("Postgres", f"127.0.0.1:{self.postgres.port}, database shop"),
            ("embeddings", self.embeddings.base_url),
            ("pods", f"local processes; addresses in {self.addresses}, logs in {self.node.directory / 'pods'}"),
        ]


def install(cluster: Cluster) -> None:
    """CRDs and the operator's rights, as the README has them."""
    cluster.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(ROOT / "crds"))
    cluster.kubectl("apply", "-f", str(ROOT / "examples" / "install" / "rbac.yaml"))
    deadline = time.monotonic() + SERVED_SECONDS  # Established comes a little before the storage is there
    while "No resources found" not in (said := cluster.kubectl("get", "vectorops", "-A", check=False)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the API server does not serve our kinds: {said}")
        time.sleep(0.1)


def prepare_namespace(cluster: Cluster, namespace: str, dsn: str, base_url: str, api_key: str = "unused") -> None:
    """The namespace with the two Secrets that `examples/vectorstore.yaml` names."""
    cluster.kubectl("create", "namespace", namespace)
    cluster.kubectl("apply", "-f", "-", input=secret(namespace, "shop-db", {"url": dsn}))
    cluster.kubectl("apply", "-f", "-", input=secret(namespace, "embeddings", {"baseURL": base_url, "apiKey": api_key}))


USES: Final = {
    "url": "database", "ca.crt": "any", "tls.crt": "database", "tls.key": "database",
    "baseURL": "embeddings", "apiKey": "embeddings", "key": "embeddings", "token": "service",
}  # fmt: skip
"""Keys of the stand's Secrets, and the neighbour that gets to see what is under them."""


def purpose_of(keys: Iterable[str]) -> str:
    """The value of the label `vectorops.dev/for` for a Secret with those keys; `any` where one is unknown."""
    uses = sorted({USES.get(key, "any") for key in keys})
    return "any" if "any" in uses or not uses else "_".join(uses)


def secret(namespace: str, name: str, values: Mapping[str, str], purpose: str = "") -> str:
    """A Secret as JSON for `kubectl apply`, so that no value stands on a command line.

    It says for whom it is: `purpose`, or what its keys tell.
    """
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    labels = {"vectorops.dev/for": purpose or purpose_of(values)}
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})
