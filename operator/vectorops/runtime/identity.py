"""Which cluster this is: the uid of its namespace kube-system, which lives as long as the cluster does.

Part of the key of what must not run twice: two clusters may write to one database, each with an object of the same
name. Asked once a process, when the first such request comes; who may not ask is told the right that is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vectorops.clients.kubernetes_errors import Resource
from vectorops.errors import Reason, Transient

if TYPE_CHECKING:
    from vectorops.clients.kubernetes import Kubernetes

NAMESPACES = Resource("", "v1", "namespaces")
NAMESPACE = "kube-system"


class ClusterIdentity:
    """The uid, remembered once it is known: it never changes."""

    def __init__(self, kubernetes: Kubernetes) -> None:
        self._kubernetes, self._uid = kubernetes, ""

    async def uid(self) -> str:
        """The uid of kube-system. Raises Stalled(RBACMissing) with the rule to add, and Transient."""
        if not self._uid:
            body = await self._kubernetes.read(NAMESPACES, None, NAMESPACE)
            if body is None:
                raise Transient(
                    Reason.KubernetesUnavailable, f"there is no namespace {NAMESPACE} yet; it is asked again"
                )
            self._uid = str(body["metadata"]["uid"])
        return self._uid
