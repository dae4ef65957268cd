"""Whether the table is still being filled: what is measured on its first rows says nothing of all of them.

Applied together, an index, a backfill and a tuning begin at the same time. A tuning that then takes a tenth of the
table for all of it chooses a value that is too low, and says so to nobody.
"""

from __future__ import annotations

from vectorops.clients.locks import lock_key
from vectorops.clients.postgres import statements
from vectorops.clients.sqlstate import speaking
from vectorops.errors import Waiting
from vectorops.kinds.searchtuning.resource import Reason
from vectorops.kinds.searchtuning.run import Run
from vectorops.recall.target import Target

QUERIES = statements("vectorops.kinds.searchtuning")
FEW = 32  # rows with a vector: fewer searches cannot be drawn from the table
REST = 15.0  # seconds


async def wait_for_embeddings(run: Run, target: Target) -> None:
    """Raises Waiting (WaitingForEmbeddings) while most rows have no vector, and a backfill works or hardly one has any.

    Counted only in these two cases: a table that a backfill does not work at may have rows without a vector for good.
    """
    assert run.index is not None, "of the operator's own runner"
    with speaking("looking whether the table is filled"):
        few = len(await run.database.fetch(target.few_sql(FEW))) < FEW
        if not few and not await run.database.fetchval(QUERIES["table_is_worked_at"], *lock_key(run.index.table_oid)):
            return
        row = await run.database.fetchrow(target.filled_sql())
    assert row is not None, "an aggregate has a row"
    if 2 * row["filled"] >= row["rows"] or row["rows"] < FEW:
        return
    text = f"{row['filled']} of {row['rows']} rows have an embedding. {Reason.WaitingForEmbeddings.next_step}"
    raise Waiting(Reason.WaitingForEmbeddings, text, after=REST)
