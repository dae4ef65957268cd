"""What a tuning searches for, as the user says it."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from vectorops.runtime.api import ApiModel, Identifier, Rule


class FromTable(ApiModel):
    """Real searches, from the service's log."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="has(self.queryColumn) != has(self.embeddingColumn)",
            message="name one of queryColumn (texts, which are embedded) and embeddingColumn (vectors)",
        ),
    )

    schema_name: Identifier = Field(default="public", alias="schema", description="Schema of the table.")
    table: Identifier = Field(description="A table with a row for each search; one that the store declares.")
    query_column: Identifier | None = Field(
        default=None, description="Texts: embedded with the store's queryModel and queryPrefix, which costs tokens."
    )
    embedding_column: Identifier | None = Field(default=None, description="Vectors of the indexed column's dimensions.")
    rows: Annotated[int, Field(ge=32, le=2048)] = Field(default=256, description="Searches that are drawn at random.")


class Queries(ApiModel):
    """What is searched for."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="!(has(self.fromTable) && has(self.heldOutRows))",
            message="name one of fromTable and heldOutRows",
        ),
    )

    from_table: FromTable | None = Field(default=None, description="Real searches.")
    held_out_rows: Annotated[int, Field(ge=32, le=2048)] | None = Field(
        default=None,
        description="Rows of the table itself, drawn at random, each left out of its own answer: at most so many, for "
        "a value that is clearly good or poor takes 64. Default: 1024.",
    )
