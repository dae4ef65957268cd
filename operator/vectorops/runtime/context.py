"""What a pass may use of the outside: one object, made once in `app.py`, handed to observe and act.

It holds no decisions. Tests build one with real neighbours and a clock of their own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from vectorops.clients.secrets import Purpose
from vectorops.errors import Stalled, Waiting

if TYPE_CHECKING:
    from vectorops.clients.embeddings import Embedder, Embedders
    from vectorops.clients.kubernetes import Kubernetes
    from vectorops.clients.postgres import Databases
    from vectorops.clients.secrets import Secrets
    from vectorops.runtime.store import Store, Stores
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
    progress_deadline: timedelta = timedelta(seconds=600)  # as a Deployment's
    cluster_uid: Callable[[], Awaitable[str]] = field(default=no_cluster)
    own_namespace: str = ""  # where the operator itself lives; empty outside a cluster
    withholding: tuple[Callable[[], Waiting | None], ...] = ()

    def withheld(self) -> Waiting | None:
        """None, or why work that spends money may not go on now. Asked before every request that costs something."""
        reasons = (ask() for ask in self.withholding)
        return next((why for why in reasons if why is not None), None)

    async def embedder(self, store: Store, model: str | None = None) -> Embedder:
        """The store's account for one model, its own where none is named; URL, key and CA are as the Secrets are now.

        Raises Stalled (SecretNotFound, SecretInvalid); what was invalid is read anew next time.
        """
        declared = store.spec.embeddings
        assert declared is not None, "told as a flaw before"
        refs = {"url": declared.base_url_secret_ref, "key": declared.api_key_secret_ref, "ca": declared.ca_secret_ref}
        named = {what: ref for what, ref in refs.items() if ref is not None}
        values = {
            what: await self.secrets.value(store.namespace, ref.name, ref.key, Purpose.EMBEDDINGS)
            for what, ref in named.items()
        }
        url, ca, limits = values.get("url"), values.get("ca"), declared.rate_limits
        try:
            return self.embedders.open(
                store.uid,
                api_key=values.get("key"),
                model=model or declared.model,
                dimensions=declared.dimensions,
                base_url=url.get_secret_value() if url else None,
                ca_pem=ca.get_secret_value() if ca else None,
                requests_per_minute=limits.requests_per_minute if limits else None,
                tokens_per_minute=limits.tokens_per_minute if limits else None,
            )
        except Stalled:
            for ref in named.values():
                self.secrets.forget(store.namespace, ref.name)
            raise
