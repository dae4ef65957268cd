"""Whether the table is still being filled: what is measured on its first rows says nothing of all of them.

Applied together, an index, a backfill and a tuning begin at the same time. A tuning that then takes a tenth of the
table for all of it chooses a value that is too low, and says so to nobody.
"""

from __future__ import annotations

from vectorops.clients.postgres import Connection, speaking, statements
from vectorops.errors import Waiting
from vectorops.kinds.searchtuning.reasons import Reason
from vectorops.kinds.searchtuning.run import Run
from vectorops.recall.target import Target

QUERIES = statements("vectorops.kinds.searchtuning")
REST = 15.0  # seconds; two GETs
LONG_REST = 60.0  # the whole table is counted


async def wait_for_backfill(run: Run) -> None:
    """Raises Waiting (WaitingForEmbeddings) while less than half of the table is embedded and a backfill has not ended.

    Without a backfill the table is taken as it is: rows without a vector may be so for good.
    """
    assert run.index is not None, "of the operator's own runner"
    told = await run.unfilled()
    if not told:
        return
    row = await run.database.fetchrow(QUERIES["tables_of"], run.index.table_oid)
    names = zip(row["schemas"], row["names"], strict=True) if row is not None else ()
    text = next((told[name] for name in names if name in told), None)
    if text is not None:
        raise Waiting(Reason.WaitingForEmbeddings, f"{text} {Reason.WaitingForEmbeddings.next_step}", after=REST)


async def wait_for_first_rows(connection: Connection, target: Target, few: int) -> None:
    """Raises Waiting (WaitingForEmbeddings) where fewer than `few` rows have a vector and more are there without."""
    with speaking("counting the rows with an embedding"):
        row = await connection.fetchrow(target.filled_sql())
    assert row is not None, "an aggregate has a row"
    if row["filled"] < few <= row["rows"]:
        text = f"{row['filled']} of {row['rows']} rows have an embedding."
        raise Waiting(Reason.WaitingForEmbeddings, f"{text} {Reason.WaitingForEmbeddings.next_step}", after=LONG_REST)
