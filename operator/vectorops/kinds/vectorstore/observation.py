"""What one sweep of a VectorStore saw. Facts only; what they mean is said in `plan.py` and `figures.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from vectorops.clients.catalogue import Catalogue, Column
from vectorops.clients.coverage import TableCoverage
from vectorops.clients.searchservice import ServiceFigures


@dataclass(frozen=True)
class Failure:
    """An error of a neighbour that kept us from seeing."""

    reason: str
    message: str
    stalled: bool = False  # a person must act
    after: float = 0.0  # seconds: the other side's wish


@dataclass(frozen=True)
class TableSeen:
    """One entry of spec.tables and what was found of it."""

    name: str
    schema: str
    table: str
    column_name: str
    column: Column | None = None  # the vector column; None: not there, or no vector
    table_exists: bool = True
    column_type: str | None = None  # of a column that is there and is no vector
    template_error: str | None = None  # what is wrong with the template; holds nothing but the template
    unknown_columns: tuple[str, ...] = ()  # named by template, keyColumns or updatedAtColumn, and not there
    coverage: TableCoverage | None = None


@dataclass(frozen=True)
class SetFailure:
    """The settings of the role that searches could not be set."""

    reason: str
    message: str
    wanted: Mapping[str, str]  # what was to be set: something else is tried at once
    at: datetime


@dataclass(frozen=True)
class Observation:
    """One sweep. Without a catalogue, `failure` says why (or nothing was looked at: the store is suspended)."""

    catalogue: Catalogue | None = None
    failure: Failure | None = None
    tables: tuple[TableSeen, ...] = field(default=())
    coverage_failure: Failure | None = None  # the tables could not be counted; the rest stands
    service: ServiceFigures | None = None  # what the search service said; None: not declared, or `service_failure`
    service_failure: Failure | None = None  # why it could not even be asked: its Secret
    search_rivals: tuple[str, ...] = ()  # stores that declare other settings for the same role and database
    set_failure: SetFailure | None = None  # the last refusal, if nothing was set since
