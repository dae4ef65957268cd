"""`where` of a spec: conditions on columns, all of which a row must meet. As in a WHERE clause: NULL meets none."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from vectorops import names
from vectorops.runtime.api import ApiModel, Identifier, Rule


class Operator(StrEnum):
    """How a column is compared."""

    EQUAL = "Equal"
    NOT_EQUAL = "NotEqual"
    LESS = "Less"
    LESS_OR_EQUAL = "LessOrEqual"
    GREATER = "Greater"
    GREATER_OR_EQUAL = "GreaterOrEqual"
    IN = "In"
    IS_NULL = "IsNull"
    IS_NOT_NULL = "IsNotNull"


Value = Annotated[str, Field(max_length=256, pattern=names.TEXT)]


class Where(ApiModel):
    """One condition."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="has(self.values) == (self.operator == 'In')",
            message="values (a list) is for operator In, which needs it",
        ),
        Rule(
            rule="has(self.value) == !(self.operator in ['In', 'IsNull', 'IsNotNull'])",
            message="value is for the operators that compare with one value, and they need it",
        ),
    )

    column: Identifier = Field(description="A column of the table.")
    operator: Operator = Field(description="How it is compared; In takes `values`, IsNull and IsNotNull take nothing.")
    value: Value | None = Field(default=None, description="As text, whatever the column's type: the server reads it.")
    values: Annotated[list[Value], Field(min_length=1, max_length=32)] | None = Field(
        default=None, description="For operator In."
    )


Conditions = Annotated[list[Where], Field(min_length=1, max_length=8)]
