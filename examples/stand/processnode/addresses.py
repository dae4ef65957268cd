"""Where the processes behind each Service are, as VECTOROPS_SERVICE_ADDRESSES reads it. Pure, but for the file."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stand.processnode.pod import Pod

Table = dict[str, list[str]]


def table_of(services: Iterable[Mapping[str, Any]], pods: Iterable[Pod]) -> Table:
    """`namespace/service:port` -> addresses of ready pods, for Services with a selector."""
    ready, table = [pod for pod in pods if pod.ready], {}
    for service in services:
        meta, selector = service["metadata"], service["spec"].get("selector")
        if not selector:
            continue
        behind = [pod for pod in ready if _selected(pod, meta["namespace"], selector)]
        for port in service["spec"].get("ports") or ():
            found = [address for pod in behind if (address := _address(pod, port)) is not None]
            table[f"{meta['namespace']}/{meta['name']}:{port['port']}"] = sorted(found)
    return dict(sorted(table.items()))


def write(path: Path, table: Table) -> None:
    """In one step: a reader never sees half a file."""
    descriptor, scratch = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(descriptor, "w") as file:
        json.dump(table, file, indent=1)
    Path(scratch).replace(path)


def _selected(pod: Pod, namespace: str, selector: Mapping[str, str]) -> bool:
    meta = pod.body["metadata"]
    return meta["namespace"] == namespace and selector.items() <= (meta.get("labels") or {}).items()


def _address(pod: Pod, port: Mapping[str, Any]) -> str | None:
    """The target must be the port that the process listens on: the first that its container declares."""
    if pod.container is None:
        return None
    launch = pod.container.launch
    declared = (launch.container.get("ports") or [{}])[0]
    target = port.get("targetPort", port["port"])
    if target not in (declared.get("name"), declared.get("containerPort")):
        return None
    return f"127.0.0.1:{launch.port}"
