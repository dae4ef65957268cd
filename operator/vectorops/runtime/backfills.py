"""Which tables of a store are being filled, for those whom the first rows of a table would mislead.

Everything is applied together and begins together: a cache that is warmed, or a search that is tuned, before the rows
have embeddings keeps what was found among a few. Whether a backfill is under way its object says, also while it waits
for the provider, a window or an approval; the lock of the table would not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from vectorops.runtime.context import Context
from vectorops.runtime.store import Store

BACKFILLS = "embeddingbackfills"
Table: TypeAlias = tuple[str, str]  # schema, name


async def under_way(ctx: Context, store: Store) -> dict[Table, str]:
    """The tables of the store that an EmbeddingBackfill is to fill and has not, and its name."""
    listed = await ctx.kubernetes.list(BACKFILLS, store.namespace, metadata_only=False)
    return dict(_under_way(store, listed.get("items") or []))


def _under_way(store: Store, bodies: list[dict[str, Any]]) -> Iterator[tuple[Table, str]]:
    tables = {table.name: (table.schema_name, table.table) for table in store.spec.tables}
    for body in bodies:
        spec, status = body.get("spec") or {}, body.get("status") or {}
        table = tables.get(str(spec.get("tableName")))
        if (spec.get("storeRef") or {}).get("name") != store.name or table is None:
            continue
        over = {one.get("type") for one in status.get("conditions") or [] if one.get("status") == "True"}
        if status.get("runToken") != spec.get("runToken") or not over & {"Complete", "Failed"}:
            yield table, str(body["metadata"]["name"])
