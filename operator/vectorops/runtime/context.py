"""What a pass may use of the outside: one object, made once in `app.py`, handed to observe and act.

It holds no decisions. Tests build one with real neighbours and a clock of their own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vectorops.clients.embeddings import Embedders
    from vectorops.clients.kubernetes import Kubernetes
    from vectorops.clients.postgres import Databases
    from vectorops.clients.secrets import Secrets
    from vectorops.runtime.store import Stores
    from vectorops.runtime.work import Work


def utc_now() -> datetime:
    """The wall clock, timezone-aware."""
    return datetime.now(UTC)


async def no_cluster() -> str:
    """Where only named namespaces are served, nothing of the cluster may be read: requests of it are all alike."""
    return ""


@dataclass
class Context:
    """The neighbours and the registries that a pass may use."""

    kubernetes: Kubernetes
    secrets: Secrets
    databases: Databases
    embedders: Embedders
    stores: Stores
    work: Work
    clock: Callable[[], datetime] = field(default=utc_now)
    cluster_uid: Callable[[], Awaitable[str]] = field(default=no_cluster)
