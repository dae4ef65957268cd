"""A Kubernetes control plane as three local processes: etcd, kube-apiserver, kube-controller-manager.

Real in everything an operator can see of the API: validation, RBAC, admission, watches, garbage collection,
Deployments, Jobs, ServiceAccount tokens, an audit log. There is no kubelet and no scheduler; pods run only
where the stand's process node runs them. Everything listens on 127.0.0.1 and lives in one folder.

Ports are picked free and may be lost before the server binds them, so a server that says "address already in
use" is started again on another port. The administrator and the controller manager have names of their own,
and each controller its ServiceAccount, so the audit log tells who wrote what.
"""

from __future__ import annotations

import atexit
import http.client
import json
import os
import secrets
import signal
import ssl
import urllib.request
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Final

from stand import binaries
from stand.binaries import Binaries, Say, to_stderr
from stand.cluster import Cluster, own_directory, removed_on_failure, write_kubeconfig
from stand.process import Process, ProcessFailed, free_port

ADMIN: Final = "stand-admin"
"""The user behind `Cluster.kubeconfig`, as the audit log names it."""

CONTROLLER_MANAGER: Final = "system:kube-controller-manager"
"""The user Kubernetes' own bootstrap policy gives the controller manager's rights to."""

PORT_ATTEMPTS: Final = 5
"""Losing a free port twice in a row is bad luck; five times is something else."""

START_TIMEOUT_SECONDS: Final = 180.0
"""The API server takes 3 s of two idle cores; beside a full test run 30 s were seen."""

GRACE_SECONDS: Final = 5.0
"""What each process gets to end by itself; nothing in it needs saving."""

REQUEST_TIMEOUT_SECONDS: Final = 2.0
"""A readiness question to 127.0.0.1; a frozen server is "not ready", not a reason to hang."""

GO_MEMORY: Final = {"GOGC": "50"}
"""Collect garbage at half the usual growth: memory is what a stand beside Postgres and a model runs out of."""

MANAGER_REQUESTS_PER_SECOND: Final = 500
"""Its default of 20 is for sparing a shared API server, and makes it take 5 s to log its controllers in."""

AUDIT_POLICY: Final = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}
"""Who asked for what, once a request, for every resource (also events); never a body, so never a Secret."""

AUDIT_LOG_MEGABYTES: Final = 4096
"""The log is rotated at 100 MB by default, which would lose what a long test still wants to read."""


class LocalCluster(Cluster):
    """A control plane whose processes are ours: it can be frozen, killed and started again."""

    def __init__(self, directory: Path, tools: Binaries, *, audit: bool) -> None:
        """Describe it; `start` starts it. `directory` is the cluster's own."""
        super().__init__(directory / "kubeconfig", kubectl=tools.kubectl, directory=directory)
        self.audit_log = directory / "audit.log" if audit else None
        self.url = ""
        """The API server's address, such as https://127.0.0.1:6443."""
        self._tools = tools
        self._certificate = directory / "certificates" / "apiserver.crt"
        self._admin_token, self._manager_token = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        self._etcd: Process | None = None
        self._apiserver: Process | None = None
        self._manager: Process | None = None
        self._owner = os.getpid()

    @property
    def processes(self) -> tuple[Process, ...]:
        """What is running for this cluster, in the order it must end: clients before servers."""
        return tuple(one for one in (self._manager, self._apiserver, self._etcd) if one is not None)

    def start(self) -> None:
        """Start all three; returns when the API answers and `default` has its ServiceAccount."""
        atexit.register(self._at_exit)
        self._write_inputs()
        self._etcd, etcd_port = _start_on_free_port(self._describe_etcd, self._etcd_ready)
        etcd_url = f"http://127.0.0.1:{etcd_port}"
        self._apiserver, port = _start_on_free_port(lambda port: self._describe_apiserver(port, etcd_url), self._ready)
        self.url = f"https://127.0.0.1:{port}"
        self._write_kubeconfig(self.kubeconfig, self._admin_token)
        self._start_manager()

    def freeze(self) -> None:
        """Stop the API server where it stands (SIGSTOP): connections stay open and nothing is answered."""
        self._server().send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen API server go on as if nothing had been."""
        self._server().send_signal(signal.SIGCONT)

    def kill_apiserver(self) -> None:
        """End the API server with SIGKILL, as a crash would; etcd keeps what was written."""
        self._server().kill()

    def restart_apiserver(self) -> None:
        """Kill the API server and start it again on the same port; returns when it is ready."""
        server, port = self._server(), int(self.url.rpartition(":")[2])
        server.kill()
        server.start()
        server.wait_until(lambda: self._ready(port), "/readyz after a restart", START_TIMEOUT_SECONDS)

    def stop(self) -> None:
        """End exactly the processes this cluster started, clients before servers, and remove its folder."""
        atexit.unregister(self._at_exit)
        for process in self.processes:
            process.terminate(GRACE_SECONDS)
        super().stop()

    def _at_exit(self) -> None:
        if os.getpid() == self._owner:  # not in a forked child, whose processes these are not
            self.stop()

    def _server(self) -> Process:
        if self._apiserver is None:
            raise ProcessFailed("the API server was never started")
        return self._apiserver

    def _write_inputs(self) -> None:
        tokens = (f'{self._admin_token},{ADMIN},1,"system:masters"', f"{self._manager_token},{CONTROLLER_MANAGER},2")
        private = os.open(self.directory / "tokens.csv", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(private, "w") as file:
            file.write("\n".join(tokens) + "\n")
        (self.directory / "audit-policy.json").write_text(json.dumps(AUDIT_POLICY))

    def _write_kubeconfig(self, path: Path, token: str) -> None:
        write_kubeconfig(path, {"server": self.url, "certificate-authority": str(self._certificate)}, token)

    def _process(self, name: str, binary: Path, flags: list[str]) -> Process:
        log, env = self.directory / f"{name}.log", {**os.environ, **GO_MEMORY}
        return Process(name, [str(binary), *flags], log=log, env=env, cwd=self.directory)

    def _describe_etcd(self, port: int) -> Process:
        client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{free_port()}"
        flags = [
            f"--name={self.directory.name}",
            f"--data-dir={self.directory / f'etcd-{port}'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            "--unsafe-no-fsync",  # what is lost with the machine is a test's scratch data
            "--log-level=warn",
        ]
        return self._process("etcd", self._tools.etcd, flags)

    def _describe_apiserver(self, port: int, etcd_url: str) -> Process:
        key = self._certificate.with_suffix(".key")
        flags = [
            f"--etcd-servers={etcd_url}",
            f"--cert-dir={self._certificate.parent}",  # it makes its own certificate there, for 127.0.0.1
            f"--secure-port={port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",  # Endpoints refuse a loopback address
            f"--service-account-key-file={key}",  # one key for two uses: it saves making another, for a
            f"--service-account-signing-key-file={key}",  # cluster that lives as long as this process
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.0.0.0/24",
            f"--token-auth-file={self.directory / 'tokens.csv'}",
            "--authorization-mode=RBAC,Node",
            "--profiling=false",
        ]
        if self.audit_log is not None:
            flags += [
                f"--audit-policy-file={self.directory / 'audit-policy.json'}",
                f"--audit-log-path={self.audit_log}",
                f"--audit-log-maxsize={AUDIT_LOG_MEGABYTES}",
            ]
        return self._process("kube-apiserver", self._tools.apiserver, flags)

    def _start_manager(self) -> None:
        kubeconfig = self.directory / "controller-manager.kubeconfig"
        self._write_kubeconfig(kubeconfig, self._manager_token)
        flags = [
            f"--kubeconfig={kubeconfig}",
            "--leader-elect=false",
            f"--service-account-private-key-file={self._certificate.with_suffix('.key')}",
            f"--root-ca-file={self._certificate}",
            "--use-service-account-credentials=true",
            f"--kube-api-qps={MANAGER_REQUESTS_PER_SECOND}",
            f"--kube-api-burst={2 * MANAGER_REQUESTS_PER_SECOND}",
            "--secure-port=0",  # nobody reads its metrics, so no port to lose
            "--profiling=false",
        ]
        self._manager = self._process("kube-controller-manager", self._tools.controller_manager, flags)
        self._manager.start()
        account = f"{self.url}/api/v1/namespaces/default/serviceaccounts/default"
        self._manager.wait_until(
            lambda: self._answers(account), "the ServiceAccount default/default", START_TIMEOUT_SECONDS
        )

    def _etcd_ready(self, port: int) -> bool:
        """Ours by name: on a port lost to another stand, that stand's etcd would say it is healthy."""
        members = _fetch(f"http://127.0.0.1:{port}/v3/cluster/member/list", data=b"{}")
        return members is not None and self.directory.name.encode() in members

    def _ready(self, port: int) -> bool:
        return self._certificate.is_file() and self._answers(f"https://127.0.0.1:{port}/readyz")

    def _answers(self, url: str) -> bool:
        """Whether our own API server, known by its certificate, answers this GET with 200."""
        try:
            trust = ssl.create_default_context(cafile=str(self._certificate))
        except ssl.SSLError:
            return False  # the certificate is being written
        return _fetch(url, token=self._admin_token, trust=trust) is not None


def start_local_cluster(directory: Path, *, audit: bool = True, say: Say = to_stderr) -> LocalCluster:
    """Start a control plane of our own under `directory`, whatever other clusters there may be."""
    tools = binaries.find_or_build(say)
    own = own_directory(directory)
    cluster = LocalCluster(own, tools, audit=audit)
    with removed_on_failure(own, cluster.stop):
        cluster.start()
    return cluster


def _start_on_free_port(describe: Callable[[int], Process], ready: Callable[[int], bool]) -> tuple[Process, int]:
    """Start what `describe` says on a free port, again on another when that one was lost meanwhile."""
    for attempt in range(1, PORT_ATTEMPTS + 1):
        port = free_port()
        process = describe(port)
        process.start()
        try:
            process.wait_until(partial(ready, port), f"readiness on port {port}", START_TIMEOUT_SECONDS)
        except BaseException as exc:
            process.kill()
            lost = isinstance(exc, ProcessFailed) and "address already in use" in process.log_tail()
            if not lost or attempt == PORT_ATTEMPTS:
                raise
        else:
            return process, port
    raise AssertionError("unreachable: the last attempt returns or raises")


def _fetch(
    url: str, *, data: bytes | None = None, token: str = "", trust: ssl.SSLContext | None = None
) -> bytes | None:
    """The body of a 200 answer, else None; POST with `data`, else GET. Proxies are not for 127.0.0.1."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust))
    request = urllib.request.Request(url, data=data, headers={"Authorization": f"Bearer {token}"})
    try:
        with opener.open(request, timeout=REQUEST_TIMEOUT_SECONDS) as response:
            return bytes(response.read()) if response.status == HTTPStatus.OK else None
    except (OSError, http.client.HTTPException):  # URLError is an OSError
        return None
