"""The composition root: settings to Context, every kind bound, health and metrics served, and an orderly stop.

The only module that knows all the others. It decides nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Collection
from datetime import timedelta
from typing import Any

from vectorops import metrics
from vectorops.clients.embeddings import Embedders
from vectorops.clients.kubernetes import Kubernetes
from vectorops.clients.postgres import Databases
from vectorops.clients.searchservice import SearchServices
from vectorops.clients.secrets import Secrets
from vectorops.clients.service_addresses import Addresses
from vectorops.errors import OperatorError, Stalled
from vectorops.kinds import KINDS
from vectorops.logs import configure_logging
from vectorops.runtime import binding, health
from vectorops.runtime.api import in_each
from vectorops.runtime.context import Context
from vectorops.runtime.identity import ClusterIdentity
from vectorops.runtime.kind import Kind
from vectorops.runtime.loops import Loops
from vectorops.runtime.store import Stores
from vectorops.runtime.watchdog import Watchdog
from vectorops.runtime.work import Work
from vectorops.settings import Settings

logger = logging.getLogger(__name__)

SERVED_POLL = 0.5  # seconds: a CRD is served within a second or two of being applied
RIGHTS_POLL = 2.0  # seconds: a person is at work


def main(settings: Settings) -> None:
    """Run the operator until it is told to stop. Raises AddressesInvalid before anything is begun."""
    configure_logging(settings.log_format, settings.log_level)
    try:
        asyncio.run(Operator(settings).run())
    except binding.WatchRefused as error:
        logger.error("%s; beginning anew, and then waiting for it", error)
        begin_anew()


def begin_anew() -> None:
    """The same process with nothing of its past: Kopf begins once only, and an exit would be counted as a crash."""
    logging.shutdown()
    os.execv(sys.executable, [sys.executable, "-m", "vectorops", "run"])  # noqa: S606 - this very program, no shell


class Operator:
    """One running operator. Tests make one with kinds of their own."""

    def __init__(self, settings: Settings, kinds: Collection[Kind[Any, Any, Any]] = KINDS) -> None:
        self.settings, self.kinds = settings, kinds
        self.namespaces = settings.namespaces
        self.health = health.Health()
        self.loops = Loops(timedelta(seconds=settings.status_period_seconds))
        self.kubernetes = Kubernetes()
        self.health.refused = self.kubernetes.refused.told
        self.databases = Databases()
        self.work = Work(self.loops.wake)
        self.embedders = Embedders()
        secrets = Secrets(self.kubernetes)
        self.addresses = Addresses(settings.service_addresses)
        self.services = SearchServices(self.addresses)
        stores = Stores(self.kubernetes, secrets, self.databases, services=self.services)
        self.loops.ctx = Context(self.kubernetes, secrets, self.databases, self.embedders, stores, self.work)
        if not self.namespaces:
            self.loops.ctx.cluster_uid = ClusterIdentity(self.kubernetes).uid
        self.watchdog = Watchdog(
            self.kinds, self.namespaces, self.kubernetes, self.loops, self.health, binding.watching
        )
        self._watching: asyncio.Task[None] | None = None
        self.stopped = asyncio.Event()

    async def run(self) -> None:
        """Serve, watch, and stop in order. Ends when Kopf ends."""
        port = health.serve(self.health, self.settings.http_host, self.settings.http_port)
        logger.info("metrics and probes on %s:%s", self.settings.http_host, port)
        if self.settings.service_addresses:
            logger.info("service addresses: %s", self.addresses.describe())
        metrics.built()
        self._watching = asyncio.create_task(self.watchdog.run(), name="watchdog")
        side = [asyncio.create_task(self.health.tick(), name="tick"), self._watching]
        try:
            await self._kinds_served()
            registry = binding.bind(self.kinds, self.loops, self.stop)
            await binding.run(registry, self.namespaces, self.settings.worker_limit, self.stopped)
        finally:
            for task in side:
                task.cancel()
            await self.stop()
            await self.kubernetes.close()

    async def _kinds_served(self) -> None:
        """Wait until every kind is served: Kopf, without scanning, would never watch one that comes later.

        And until each may be listed and watched: Kopf ends the process where it may not.
        """
        wanted = {kind.names.plural for kind in self.kinds}
        while True:
            try:
                missing = wanted - await self.kubernetes.served()
            except OperatorError as error:
                self._waits(f"the API server cannot be asked what it serves: {error.reason}")
            else:
                if missing:
                    self._waits(f"apply the CRDs of this version; not served yet: {', '.join(sorted(missing))}")
                elif (refused := await self._refused_to_watch()) is not None:
                    self._waits(f"{refused.reason}: {refused.message}")
                    metrics.failed("CustomResourceDefinition", refused.reason)
                    await asyncio.sleep(RIGHTS_POLL)
                else:
                    return
            await asyncio.sleep(SERVED_POLL)

    async def _refused_to_watch(self) -> Stalled | None:
        for kind in self.kinds:
            for namespace in in_each(self.namespaces):
                for verb in ("list", "watch"):
                    refused = await self.kubernetes.may(verb, kind.names.plural, namespace)
                    if refused is not None:
                        return refused
        return None

    def _waits(self, why: str) -> None:
        if self.health.not_ready != why:
            logger.warning("waiting: %s", why)
        self.health.not_ready = why

    async def stop(self) -> None:
        """Let go of long work first (a build goes on in the server), then end the loops. Safe to call twice."""
        if self._watching is not None:
            self._watching.cancel()  # or its next look would call a stopping process ready
        self.health.not_ready = "stopping"
        await self.work.stop()
        await self.loops.stop()
        await self.embedders.close()
        await self.services.close()
        await self.databases.close()
        self.stopped.set()  # after a signal Kopf would wait 5 s for its own task that waits for this
