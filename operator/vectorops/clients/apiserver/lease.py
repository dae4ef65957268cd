"""One leader among several operators, by a Lease: who leads, until when it may say so, and when that is over.

The election is the official client's (`kubernetes.aio.leaderelection`); the lock is ours, because its own brings every
typed model with it. What the client does not do is done here: a leader knows for itself how long its word counts, by a
clock that goes on while the process is stopped, and a lease that was not renewed in time is lost for good, also when
nobody else has taken it yet. Refused: ending the work (that is the composition root's), and leading a second time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from vectorops.clients.kubernetes_errors import Missing, Request, Resource
from vectorops.errors import OperatorError, Reason, Stalled, Transient

logger = logging.getLogger(__name__)

LEASES = Resource("coordination.k8s.io", "v1", "leases")
LEASE_SECONDS = 15  # after which others may take it; this and the next two are controller-runtime's
RENEW_SECONDS = 10.0  # for which a renewal counts for ourselves: the rest is for what is on its way
RETRY_SECONDS = 2.0  # between two renewals, or two looks of a standby
ASK_SECONDS = 5.0  # for one request: a renewal that hangs is tried again while there is time
REFUSAL_SECONDS = 30.0  # for which a refusal is told: a standby looks every two seconds, and may have no need to claim
LOOK_SECONDS = 0.5  # between two looks at the clock: after a pause the loss is seen before anything is sent

Send = Callable[..., Awaitable[dict[str, Any]]]


def uptime() -> float:
    """Seconds that go on while the process is stopped, and, where the system has it, while the machine sleeps."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def own_name() -> str:
    """Of this process, and of no other: a pod that begins anew is another one."""
    return f"{socket.gethostname()}_{uuid.uuid4()}"


class Leadership:
    """The lease of one group of operators, and this process's claim to it."""

    def __init__(
        self, send: Send, namespace: str, name: str, identity: str = "", clock: Callable[[], float] = uptime
    ) -> None:
        self.identity = identity or own_name()
        self._send, self._namespace, self._name, self._clock = send, namespace, name, clock
        self._until = 0.0  # by our clock: so long our word counts
        self._asked = 0.0
        self._leading = self._over = False
        self._lease: dict[str, Any] = {}
        self._election: Any = None
        self._refused, self._refused_at = "", 0.0  # what a person must mend before it can be ours

    def held(self) -> bool:
        """Whether this process leads now, for sure."""
        return self._leading and not self._over and self._clock() < self._until

    def deposed(self) -> Transient | None:
        """Why nothing may be written now. None while this process leads."""
        if self.held():
            return None
        return Transient(Reason.Deposed, "The lease was lost: another operator may lead by now, and nothing is sent.")

    def told(self) -> str | None:
        """For `/readyz`: why the lease can be neither read nor claimed, where only a person can mend that."""
        return self._refused if self._refused and self._clock() - self._refused_at < REFUSAL_SECONDS else None

    async def lead(self, stopped: asyncio.Event) -> bool:
        """Stand by until the lease is ours. False: told to stop meanwhile."""
        self._election = await asyncio.to_thread(self._make)
        acquiring, stop = asyncio.ensure_future(self._election.acquire()), asyncio.ensure_future(stopped.wait())
        await asyncio.wait({acquiring, stop}, return_when=asyncio.FIRST_COMPLETED)
        led = acquiring.done() and acquiring.result() and not stopped.is_set()
        for task in (acquiring, stop):
            task.cancel()
        await asyncio.gather(acquiring, stop, return_exceptions=True)
        self._leading = led
        return led

    async def keep(self) -> None:
        """Renew until the lease is lost; then it stays lost."""
        renewing = asyncio.ensure_future(self._election.renew_loop())
        try:
            while not renewing.done() and self._clock() < self._until:
                await asyncio.wait({renewing}, timeout=LOOK_SECONDS)
        finally:
            self._over = True
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)

    async def release(self) -> None:
        """Let a standby lead at once. Only what is still ours is given away; at best."""
        if not self._leading or not self._lease or self._clock() >= self._until:
            return
        self._over = True
        spec = {**self._lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
        with contextlib.suppress(OperatorError, TimeoutError):
            await self._ask("update", "PUT", {**self._lease, "spec": spec})

    # -- the lock, as the election asks for it ------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Of the Lease."""
        return self._name

    @property
    def namespace(self) -> str:
        """Of the Lease."""
        return self._namespace

    async def get(self, name: str, namespace: str) -> tuple[bool, Any]:
        """Whether it is there, and who has it; or why that is not known."""
        from kubernetes.aio.client.exceptions import ApiException
        from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord

        self._asked = self._clock()
        try:
            self._lease = await self._ask("get", "GET")
        except Missing:
            absent = ApiException(status=404, reason="NotFound")
            absent.body = '{"code": 404}'
            return False, absent
        except (OperatorError, TimeoutError) as error:
            return False, ApiException(status=0, reason=type(error).__name__)
        spec = self._lease.get("spec") or {}
        times = spec.get("acquireTime"), spec.get("renewTime")
        return True, LeaderElectionRecord(spec.get("holderIdentity") or None, spec.get("leaseDurationSeconds"), *times)

    async def create(self, name: str, namespace: str, election_record: Any) -> bool:
        """Make it, as ours."""
        body = {
            "apiVersion": f"{LEASES.group}/{LEASES.version}",
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": self._spec({}),
        }
        return await self._claim("create", "POST", body)

    async def update(self, name: str, namespace: str, updated_record: Any) -> bool:
        """Take it or renew it, unless somebody changed it since it was read."""
        if self._leading and self._clock() >= self._until:
            return False  # too late: who leads by now, or may, is not for us to say
        return await self._claim("update", "PUT", {**self._lease, "spec": self._spec(self._lease.get("spec") or {})})

    async def _claim(self, verb: str, method: str, body: dict[str, Any]) -> bool:
        try:
            self._lease = await self._ask(verb, method, body)
        except (OperatorError, TimeoutError) as error:
            logger.debug("the lease was not claimed: %s", error)
            return False
        self._until = self._asked + RENEW_SECONDS
        return True

    async def _ask(self, verb: str, method: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        name = None if verb == "create" else self._name
        try:
            async with asyncio.timeout(ASK_SECONDS):
                answer = await self._send(Request(verb, LEASES, self._namespace, name), method, body=body)
        except Stalled as error:
            if self.told() != (told := f"{error.reason}: {error.message}"):
                logger.error("the lease %s/%s cannot be ours: %s", self._namespace, self._name, told)
            self._refused, self._refused_at = told, self._clock()
            raise
        if verb != "get":  # what was refused may be the claim alone
            self._refused = ""
        return answer

    def _spec(self, former: dict[str, Any]) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        mine = former.get("holderIdentity") == self.identity
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": LEASE_SECONDS,
            "acquireTime": former.get("acquireTime", now) if mine else now,
            "renewTime": now,
            "leaseTransitions": int(former.get("leaseTransitions") or 0) + (0 if mine else 1),
        }

    def _make(self) -> Any:
        """Half a second of imports, in a thread."""
        from kubernetes.aio.leaderelection import leaderelection
        from kubernetes.aio.leaderelection.electionconfig import Config

        async def nothing() -> None:
            """What the client would call at both turns; this module tells them itself."""

        leaderelection.logger.setLevel(logging.CRITICAL)  # an error a look would fill the log of an outage
        lock: Any = self
        return leaderelection.LeaderElection(
            Config(
                lock,
                lease_duration=LEASE_SECONDS,
                renew_deadline=RENEW_SECONDS,
                retry_period=RETRY_SECONDS,
                onstarted_leading=nothing,
                onstopped_leading=nothing,
            )
        )
