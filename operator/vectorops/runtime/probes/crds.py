"""Notice CRDs that are older than this operator: a field that they do not know is dropped before anybody sees it.

A dropped `budget` is money, so while a field of a spec is missing, work that spends money is withheld, and `/readyz`
names the fields; all other work goes on. A field of a status that is missing costs figures only, and is told the same
way. What the API server serves is compared with what the types say; CRDs that are newer know more, which harms nobody.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any

from vectorops import metrics
from vectorops.errors import OperatorError, Reason, Waiting
from vectorops.runtime.kind import Kind
from vectorops.runtime.schema import Schema, structural

if TYPE_CHECKING:
    from vectorops.clients.kubernetes import Kubernetes

logger = logging.getLogger(__name__)

PERIOD = 300.0  # seconds between two looks; a CRD changes with an upgrade
DOUBT = 5.0  # seconds until a look that found something is made sure of: the document lags behind a CRD by seconds
NAMED = 5  # fields in a message: enough to see which version it is


class Crds:
    """What the served CRDs lack. Looks when it is due; the watchdog asks it to."""

    def __init__(
        self,
        kinds: Collection[Kind[Any, Any, Any]],
        kubernetes: Kubernetes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kinds, self._kubernetes, self._clock = kinds, kubernetes, clock
        self._wanted: dict[str, Schema] = {}
        self._due = clock()
        self._blind: str | None = None
        self.suspected: tuple[str, ...] = ()
        self.missing: tuple[str, ...] = ()

    async def look(self) -> None:
        """Compare, if it is time to. What cannot be looked at stays as it was seen last."""
        if self._clock() < self._due:
            return
        try:
            served = await self._kubernetes.schemas()
        except OperatorError as error:
            if self._blind != error.reason:
                logger.warning("it cannot be seen whether the CRDs are of this version: %s", error)
            self._blind = error.reason
            return
        self._blind = None
        if not self._wanted:
            self._wanted = {k.names.kind: _whole(k) for k in self._kinds}
        found = tuple(sorted(lacking(self._wanted, served)))
        certain = found if found == self.suspected else ()
        self._due = self._clock() + (DOUBT if found else PERIOD)
        if certain != self.missing and (certain or not found):
            self._tell(certain)
        self.suspected = found

    def outdated(self) -> Waiting | None:
        """Why no money may be spent: a limit that was set may never have arrived. None while no spec lacks a field."""
        if not any(".spec." in field for field in self.missing):
            return None
        return Waiting(Reason.CRDsOutdated, self.told() or "")

    def told(self) -> str | None:
        """For `/readyz`."""
        if not self.missing:
            return None
        more = f" and {len(self.missing) - NAMED} more" if len(self.missing) > NAMED else ""
        fields = ", ".join(self.missing[:NAMED]) + more
        return f"the CRDs are older than this operator and drop these fields: {fields}. {Reason.CRDsOutdated.next_step}"

    def _tell(self, missing: tuple[str, ...]) -> None:
        self.missing = missing
        metrics.crd_fields_missing(len(missing))
        if missing:
            logger.error("%s", self.told())
        else:
            logger.info("the CRDs know every field of this operator")


def lacking(wanted: dict[str, Schema], served: dict[str, Schema]) -> Iterator[str]:
    """Fields that the types have and the served schemas have not, as `VectorIndex.spec.build`. Kinds not served: none.

    A kind that is missing altogether is another matter, which is waited for before anything begins.
    """
    for kind, schema in wanted.items():
        if kind in served:
            yield from _lacking(schema, served[kind], kind)


def _lacking(wanted: Schema, served: Schema, path: str) -> Iterator[str]:
    if served.get("x-kubernetes-preserve-unknown-fields"):
        return
    theirs = served.get("properties", {})
    for name, field in wanted.get("properties", {}).items():
        if name in theirs:
            yield from _lacking(field, theirs[name], f"{path}.{name}")
        else:
            yield f"{path}.{name}"
    for inner in ("items", "additionalProperties"):
        mine, other = wanted.get(inner), served.get(inner)
        if isinstance(mine, dict) and isinstance(other, dict):
            yield from _lacking(mine, other, path)


def _whole(kind: Kind[Any, Any, Any]) -> Schema:
    name = kind.names.kind
    parts = {"spec": structural(kind.spec, f"{name}.spec"), "status": structural(kind.status, f"{name}.status")}
    return {"properties": parts}
