"""A leader that is stopped for longer than its lease, while a standby takes over, and then goes on.

Each operator is a ServiceAccount of its own, so the API server's audit log tells who wrote a status; the provider's
bill tells what was paid, and the database how many builds there were.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from tests.crash.conftest import TEXTS, query

from stand.provider.vectors import vector_for
from stand.scene import Scene, backfill_spec, index_spec, store_spec
from stand.world import SYSTEM_NAMESPACE, OperatorProcess

if TYPE_CHECKING:
    from stand.provider import Provider
    from stand.shop import Shop

pytestmark = [pytest.mark.crash, pytest.mark.cluster]

FILL, INDEX, LEASE = "vfill/products", "vidx/products", "lease/vectorops"
TAKEN = 60.0  # seconds for a standby to lead: the lease, a look, and a busy machine
RIGHTS = """
apiVersion: v1
kind: ServiceAccount
metadata: {{name: {name}, namespace: {system}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: {name}, namespace: {namespace}}}
rules:
- {{apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, create, update]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: {name}, namespace: {namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: {name}}}
subjects: [{{kind: ServiceAccount, name: {name}, namespace: {system}}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: {name}-kinds, namespace: {namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: vectorops}}
subjects: [{{kind: ServiceAccount, name: {name}, namespace: {system}}}]
"""


@dataclass
class Candidate:
    """One of the two operators."""

    account: str
    scene: Scene
    operator: OperatorProcess

    def signal(self, number: signal.Signals) -> None:
        self.operator.process.send_signal(number)

    def leads(self) -> bool:
        """By its own words, since it last began."""
        said = self.operator.log.read_text()
        return said.rfind("leading: ") > said.rfind("standing by")

    def statuses(self) -> int:
        """How many statuses it has written, by the audit log."""
        log = self.scene.cluster.audit_log
        assert log is not None
        user = f"system:serviceaccount:{SYSTEM_NAMESPACE}:{self.account}"
        entries = [json.loads(line) for line in log.read_text().splitlines() if f'"{user}"' in line]
        return sum(one["objectRef"].get("subresource") == "status" for one in entries if one["verb"] == "patch")


@pytest.fixture
def candidate(scene: Scene) -> Callable[[str], Candidate]:
    """candidate(name): an operator with an account of its own, which is ready."""

    def start(name: str) -> Candidate:
        account = f"{name}-{scene.namespace}"
        words = {"name": account, "system": SYSTEM_NAMESPACE, "namespace": scene.namespace}
        scene.cluster.kubectl("apply", "-f", "-", input=RIGHTS.format(**words))
        env = {
            "KUBECONFIG": str(scene.cluster.kubeconfig_for_serviceaccount(SYSTEM_NAMESPACE, account)),
            "VECTOROPS_LEADER_ELECTION": "true",
            "VECTOROPS_LEASE_NAMESPACE": scene.namespace,
        }
        return Candidate(account, scene, scene.operator(env=env))

    return start


def pause_and_take_over(scene: Scene, leader: Candidate, standby: Candidate) -> int:
    """Stop the leader until the standby leads. How many statuses the stopped one has written."""
    leader.signal(signal.SIGSTOP)
    scene.wait("the standby to lead", standby.leads, TAKEN)
    return leader.statuses()


def go_on(scene: Scene, paused: Candidate) -> None:
    """Let it run again: it notices, lets go, and stands by anew."""
    paused.signal(signal.SIGCONT)
    scene.wait("the deposed one to stand by", lambda: paused.operator.log.read_text().count("standing by") > 1, TAKEN)
    scene.wait("the standby to be ready", lambda: paused.operator.get("/readyz")[0] == 200)


def test_a_leader_paused_for_longer_than_its_lease_bills_builds_and_writes_nothing_more(
    scene: Scene, shop: Shop, provider: Provider, candidate: Callable[[str], Candidate],
    old_transaction: threading.Event, watch: Any,
) -> None:  # fmt: skip
    first = candidate("first")
    scene.wait("the first to lead", first.leads)
    second = candidate("second")
    assert not second.leads(), "it stands by, and is ready"
    scene.apply("VectorStore", "shop", store_spec())
    provider.control(latencySeconds=0.2)
    scene.apply("EmbeddingBackfill", "products", backfill_spec(batchSize=16, concurrency=2))
    scene.wait("some requests to be billed", lambda: provider.bill()["requests"] >= 5)

    written = pause_and_take_over(scene, first, second)
    go_on(scene, first)
    scene.wait_status(FILL, "Complete", timeout=120)
    assert set(provider.bill()["perText"].values()) == {1}, "no text was bought twice"
    rows = query(shop, TEXTS)
    assert all((row["embedding"].to_numpy() == vector_for(row["text"], 384)).all() for row in rows)
    assert first.statuses() == written, "no status of the deposed"

    scene.apply("VectorIndex", "products", index_spec())
    scene.wait_reason(INDEX, "WaitingForOldTransactions")
    written = pause_and_take_over(scene, second, first)
    go_on(scene, second)
    old_transaction.set()
    scene.wait_status(INDEX, "Ready", timeout=120)
    assert second.statuses() == written, "no status of the deposed"
    assert watch.most_builds == 1, "no second build"
