"""When the next pass comes: nothing makes a hot loop. Requests are counted in simulated time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vectorops.errors import Means, OperatorError, Reason, Reasons, Stalled, Transient
from vectorops.runtime.api import ApiModel, CommonStatus
from vectorops.runtime.context import Context
from vectorops.runtime.events import Recorder
from vectorops.runtime.kind import Action, Expire, Family, Kind, Names, Outcome, Verdict, View
from vectorops.runtime.passes.pace import BACKOFF_CAP, EARNED, PURSE, UNWRITTEN_LOOK, Pace, backoff
from vectorops.runtime.reconcile import one_pass
from vectorops.runtime.tracked import FINALIZER, Tracked

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Spec(ApiModel):
    """Nothing to ask for."""


class Why(Reasons):
    """Reasons."""

    Fine = "Fine", "Nothing.", Means.GOOD


@dataclass(frozen=True)
class Poke(Action):
    """Changes nothing."""

    at: int = 0


class Api:
    """An API server that counts what it is sent and answers as it is told."""

    def __init__(self, error: OperatorError | None = None) -> None:
        self.error = error
        self.sent: list[tuple[str, float]] = []
        self.told: list[str] = []
        self.now = 0.0
        self.version = 100

    def _answer(self, what: str, error: OperatorError | None) -> dict[str, Any]:
        self.sent.append((what, self.now))
        if error is not None:
            raise error
        self.version += 1
        return {"metadata": {"resourceVersion": str(self.version)}}

    async def patch_metadata(self, *_: Any, **__: Any) -> dict[str, Any]:
        return self._answer("finalizer", self.error)

    async def replace_status(self, *_: Any) -> dict[str, Any]:
        return self._answer("status", self.error)

    async def create_event(self, _: str, event: dict[str, Any]) -> str:
        self.told.append(event["reason"])
        return "event"

    async def patch_event(self, *_: Any) -> bool:
        return True

    async def delete(self, *_: Any) -> None:
        self._answer("delete", None)

    def times(self, what: str) -> list[float]:
        return [at for sent, at in self.sent if sent == what]


def kind(verdict: Any, *, holds: bool = False) -> Kind[Any, Any, Any]:
    async def observe(*_: Any) -> None:
        return None

    async def act(ctx: Any, _: Any, __: Any, ___: Any, action: Action) -> Outcome:
        if isinstance(action, Expire):
            await ctx.kubernetes.delete()
        return Outcome()

    return Kind(
        names=Names("Word", "words", "word", "wrd"), family=Family.STANDING, room=__name__, spec=Spec,
        status=CommonStatus, reasons=Why, columns=(), observe=observe, checks=(verdict,), act=act,
        figures=lambda view: CommonStatus(), holds=lambda view: holds,
    )  # fmt: skip


async def passes_in(seconds: float, api: Api, one: Kind[Any, Any, Any], **meta: Any) -> int:
    """Follow an object for so many simulated seconds; how many passes it had."""
    about = {
        "namespace": "shop", "name": "a", "uid": "u", "generation": 1, "resourceVersion": "10",
        "creationTimestamp": "2026-01-01T10:00:00Z", **meta,
    }  # fmt: skip
    tracked = Tracked.begin(one, {"metadata": about, "spec": {}}, Recorder(), timedelta(seconds=5))
    tracked.now = lambda: api.now
    ctx = cast("Context", SimpleNamespace(
        kubernetes=api, clock=lambda: NOON + timedelta(seconds=api.now), own_namespace="", work=None,
        progress_deadline=timedelta(seconds=600)
    ))  # fmt: skip
    count = 0
    while True:
        api.now += tracked.pace.wait(api.now)
        if api.now > seconds:
            return count
        count += 1
        api.now += await one_pass(ctx, tracked) + 0.001


def undoing(view: View[Any, Any, Any]) -> Verdict:
    return Verdict(Reason.Deleting, "undoing", look_again=1.0)


@pytest.mark.parametrize(
    ("error", "most"),
    [
        (Stalled(Reason.RBACMissing, "no right"), 10),
        (Transient(Reason.KubernetesUnavailable, "down"), 75),
        (Transient(Reason.KubernetesUnavailable, "later", after=60.0), 10),
        (Transient(Reason.InternalError, "refused (422)", after=60.0), 10),
    ],
)
async def test_a_finalizer_that_cannot_be_taken_away_after_its_time_makes_no_hot_loop(
    error: OperatorError, most: int
) -> None:
    api = Api(error)
    deleted = {"deletionTimestamp": "2026-01-01T11:00:00Z", "finalizers": [FINALIZER]}
    await passes_in(590, api, kind(undoing, holds=False), **deleted)
    assert 2 <= len(api.times("finalizer")) <= most, "the former code: up to twenty a second"
    if error.after if isinstance(error, Transient) else False:
        gaps = [b - a for a, b in zip(api.times("finalizer"), api.times("finalizer")[1:], strict=False)]
        assert min(gaps) >= cast("Transient", error).after, "Retry-After is kept, the finalizer's and the status's"


async def test_a_time_limit_that_is_over_makes_no_hot_loop_where_the_finalizer_stays() -> None:
    api = Api(Stalled(Reason.RBACMissing, "no right"))
    deleted = {"deletionTimestamp": "2026-01-01T10:00:00Z", "finalizers": [FINALIZER]}

    def broken(view: View[Any, Any, Any]) -> Verdict:
        return Verdict(Reason.DatabaseUnavailable, "down", look_again=5.0)

    await passes_in(1200, api, kind(broken, holds=True), **deleted)
    assert 5 <= len(api.times("finalizer")) <= 20, "once a minute after the ten; the former code: twenty a second"


async def test_an_object_whose_time_to_live_is_over_is_deleted_once_and_then_looked_at_again() -> None:
    api = Api()
    await passes_in(29, api, kind(lambda view: Verdict(Why.Fine, "", ready="True", action=Expire())))
    assert len(api.times("delete")) == 1, "the former code: 163 a second, until the watch tells"
    api = Api()
    await passes_in(300, api, kind(lambda view: Verdict(Why.Fine, "", ready="True", action=Expire())))
    assert 5 <= len(api.times("delete")) <= 11, "and again, in case it was lost"


async def test_the_same_act_again_and_again_backs_off() -> None:
    count = await passes_in(64, Api(), kind(lambda view: Verdict(Why.Fine, "", action=Poke())))
    assert 7 <= count <= 9, "at 0, 0, 1, 3, 7, 15, 31 and 63 s"


async def test_ever_other_acts_in_a_row_back_off_too() -> None:
    at = iter(range(1_000_000))
    count = await passes_in(100, Api(), kind(lambda view: Verdict(Why.Fine, "", action=Poke(next(at)))))
    assert 9 <= count <= 20


async def test_no_verdict_makes_a_hot_loop() -> None:
    count = await passes_in(100, Api(), kind(lambda view: Verdict(Why.Fine, "", ready="True", look_again=0.0)))
    assert count <= PURSE + 100 * EARNED + 2, "the former code: 2,000"


async def test_a_short_chain_of_different_acts_is_not_held_up() -> None:
    at = iter(range(1_000_000))

    def five_steps(view: View[Any, Any, Any]) -> Verdict:
        step = next(at)
        return Verdict(Why.Fine, "", action=Poke(step) if step < 5 else None, look_again=60.0)

    api = Api()
    await passes_in(1.0, api, kind(five_steps))
    assert next(at) == 6, "five acts and the look after them, all within the second"


async def test_a_status_that_cannot_be_written_waits_as_long_as_the_api_server_asks() -> None:
    api = Api(Transient(Reason.KubernetesUnavailable, "429", after=60.0))
    await passes_in(300, api, kind(lambda view: Verdict(Why.Fine, "", ready="True", look_again=5.0)))
    gaps = [b - a for a, b in zip(api.times("status"), api.times("status")[1:], strict=False)]
    assert min(gaps) >= 60.0, "the former code: every 10 s"


async def test_a_status_that_cannot_be_written_is_tried_again_soon_and_ever_less_often() -> None:
    api = Api(Transient(Reason.KubernetesUnavailable, "503"))
    await passes_in(400, api, kind(lambda view: Verdict(Why.Fine, "", ready="True", look_again=3600.0)))
    times = api.times("status")
    assert times[1] - times[0] == pytest.approx(UNWRITTEN_LOOK, abs=0.1)
    assert len(times) <= 9


@given(st.integers(1, 10_000))
def test_back_off_grows_is_jittered_and_capped(failures: int) -> None:
    ceiling = min(BACKOFF_CAP, 2.0 ** min(failures, 16))
    assert ceiling / 10 <= backoff(failures) <= ceiling


def test_back_off_spreads_those_who_failed_together() -> None:
    delays = sorted(backoff(8) for _ in range(200))
    ceiling = BACKOFF_CAP
    assert delays[20] < ceiling / 3 and delays[-20] > ceiling * 2 / 3, "those of one database come back apart"
    assert len(set(delays)) > 190


@given(st.lists(st.floats(0, 5), min_size=1, max_size=300))
def test_whatever_wakes_an_object_it_has_no_more_passes_than_the_purse_allows(pauses: list[float]) -> None:
    pace, now = Pace(), 0.0
    for passes, pause in enumerate(pauses, start=1):
        now += pace.wait(now)
        assert passes <= PURSE + 1 + now * EARNED
        now += pause


def test_an_error_backs_off_and_a_success_ends_it() -> None:
    pace = Pace()
    failing = Verdict(Reason.DatabaseUnavailable, "", look_again=0.0, backs_off=BACKOFF_CAP)
    for _ in range(8):
        pace.saw(failing)
    assert pace.next_pass(failing, deadline=float("inf"), asked=0.0) >= BACKOFF_CAP / 10
    assert pace.next_pass(failing, deadline=3.0, asked=0.0) <= 3.0, "what is due wakes earlier"
    fine = replace(failing, backs_off=0.0, look_again=2.0)
    pace.saw(fine)
    assert pace.next_pass(fine, deadline=float("inf"), asked=0.0) == 2.0


@pytest.mark.parametrize("deleted", ["2020-01-01T00:00:00Z", "2030-01-01T00:00:00Z"])
async def test_neither_a_deletion_of_long_ago_nor_a_wrong_clock_gives_anything_up(deleted: str) -> None:
    api, left = Api(), ["the index"]

    def undone(view: View[Any, Any, Any]) -> Verdict:
        return Verdict(Reason.Deleting, "undoing", action=Poke() if left else None, look_again=1.0)

    async def act(*_: Any) -> Outcome:
        left.clear()
        return Outcome()

    one = replace(kind(undone), act=act, holds=lambda view: bool(left))
    await passes_in(30, api, one, deletionTimestamp=deleted, finalizers=[FINALIZER])
    assert not left, "the former code: released at once, untried"
    assert api.times("finalizer"), "and it goes"
    assert "Abandoned" not in api.told


async def test_what_is_given_up_is_told_once_and_only_after_every_try(caplog: pytest.LogCaptureFixture) -> None:
    api = Api()

    async def observe(*_: Any) -> None:
        api.sent.append(("look", api.now))
        raise Transient(Reason.DatabaseUnavailable, "down")

    one = replace(kind(undoing), observe=observe, residue="what {uid} made")
    await passes_in(700, api, one, deletionTimestamp="2020-01-01T00:00:00Z", finalizers=[FINALIZER])
    released = api.times("finalizer")[0]
    assert released >= 600, "the limit, from the first try on"
    assert len([at for at in api.times("look") if at < released]) >= 30
    assert api.told.count("Abandoned") == 1
    assert "left outside may be what u made, in the database of VectorStore" in caplog.text
