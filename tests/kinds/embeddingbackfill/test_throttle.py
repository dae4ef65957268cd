"""What holds a backfill up beside its own work. Pure: each case is a sentence."""

from __future__ import annotations

from vectorops.clients.activity import Replica
from vectorops.clients.service_figures import JobFigures
from vectorops.kinds.embeddingbackfill.resource import Reason, Throttle
from vectorops.kinds.embeddingbackfill.throttle import Seen, held_up

BOTH = Throttle(max_replica_lag_seconds=10, max_p95_milliseconds=500)


def reason(seen: Seen, throttle: Throttle = BOTH) -> str | None:
    trouble = held_up(throttle, seen)
    return None if trouble is None else str(trouble.reason)


def test_nothing_holds_it_up_where_all_keep_up() -> None:
    assert reason(Seen([Replica("standby", "streaming", 9.9)], "op", 500.0, JobFigures(0, 0, 7, 1))) is None


def test_a_standby_that_lags_is_waited_for_and_named() -> None:
    trouble = held_up(BOTH, Seen([Replica("b", "streaming", 11.0), Replica("a", "streaming", 99.0)], "op"))
    assert trouble is not None and trouble.reason == Reason.WaitingForReplica and not trouble.stalled
    assert trouble.message.startswith("Standby a, b lags more than 10 s")


def test_a_standby_with_nothing_to_replay_has_no_lag() -> None:
    assert reason(Seen([Replica("standby", "streaming", None)], "op")) is None


def test_lag_that_may_not_be_seen_needs_a_grant_which_is_named() -> None:
    trouble = held_up(BOTH, Seen([Replica("standby", None, None)], "op"))
    assert trouble is not None and trouble.stalled and trouble.reason == "InsufficientPrivilege"
    assert 'GRANT pg_monitor TO "op";' in trouble.message
    assert reason(Seen([Replica("standby", None, None)], "op"), Throttle()) is None, "and only where it was asked for"


def test_a_slow_service_is_waited_for_and_an_unknown_latency_is_not() -> None:
    assert reason(Seen(p95_milliseconds=501.0)) == Reason.WaitingForService
    assert reason(Seen(p95_milliseconds=None)) is None
    assert reason(Seen(p95_milliseconds=501.0), Throttle()) is None


def test_the_service_s_own_backfill_goes_first_whether_it_runs_or_waits() -> None:
    assert reason(Seen(jobs=JobFigures(waiting=1, active=0)), Throttle()) == Reason.ServiceBackfillRunning
    assert reason(Seen(jobs=JobFigures(waiting=None, active=2)), Throttle()) == Reason.ServiceBackfillRunning
    assert reason(Seen(jobs=JobFigures(completed=9)), Throttle()) is None
