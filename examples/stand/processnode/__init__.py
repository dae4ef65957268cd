"""A Kubernetes node whose pods are local processes: real Deployments, Jobs, probes and rights without a container.

It is no kubelet and says so: no images, no volumes but an empty directory, no isolation, one container a pod, and
securityContext is not enforced. What it cannot do makes the pod Failed with reason NotSupported.
"""

from stand.processnode.node import ProcessNode

__all__ = ["ProcessNode"]
