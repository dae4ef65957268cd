"""Whether the table is still being filled: what is measured on its first rows says nothing of all of them.

Applied together, an index, a backfill and a tuning begin at the same time. A tuning that then takes a tenth of the
table for all of it chooses a value that is too low, and says so to nobody.
"""

from __future__ import annotations

from vectorops.clients.postgres import Connection, speaking, statements
from vectorops.errors import Waiting
from vectorops.kinds.searchtuning.resource import Reason
from vectorops.kinds.searchtuning.run import Run
from vectorops.recall.target import Target

QUERIES = statements("vectorops.kinds.searchtuning")
REST = 15.0  # seconds


async def wait_for_embeddings(run: Run, connection: Connection, target: Target) -> None:
    """Raises Waiting (WaitingForEmbeddings) while most rows have no vector and a backfill of the table is under way.

    In the snapshot that is measured. Without a backfill the table is taken as it is: such rows may be so for good.
    """
    with speaking("counting the rows with an embedding"):
        row = await connection.fetchrow(target.filled_sql())
    assert row is not None, "an aggregate has a row"
    if 2 * row["filled"] >= row["rows"]:
        return
    under_way = await run.backfilled()
    assert run.index is not None, "of the operator's own runner"
    with speaking("looking for the tables that an index belongs to"):
        names = await connection.fetch(QUERIES["tables_of"], run.index.table_oid)
    name = next((under_way[found] for one in names if (found := (one["schema"], one["name"])) in under_way), None)
    if name is not None:
        text = f"{row['filled']} of {row['rows']} rows have an embedding, and EmbeddingBackfill {name} has not ended."
        raise Waiting(Reason.WaitingForEmbeddings, f"{text} {Reason.WaitingForEmbeddings.next_step}", after=REST)
