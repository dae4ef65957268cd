"""The process node, on a real API server with the real controllers: Deployments roll, Jobs end, rights are a pod's."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stand.processnode import ProcessNode
from stand.processnode.environment import NotSupported, command_of, container_of, environment_of, expanded
from stand.processnode.probes import Probe

if TYPE_CHECKING:
    from stand.cluster import Cluster

SERVE = "exec python3 -m http.server $PORT --bind 127.0.0.1"
ENDED = ("Succeeded", "Failed")
Json = dict[str, Any]


class Yard:
    """One namespace with a node of its own."""

    def __init__(self, cluster: Cluster, namespace: str, node: ProcessNode) -> None:
        self.cluster, self.namespace, self.node = cluster, namespace, node

    def kubectl(self, *args: str, input: str | None = None) -> str:
        return self.cluster.kubectl("--namespace", self.namespace, *args, input=input)

    def apply(self, *bodies: Json) -> None:
        self.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(bodies)}))

    def pod(self, name: str) -> Json:
        body: Json = json.loads(self.kubectl("get", "pod", name, "-ojson"))
        return body

    def state(self, name: str) -> Json:
        statuses = self.pod(name).get("status", {}).get("containerStatuses") or [{}]
        state: Json = statuses[0].get("state", {})
        return state

    def until(self, what: str, seen: Callable[[], Any], seconds: float = 40) -> Any:
        deadline = time.monotonic() + seconds
        while not (value := seen()):
            assert time.monotonic() < deadline, f"not seen: {what}\n{self.kubectl('get', 'pods', '-oyaml')[-3000:]}"
            time.sleep(0.1)
        return value


@pytest.fixture
def yard(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[Yard]:
    name = f"node-{namespace}"
    with ProcessNode(cluster, tmp_path / "node", name=name, namespaces={namespace}) as node:
        yield Yard(cluster, namespace, node)
    assert name not in cluster.kubectl("get", "nodes", "-oname")


def pod(name: str, command: str, **spec: Any) -> Json:
    container = {"name": "c", "image": "none", "command": ["sh", "-c", command], **spec.pop("container", {})}
    spec = {"restartPolicy": "Never", "containers": [container], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def web(version: str) -> Json:
    container = {
        "name": "c", "image": "none", "command": ["sh", "-c", SERVE], "env": [{"name": "VERSION", "value": version}],
        "ports": [{"name": "http", "containerPort": 80}], "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
    }  # fmt: skip
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}}
    rolling = {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template, "strategy": rolling}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}


def job(name: str, command: str, **spec: Any) -> Json:
    container = {"name": "c", "image": "none", "command": ["sh", "-c", command]}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"template": template, **spec}}


@pytest.mark.cluster
def test_a_deployment_rolls_and_its_service_is_never_without_an_address(yard: Yard) -> None:
    ports = [{"port": 3000, "targetPort": "http"}]
    service = {"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": ports}}
    yard.apply(web("1"), {"apiVersion": "v1", "kind": "Service", **service})
    yard.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    key = f"{yard.namespace}/web:3000"

    def listed() -> list[str]:
        found: list[str] = json.loads(yard.node.addresses_file.read_text()).get(key, [])
        return found

    first = yard.until("two addresses", lambda: len(listed()) == 2 and listed())
    yard.apply(web("2"))
    fewest = []

    def rolled() -> bool:
        now = listed()
        fewest.append(len(now))
        return len(now) == 2 and not set(now) & set(first)

    yard.until("two other addresses", rolled)
    assert min(fewest) >= 2
    yard.kubectl("rollout", "status", "deployment/web", "--timeout=60s")


@pytest.mark.cluster
def test_environment_comes_from_where_it_is_named_and_is_waited_for(yard: Yard) -> None:
    env = [
        {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "CONFIG", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "none", "key": "k", "optional": True}}},
        {"name": "BOTH", "value": "$(NAME)-$$(NAME)-$(UNKNOWN)"},
    ]
    yard.kubectl("create", "configmap", "c", "--from-literal=k=blue")
    yard.apply(pod("says", 'echo "$SECRET $CONFIG $NAME [$NONE] $BOTH [$VECTOROPS_CANARY]"', container={"env": env}))
    told = yard.until("waiting for the Secret", lambda: yard.state("says").get("waiting", {}).get("message"))
    assert yard.state("says")["waiting"]["reason"] in ("CreateContainerConfigError", "ContainerCreating")
    yard.until("why", lambda: yard.state("says").get("waiting", {}).get("message") == "secret s not found")
    assert told == "secret s not found"
    os.environ["VECTOROPS_CANARY"] = "the person's own"
    try:
        yard.kubectl("create", "secret", "generic", "s", "--from-literal=k=red")
        yard.until("its end", lambda: yard.pod("says")["status"]["phase"] == "Succeeded")
    finally:
        del os.environ["VECTOROPS_CANARY"]
    assert yard.node.log_of(yard.namespace, "says").strip() == "red blue says [] says-$(NAME)-$(UNKNOWN) []"


@pytest.mark.cluster
def test_jobs_complete_and_fail_with_their_exit_codes(yard: Yard) -> None:
    yard.apply(
        job("two", "echo $JOB_COMPLETION_INDEX", completions=2, parallelism=2, completionMode="Indexed"),
        job("bad", "exit 7", backoffLimit=0),
        pod("nowhere", "", container={"command": ["/no/such/program"]}),
    )
    yard.kubectl("wait", "--for=condition=Complete", "job/two", "--timeout=60s")
    yard.kubectl("wait", "--for=condition=Failed", "job/bad", "--timeout=60s")
    names = yard.kubectl("get", "pods", "-l", "job-name=bad", "-ojsonpath={.items[*].metadata.name}").split()
    ended = yard.state(names[0])["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (7, "Error")
    assert sorted(yard.node.log_of(yard.namespace, "two").split()) == ["0", "1"]
    yard.until("the start error", lambda: yard.state("nowhere").get("terminated", {}).get("reason") == "StartError")


@pytest.mark.cluster
def test_what_crashes_is_started_again_and_what_is_not_alive_is_too(yard: Yard) -> None:
    liveness = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}
    yard.apply(
        pod("crashes", "exit 1", restartPolicy="Always"),
        pod("hangs", "exec sleep 60", restartPolicy="Always", container={"livenessProbe": liveness}),
        pod("once", "exit 0", restartPolicy="OnFailure"),
    )

    def restarts(name: str) -> int:
        return int((yard.pod(name).get("status", {}).get("containerStatuses") or [{}])[0].get("restartCount", 0))

    yard.until("two restarts", lambda: restarts("crashes") >= 2)
    yard.until("the back-off", lambda: yard.state("crashes").get("waiting", {}).get("reason") == "CrashLoopBackOff")
    yard.until("a restart of what hangs", lambda: restarts("hangs") >= 1)
    yard.until("the end", lambda: yard.pod("once")["status"]["phase"] == "Succeeded")


@pytest.mark.cluster
def test_sigterm_comes_first_and_what_ignores_it_is_killed_after_its_grace(yard: Yard, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    polite = f"trap 'echo bye > {mark}; exit 0' TERM; while true; do sleep 0.05; done"
    yard.apply(
        pod("polite", polite, terminationGracePeriodSeconds=20),
        pod("stubborn", "trap '' TERM; while true; do sleep 0.05; done", terminationGracePeriodSeconds=1),
    )
    yard.until("both", lambda: len(yard.node.pids()) == 2)
    time.sleep(0.3)  # the shells set their traps
    yard.kubectl("delete", "pod", "polite", "stubborn", "--timeout=15s")
    assert mark.read_text() == "bye\n"
    assert yard.node.pids() == []


@pytest.mark.cluster
def test_a_pod_has_the_rights_of_its_serviceaccount_and_no_more(yard: Yard) -> None:
    yard.kubectl("create", "serviceaccount", "reader")
    yard.kubectl("create", "role", "reader", "--verb=get,list", "--resource=configmaps")
    yard.kubectl("create", "rolebinding", "reader", "--role=reader", f"--serviceaccount={yard.namespace}:reader")
    kubectl = yard.cluster.kubectl_path
    asks = f"{kubectl} auth can-i list configmaps; {kubectl} auth can-i list secrets; cat $KUBECONFIG | head -c 1"
    yard.apply(
        pod("reads", asks, serviceAccountName="reader"),
        pod("nobody", "test ! -e $KUBECONFIG && echo none", automountServiceAccountToken=False),
    )
    for name in ("reads", "nobody"):
        yard.until(
            f"the end of {name}", lambda name=name: yard.pod(name)["status"].get("phase") in ("Succeeded", "Failed")
        )
    assert yard.node.log_of(yard.namespace, "reads").split() == ["yes", "no", "{"]
    assert yard.node.log_of(yard.namespace, "nobody").strip() == "none"


@pytest.mark.cluster
def test_what_it_cannot_do_is_refused_with_words(yard: Yard) -> None:
    volumes = [{"name": "data", "secret": {"secretName": "s"}}]
    yard.apply(pod("volume", "true", volumes=volumes), pod("nocommand", "", container={"command": None}))
    for name, words in (("volume", "volume data"), ("nocommand", "name the command")):
        status = yard.until("refusal", lambda name=name: (s := yard.pod(name)["status"])["phase"] == "Failed" and s)
        assert status["reason"] == "NotSupported"
        assert words in status["message"]


@pytest.mark.cluster
def test_nothing_is_left_when_the_node_ends(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    with ProcessNode(cluster, tmp_path / "n", name=f"node-{namespace}", namespaces={namespace}) as node:
        yard = Yard(cluster, namespace, node)
        yard.apply(pod("a", "exec sleep 600"), pod("b", "trap '' TERM; while true; do sleep 0.1; done"))
        yard.until("both", lambda: len(node.pids()) == 2)
        pids = node.pids()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, signal.SIG_DFL)


@pytest.mark.parametrize(
    "spec",
    [
        {"containers": [{}, {}]}, {"containers": [{}], "initContainers": [{}]},
        {"containers": [{}], "volumes": [{"name": "v", "configMap": {}}]},
        {"containers": [{"lifecycle": {"postStart": {}}}]},
    ],
)  # fmt: skip
def test_pods_that_are_no_single_process_are_not_supported(spec: Json) -> None:
    with pytest.raises(NotSupported):
        container_of({"spec": spec})


def test_a_dollar_is_a_dollar_and_an_unknown_name_stays() -> None:
    assert expanded("$(A)-$$(A)-$(B)-$", {"A": "1"}) == "1-$(A)-$(B)-$"
    assert command_of({"command": ["x", "$(A)"], "args": ["$(B)"]}, {"A": "1"}) == ["x", "1", "$(B)"]


def test_a_value_of_a_secret_is_taken_as_it_is() -> None:
    container = {"env": [{"name": "P", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}
    found = environment_of({"metadata": {}, "spec": {}}, container, lambda *_: {"data": {"k": "JChIT01FKQ=="}}, "n")
    assert found == {"P": "$(HOME)"}


class Now:
    """An executor that does it at once."""

    def submit(self, ask: Callable[[], bool]) -> Any:
        from concurrent.futures import Future

        done: Future[bool] = Future()
        done.set_result(ask())
        return done


def test_a_probe_counts_in_a_row() -> None:
    answers = iter([True, False, False, True, True])
    probe = Probe({"periodSeconds": 1, "failureThreshold": 2, "successThreshold": 2}, lambda: next(answers), 0.0)
    at_once: Any = Now()
    seen = []
    for now in range(5):
        probe.tick(float(now), at_once)  # counts the answer of the turn before, then asks
        seen.append((probe.passed, probe.failed))
    assert seen == [(False, False), (False, False), (False, False), (False, True), (False, True)]
    probe.tick(4.5, at_once)
    assert (probe.passed, probe.failed) == (True, False)
