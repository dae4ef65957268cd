"""A container's command, port and environment, from its pod: Secrets, ConfigMaps, fields and $(NAME) resolved."""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

Json = Mapping[str, Any]
Find = Callable[[str, str], "dict[str, Any] | None"]
"""(plural, name) -> the object of the pod's namespace, or None."""

PORT_ENV: Final = "stand.vectorops.dev/port-env"
"""Annotation: the variable that carries the port on which the process shall listen."""

PROGRAMS: Final = {"vectorops": [sys.executable, "-m", "vectorops"], "python": [sys.executable]}
_REFERENCE: Final = re.compile(r"\$\$|\$\(([A-Za-z_.-][A-Za-z0-9_.-]*)\)")
_KEYED_FIELD: Final = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


class NotYet(Exception):
    """Something that the container needs is not there (CreateContainerConfigError): look again."""


class NotSupported(Exception):
    """The pod asks for what this node cannot give; it never will."""


def container_of(pod: Json) -> Json:
    """The pod's only container. Raises NotSupported for what this node cannot do."""
    spec = pod["spec"]
    refused = [name for name in ("initContainers", "ephemeralContainers") if spec.get(name)]
    refused += [f"volume {one['name']}" for one in spec.get("volumes") or () if not _given(one)]
    if refused or len(spec["containers"]) != 1:
        what = ", ".join(refused) or f"{len(spec['containers'])} containers"
        raise NotSupported(f"pods are local processes here: one container, no volumes but emptyDir (asked for: {what})")
    container: Json = spec["containers"][0]
    lifecycle = container.get("lifecycle") or {}
    if set(lifecycle) - {"preStop"} or set(lifecycle.get("preStop") or {}) - {"sleep"}:
        raise NotSupported("of lifecycle hooks only preStop.sleep is carried out here")
    return container


def _given(volume: Json) -> bool:
    """An empty directory is any directory; the ServiceAccount's token comes as a kubeconfig instead."""
    return "emptyDir" in volume or str(volume["name"]).startswith("kube-api-access-")


def command_of(container: Json, env: Mapping[str, str]) -> list[str]:
    """argv. Raises NotSupported without `command`: there is no image that could name one."""
    words = list(container.get("command") or ())
    if not words:
        raise NotSupported("there are no images here: name the command in the pod's spec")
    argv = [expanded(word, env) for word in [*words, *(container.get("args") or ())]]
    return [*PROGRAMS.get(argv[0], [argv[0]]), *argv[1:]]


def port_variable(pod: Json, container: Json) -> str:
    """Which variable carries the port."""
    named = (pod["metadata"].get("annotations") or {}).get(PORT_ENV)
    if named:
        return str(named)
    return "VECTOROPS_HTTP_PORT" if is_vectorops(container) else "PORT"


def is_vectorops(container: Json) -> bool:
    """Whether the container runs the operator's command."""
    words: list[str] = container.get("command") or [""]
    return words[0] == "vectorops"


def environment_of(pod: Json, container: Json, find: Find, node: str) -> dict[str, str]:
    """The container's own variables. Raises NotYet for what is missing."""
    env: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        for plural, reference in (("secrets", source.get("secretRef")), ("configmaps", source.get("configMapRef"))):
            if reference is not None:
                found = _values(plural, reference, find)
                env |= {f"{source.get('prefix', '')}{key}": value for key, value in found.items()}
    for entry in container.get("env") or ():
        value = _value(pod, entry, find, node)
        if value is not None:
            env[entry["name"]] = expanded(value, env) if "value" in entry else value
    return env


def expanded(text: str, env: Mapping[str, str]) -> str:
    """$(NAME) replaced where it is known; $$ is a dollar."""

    def known(match: re.Match[str]) -> str:
        return "$" if match.group(0) == "$$" else env.get(match.group(1), match.group(0))

    return _REFERENCE.sub(known, text)


def _value(pod: Json, entry: Json, find: Find, node: str) -> str | None:
    source = entry.get("valueFrom")
    if source is None:
        return str(entry.get("value") or "")
    if "fieldRef" in source:
        return _field(pod, source["fieldRef"]["fieldPath"], node)
    for plural, name in (("secrets", "secretKeyRef"), ("configmaps", "configMapKeyRef")):
        if name in source:
            reference = source[name]
            value = _values(plural, reference, find).get(reference["key"])
            if value is None and not reference.get("optional"):
                raise NotYet(f"{plural[:-1]} {reference['name']} has no key {reference['key']}")
            return value
    raise NotSupported(f"env {entry['name']}: valueFrom with {', '.join(source)}")


def _values(plural: str, reference: Json, find: Find) -> dict[str, str]:
    found = find(plural, reference["name"])
    if found is None:
        if reference.get("optional"):
            return {}
        raise NotYet(f"{plural[:-1]} {reference['name']} not found")
    data = found.get("data") or {}
    if plural == "configmaps":
        return dict(data)
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def _field(pod: Json, path: str, node: str) -> str:
    keyed = _KEYED_FIELD.fullmatch(path)
    if keyed:
        return str((pod["metadata"].get(keyed.group(1)) or {}).get(keyed.group(2), ""))
    meta, spec = pod["metadata"], pod["spec"]
    fields = {
        "metadata.name": meta["name"],
        "metadata.namespace": meta["namespace"],
        "metadata.uid": meta["uid"],
        "spec.nodeName": node,
        "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
        "status.hostIP": "127.0.0.1",
        "status.podIP": "127.0.0.1",
    }
    if path not in fields:
        raise NotSupported(f"fieldRef {path}")
    return str(fields[path])
