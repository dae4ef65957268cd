"""Which cluster it is, asked of a real API server under the generated rights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stand.world import SERVICE_ACCOUNT, SYSTEM_NAMESPACE
from vectorops.clients.kubernetes import Kubernetes
from vectorops.errors import Stalled
from vectorops.runtime.identity import ClusterIdentity

if TYPE_CHECKING:
    from stand.cluster import Cluster

pytestmark = pytest.mark.cluster


async def test_the_operator_may_read_the_uid_of_kube_system_and_no_other_namespace(cluster: Cluster) -> None:
    kubernetes = Kubernetes(str(cluster.kubeconfig_for_serviceaccount(SYSTEM_NAMESPACE, SERVICE_ACCOUNT)))
    try:
        stated = cluster.kubectl("get", "namespace", "kube-system", "-ojsonpath={.metadata.uid}").strip()
        assert await ClusterIdentity(kubernetes).uid() == stated
        assert "no" in cluster.kubectl(
            "auth", "can-i", "get", "namespaces/default",
            f"--as=system:serviceaccount:{SYSTEM_NAMESPACE}:{SERVICE_ACCOUNT}", check=False,
        )  # fmt: skip
    finally:
        await kubernetes.close()


async def test_a_missing_right_is_named(cluster: Cluster) -> None:
    kubernetes = Kubernetes(str(cluster.kubeconfig_for_serviceaccount("default", "default")))
    try:
        with pytest.raises(Stalled, match=r'RBACMissing.*resources: \["namespaces"\], verbs: \["get"\]'):
            await ClusterIdentity(kubernetes).uid()
    finally:
        await kubernetes.close()
