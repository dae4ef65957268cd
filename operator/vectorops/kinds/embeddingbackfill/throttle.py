"""What must not suffer: standbys that lag, a service that is slow or embeds the same rows itself. Pure.

A figure that nobody knows holds nothing up: an endpoint that the service lacks would else park the work for ever. Lag
that our role may not see does: it was asked for, and a GRANT mends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vectorops.clients.activity import Replica
from vectorops.clients.service_figures import JobFigures
from vectorops.clients.sql import quote_ident
from vectorops.errors import Reason as Shared
from vectorops.kinds.embeddingbackfill.observation import Trouble
from vectorops.kinds.embeddingbackfill.parts import Throttle
from vectorops.kinds.embeddingbackfill.reasons import Reason


@dataclass(frozen=True)
class Seen:
    """What is looked at; None and () where it is not."""

    replicas: Sequence[Replica] = ()
    role: str = ""
    p95_milliseconds: float | None = None
    jobs: JobFigures | None = None


def held_up(throttle: Throttle, seen: Seen) -> Trouble | None:
    """Why nothing is to be sent now, or None. The words do not change with every second."""
    return _job(seen) or _replicas(throttle, seen) or _latency(throttle, seen)


def _job(seen: Seen) -> Trouble | None:
    jobs = seen.jobs
    if jobs is None or not ((jobs.active or 0) + (jobs.waiting or 0)):
        return None
    text = f"The search service embeds rows itself. {Reason.ServiceBackfillRunning.next_step}"
    return Trouble(Reason.ServiceBackfillRunning, text)


def _replicas(throttle: Throttle, seen: Seen) -> Trouble | None:
    most = throttle.max_replica_lag_seconds
    if most is None:
        return None
    if any(replica.state is None for replica in seen.replicas):
        grant = f"GRANT pg_monitor TO {quote_ident(seen.role)}"
        text = f"Our role may not see how far the standbys are. Have an administrator run: {grant};"
        return Trouble(Shared.InsufficientPrivilege, text, stalled=True)
    behind = [r.application_name or "unnamed" for r in seen.replicas if (r.lag_seconds or 0) > most]
    if not behind:
        return None
    names = ", ".join(sorted(behind))
    text = f"Standby {names} lags more than {most} s (throttle.maxReplicaLagSeconds). "
    return Trouble(Reason.WaitingForReplica, text + Reason.WaitingForReplica.next_step)


def _latency(throttle: Throttle, seen: Seen) -> Trouble | None:
    most, now = throttle.max_p95_milliseconds, seen.p95_milliseconds
    if most is None or now is None or now <= most:
        return None
    text = f"The search service's p95 latency is above {most} ms (throttle.maxP95Milliseconds). "
    return Trouble(Reason.WaitingForService, text + Reason.WaitingForService.next_step)
