"""The local control plane is a real Kubernetes API, and is gone when it is told to go."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stand import binaries, localcluster
from stand.cluster import KubectlFailed, start_cluster
from stand.localcluster import LocalCluster, start_local_cluster
from stand.process import free_port

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

SMALL_CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: boxes.stand.test}
spec:
  group: stand.test
  scope: Namespaced
  names: {kind: Box, plural: boxes, singular: box}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties: {low: {type: integer}, high: {type: integer}}
            x-kubernetes-validations:
            - {rule: self.low <= self.high, message: low must not exceed high}
"""

READER = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: default}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: default}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: reader, namespace: default}]
"""

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: none}]}
"""

OWNER = """
import sys, time
from pathlib import Path
from stand.localcluster import start_local_cluster
from stand.process import exit_on_sigterm
exit_on_sigterm()
cluster = start_local_cluster(Path(sys.argv[1]))
print(*(process.pid for process in cluster.processes), flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """One cluster for every test that leaves it running."""
    with start_local_cluster(tmp_path_factory.mktemp("stand")) as started:
        yield started


def eventually(condition: Callable[[], bool], what: str, timeout: float = 30) -> None:
    """Wait for the world to become so."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        time.sleep(0.05)


def gone(pid: int) -> bool:
    """Whether no process has this pid any more, or only a zombie someone else must reap."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def audit_events(cluster: LocalCluster) -> list[dict[str, Any]]:
    """Every line of the audit log so far."""
    assert cluster.audit_log is not None
    return [json.loads(line) for line in cluster.audit_log.read_text().splitlines()]


def test_the_api_is_the_version_that_go_mod_pins(cluster: LocalCluster) -> None:
    version = json.loads(cluster.kubectl("version", "--output=json"))
    assert version["serverVersion"]["gitVersion"] == binaries.kubernetes_version()
    assert version["clientVersion"]["gitVersion"] == binaries.kubernetes_version()


def test_the_default_serviceaccount_is_there_from_the_start(cluster: LocalCluster) -> None:
    assert cluster.kubectl("get", "serviceaccount", "default", "--output=name") == "serviceaccount/default\n"


def test_the_administrators_kubeconfig_is_private(cluster: LocalCluster) -> None:
    assert stat.S_IMODE(cluster.kubeconfig.stat().st_mode) == 0o600


def test_a_kubectl_error_is_raised_in_kubectls_own_words(cluster: LocalCluster) -> None:
    with pytest.raises(KubectlFailed, match='configmaps "absent" not found'):
        cluster.kubectl("get", "configmap", "absent")
    assert 'configmaps "absent" not found' in cluster.kubectl("get", "configmap", "absent", check=False)


def test_a_cel_rule_of_a_crd_is_enforced(cluster: LocalCluster) -> None:
    box = "{apiVersion: stand.test/v1, kind: Box, metadata: {name: %s}, spec: {low: %d, high: %d}}"
    cluster.kubectl("apply", "--filename=-", input=SMALL_CRD)
    cluster.kubectl("wait", "--for=condition=Established", "crd/boxes.stand.test", "--timeout=20s")
    cluster.kubectl("apply", "--filename=-", input=box % ("good", 1, 2))
    with pytest.raises(KubectlFailed, match="low must not exceed high"):
        cluster.kubectl("apply", "--filename=-", input=box % ("bad", 2, 1))


def test_a_serviceaccounts_kubeconfig_has_the_rights_of_its_roles_only(cluster: LocalCluster) -> None:
    cluster.kubectl("apply", "--filename=-", input=READER)
    kubeconfig = cluster.kubeconfig_for_serviceaccount("default", "reader")
    reader = f"--kubeconfig={kubeconfig}"
    eventually(lambda: "yes" in cluster.kubectl(reader, "auth", "can-i", "list", "configmaps", check=False), "the role")
    assert "kube-root-ca.crt" in cluster.kubectl(reader, "get", "configmaps", "--output=name")
    with pytest.raises(KubectlFailed, match="system:serviceaccount:default:reader.*cannot list.*secrets"):
        cluster.kubectl(reader, "get", "secrets")
    with pytest.raises(KubectlFailed, match="cannot list.*configmaps.*kube-system"):
        cluster.kubectl(reader, "get", "configmaps", "--namespace=kube-system")
    assert stat.S_IMODE(kubeconfig.stat().st_mode) == 0o600


def test_the_audit_log_says_who_wrote_what_once(cluster: LocalCluster) -> None:
    cluster.kubectl("create", "configmap", "audited", "--from-literal=key=never-logged")
    assert cluster.audit_log is not None
    writes = [
        (event["user"]["username"], event["verb"], event["stage"], event["responseStatus"]["code"])
        for event in audit_events(cluster)
        if event["verb"] == "create" and event.get("objectRef", {}).get("name") == "audited"
    ]
    assert writes == [(localcluster.ADMIN, "create", "ResponseComplete", 201)]
    assert "never-logged" not in cluster.audit_log.read_text()


def test_controllers_run_under_their_own_names(cluster: LocalCluster) -> None:
    cluster.kubectl("apply", "--filename=-", input=DEPLOYMENT)
    pods = ("get", "pods", "--selector=app=web", "--output=name")
    eventually(lambda: len(cluster.kubectl(*pods).split()) == 2, "the Deployment's two pods")
    writers = {event["user"]["username"] for event in audit_events(cluster) if event["verb"] == "create"}
    assert "system:serviceaccount:kube-system:deployment-controller" in writers
    cluster.kubectl("delete", "deployment/web")
    eventually(lambda: not cluster.kubectl(*pods), "the pods' garbage collection")


def test_a_frozen_api_answers_nothing_until_it_is_thawed(cluster: LocalCluster) -> None:
    cluster.freeze()
    try:
        with pytest.raises(KubectlFailed, match="imeout|deadline exceeded"):
            cluster.kubectl("get", "--raw=/readyz", "--request-timeout=1s")
    finally:
        cluster.thaw()
    assert cluster.kubectl("get", "--raw=/readyz") == "ok"


def test_a_restarted_api_server_is_a_new_process_with_the_old_objects(cluster: LocalCluster) -> None:
    cluster.kubectl("create", "configmap", "kept")
    before = [process.pid for process in cluster.processes]
    cluster.restart_apiserver()
    after = [process.pid for process in cluster.processes]
    assert cluster.kubectl("get", "configmap", "kept", "--output=name") == "configmap/kept\n"
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True]
    cluster.kubectl("create", "namespace", "after")  # whose ServiceAccount a controller has to make
    cluster.kubectl("wait", "--for=create", "serviceaccount/default", "--namespace=after", "--timeout=60s")


def test_a_named_cluster_is_used_and_left_running(
    cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VECTOROPS_STAND_KUBECONFIG", str(cluster.kubeconfig))
    with start_cluster(tmp_path) as named:
        assert named.kubeconfig == cluster.kubeconfig
        named.kubectl("create", "configmap", "by-the-named-one")
        assert named.kubeconfig_for_serviceaccount("default", "default").parent != cluster.directory
    assert list(tmp_path.iterdir()) == []
    assert cluster.kubectl("get", "configmap", "by-the-named-one", "--output=name")


@pytest.fixture(scope="module")
def unlucky(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A second cluster, each of whose servers first got a port that another program took meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.MonkeyPatch.context() as patch:
        lost = taken.getsockname()[1]
        # etcd's client and peer ports, the same again, the API server's, and that again
        ports = iter([lost, free_port(), free_port(), free_port(), lost, free_port()])
        patch.setattr(localcluster, "free_port", lambda: next(ports))
        started = start_local_cluster(tmp_path_factory.mktemp("unlucky"), audit=False)
        patch.undo()
        with started:
            assert next(ports, None) is None
            yield started


def test_a_port_lost_before_it_was_bound_is_replaced(unlucky: LocalCluster) -> None:
    assert unlucky.kubectl("get", "--raw=/readyz") == "ok"


def test_stop_ends_exactly_its_own_processes_and_removes_their_files(
    cluster: LocalCluster, unlucky: LocalCluster
) -> None:
    pids = [process.pid for process in unlucky.processes]
    assert [gone(pid) for pid in pids] == [False, False, False]
    unlucky.freeze()  # even a frozen server has to go
    unlucky.stop()
    assert [gone(pid) for pid in pids] == [True, True, True]
    assert not unlucky.directory.exists()
    assert cluster.kubectl("get", "--raw=/readyz") == "ok"


# Ctrl-C takes the way of SIGTERM from here on, and test_process.py shows it for a process.
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_a_cluster_ends_with_its_owner(ending: signal.Signals, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(localcluster.__file__).parents[1])}
    argv = [sys.executable, "-c", OWNER, str(tmp_path)]
    with subprocess.Popen(argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pids = [int(word) for word in owner.stdout.readline().split()]
        assert len(pids) == 3
        owner.send_signal(ending)
        owner.wait(60)
    eventually(lambda: all(gone(pid) for pid in pids), "the end of its three processes")
    if ending != signal.SIGKILL:  # after which nobody is left to remove files
        assert list(tmp_path.iterdir()) == []
