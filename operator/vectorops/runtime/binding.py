"""Kinds to Kopf. The only module that speaks kopf, and it asks little of it: to watch, and to stop in order.

For every kind one `on.event` handler that hands the body to the object's loop; once, login and clean-up. No
create/update/delete handlers, no daemons and no timers: tried, each loses a change or leaves something behind on the
objects (docs/decisions/0002-own-loop.md). Kopf writes nothing: no finalizer, no annotation, no event.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Collection
from http import HTTPStatus
from typing import Any

import kopf

from vectorops.errors import Reason, Stalled
from vectorops.runtime.api import GROUP, VERSION, in_each
from vectorops.runtime.kind import Kind
from vectorops.runtime.loops import Loops

logger = logging.getLogger(__name__)

REQUEST_TIMEOUT = 30  # seconds for one request of Kopf's own; listings of thousands of objects take one or two
CONNECT_TIMEOUT = 10  # seconds
EXIT_TIMEOUT = 60.0  # seconds after which a stop that hangs ends the process; below the pod's grace of 90


def configure(settings: kopf.OperatorSettings, worker_limit: int) -> None:
    """Kopf's settings, each away from its default for a reason."""
    settings.peering.standalone = True  # one replica, strategy Recreate; the lock in the database is the real fence
    settings.posting.enabled = False  # the recorder writes our events
    settings.persistence.finalizer = f"{GROUP}/kopf-unused"  # never written; ours is written by a pass
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=GROUP)
    settings.scanning.disabled = True  # no right on CRDs and namespaces is needed; CRDs come before the operator
    settings.queueing.worker_limit = worker_limit  # unlimited by default
    settings.networking.request_timeout = REQUEST_TIMEOUT
    settings.networking.connect_timeout = CONNECT_TIMEOUT
    settings.watching.connect_timeout = CONNECT_TIMEOUT
    settings.process.ultimate_exiting_timeout = EXIT_TIMEOUT


def bind(
    kinds: Collection[Kind[Any, Any, Any]], loops: Loops, stop: Callable[[], Awaitable[None]]
) -> kopf.OperatorRegistry:
    """A registry with the handlers of all kinds. `stop` is awaited before any task is cancelled."""
    registry = kopf.OperatorRegistry()
    for kind in kinds:
        _watch(registry, kind, loops)

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        if os.environ.get("KUBECONFIG"):
            return kopf.login_with_kubeconfig(**kwargs)
        return kopf.login_with_service_account(**kwargs)  # reads the rotated token again

    @kopf.on.cleanup(registry=registry)
    async def cleanup(**_: Any) -> None:
        await stop()

    return registry


def _watch(registry: kopf.OperatorRegistry, kind: Kind[Any, Any, Any], loops: Loops) -> None:
    @kopf.on.event(GROUP, VERSION, kind.names.plural, registry=registry, id=kind.names.plural)
    async def seen(type: str | None, body: kopf.Body, **_: Any) -> None:
        loops.deliver(kind, dict(body), deleted=type == "DELETED")


class WatchRefused(Stalled):
    """RBAC took away the right to list or watch while it was used; Kopf then ends, and the process begins anew."""

    def __init__(self) -> None:
        rule = f'{{apiGroups: ["{GROUP}"], resources: ["*"], verbs: ["list", "watch"]}}'
        super().__init__(Reason.RBACMissing, f"a kind may no longer be listed or watched; every one must be: {rule}")


async def run(
    registry: kopf.OperatorRegistry, namespaces: Collection[str], worker_limit: int, stopped: asyncio.Event
) -> None:
    """Watch until SIGTERM, SIGINT or `stopped`. Raises WatchRefused when RBAC no longer lets it."""
    settings = kopf.OperatorSettings()
    configure(settings, worker_limit)
    try:
        await kopf.operator(
            registry=registry,
            settings=settings,
            standalone=True,
            clusterwide=not namespaces,
            namespaces=tuple(namespaces),
            stop_flag=stopped,
        )
    except Exception as error:
        if getattr(error, "code", None) != HTTPStatus.FORBIDDEN:
            raise
        raise WatchRefused from None


def watching(kind: Kind[Any, Any, Any], namespaces: Collection[str]) -> bool:
    """Whether a watcher task of the kind runs for each namespace. Kopf gives no other sign of one that has ended."""
    wanted = f"watcher for {kind.names.plural}.{VERSION}.{GROUP}@"
    names = {task.get_name() for task in asyncio.all_tasks() if not task.done()}
    return all(f"{wanted}{namespace}" in names for namespace in in_each(namespaces))
