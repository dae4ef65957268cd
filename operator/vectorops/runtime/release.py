"""What `vectorops release` does before an uninstall, so that every object can be deleted without the operator.

One patch an object sets the annotation `vectorops.dev/release` and takes our finalizer away; the operator, which still
runs, does not write it back. Builds in flight are not touched: they go on in the database. Refused: finalizers of
others, and touching anything but metadata.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from vectorops.clients.kubernetes import Kubernetes
from vectorops.clients.kubernetes_errors import Conflict
from vectorops.runtime.api import GROUP, in_each
from vectorops.runtime.kind import Kind
from vectorops.runtime.tracked import FINALIZER

ANNOTATION = f"{GROUP}/release"
ATTEMPTS = 10  # an object whose status is written every few seconds is free for a patch at the second try


async def release_all(
    kubernetes: Kubernetes, kinds: Sequence[Kind[Any, Any, Any]], namespaces: Sequence[str], *, dry_run: bool
) -> AsyncIterator[str]:
    """Release every object in the namespaces (none named: in all); yields `plural namespace/name` of each that was.

    A kind that is not served has no objects. Raises OperatorError, which names the missing right; to be run again then.
    """
    served = await kubernetes.served()
    for plural in (kind.names.plural for kind in kinds if kind.names.plural in served):
        for namespace in in_each(namespaces):
            listed = await kubernetes.list(plural, namespace, resource_version="")
            for item in listed.get("items") or ():  # kube-apiserver writes null for an empty list
                if not _is_released(item) and (dry_run or await _release(kubernetes, plural, item)):
                    yield f"{plural} {item['metadata']['namespace']}/{item['metadata']['name']}"


def _is_released(body: dict[str, Any]) -> bool:
    meta = body["metadata"]
    marked = (meta.get("annotations") or {}).get(ANNOTATION) == "true"
    return marked and FINALIZER not in (meta.get("finalizers") or [])


async def _release(kubernetes: Kubernetes, plural: str, body: dict[str, Any]) -> bool:
    """Release one object. False when it is gone by itself."""
    for attempt in range(ATTEMPTS):
        meta = body["metadata"]
        try:
            patched = await kubernetes.patch_metadata(
                plural,
                meta["namespace"],
                meta["name"],
                meta["uid"],
                finalizers=[one for one in meta.get("finalizers") or [] if one != FINALIZER],
                resource_version=meta["resourceVersion"],
                annotations={ANNOTATION: "true"},
            )
            return patched is not None
        except Conflict:
            if attempt == ATTEMPTS - 1:
                raise
            found = await kubernetes.get(plural, meta["namespace"], meta["name"])
            if found is None:
                return False
            body = found
    raise AssertionError("the last attempt returns or raises")
