"""Kinds to Kopf. The only module that speaks kopf, and it asks little of it: to watch, and to stop.

For every kind one `on.event` handler that hands the body to the object's loop; once, login. No create/update/delete
handlers, no daemons and no timers: tried, each loses a change or leaves something behind on the objects
(docs/decisions/0002-own-loop.md). Kopf writes nothing: no finalizer, no annotation, no event.

Kopf has a thread and an event loop of its own. When something ends it (an answer it does not bear, a right taken away)
it cancels every task of its loop: those are then its own only, the work of the objects goes on, and it is begun again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any

import kopf

from vectorops.errors import frames
from vectorops.runtime.api import GROUP, VERSION, in_each
from vectorops.runtime.kind import Kind
from vectorops.runtime.loops import Loops

logger = logging.getLogger(__name__)

REQUEST_TIMEOUT = 30  # seconds for one request of Kopf's own; listings of thousands of objects take one or two
CONNECT_TIMEOUT = 10  # seconds
CHUNK = 500  # objects in one answer to the first listing: what thousands take when parsed is not given back
IDLE_TIMEOUT = 0.5  # seconds that Kopf keeps an object's worker, with its last body, for more events; 5 by default
LOOK = 5.0  # seconds between two looks whether all watchers run
MISSED = 2  # looks in a row at which one was missing: Kopf takes ten seconds to end after one has failed, or for ever
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"  # the whole object once more, by `kubectl apply`
END_SECONDS = 10.0  # for Kopf to end when told to; nothing of it needs saving, so then it is left


def configure(settings: kopf.OperatorSettings) -> None:
    """Kopf's settings, each away from its default for a reason.

    `queueing.worker_limit` stays unlimited: a worker hands a body over in three lines and then idles, so a limit would
    limit nothing but how many objects a second are heard.
    """
    settings.peering.standalone = True  # who leads is not decided here; the real fence is in the database
    settings.posting.enabled = False  # the recorder writes our events
    settings.persistence.finalizer = f"{GROUP}/kopf-unused"  # never written; ours is written by a pass
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=GROUP)
    settings.scanning.disabled = True  # no right on CRDs and namespaces is needed; CRDs come before the operator
    settings.queueing.idle_timeout = IDLE_TIMEOUT
    settings.networking.request_timeout = REQUEST_TIMEOUT
    settings.networking.connect_timeout = CONNECT_TIMEOUT
    settings.watching.connect_timeout = CONNECT_TIMEOUT
    settings.watching.chunk_size = CHUNK


def bind(kinds: Collection[Kind[Any, Any, Any]], deliver: Callable[..., None]) -> kopf.OperatorRegistry:
    """A registry with the handlers of all kinds, which `deliver(kind, body, deleted=...)`."""
    registry = kopf.OperatorRegistry()
    for kind in kinds:
        _watch(registry, kind, deliver)

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        if os.environ.get("KUBECONFIG"):
            return kopf.login_with_kubeconfig(**kwargs)
        return kopf.login_with_service_account(**kwargs)  # reads the rotated token again

    return registry


def _watch(registry: kopf.OperatorRegistry, kind: Kind[Any, Any, Any], deliver: Callable[..., None]) -> None:
    @kopf.on.event(GROUP, VERSION, kind.names.plural, registry=registry, id=kind.names.plural)
    async def seen(type: str | None, body: kopf.Body, **_: Any) -> None:
        deliver(kind, slim(body), deleted=type == "DELETED")


def slim(body: Mapping[str, Any]) -> dict[str, Any]:
    """The object without what only its writers keep there, which is most of it: bodies are held until the next pass."""
    meta = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
    annotations = dict(meta.get("annotations") or {})
    annotations.pop(LAST_APPLIED, None)
    meta["annotations"] = annotations
    return {**{key: body[key] for key in ("spec", "status") if key in body}, "metadata": meta}


class Watch:
    """One run of Kopf after the other, each in a thread of its own; what it hears goes to the loops of the objects."""

    def __init__(self, kinds: Collection[Kind[Any, Any, Any]], namespaces: Collection[str], loops: Loops) -> None:
        self._kinds, self._namespaces, self._loops = kinds, namespaces, loops
        self._own: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ended: asyncio.Future[BaseException | None] | None = None
        self._ending = False

    async def run(self, stopped: asyncio.Event) -> str | None:
        """Watch until `stopped`, then at once None. Returns what ended Kopf before that, by the name of its type."""
        self._ending = stopped.is_set()
        ended = self._ended = asyncio.get_running_loop().create_future()
        threading.Thread(target=self._in_thread, args=(ended,), name="kopf", daemon=True).start()
        told: asyncio.Future[Any] = asyncio.create_task(stopped.wait())
        try:
            await self._until_missing({told, ended})
        finally:
            told.cancel()
            self._ending = True
            if self._own is not None and self._stop is not None:
                with contextlib.suppress(RuntimeError):  # its loop has closed meanwhile
                    self._own.call_soon_threadsafe(self._stop.set)
        if stopped.is_set():
            return None  # what is begun for the objects is let go of before anything else is waited for
        await self.end()
        if not ended.done():
            return "a watcher is missing"
        error = ended.result()
        if error is None:
            return "it ended by itself"
        logger.debug("what ended the watch: %s", frames(error))
        status = getattr(error, "status", None)  # of an answer; `code` would be of its body, which a proxy writes too
        return type(error).__name__ + (f", status {status}" if status else "")

    async def end(self) -> None:
        """Wait until Kopf has ended after it was told to, but not for ever."""
        if self._ended is not None:
            await asyncio.wait([self._ended], timeout=END_SECONDS)

    async def _until_missing(self, others: set[asyncio.Future[Any]]) -> None:
        """Wait until one of the others is done, or a watcher that has run is missing."""
        seen, missed = False, 0
        while missed < MISSED:
            done, _ = await asyncio.wait(others, timeout=LOOK, return_when=asyncio.FIRST_COMPLETED)
            if done:
                return
            whole = all(self.covers(kind) for kind in self._kinds)
            seen, missed = seen or whole, missed + 1 if seen and not whole else 0

    def covers(self, kind: Kind[Any, Any, Any]) -> bool:
        """Whether a watcher of the kind runs for each namespace. Kopf gives no other sign of one that has ended."""
        wanted = f"watcher for {kind.names.plural}.{VERSION}.{GROUP}@"
        own = self._own
        names = {task.get_name() for task in asyncio.all_tasks(own) if not task.done()} if own else set()
        return all(f"{wanted}{namespace}" in names for namespace in in_each(self._namespaces))

    def _in_thread(self, ended: asyncio.Future[BaseException | None]) -> None:
        error: BaseException | None = None
        try:
            asyncio.run(self._kopf(ended.get_loop()))
        except BaseException as exc:
            error = exc
        with contextlib.suppress(RuntimeError):  # the process has ended meanwhile
            ended.get_loop().call_soon_threadsafe(lambda: None if ended.done() else ended.set_result(error))

    async def _kopf(self, main: asyncio.AbstractEventLoop) -> None:
        self._own, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._own.set_exception_handler(lambda *_: None)  # it tells of its tasks' ends with the server's words
        if self._ending:  # told before there was anything to be told by
            return
        settings = kopf.OperatorSettings()
        configure(settings)

        def deliver(kind: Kind[Any, Any, Any], body: dict[str, Any], *, deleted: bool) -> None:
            with contextlib.suppress(RuntimeError):  # the process ends
                main.call_soon_threadsafe(self._take, kind, body, deleted)

        await kopf.operator(
            registry=bind(self._kinds, deliver),
            settings=settings,
            standalone=True,
            clusterwide=not self._namespaces,
            namespaces=tuple(self._namespaces),
            stop_flag=self._stop,
        )

    def _take(self, kind: Kind[Any, Any, Any], body: dict[str, Any], deleted: bool) -> None:
        try:
            self._loops.deliver(kind, body, deleted=deleted)
        except Exception as error:  # no object at all; what of an object cannot be taken in is told by the loops
            logger.error("a %s was not taken in: %s", kind.names.kind, frames(error))
