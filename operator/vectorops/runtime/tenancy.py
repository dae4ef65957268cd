"""What stands between people who share an operator: what they are told of each other, and what their requests read.

Objects of one namespace are told of those of another that there are some, and no more: a name tells of a customer, a
project, a plan. Who shares a database with strangers sees that he does, for he must know why nothing happens, and asks
whoever runs the operator for their names. And whoever may write a request is not by that the store's role in the
database: a request reads what the store declares. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from vectorops.runtime.store_spec import VectorStoreSpec


def named(namespace: str, kind: str, owners: Iterable[str]) -> str:
    """`VectorStore shop/a, shop/b and 2 of other namespaces`, of owners written as namespace/name."""
    known = sorted(set(owners))
    own = [owner for owner in known if owner.split("/", 1)[0] == namespace]
    strangers = len(known) - len(own)
    if not own:
        return f"a {kind} of another namespace" if strangers == 1 else f"{strangers} {kind} objects of other namespaces"
    others = f" and {strangers} of other namespaces" if strangers else ""
    return f"{kind} {', '.join(own)}{others}"


def not_declared(spec: VectorStoreSpec, store: str, schema: str, table: str) -> str | None:
    """Why no request may read that table, and what to do about it; None where the store declares it."""
    declared = {(one.schema_name, one.table) for one in spec.tables}
    if (schema, table) in declared | {(one.schema_name, one.table) for one in spec.watched_tables}:
        return None
    return f'VectorStore {store} declares no table "{schema}"."{table}"; add it to its spec.watchedTables.'
