"""The operator's rights, from what the kinds say they need. Pure.

Least rights: our own objects are read and patched, Secrets are read by name, events are written; everything else is a
`Grant` of a room with its reason. It refuses grants with a wildcard and any right on Secrets beyond `get`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vectorops.runtime.api import GROUP
from vectorops.runtime.kind import Grant, Kind

NAME = "vectorops"
NAMESPACE = "vectorops-system"
LABELS = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/part-of": NAME}
USERS = {"app.kubernetes.io/component": "users"}  # for who brings these roles alone, with the CRDs
RBAC = "rbac.authorization.k8s.io"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}  # the operator needs no privilege of a node


@dataclass(frozen=True)
class Document:
    """One manifest. `reasons` holds a line for each of its rules, for the comment above it."""

    body: dict[str, Any]
    reasons: tuple[str, ...] = ()


def rules(kinds: Sequence[Kind[Any, Any, Any]]) -> list[Grant]:
    """Every rule the operator's ServiceAccount needs in the namespaces that it serves."""
    plurals = tuple(kind.names.plural for kind in kinds)
    own = [
        Grant(GROUP, plurals, ("get", "list", "watch"), "the objects to be reconciled"),
        Grant(
            GROUP,
            plurals,
            ("patch",),
            "metadata.finalizers, while something outside must be undone first; annotations, by `vectorops release`",
        ),
        Grant(GROUP, tuple(f"{plural}/status" for plural in plurals), ("patch",), "status"),
        Grant("events.k8s.io", ("events",), ("create", "patch"), "what `kubectl describe` tells"),
        Grant("", ("secrets",), ("get",), "connection strings, keys, certificates: by name, never listed or watched"),
    ]
    return own + _merged(grant for kind in kinds for grant in kind.grants if not grant.cluster_wide)


def cluster_rules(kinds: Sequence[Kind[Any, Any, Any]]) -> list[Grant]:
    """Rules on kinds without namespaces, beyond `rules`: only a ClusterRole can give them."""
    return _merged(grant for kind in kinds for grant in kind.grants if grant.cluster_wide)


def install(kinds: Sequence[Kind[Any, Any, Any]]) -> list[Document]:
    """For all namespaces: a namespace to live in, ServiceAccount, ClusterRole and binding, roles for users."""
    meta, granted = _meta(NAME), rules(kinds) + cluster_rules(kinds)
    binding = {"roleRef": _ref("ClusterRole"), "subjects": [_subject()]}
    return [
        Document(_manifest("v1", "Namespace", _meta(NAMESPACE, **RESTRICTED))),
        Document(_manifest("v1", "ServiceAccount", _meta(NAME) | {"namespace": NAMESPACE})),
        role("ClusterRole", meta, granted),
        Document(_manifest(f"{RBAC}/v1", "ClusterRoleBinding", meta, **binding)),
        *user_roles(kinds),
    ]


def namespaced(kinds: Sequence[Kind[Any, Any, Any]], namespaces: Iterable[str]) -> list[Document]:
    """The same rights in the named namespaces only: a Role and a binding in each, nothing beyond."""
    made = []
    for namespace in namespaces:
        meta = {**_meta(NAME), "namespace": namespace}
        made.append(role("Role", meta, rules(kinds)))
        binding = {"roleRef": _ref("Role"), "subjects": [_subject()]}
        made.append(Document(_manifest(f"{RBAC}/v1", "RoleBinding", meta, **binding)))
    return made


def user_roles(kinds: Sequence[Kind[Any, Any, Any]]) -> list[Document]:
    """What the built-in roles view, edit and admin gain. Only admin may approve, and install a namespaced profile."""
    plurals = tuple(kind.names.plural for kind in kinds)
    status = tuple(f"{plural}/status" for plural in plurals)
    writing = ("create", "update", "patch", "delete", "deletecollection")
    granted = {
        "view": [Grant(GROUP, plurals + status, ("get", "list", "watch"), "see everything; nothing in it is secret")],
        "edit": [Grant(GROUP, plurals, writing, "ask for things")],
        "admin": [
            Grant(GROUP, plurals, ("approve",), "approve plans, where an admission policy asks for it"),
            Grant(GROUP, status, ("patch",), "grant what an operator of the own namespace needs: RBAC asks for it"),
        ],
    }
    return [
        role("ClusterRole", _meta(f"{NAME}-{who}", **USERS, **{f"{RBAC}/aggregate-to-{who}": "true"}), grants)
        for who, grants in granted.items()
    ]


def _merged(grants: Iterable[Grant]) -> list[Grant]:
    """Grants of all rooms, those on the same resources joined."""
    joined: dict[tuple[str, tuple[str, ...], tuple[str, ...]], Grant] = {}
    for grant in grants:
        _check(grant)
        at = (grant.group, tuple(sorted(grant.resources)), tuple(sorted(grant.names)))
        before = joined.get(at)
        verbs, why = set(grant.verbs), grant.why
        if before is not None:
            verbs |= set(before.verbs)
            why = before.why if grant.why in before.why else f"{before.why}; {grant.why}"
        joined[at] = replace(grant, resources=at[1], names=at[2], verbs=tuple(sorted(verbs)), why=why)
    return [joined[at] for at in sorted(joined)]


def _check(grant: Grant) -> None:
    if "*" in (grant.group, *grant.resources, *grant.verbs):
        raise ValueError(f"a grant with a wildcard ({grant.why}): name what is needed")
    if grant.group == "" and "secrets" in grant.resources and set(grant.verbs) - {"get"}:
        raise ValueError(f"Secrets may only be read by name ({grant.why})")


def role(kind: str, meta: dict[str, Any], granted: Sequence[Grant]) -> Document:
    """A Role or ClusterRole of these grants."""
    stated = [rule(grant) for grant in granted]
    return Document(_manifest(f"{RBAC}/v1", kind, meta, rules=stated), tuple(g.why for g in granted))


def rule(grant: Grant) -> dict[str, Any]:
    """A grant as a rule of a role."""
    named = {"resourceNames": list(grant.names)} if grant.names else {}
    return {"apiGroups": [grant.group], "resources": list(grant.resources), **named, "verbs": list(grant.verbs)}


def _manifest(api_version: str, kind: str, meta: dict[str, Any], **rest: Any) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": meta, **rest}


def _meta(name: str, **labels: str) -> dict[str, Any]:
    return {"name": name, "labels": {**LABELS, **labels}}


def _ref(kind: str) -> dict[str, str]:
    return {"apiGroup": RBAC, "kind": kind, "name": NAME}


def _subject() -> dict[str, str]:
    return {"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}
