"""Adding a kind is what docs/architecture.md says: types and three functions, and the runtime does the rest.

A kind of this test's own, Greeting, keeps a ConfigMap-like thing outside (a file), so that holding, undoing, errors
and conditions are all seen through the contract alone.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import yaml
from pydantic import Field

from vectorops.app import Operator
from vectorops.errors import Means, Reasons, Stalled
from vectorops.runtime.api import ApiModel, CommonStatus, ShortText
from vectorops.runtime.context import Context
from vectorops.runtime.kind import Action, Column, Family, Kind, Names, Outcome, Subject, Verdict, View
from vectorops.runtime.manifests import crd
from vectorops.settings import Settings

if TYPE_CHECKING:
    from stand.cluster import Cluster

pytestmark = pytest.mark.cluster


class GreetingReasons(Reasons):
    """Why a Greeting stands as it does."""

    Written = "Written", "Nothing.", Means.GOOD
    Writing = "Writing", "Nothing.", Means.WORK
    Erasing = "Erasing", "Nothing.", Means.WORK
    NoFolder = "NoFolder", "Make the folder.", Means.AWAITED


class GreetingSpec(ApiModel):
    """What to greet with."""

    path: ShortText = Field(description="The file to keep.")
    words: ShortText = Field(description="What it shall hold.")


class GreetingStatus(CommonStatus):
    """What was found."""

    length: int | None = Field(default=None, description="Characters in the file.")


@dataclass(frozen=True)
class Seen:
    text: str | None


@dataclass(frozen=True)
class Write(Action):
    leaves: ClassVar[bool] = True


@dataclass(frozen=True)
class Erase(Action):
    pass


async def observe(ctx: Context, subject: Subject, spec: GreetingSpec, status: GreetingStatus) -> Seen:
    path = Path(spec.path)
    if not path.parent.is_dir():
        raise Stalled(GreetingReasons.NoFolder, "make the folder")
    return Seen(path.read_text() if path.exists() else None)


GreetingView = View[GreetingSpec, Seen, GreetingStatus]


def deleting(view: GreetingView) -> Verdict | None:
    if view.subject.deleting_since is None:
        return None
    return Verdict(GreetingReasons.Erasing, "", action=Erase() if view.observed.text is not None else None)


def differs(view: GreetingView) -> Verdict | None:
    if view.observed.text == view.spec.words:
        return None
    return Verdict(GreetingReasons.Writing, "", reconciling=True, action=Write())


def settled(view: GreetingView) -> Verdict | None:
    return Verdict(GreetingReasons.Written, "as wanted", ready="True")


async def act(ctx: Context, subject: Subject, spec: GreetingSpec, observed: Seen, action: Action) -> Outcome:
    path = Path(spec.path)
    if isinstance(action, Erase):
        path.unlink()
    else:
        path.write_text(spec.words)
    return Outcome()


GREETING: Kind[Any, Any, Any] = Kind(
    names=Names("Greeting", "greetings", "greeting", "grt"),
    family=Family.STANDING,
    room=__name__,
    spec=GreetingSpec,
    status=GreetingStatus,
    reasons=GreetingReasons,
    columns=(Column("READY", '.status.conditions[?(@.type=="Ready")].status'),),
    observe=observe,
    checks=(deleting, differs, settled),
    act=act,
    figures=lambda view: GreetingStatus(length=len(view.observed.text or "")),
    holds=lambda view: view.observed.text is not None,
)


class Running:
    """An operator in a thread and an event loop of its own: when Kopf ends it cancels every task of its loop."""

    def __init__(self, namespace: str) -> None:
        self.operator: Operator
        self.loop: asyncio.AbstractEventLoop
        self._namespace = namespace
        self._begun = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Running:
        self._thread.start()
        assert self._begun.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.operator.stopped.set)
        self._thread.join(30)
        assert not self._thread.is_alive()

    def within(self, do: Callable[[], Any]) -> Any:
        """Call `do` inside the operator's loop and return what it returns."""

        async def call() -> Any:
            result = do()
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(20)

    async def _run(self) -> None:
        settings = Settings(watch_namespaces=self._namespace, http_port=0, http_host="127.0.0.1")
        self.operator, self.loop = Operator(settings, kinds=[GREETING]), asyncio.get_running_loop()
        self._begun.set()
        await self.operator.run()


@pytest.fixture
def running(cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump(crd(GREETING)))
    cluster.kubectl("wait", "--for=condition=Established", "crd/greetings.vectorops.dev")
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    with Running(namespace) as running:
        yield running


def until(seen: Callable[[], Any], timeout: float = 20) -> Any:
    deadline = time.monotonic() + timeout
    while not (value := seen()):
        assert time.monotonic() < deadline, "not seen in time"
        time.sleep(0.05)
    return value


def test_a_new_kind_is_kept_changed_mended_and_undone(
    cluster: Cluster, namespace: str, running: Running, tmp_path: Path
) -> None:
    file = tmp_path / "later" / "greeting.txt"

    def apply(words: str) -> None:
        body = {
            "apiVersion": "vectorops.dev/v1alpha1",
            "kind": "Greeting",
            "metadata": {"name": "hello", "namespace": namespace},
            "spec": {"path": str(file), "words": words},
        }
        cluster.kubectl("apply", "-f", "-", input=json.dumps(body))

    def field(path: str) -> str:
        return cluster.kubectl("-n", namespace, "get", "grt/hello", f"-ojsonpath={{{path}}}")

    def reason() -> str:
        return field('.status.conditions[?(@.type=="Ready")].reason')

    apply("good morning")
    until(lambda: reason() == "NoFolder")
    file.parent.mkdir()
    loops = running.operator.loops
    running.within(lambda: loops.wake(next(iter(loops)).subject.uid))  # the minute between two looks, cut short
    until(lambda: reason() == "Written")
    assert file.read_text() == "good morning"
    apply("good evening")
    until(lambda: file.read_text() == "good evening")
    assert field(".metadata.finalizers") == '["vectorops.dev/cleanup"]'
    cluster.kubectl("-n", namespace, "delete", "grt/hello", "--timeout=20s")
    assert not file.exists()


def test_a_watch_that_ended_fails_the_liveness_probe(running: Running) -> None:
    health, watchdog = running.operator.health, running.operator.watchdog
    until(lambda: health.not_ready is None)
    assert health.alive() is None

    own = running.operator.watch._own
    assert own is not None
    for task in asyncio.all_tasks(own):
        if task.get_name().startswith("watcher for greetings"):
            own.call_soon_threadsafe(task.cancel)

    def dead() -> bool:
        running.within(watchdog.look)
        return health.alive() is not None

    until(dead)
    assert "no watcher runs for greetings" in str(health.alive())


def test_an_object_that_the_watch_never_delivered_fails_the_liveness_probe(
    cluster: Cluster, namespace: str, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    health, watchdog, loops = running.operator.health, running.operator.watchdog, running.operator.loops
    until(lambda: health.not_ready is None)
    monkeypatch.setattr(loops, "deliver", lambda *_, **__: None)  # a stream that is open and silent
    body = {
        "apiVersion": "vectorops.dev/v1alpha1",
        "kind": "Greeting",
        "metadata": {"name": "unheard", "namespace": namespace},
        "spec": {"path": "/nowhere/file", "words": ""},
    }
    cluster.kubectl("apply", "-f", "-", input=json.dumps(body))
    running.within(watchdog.look)
    assert health.alive() is None, "one look may be early"
    running.within(watchdog.look)
    assert "has not delivered" in str(health.alive())


def test_a_deletion_that_the_watch_never_delivered_is_found_by_the_watchdog(
    cluster: Cluster, namespace: str, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    watchdog, loops = running.operator.watchdog, running.operator.loops

    def followed() -> bool:
        return any(tracked.subject.name == "short-lived" for tracked in loops)

    body = {
        "apiVersion": "vectorops.dev/v1alpha1",
        "kind": "Greeting",
        "metadata": {"name": "short-lived", "namespace": namespace},
        "spec": {"path": "/nowhere/file", "words": ""},
    }
    cluster.kubectl("apply", "-f", "-", input=json.dumps(body))
    until(followed)
    monkeypatch.setattr(loops, "deliver", lambda *_, **__: None)  # the watch was away when it happened
    cluster.kubectl("-n", namespace, "delete", "grt/short-lived", "--timeout=20s")
    running.within(watchdog.look)
    assert followed(), "one look may be early: the listing and the watch race"
    running.within(watchdog.look)
    until(lambda: not followed())
