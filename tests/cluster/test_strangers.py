"""A user who may write our objects and read no Secret, on the real API server, with a listener of his own.

What he tries: a Service's name that is a URL, an object that was stored before names had forms, somebody else's Secret
as a token for his own service, addresses that are nobody's to reach. The listener says what came of it.
"""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.test_names import EVIL_SERVICES

from stand.scene import API_VERSION, Scene

if TYPE_CHECKING:
    from stand.cluster import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

TOKEN = "Pangolin-0815"
SECRETS = {
    "bank": {"token": TOKEN},
    "db": {"url": "postgresql://u:p@127.0.0.1:1/d"},
    "metadata": {"url": "postgresql://u:p@169.254.169.254:80/d"},
    "socket": {"url": "postgresql://u:p@/d?host=/var/run/postgresql"},
}
DEV = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: dev}
rules:
- {apiGroups: [vectorops.dev], resources: ["*"], verbs: [get, list, create, update, patch, delete]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: dev}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: dev}
subjects: [{kind: User, name: dev}]
"""
PATTERN = (
    "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/service/properties/serviceRef"
    "/properties/name/pattern"
)
CRD = ("crd", "vectorstores.vectorops.dev", "--type=json", "-p")


class Stranger(socketserver.ThreadingTCPServer):
    """The user's own listener: it notes each request with its headers."""

    daemon_threads = True

    def __init__(self) -> None:
        self.heard: list[str] = []
        stranger = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stranger.heard.append(f"{self.path}\n{self.headers}")
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            do_POST = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    with Stranger() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def tenant(cluster: Cluster, namespace: str, stranger: Stranger, tmp_path: Path) -> Iterator[Scene]:
    """A namespace with Secrets, none of them labelled, a user `dev`, and his Service `own`, which is the listener."""
    addresses = json.dumps({f"{namespace}/own:80": [stranger.address]})
    scene = Scene(cluster, namespace, tmp_path, {"VECTOROPS_SERVICE_ADDRESSES": addresses})
    scene.kubectl("apply", "-f", "-", input=DEV)
    for name, values in SECRETS.items():
        scene.kubectl("create", "secret", "generic", name, *(f"--from-literal={k}={v}" for k, v in values.items()))
    yield scene
    scene.stop()


def store(name: str, service: str | None, secret: str = "db") -> str:
    """A VectorStore as the user writes it; `service` gets the Secret `bank` as its token."""
    spec: dict[str, Any] = {
        "database": {"connectionSecretRef": {"name": secret, "key": "url"}}, "healthCheckPeriodSeconds": 5,
    }  # fmt: skip
    if service is not None:
        reference = {"serviceRef": {"name": service, "port": 80}, "authSecretRef": {"name": "bank", "key": "token"}}
        spec["service"] = reference
    return json.dumps({"apiVersion": API_VERSION, "kind": "VectorStore", "metadata": {"name": name}, "spec": spec})


def test_a_user_who_may_read_no_secret_has_none_sent_to_himself(tenant: Scene, stranger: Stranger) -> None:
    assert "Forbidden" in tenant.kubectl("--as=dev", "get", "secret", "bank", check=False)
    for number, name in enumerate(EVIL_SERVICES):
        said = tenant.kubectl("--as=dev", "apply", "-f", "-", input=store(f"evil-{number}", name), check=False)
        assert "spec.service.serviceRef.name" in said, (name, said)
    tenant.kubectl("label", "secret", "db", "vectorops.dev/for=database")
    tenant.kubectl("--as=dev", "apply", "-f", "-", input=store("own", "own"))
    tenant.operator()
    refused = tenant.wait_reason("vst/own", "SecretNotLabelled", condition="ServiceReachable")
    assert f"kubectl -n {tenant.namespace} label secret bank vectorops.dev/for=service" in refused["message"]
    tenant.kubectl("label", "secret", "bank", "vectorops.dev/for=database")
    tenant.wait_reason("vst/own", "SecretForAnother", condition="ServiceReachable")
    assert stranger.heard == []
    tenant.kubectl("label", "--overwrite", "secret", "bank", "vectorops.dev/for=service")  # its owner means it
    tenant.wait("vst/own: the service to be asked", lambda: stranger.heard)
    assert TOKEN in stranger.heard[0]


def test_an_object_of_before_names_had_forms_leads_nowhere(tenant: Scene, stranger: Stranger) -> None:
    for secret in ("bank", "db"):
        tenant.kubectl("label", "secret", secret, "vectorops.dev/for=any")
    evil = store("evil", f"{stranger.address}/steal?x=")
    form = tenant.kubectl("get", *CRD[:2], "-ojson")
    at: Any = json.loads(form)
    for part in PATTERN.strip("/").split("/"):
        at = at[int(part)] if isinstance(at, list) else at[part]
    tenant.kubectl("patch", *CRD, json.dumps([{"op": "remove", "path": PATTERN}]))
    try:
        taken = lambda: "created" in tenant.kubectl("--as=dev", "apply", "-f", "-", input=evil, check=False)  # noqa: E731
        tenant.wait("vst/evil: to be taken", taken)
    finally:
        tenant.kubectl("patch", *CRD, json.dumps([{"op": "add", "path": PATTERN, "value": at}]))
    tenant.operator()
    told = tenant.wait_reason("vst/evil", "InvalidSpec")
    assert "service.serviceRef.name" in told["message"]
    tenant.kubectl("--as=dev", "apply", "-f", "-", input=store("own", "own"))
    tenant.wait("vst/own: the listener to hear of an honest store", lambda: stranger.heard)
    assert not [heard for heard in stranger.heard if "steal" in heard or ".svc" in heard.split("\n", 1)[0]]


def test_addresses_that_are_nobodys_to_reach_are_refused_with_a_reason(tenant: Scene) -> None:
    for secret in SECRETS:
        tenant.kubectl("label", "secret", secret, "vectorops.dev/for=any")
    for name in ("metadata", "socket"):
        tenant.kubectl("--as=dev", "apply", "-f", "-", input=store(name, None, name))
    tenant.operator()
    assert "link-local" in tenant.wait_reason("vst/metadata", "HostRefused")["message"]
    assert "Unix socket" in tenant.wait_reason("vst/socket", "HostRefused")["message"]
    assert "169.254.169.254" not in tenant.kubectl("get", "vst", "-oyaml")
