"""The composition root: settings to Context, every kind bound, health and metrics served, and an orderly stop.

The only module that knows all the others. It decides nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from vectorops import metrics
from vectorops.clients.apiserver.lease import Leadership
from vectorops.clients.embeddings import Embedders
from vectorops.clients.hosts.reaching import POLICY
from vectorops.clients.kubernetes import Kubernetes
from vectorops.clients.kubernetes_login import own_namespace
from vectorops.clients.postgres import Databases
from vectorops.clients.searchservice import SearchServices
from vectorops.clients.secrets import Secrets
from vectorops.clients.service_addresses import Addresses
from vectorops.errors import OperatorError, Stalled
from vectorops.kinds import KINDS
from vectorops.logs import configure_logging
from vectorops.runtime import binding
from vectorops.runtime.api import in_each
from vectorops.runtime.context import Context
from vectorops.runtime.identity import ClusterIdentity
from vectorops.runtime.kind import Kind
from vectorops.runtime.loops import Loops
from vectorops.runtime.probes.crds import DOUBT, Crds
from vectorops.runtime.probes.health import Health
from vectorops.runtime.probes.server import serve
from vectorops.runtime.probes.watchdog import Watchdog
from vectorops.runtime.store import Stores
from vectorops.runtime.work import Work
from vectorops.settings import Settings

logger = logging.getLogger(__name__)

SERVED_POLL = 0.5  # seconds: a CRD is served within a second or two of being applied
POLL_CAP = 5.0  # seconds between two looks at an API server that does not answer, or refuses: a person is at work
REST_FIRST, REST_CAP = 1.0, 30.0  # seconds before the watch is begun anew: few, and more the oftener it ends
STEADY = 120.0  # seconds of watching after which an end of it is the first again
NAME_THREADS = 32  # look names up, four at most for one neighbour; a thread begins when it is needed
EXIT_TIMEOUT = 60.0  # seconds after which a stop that hangs ends the process; below the pod's grace of 90


def main(settings: Settings) -> None:
    """Run the operator until it is told to stop. Raises AddressesInvalid before anything is begun."""
    configure_logging(settings.log_format, settings.log_level)
    operator = Operator(settings)
    asyncio.run(operator.run())
    if operator.deposed:
        begin_anew()


def begin_anew() -> None:
    """The same process with nothing of its past, as a standby: an exit would be counted as a crash."""
    logging.shutdown()
    os.execv(sys.executable, [sys.executable, "-m", "vectorops", "run"])  # noqa: S606 - this very program, no shell


class Operator:
    """One running operator. Tests make one with kinds of their own."""

    def __init__(self, settings: Settings, kinds: Collection[Kind[Any, Any, Any]] = KINDS) -> None:
        self.settings, self.kinds = settings, kinds
        self.namespaces = settings.namespaces
        self.health = Health()
        self.loops = Loops(timedelta(seconds=settings.status_period_seconds))
        self.kubernetes = Kubernetes()
        self.health.refused = self._refused
        self.kubernetes.reviews.served = self.namespaces
        self.crds = Crds(self.kinds, self.kubernetes)
        self.health.outdated = self.crds.told
        self.health.silence = self.kubernetes.contact.silence
        POLICY.allow(settings.allowed_hosts)
        self.databases = Databases()
        self.work = Work(self.loops.wake)
        self.embedders = Embedders()
        secrets = Secrets(self.kubernetes, labels_required=settings.labels_required)
        self.addresses = Addresses(settings.service_addresses)
        self.services = SearchServices(self.addresses)
        stores = Stores(self.kubernetes, secrets, self.databases, services=self.services)
        self.loops.ctx = Context(self.kubernetes, secrets, self.databases, self.embedders, stores, self.work)
        self.loops.ctx.progress_deadline = timedelta(seconds=settings.progress_deadline_seconds)
        self.loops.ctx.withholding = (self.kubernetes.contact.cut_off, self.crds.outdated)
        stores.kept.held = self.loops.held
        self.loops.ctx.own_namespace = settings.own_namespace or own_namespace()
        if not self.namespaces:
            self.loops.ctx.cluster_uid = ClusterIdentity(self.kubernetes).uid
        self.watch = binding.Watch(self.kinds, self.namespaces, self.loops)
        self.watchdog = Watchdog(
            self.kinds,
            self.namespaces,
            self.kubernetes,
            self.loops,
            self.health,
            self.watch.covers,
            also=self.crds.look,
        )
        self.lease = self._candidate()
        self.deposed = False
        self._watching: asyncio.Task[None] | None = None
        self.stopped = asyncio.Event()

    def _candidate(self) -> Leadership | None:
        """With leader election: the claim to the lease, which every write to the API server then asks."""
        if not self.settings.leader_election:
            return None
        lease = Leadership(self.kubernetes.send, self.settings.lease_namespace, self.settings.lease_name)
        self.kubernetes.fence = lease.deposed
        return lease

    def _refused(self) -> str | None:
        return self.kubernetes.refused.told() or (self.lease.told() if self.lease is not None else None)

    async def run(self) -> None:
        """Serve, watch, and stop in order. Ends when it is told to stop."""
        self._hear_signals()
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(NAME_THREADS, "names"))
        port = serve(self.health, self.settings.http_host, self.settings.http_port)
        logger.info("metrics and probes on %s:%s", self.settings.http_host or "*", port)
        if self.settings.service_addresses:
            logger.info("service addresses: %s", self.addresses.describe())
        metrics.built()
        side = [asyncio.create_task(self.health.tick(), name="tick")]
        try:
            if await self._leads(side):
                self._watching = asyncio.create_task(self.watchdog.run(), name="watchdog")
                self._watching.add_done_callback(self._unwatched)
                side.append(self._watching)
                await self._keep_watching()
        finally:
            await self.stop()
            for task in side:
                task.cancel()
            await self.watch.end()
            await asyncio.gather(*side, return_exceptions=True)
            if self.lease is not None:
                await self.lease.release()  # nothing of ours is at work by now
            await self.kubernetes.close()

    async def _leads(self, side: list[asyncio.Task[None]]) -> bool:
        """At once, or, with a lease, when it is ours; a standby is ready. False: told to stop meanwhile."""
        if self.lease is None:
            return True
        begins, self.health.not_ready = self.health.not_ready, None
        logger.info("standing by: another operator may lead; ours is %s", self.lease.identity)
        if not await self.lease.lead(self.stopped):
            return False
        self.health.not_ready = begins
        metrics.led(True)
        logger.info("leading: lease %s/%s is ours", self.lease.namespace, self.lease.name)
        side.append(asyncio.create_task(self._keep_leading(self.lease), name="lease"))
        return True

    async def _keep_leading(self, lease: Leadership) -> None:
        await lease.keep()
        if self.stopped.is_set():
            return
        self.deposed = True
        metrics.led(False)
        logger.error("the lease was lost: letting go of everything, then standing by")
        self._ends()

    async def _keep_watching(self) -> None:
        """Watch until told to stop. Whatever ends the watch before, nothing of the work ends with it."""
        ends = 0
        while await self._kinds_served():
            await self._know_the_crds()
            began = time.monotonic()
            why = await self.watch.run(self.stopped)
            if self.stopped.is_set():
                return
            ends = 1 if time.monotonic() - began > STEADY else ends + 1
            self.health.not_ready = f"the watch has ended ({why}) and is begun anew"
            logger.warning("the watch has ended (%s) and is begun anew; work goes on meanwhile", why)
            metrics.watch_restarted()
            ceiling = min(REST_CAP, REST_FIRST * 2.0**ends)
            await self._rest(random.uniform(ceiling / 2, ceiling))  # noqa: S311 - jitter, no secret

    async def _know_the_crds(self) -> None:
        """Whether they are of this version is made sure of before anything is done to any object."""
        await self.crds.look()
        if self.crds.suspected and not self.crds.missing:
            await self._rest(DOUBT)
            await self.crds.look()

    def _hear_signals(self) -> None:
        """From the first moment: as PID 1 of a container a process without a handler is deaf."""
        if threading.current_thread() is not threading.main_thread():  # only there can they be heard; tests use others
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._told, number)

    def _told(self, number: signal.Signals) -> None:
        logger.info("%s: stopping", number.name)
        self.deposed = False
        self._ends()

    def _ends(self) -> None:
        self.stopped.set()
        last = threading.Timer(EXIT_TIMEOUT, os._exit, (1,))  # of a thread: the loop itself may be what hangs
        last.daemon = True
        last.start()

    def _unwatched(self, task: asyncio.Task[None]) -> None:
        if not self.stopped.is_set() and self.health.not_ready != "stopping":
            self.health.dead_watch = "the watchdog has ended"

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stopped.wait(), seconds)

    async def _kinds_served(self) -> bool:
        """Wait until every kind is served: Kopf, without scanning, would never watch one that comes later.

        And until each may be listed and watched: Kopf ends where it may not. False: told to stop meanwhile.
        """
        wanted, looks = {kind.names.plural for kind in self.kinds}, 0
        while not self.stopped.is_set():
            try:
                missing = wanted - await self.kubernetes.served()
                refused = None if missing else await self._refused_to_watch()
            except OperatorError as error:
                self._waits(f"the API server cannot be asked what it serves: {error.reason}")
                looks += 1
            else:
                if not missing and refused is None:
                    return True
                looks = 0 if missing else looks + 1
                if refused is not None:
                    metrics.failed("CustomResourceDefinition", refused.reason)
                    self._waits(f"{refused.reason}: {refused.message}")
                else:
                    self._waits(f"apply the CRDs of this version; not served yet: {', '.join(sorted(missing))}")
            await self._rest(min(POLL_CAP, SERVED_POLL * 2.0 ** min(looks, 8)))
        return False

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
