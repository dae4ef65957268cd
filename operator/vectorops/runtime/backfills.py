"""Which tables of a store are being filled, for those whom the first rows of a table would mislead.

Everything is applied together and begins together: a cache that is warmed, or a search that is tuned, before the rows
have embeddings keeps what was found among a few. Whether a backfill is under way its object says, also while it waits
for the provider, a window or an approval; the lock of the table would not. How far it is the store's status says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from vectorops.runtime.context import Context
from vectorops.runtime.store import Store

STORES, BACKFILLS = "vectorstores", "embeddingbackfills"
HALF = 50  # percent of the rows that have a text
Body: TypeAlias = dict[str, Any]
Table: TypeAlias = tuple[str, str]  # schema, name


async def unfilled(ctx: Context, store: Store) -> dict[Table, str]:
    """The tables of which less than half is embedded while a backfill has not ended, and what is to be said of each.

    Two GETs, one where no backfill is under way.
    """
    listed = await ctx.kubernetes.list(BACKFILLS, store.namespace, metadata_only=False)
    under_way = dict(_under_way(store.name, listed.get("items") or []))
    if not under_way:
        return {}
    body = await ctx.kubernetes.get(STORES, store.namespace, store.name) or {}
    observed = (body.get("status") or {}).get("observed") or {}
    covered = {one.get("name"): one.get("embeddableCoveragePercent") for one in observed.get("tables") or []}
    found = {}
    for table in store.spec.tables:
        percent, backfill = covered.get(table.name), under_way.get(table.name)
        if backfill is not None and (percent is None or percent < HALF):
            share = "An unknown share" if percent is None else f"{percent} %"
            told = f"{share} of {table.name} has an embedding, and EmbeddingBackfill {backfill} has not ended."
            found[table.schema_name, table.table] = told
    return found


def _under_way(store_name: str, bodies: Iterable[Body]) -> Iterator[tuple[str, str]]:
    """Names in spec.tables, and the backfill that is to fill each and has not; one that shall not is none."""
    for body in bodies:
        spec, status = body.get("spec") or {}, body.get("status") or {}
        idle = spec.get("suspend") or body["metadata"].get("deletionTimestamp")
        if (spec.get("storeRef") or {}).get("name") != store_name or idle:
            continue
        over = {one.get("type") for one in status.get("conditions") or [] if one.get("status") == "True"}
        if status.get("runToken") != spec.get("runToken") or not over & {"Complete", "Failed"}:
            yield str(spec.get("tableName")), str(body["metadata"]["name"])
