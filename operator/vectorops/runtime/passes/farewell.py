"""What is told of a deleted object that is let go although something of it may be left outside.

An Event about the object, which stays for as long as the cluster keeps events. Where its namespace is being deleted
nothing can be created, and what is there goes with it: the same Event then stands in the operator's own namespace,
about the operator's pod, and relates to the object. A line of the log and a metric tell it in any case.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from vectorops import metrics
from vectorops.runtime.kind import Event

if TYPE_CHECKING:
    from vectorops.runtime.context import Context
    from vectorops.runtime.tracked import Tracked

logger = logging.getLogger(__name__)

ABANDONED = "Abandoned"


async def tell_what_is_left(ctx: Context, tracked: Tracked, why: str) -> None:
    """Say that it goes, what may be left of it and where. Never fails: nobody can be told of that either."""
    text = f"let go, with something possibly left outside: {why}"
    if (residue := residue_of(tracked)) != "":
        text = f"let go; left outside may be {residue}: {why}"
    logger.error("%s (uid %s): %s", tracked.ref, tracked.subject.uid, text)
    metrics.abandoned(tracked.kind.names.kind)
    told = await tracked.recorder.record(ctx, tracked.subject, Event(ABANDONED, text, warning=True))
    if not told and ctx.own_namespace:
        apart = Event(ABANDONED, f"{tracked.ref}: {text}", warning=True)
        await tracked.recorder.record_apart(ctx, tracked.subject, apart)


def residue_of(tracked: Tracked) -> str:
    """What a person would look for, and where, in words; "" where the kind does not say."""
    if not tracked.kind.residue:
        return ""
    store = (tracked.raw_spec.get("storeRef") or {}).get("name", "")
    return f"{tracked.kind.residue.format(uid=tracked.subject.uid)}, in the database of VectorStore {store}"
