"""Where the queries of a warm-up come from, as the user says it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from vectorops import names
from vectorops.runtime.api import ApiModel, DataKey, Identifier, Label, ObjectName, Rule

MOST_CHARACTERS = 2000  # of one query: nobody types more, and a longer one is no search


class Matching(StrEnum):
    """Which spellings are one query."""

    CASE_AND_SPACES = "CaseAndSpaces"
    EXACT = "Exact"


class FromTable(ApiModel):
    """A table of the store's database that holds what people search."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="has(self.tableName) != has(self.table)",
            message="name the table once: tableName (an entry of the store's spec.tables) or table",
        ),
        Rule(
            rule="!has(self.windowSeconds) || has(self.timeColumn)",
            message="windowSeconds needs timeColumn, which says when a search was",
        ),
    )

    table_name: Label | None = Field(
        default=None, description="An entry of spec.tables of the VectorStore. Or name schema and table."
    )
    schema_name: Identifier = Field(default="public", alias="schema", description="Schema of `table`.")
    table: Identifier | None = Field(
        default=None, description="The table, a view, or a materialized view; one that the store declares."
    )
    query_column: Identifier = Field(description="The column with the text of the search.")
    count_column: Identifier | None = Field(
        default=None, description="How often the row's query was searched. Default: each row is one search."
    )
    time_column: Identifier | None = Field(default=None, description="When the search was (or its day).")
    window_seconds: Annotated[int, Field(ge=60, le=31_536_000)] | None = Field(
        default=None, description="Only searches of so many seconds before the run began. Default: all."
    )
    matching: Matching = Field(
        default=Matching.CASE_AND_SPACES,
        description="Which spellings are one query, as for the service's cache. CaseAndSpaces: 'Red  shoes' is "
        "'red shoes', and the most usual spelling is sent.",
    )
    top: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=100, description="So many queries, those that were searched most."
    )


class ConfigMapKeyRef(ApiModel):
    """One key of a ConfigMap in the same namespace: one query a line, the most searched first."""

    name: ObjectName = Field(description="Name of the ConfigMap, in the same namespace.")
    key: DataKey = Field(description="Key within its data.")


class Queries(ApiModel):
    """Where the queries come from."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="[has(self.fromTable), has(self.inline), has(self.configMapRef)].filter(x, x).size() == 1",
            message="name one source: fromTable, inline or configMapRef",
        ),
    )

    from_table: FromTable | None = Field(default=None, description="The log of searches; the most searched are taken.")
    inline: (
        Annotated[
            list[Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS, pattern=names.TEXT)]],
            Field(min_length=1, max_length=1000),
        ]
        | None
    ) = Field(default=None, description="The queries themselves, the most searched first.")
    config_map_ref: ConfigMapKeyRef | None = Field(default=None, description="A ConfigMap with one query a line.")
