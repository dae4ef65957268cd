"""Adding a kind is what docs/architecture.md says: types and three functions, and the runtime does the rest.

A kind of this test's own, Greeting, keeps a ConfigMap-like thing outside (a file), so that holding, undoing, errors
and conditions are all seen through the contract alone.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import yaml
from pydantic import Field

from vectorops.app import Operator
from vectorops.errors import Reasons, Stalled
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

    Written = "Written", "Nothing."
    Writing = "Writing", "Nothing."
    Erasing = "Erasing", "Nothing."
    NoFolder = "NoFolder", "Make the folder."


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


@pytest.fixture
async def operator(cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Operator]:
    cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump(crd(GREETING)))
    cluster.kubectl("wait", "--for=condition=Established", "crd/greetings.vectorops.dev")
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    running = Operator(Settings(watch_namespaces=namespace, http_port=0, http_host="127.0.0.1"), kinds=[GREETING])
    task = asyncio.create_task(running.run())
    yield running
    running.stopped.set()
    await asyncio.wait_for(task, 30)


async def until(seen: Callable[[], Any], timeout: float = 20) -> Any:
    async with asyncio.timeout(timeout):
        while not (value := await asyncio.to_thread(seen)):
            await asyncio.sleep(0.05)
    return value


async def test_a_new_kind_is_kept_changed_mended_and_undone(
    cluster: Cluster, namespace: str, operator: Operator, tmp_path: Path
) -> None:
    folder = tmp_path / "later"
    file = folder / "greeting.txt"

    def apply(words: str) -> None:
        body = {
            "apiVersion": "vectorops.dev/v1alpha1",
            "kind": "Greeting",
            "metadata": {"name": "hello", "namespace": namespace},
            "spec": {"path": str(file), "words": words},
        }
        cluster.kubectl("apply", "-f", "-", input=json.dumps(body))

    def reason() -> str:
        path = '{.status.conditions[?(@.type=="Ready")].reason}'
        return cluster.kubectl("-n", namespace, "get", "grt/hello", f"-ojsonpath={path}")

    await asyncio.to_thread(apply, "good morning")
    await until(lambda: reason() == "NoFolder")
    folder.mkdir()
    operator.loops.wake(next(iter(operator.loops)).subject.uid)  # the minute between two looks of Stalled, cut short
    await until(lambda: reason() == "Written")
    assert file.read_text() == "good morning"
    await asyncio.to_thread(apply, "good evening")
    await until(lambda: file.read_text() == "good evening")
    finalizers = await asyncio.to_thread(
        cluster.kubectl, "-n", namespace, "get", "grt/hello", "-ojsonpath={.metadata.finalizers}"
    )
    assert finalizers == '["vectorops.dev/cleanup"]'
    await asyncio.to_thread(cluster.kubectl, "-n", namespace, "delete", "grt/hello", "--timeout=20s")
    assert not file.exists()


async def test_a_watch_that_ended_fails_the_liveness_probe(operator: Operator) -> None:
    await until(lambda: operator.health.not_ready is None)
    assert operator.health.alive() is None
    for task in asyncio.all_tasks():
        if task.get_name().startswith("watcher for greetings"):
            task.cancel()
    await asyncio.sleep(0)
    watchdog = operator.watchdog
    async with asyncio.timeout(10):
        while operator.health.alive() is None:
            await watchdog.look()
            await asyncio.sleep(0.05)
    assert "no watcher runs for greetings" in str(operator.health.alive())
