"""The contract of a room: what a kind must say so that the runtime can reconcile it.

A room observes (reads the world), decides (pure) and acts (one bounded step); the runtime does everything else:
the loop, finalizers, conditions, status, events, metrics, back-off. The contract knows two families: standing
kinds keep something so, run-to-completion kinds end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from pydantic import BaseModel

from vectorops.errors import Means, Reason, Reasons

if TYPE_CHECKING:
    from vectorops.runtime.context import Context

S = TypeVar("S", bound=BaseModel)  # the spec as the user wrote it
T = TypeVar("T", bound=BaseModel)  # the status as the user reads it
O = TypeVar("O")  # noqa: E741  the observation: a frozen dataclass

Tristate = Literal["True", "False", "Unknown"]


class Family(Enum):
    """How a kind ends, and so which conditions it carries."""

    STANDING = "standing"  # Ready
    RUN_TO_COMPLETION = "run to completion"  # Ready, Complete, Failed, Suspended


@dataclass(frozen=True)
class Names:
    """The kind's names in the API, as in a CRD's `spec.names`."""

    kind: str
    plural: str
    singular: str
    short: str


@dataclass(frozen=True)
class Column:
    """One printer column of `kubectl get`. `priority` 1 shows it with `-o wide` only."""

    name: str
    json_path: str
    type: Literal["string", "integer", "date", "boolean"] = "string"
    description: str = ""
    priority: int = 0


@dataclass(frozen=True)
class Grant:
    """One RBAC rule that the room needs beyond its own objects, and why."""

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    why: str
    names: tuple[str, ...] = ()  # only objects of these names; empty: of any
    cluster_wide: bool = False  # of a kind without namespaces: left out where only named namespaces are served


@dataclass(frozen=True)
class Subject:
    """The object a pass is about: its identity and the few pieces of metadata that decisions may use."""

    kind: str
    namespace: str
    name: str
    uid: str
    generation: int
    created: datetime
    deleting_since: datetime | None = None
    has_finalizer: bool = False
    annotations: Mapping[str, str] = field(default_factory=dict)  # only those under vectorops.dev/

    @property
    def abandoned(self) -> bool:
        """Whether a person asked to let go of what is outside (annotation `vectorops.dev/abandon`)."""
        return self.annotations.get("vectorops.dev/abandon", "").lower() == "true"

    @property
    def released(self) -> bool:
        """Whether `vectorops release` (an uninstall) let go of it: nothing is begun that leaves something outside."""
        return self.annotations.get("vectorops.dev/release", "").lower() == "true"


@dataclass(frozen=True)
class Action:
    """One bounded step. Rooms subclass it, frozen, with what the step needs; the class name names it in logs.

    `leaves` is True for a step after which something outside would have to be undone by a deletion: the finalizer is
    then written before the step, so that a crash between the two leaves no orphan.
    """

    leaves: ClassVar[bool] = False
    rest: ClassVar[float] = 0.0  # seconds before the pass that looks what came of it; 0: at once


@dataclass(frozen=True)
class Expire(Action):
    """Delete the object: ttlSecondsAfterFinished is over. Once, then the watch is given time to tell of it."""

    rest: ClassVar[float] = 30.0


@dataclass(frozen=True)
class Condition:
    """A condition as a room states it; the runtime adds generation and transition time."""

    type: str
    status: Tristate
    reason: str
    message: str = ""


@dataclass(frozen=True)
class View(Generic[S, O, T]):
    """All that a decision may look at. Nothing in here can be called to touch the world."""

    subject: Subject
    spec: S
    observed: O
    status: T  # as last written
    now: datetime  # timezone-aware UTC


@dataclass(frozen=True)
class Verdict:
    """What the first matching check says: why, in words, and at most one action."""

    reason: Reasons | str
    message: str
    ready: Tristate = "False"
    reconciling: bool = False  # work goes on or is waited for
    stalled: bool = False  # it gets no further without a person
    complete: bool = False  # run-to-completion kinds only, like the two below
    failed: bool = False
    suspended: bool = False  # a person's word or a clock is waited for
    blocked: bool = False  # Ready stays True, for it serves; what was asked for needs a person
    action: Action | None = None
    look_again: float = 30.0  # seconds until the next pass, unless an act or a wake comes first
    backs_off: float = 0.0  # trying again is the remedy, ever more slowly, at most so many seconds apart; 0: no failure


Check = Callable[[View[S, O, T]], Verdict | None]


@dataclass(frozen=True)
class Event:
    """Something worth a line in `kubectl describe` that is not already the turn of Ready's reason."""

    reason: str
    message: str
    warning: bool = False


@dataclass(frozen=True)
class Outcome:
    """What an act has to tell. The next pass follows at once and sees the world for itself."""

    events: tuple[Event, ...] = ()


def nothing_held(view: View[Any, Any, Any]) -> bool:
    """For rooms that leave nothing outside which would have to be undone."""
    return False


def no_conditions(view: View[Any, Any, Any]) -> tuple[Condition, ...]:
    """For rooms without conditions of their own."""
    return ()


@dataclass(frozen=True)
class Kind(Generic[S, O, T]):
    """A room's door. Everything the runtime, the CRD, RBAC and the docs need to know of one kind."""

    names: Names
    family: Family
    room: str  # the package, e.g. "vectorops.kinds.vectorindex"
    spec: type[S]
    status: type[T]
    reasons: type[Reasons]
    columns: tuple[Column, ...]
    observe: Callable[[Context, Subject, S, T], Awaitable[O]]
    checks: tuple[Check[S, O, T], ...]  # ordered; the first verdict wins; the last one must always answer
    act: Callable[[Context, Subject, S, O, Action], Awaitable[Outcome]]
    figures: Callable[[View[S, O, T]], T]  # pure: the status fields of this kind, without conditions
    conditions: Callable[[View[S, O, T]], tuple[Condition, ...]] = no_conditions  # pure: beyond the family's
    holds: Callable[[View[S, O, T]], bool] = nothing_held  # pure: must something outside be undone before deletion?
    residue: str = ""  # what an abandoned deletion may leave outside, in words; {uid} stands for the object's
    grants: tuple[Grant, ...] = ()
    stop: Callable[[Context, Subject], Coroutine[Any, Any, None]] | None = None  # the object is gone: end its work

    def decide(self, view: View[S, O, T]) -> Verdict:
        """The first check that has something to say. A room whose last check may be silent is a bug."""
        for check in self.checks:
            verdict = check(view)
            if verdict is not None:
                return verdict
        raise AssertionError(f"{self.names.kind}: no check answered")

    def means(self, reason: str) -> Means | None:
        """What the reason says of an object of this kind; None for a word that no enum holds."""
        return next((word.means for word in (*self.reasons, *Reason) if word == reason), None)
