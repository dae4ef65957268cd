"""The words that every kind's spec and status are made of.

Fields are snake_case here and camelCase in the API. Every string says how long it may be and every list how many
items it holds: without bounds the API server refuses CEL rules as too expensive. What becomes part of an address, a
path or a statement has a pattern out of `vectorops.names`, in the CRD and whenever a stored object is read. Rules of
the API (CEL) stand on the model they speak of, as `rules`.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from vectorops import names

GROUP = "vectorops.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

ObjectName = Annotated[str, Field(min_length=1, max_length=names.SUBDOMAIN_LENGTH, pattern=names.SUBDOMAIN)]
Label = Annotated[str, Field(min_length=1, max_length=names.LABEL_LENGTH, pattern=names.LABEL)]
DataKey = Annotated[str, Field(min_length=1, max_length=names.SUBDOMAIN_LENGTH, pattern=names.DATA_KEY)]
Identifier = Annotated[str, Field(min_length=1, max_length=63, pattern=names.IDENTIFIER)]  # bytes: where it is quoted
ModelName = Annotated[str, Field(min_length=1, max_length=256, pattern=names.MODEL)]
ShortText = Annotated[str, Field(max_length=1024)]
Text = Annotated[str, Field(max_length=32768)]
Token = Annotated[str, Field(max_length=128, pattern=names.WORD)]
Decimal = Annotated[str, Field(max_length=32, pattern=r"^[0-9]+(\.[0-9]+)?$")]  # money and ratios: never floats
Quantity = Annotated[str, Field(max_length=32, pattern=r"^(Auto|[1-9][0-9]*(Ki|Mi|Gi|Ti))$")]


def in_each(namespaces: Collection[str]) -> list[str | None]:
    """The namespaces to ask in; none named means one question over all of them."""
    return list(namespaces) or [None]


class Rule(BaseModel):
    """A CEL rule on the model that carries it, as in `x-kubernetes-validations`."""

    model_config = ConfigDict(frozen=True)

    rule: str
    message: str  # what to do, not what the rule computes


def immutable(*fields: str, why: str) -> tuple[Rule, ...]:
    """Rules (one a field, camelCase) that freeze fields; on the parent, so adding or removing one is caught."""
    return tuple(
        Rule(
            rule=f"has(self.{f}) == has(oldSelf.{f}) && (!has(self.{f}) || self.{f} == oldSelf.{f})",
            message=f"{f} is immutable: {why}",
        )
        for f in fields
    )


class ApiModel(BaseModel):
    """Base of everything in a spec or a status. Unknown fields are ignored: an older operator may meet a newer CRD."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")

    rules: ClassVar[tuple[Rule, ...]] = ()
    map_lists: ClassVar[dict[str, tuple[str, ...]]] = {}  # camelCase list field -> its map keys (server-side apply)


class LocalRef(ApiModel):
    """A reference to an object in the same namespace."""

    name: ObjectName = Field(description="Name of the object, in the same namespace.")


class SecretKeyRef(ApiModel):
    """One key of a Secret in the same namespace. Other namespaces cannot be named, on purpose."""

    name: ObjectName = Field(description="Name of the Secret, in the same namespace.")
    key: DataKey = Field(description="Key within the Secret's data.")


class CommonSpec(ApiModel):
    """What the spec of every kind but VectorStore begins with."""

    store_ref: LocalRef = Field(description="The VectorStore (same namespace) whose database and embeddings are used.")
    suspend: bool = Field(default=False, description="Pause: nothing new is begun until this is false again.")


class ConditionStatus(ApiModel):
    """One condition, as in metav1.Condition."""

    type: Annotated[str, Field(max_length=316)]
    status: Annotated[str, Field(max_length=7)] = Field(json_schema_extra={"enum": ["True", "False", "Unknown"]})
    reason: Annotated[str, Field(max_length=1024)]
    message: Annotated[str, Field(max_length=32768)] = ""
    observed_generation: int = 0
    last_transition_time: datetime


class Progress(ApiModel):
    """How far a piece of work is. PROGRESS and ETA of `kubectl get` read `summary` and `eta`."""

    done: int | None = Field(
        default=None, description="Units done: rows, or blocks of the table during an index build."
    )
    total: int | None = Field(default=None, description="Units in all.")
    percent: int | None = Field(default=None, description="Whole percent done.")
    summary: Annotated[str, Field(max_length=64)] | None = Field(default=None, description="Percent as text, e.g. 43%.")
    rate_per_second: Annotated[str, Field(max_length=32)] | None = Field(
        default=None, description="Units per second, two digits."
    )
    eta_seconds: int | None = Field(default=None, description="Seconds that remain at the present rate.")
    eta: Annotated[str, Field(max_length=32)] | None = Field(
        default=None, description="What remains, as text, e.g. 2m10s."
    )
    last_advance_time: datetime | None = Field(default=None, description="When the work last got further.")


class HistoryEntry(ApiModel):
    """One thing that was done, newest first."""

    time: datetime
    reason: Annotated[str, Field(max_length=128)]
    message: Annotated[str, Field(max_length=1024)] = ""


class CommonStatus(ApiModel):
    """What the runtime writes into the status of every kind, beside the kind's own fields."""

    map_lists: ClassVar[dict[str, tuple[str, ...]]] = {"conditions": ("type",)}

    observed_generation: int = Field(default=-1, description="The generation that this status speaks of.")
    conditions: Annotated[list[ConditionStatus], Field(max_length=32)] = Field(
        default_factory=list,
        description="Ready first; Reconciling, Stalled and Blocked are present only while True, and so is Suspended in "
        "kinds that do not end.",
    )
    waiting_since: datetime | None = Field(
        default=None,
        description="Since when something is missing that others may bring; the progress deadline counts from here.",
    )
