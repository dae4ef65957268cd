"""A pass turns whatever happens into a verdict and a sleep; nothing escapes it, and no text of a surprise is told."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from pydantic import Field

from vectorops.errors import Means, Reason, Reasons, Stalled, Transient, Waiting
from vectorops.runtime import reconcile
from vectorops.runtime.api import ApiModel, CommonStatus, ShortText
from vectorops.runtime.context import Context
from vectorops.runtime.events import Recorder
from vectorops.runtime.kind import Action, Family, Kind, Names, Verdict, View
from vectorops.runtime.reconcile import STALLED_LOOK, Seen, look, one_pass, summarise, touch
from vectorops.runtime.tracked import FINALIZER, Tracked, older, turn

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CANARY = "hunter2-and-a-row"


class Words(ApiModel):
    """A spec."""

    words: ShortText = Field(description="Some.")


class Why(Reasons):
    """Reasons."""

    Fine = "Fine", "Nothing.", Means.GOOD


@dataclass
class Clock:
    """As much of a context as looking needs."""

    progress_deadline = timedelta(seconds=600)

    def clock(self) -> datetime:
        return NOON


def kind(observe: Any) -> Kind[Any, Any, Any]:
    async def act(*_: Any) -> Any:
        raise AssertionError("looking does not act")

    return Kind(
        names=Names("Word", "words", "word", "wrd"),
        family=Family.STANDING,
        room=__name__,
        spec=Words,
        status=CommonStatus,
        reasons=Why,
        columns=(),
        observe=observe,
        checks=(lambda view: Verdict(Why.Fine, "", ready="True", look_again=30.0),),
        act=act,
        figures=lambda view: CommonStatus(),
    )


def body(generation: int = 1, version: str = "10", **changes: Any) -> dict[str, Any]:
    meta = {
        "namespace": "shop", "name": "a", "uid": "u", "generation": generation, "resourceVersion": version,
        "creationTimestamp": "2026-01-01T10:00:00Z",
    }  # fmt: skip
    return {"metadata": meta | changes, "spec": {"words": f"of generation {generation}"}}


def tracked(observe: Any = None, **changes: Any) -> Tracked:
    return Tracked.begin(kind(observe), body(**changes), Recorder(), timedelta(seconds=5))


async def seen_after(error: Exception, **changes: Any) -> Seen:
    async def observe(*_: Any) -> Any:
        raise error

    return await look(cast("Context", Clock()), tracked(observe, **changes))


@pytest.mark.parametrize(
    ("error", "reason", "stalled", "after"),
    [
        (Stalled(Reason.SecretNotFound, "create it"), "SecretNotFound", True, STALLED_LOOK),
        (Waiting(Reason.LockHeld, "wait", after=3.0), "LockHeld", False, 3.0),
        (Transient(Reason.RateLimited, "later", after=20.0), "RateLimited", False, 20.0),
        (KeyError(CANARY), "InternalError", False, 0.0),
    ],
)
async def test_every_error_of_looking_is_a_verdict(error: Exception, reason: str, stalled: bool, after: float) -> None:
    seen = await seen_after(error)
    assert (seen.verdict.reason, seen.verdict.stalled, seen.verdict.look_again) == (reason, stalled, after)
    assert seen.verdict.ready != "True"
    assert seen.own is None


async def test_the_text_of_a_surprise_is_told_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        seen = await seen_after(ValueError(CANARY))
    assert CANARY not in seen.verdict.message
    assert CANARY not in caplog.text
    assert "raise error" in caplog.text, "but where it came from is"


async def test_a_spec_that_cannot_be_read_names_the_field() -> None:
    following = tracked()
    following.raw_spec = {"words": ["no", "text"]}
    seen = await look(cast("Context", Clock()), following)
    assert seen.verdict.reason == Reason.InvalidSpec
    assert "words" in seen.verdict.message


async def test_an_object_that_cannot_be_seen_keeps_its_finalizer() -> None:
    error = Transient(Reason.DatabaseUnavailable, "down")
    assert (await seen_after(error, finalizers=[FINALIZER])).holds
    assert not (await seen_after(error)).holds


async def test_a_neighbour_that_says_nothing_ends_the_pass_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "PASS_SECONDS", 0.01)

    async def observe(*_: Any) -> Any:
        await asyncio.Event().wait()

    seen = await look(cast("Context", Clock()), tracked(observe))
    assert (seen.verdict.reason, seen.verdict.backs_off > 0) == (Reason.PassTimedOut, True)


async def test_an_act_that_never_ends_is_ended_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "PASS_SECONDS", 0.01)

    async def act(*_: Any) -> Any:
        await asyncio.Event().wait()

    following = tracked()
    following.kind = replace(kind(None), act=act)
    seen = Seen(Verdict(Why.Fine, "", ready="True", action=Action()), (), CommonStatus(), Words(words=""), holds=False)
    after, acted = await touch(cast("Context", Clock()), following, seen)
    assert (after.verdict.reason, after.verdict.ready, acted) == (Reason.PassTimedOut, "True", False)


async def test_an_object_that_is_gone_is_never_there_again() -> None:
    following = tracked()

    class Late(Clock):
        """An API server whose answer comes after the watch has told of the deletion."""

        @property
        def kubernetes(self) -> Late:
            return self

        async def replace_status(self, *_: Any) -> dict[str, Any]:
            following.gone = True
            return {"metadata": {"resourceVersion": "11"}}

        async def create_event(self, *_: Any) -> str:
            return "event"

    seen = Seen(Verdict(Why.Fine, "", ready="True"), own=(), figures=CommonStatus())
    await summarise(cast("Context", Late()), following, seen)
    assert following.gone, "the former code: not gone, and followed for ever by a loop that nobody knows"


def test_a_pass_speaks_of_the_generation_it_began_with() -> None:
    following = tracked(generation=1, version="10")
    assert following.offer(body(generation=2, version="11"))
    assert following.subject.generation == 1, "until the next pass begins"
    following.take()
    assert (following.subject.generation, following.raw_spec["words"]) == (2, "of generation 2")


@pytest.mark.parametrize(
    ("sentence", "later", "wakes"),
    [
        ("our own status write", body(version="11"), False),
        ("labels and annotations of others", body(version="11", labels={"a": "b"}, annotations={"x/y": "z"}), False),
        ("somebody else's finalizer", body(version="11", finalizers=["x/y"]), False),
        ("a late echo of an older version", body(generation=2, version="9"), False),
        ("a new generation", body(generation=2, version="11"), True),
        ("an annotation of ours", body(version="11", annotations={"vectorops.dev/abandon": "true"}), True),
        ("a deletion", body(version="11", deletionTimestamp="2026-01-01T12:00:00Z"), True),
    ],
)
def test_only_what_a_decision_may_use_wakes_an_object(sentence: str, later: dict[str, Any], wakes: bool) -> None:
    assert tracked(version="10").offer(later) is wakes, sentence


def test_resource_versions_are_compared_as_numbers_where_they_are_numbers() -> None:
    assert older("9", "10")
    assert not older("10", "9")
    assert not older("abc", "10")


def test_an_event_is_told_when_the_reason_of_ready_turns_and_only_then() -> None:
    def status(reason: str, message: str) -> dict[str, Any]:
        return {"conditions": [{"type": "Ready", "status": "False", "reason": reason, "message": message}]}

    assert [e.reason for e in turn({}, status("Building", "3 %"))] == ["Building"]
    assert turn(status("Building", "3 %"), status("Building", "9 %")) == ()
    assert [e.reason for e in turn(status("Building", "9 %"), status("Fine", ""))] == ["Fine"]


def test_a_view_shows_nothing_that_can_be_called_to_touch_the_world() -> None:
    view = View(tracked().subject, Words(words="a"), object(), CommonStatus(), NOON)
    assert isinstance(view.now, datetime)
    assert not any(callable(value) for value in vars(view).values())
    assert not Action.leaves


async def test_nothing_is_begun_for_an_object_that_turned_out_to_be_gone() -> None:
    class Gone(Clock):
        """An API server that knows the object no more."""

        @property
        def kubernetes(self) -> Gone:
            return self

        async def patch_metadata(self, *_: Any, **__: Any) -> None:
            return None

    following = tracked()
    verdict = Verdict(Why.Fine, "", action=Action())
    seen = Seen(verdict, own=(), spec=Words(words="a"), holds=True)  # the finalizer comes first, and meets a 404
    after, acted = await touch(cast("Context", Gone()), following, seen)
    assert (after.verdict, acted, following.gone) == (verdict, False, True), "act would have raised AssertionError"


@pytest.mark.parametrize(("token", "status"), [("first", "True"), ("second", None)])
async def test_complete_is_carried_over_an_error_only_within_one_run(token: str, status: str | None) -> None:
    following = tracked()
    following.kind = replace(following.kind, family=Family.RUN_TO_COMPLETION)
    following.written = {"runToken": "first", "conditions": [{"type": "Complete", "status": "True", "reason": "Done"}]}
    following.raw_spec = {"runToken": token}
    told: list[Any] = []

    async def write(_: Any, stated: Any, __: Any) -> None:
        told.extend(stated)

    following.write_status = write  # type: ignore[method-assign, assignment]
    await summarise(
        cast("Context", Clock()), following, await seen_after(Transient(Reason.DatabaseUnavailable, "down"))
    )
    complete = next((c.status for c in told if c.type == "Complete"), None)
    assert complete == status or (status is None and complete != "True")


async def test_a_status_that_could_not_be_written_is_tried_again_soon_however_long_the_plan_would_sleep() -> None:
    following = tracked()

    async def observe(*_: Any) -> Any:
        return None

    async def write(_: Any, __: Any, ___: Any) -> None:
        raise Stalled(Reason.RBACMissing, "no right")

    following.kind = replace(
        kind(observe), checks=(lambda view: Verdict(Why.Fine, "", ready="True", look_again=3600.0),)
    )
    following.finalizers = []
    following.subject = replace(following.subject, has_finalizer=False)
    following.write_status = write  # type: ignore[method-assign, assignment]
    assert await one_pass(cast("Context", Clock()), following) == STALLED_LOOK


async def test_an_act_that_fails_after_the_end_does_not_undo_the_end() -> None:
    async def act(*_: Any) -> Any:
        raise Stalled(Reason.RBACMissing, "may not delete")

    following = tracked()
    following.kind = replace(kind(None), family=Family.RUN_TO_COMPLETION, act=act)
    ended = Verdict(Why.Fine, "done", ready="True", complete=True, action=Action())
    before = Seen(ended, (), CommonStatus(), Words(words=""), None, holds=False)
    seen, acted = await touch(cast("Context", Clock()), following, before)
    assert not acted
    assert (seen.verdict.complete, seen.verdict.ready, seen.verdict.reason) == (True, "True", Why.Fine)
    assert seen.own is not None
    assert [(one.type, one.status, one.reason) for one in seen.own] == [("Blocked", "True", Reason.RBACMissing)]
