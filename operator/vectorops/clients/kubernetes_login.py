"""Host, CA and credentials of the API server: from a kubeconfig, or from the ServiceAccount of the pod."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vectorops.errors import Reason, Stalled

CONNECTIONS = 20  # at most; enough for as many requests at once, far below API priority and fairness; others wait

OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")  # in every pod that has an account


def own_namespace() -> str:
    """The namespace of this pod; "" outside one."""
    try:
        return OWN_NAMESPACE.read_text().strip()
    except OSError:
        return ""


async def configure(kubeconfig: str | None, present: Any = None) -> Any:
    """Read host, CA and credentials, into `present` if there is one. In a pod the token is re-read every minute."""
    from kubernetes.aio import config
    from kubernetes.aio.client.configuration import Configuration

    loaders: Any = config  # untyped there
    configuration = present or Configuration(connection_pool_maxsize=CONNECTIONS)  # retries: None, we own them
    try:
        if kubeconfig:
            await loaders.load_kube_config(kubeconfig, client_configuration=configuration, persist_config=False)
        else:
            loaders.load_incluster_config(configuration)
    except (config.ConfigException, OSError, ValueError, KeyError) as exc:
        named = f"the kubeconfig {kubeconfig}" if kubeconfig else "the ServiceAccount of this pod"
        message = f"{named} cannot be used ({type(exc).__name__}); set KUBECONFIG, or give the pod a ServiceAccount"
        raise Stalled(Reason.KubernetesUnavailable, message) from exc
    return configuration
