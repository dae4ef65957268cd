"""Who may install the chart: in the namespaced profile whoever has the built-in role `admin` in a namespace, no more.

The CRDs and the roles of users are in the cluster already, as an administrator brought them once. Everything is on a
real API server, by Helm itself, with the tenant's own credentials.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import helm_python
import pytest

from .test_render import CHART, of_kind, rendered

if TYPE_CHECKING:
    from pathlib import Path

    from stand.cluster import Cluster

pytestmark = pytest.mark.cluster

OF_THE_CLUSTER = {
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}
SECONDS = 30


@pytest.fixture
def tenant(cluster: Cluster, namespace: str) -> Path:
    """A kubeconfig of somebody who is `admin` of the namespace; the cluster's controllers have aggregated its rules."""
    cluster.kubectl("create", "serviceaccount", "tenant", "-n", namespace)
    who = ("--clusterrole=admin", f"--serviceaccount={namespace}:tenant", "-n", namespace)
    cluster.kubectl("create", "rolebinding", "tenant", *who)
    deadline = time.monotonic() + SECONDS
    account = f"--as=system:serviceaccount:{namespace}:tenant"
    for verb, what in (("create", "roles"), ("approve", "vectorindexes.vectorops.dev")):
        while not cluster.kubectl("auth", "can-i", verb, what, "-n", namespace, account, check=False).startswith("yes"):
            assert time.monotonic() < deadline
            time.sleep(0.2)
    return cluster.kubeconfig_for_serviceaccount(namespace, "tenant")


def install(kubeconfig: Path, namespace: str, **values: Any) -> None:
    config = helm_python.Config(kubeconfig_path=kubeconfig, namespace=namespace)
    config.install(CHART, "vectorops", values, create_namespace=False, timeout=SECONDS)


def test_a_namespaced_profile_makes_no_object_of_the_cluster() -> None:
    for values in ({}, {"watch": {"namespaces": ["a", "b"]}}, {"rbac": {"secretsIn": ["a"]}}):
        made = rendered({"scope": "Namespaced", **values})
        assert {document["kind"] for document in made} & OF_THE_CLUSTER == set()
        assert all(document["metadata"].get("namespace") for document in made)
        assert not any("Cluster" in binding["roleRef"]["kind"] for binding in of_kind(made, "RoleBinding"))


def test_a_tenant_installs_it_and_the_operator_has_every_right_that_its_kinds_need(
    cluster: Cluster, namespace: str, tenant: Path
) -> None:
    install(tenant, namespace, scope="Namespaced")
    assert "deployment.apps/vectorops" in cluster.kubectl("get", "deployment", "-n", namespace, "-oname")
    account = f"--as=system:serviceaccount:{namespace}:vectorops"
    said = cluster.kubectl("auth", "can-i", "--list", "-n", namespace, account)
    for right in ("vectorstores.vectorops.dev/status", "events.events.k8s.io", "secrets"):
        assert right in said
    assert "no" in cluster.kubectl("auth", "can-i", "get", "secrets", "-n", "default", account, check=False)


def test_the_same_tenant_may_not_install_what_reaches_beyond_the_namespace(namespace: str, tenant: Path) -> None:
    with pytest.raises(helm_python.HelmError, match="forbidden"):
        install(tenant, namespace)
    with pytest.raises(helm_python.HelmError, match="forbidden"):
        install(tenant, namespace, scope="Namespaced", watch={"namespaces": [namespace, "default"]})
