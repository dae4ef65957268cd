"""What the objects of one namespace are told of those of another: that there are some, and no more.

A name tells of a customer, a project, a plan. Who shares a database with strangers sees that he does, for he must know
why nothing happens, and asks whoever runs the operator for their names. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable


def named(namespace: str, kind: str, owners: Iterable[str]) -> str:
    """`VectorStore shop/a, shop/b and 2 of other namespaces`, of owners written as namespace/name."""
    known = sorted(set(owners))
    own = [owner for owner in known if owner.split("/", 1)[0] == namespace]
    strangers = len(known) - len(own)
    if not own:
        return f"a {kind} of another namespace" if strangers == 1 else f"{strangers} {kind} objects of other namespaces"
    others = f" and {strangers} of other namespaces" if strangers else ""
    return f"{kind} {', '.join(own)}{others}"
