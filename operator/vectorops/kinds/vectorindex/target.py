"""Whether the table and column can carry the wanted index at all: checks that find what a person must mend. Pure."""

from __future__ import annotations

from vectorops.clients.sql import qualified, quote_ident
from vectorops.errors import Reason, Reasons
from vectorops.kinds.vectorindex.facts import Look
from vectorops.kinds.vectorindex.naming import TYPE, too_long
from vectorops.kinds.vectorindex.reasons import Why
from vectorops.kinds.vectorindex.resource import Method, Metric, Storage
from vectorops.kinds.vectorindex.sizing import MIB, MOST_MEMORY, quantity
from vectorops.runtime.kind import Verdict

# of both access methods in pgvector
MOST_DIMENSIONS = {Storage.VECTOR: 2000, Storage.HALFVEC: 4000, Storage.BIT: 64_000}
# pgvector versions, from its CHANGELOG
SINCE = {"HNSW": (0, 5, 0), "halfvec": (0, 7, 0), "bit": (0, 7, 0), "L1": (0, 7, 0)}
COLUMN_TYPES = {
    Storage.VECTOR: ("vector",), Storage.HALFVEC: ("vector", "halfvec"), Storage.BIT: ("vector", "halfvec", "bit"),
}  # fmt: skip
ORDINARY, PARTITIONED, MATERIALIZED = "r", "p", "m"  # pg_class.relkind
STALLED_LOOK = 60.0  # seconds: a person is at work


def stalled(look: Look, reason: Reasons, message: str) -> Verdict:
    """A person must act; searches may still be served by what is there."""
    return Verdict(reason, message, stalled=True, look_again=STALLED_LOOK)


def spec_is_readable(look: Look) -> Verdict | None:
    """What the API server cannot check: bytes of names, size of the memory."""
    if long := too_long(look.spec):
        return stalled(look, Reason.InvalidSpec, f"These names have more than 63 bytes: {', '.join(long)}.")
    memory = quantity(look.spec.build.maintenance_memory)
    if memory is not None and not MIB <= memory <= MOST_MEMORY:
        return stalled(look, Why.MemoryInvalid, "spec.build.maintenanceMemory must be at least 1Mi and at most 2047Gi.")
    return None


def table_is_there(look: Look) -> Verdict | None:
    """The table exists and is one that can have an index built concurrently."""
    spec, table = look.spec, look.observed.table
    where = qualified(spec.schema_name, spec.table)
    if table is None:
        return stalled(look, Why.TableNotFound, f"There is no table {where}, or our role may not see its schema.")
    if table.kind == PARTITIONED:
        return stalled(look, Why.PartitionedTable, f"{where} is partitioned; name one of its partitions.")
    if table.kind not in (ORDINARY, MATERIALIZED):
        return stalled(look, Why.NotATable, f"{where} is not a table.")
    return None


def column_is_a_vector(look: Look) -> Verdict | None:
    """The column exists, is of a type and of dimensions that can be indexed as wanted."""
    spec, column = look.spec, look.observed.column
    table = qualified(spec.schema_name, spec.table)
    where = f"{table}.{quote_ident(spec.column)}"
    if column is None:
        return stalled(look, Why.ColumnNotFound, f"There is no column {where}.")
    if column.type not in TYPE.values():
        return stalled(look, Why.NotAVectorColumn, f"{where} is of type {column.type}, not vector, halfvec or bit.")
    if column.type not in COLUMN_TYPES[spec.storage]:
        fitting = " or ".join(storage for storage, types in COLUMN_TYPES.items() if column.type in types)
        return stalled(look, Why.StorageUnsupported, f"{where} is of type {column.type}: use storage {fitting}.")
    if column.dimensions is None:
        statement = f"ALTER TABLE {table} ALTER COLUMN {quote_ident(spec.column)} TYPE {column.type}(n)"
        return stalled(look, Why.DimensionsMissing, f"{where} has no dimensions. Run: {statement}.")
    most = MOST_DIMENSIONS[spec.storage]
    if column.dimensions > most:
        text = f"{where} has {column.dimensions} dimensions; storage {spec.storage} can index {most}."
        return stalled(look, Why.DimensionsTooLarge, text)
    return None


def conditions_name_columns(look: Look) -> Verdict | None:
    """The columns of `where` exist, and the server can compare them with its values."""
    if look.observed.where is not None and look.observed.where.flaw:
        return stalled(look, Why.WhereInvalid, f"spec.where, {look.observed.where.flaw} {Why.WhereInvalid.next_step}")
    column = look.observed.column
    known = column.others if column is not None else ()
    lost = [one.column for one in look.spec.where or () if known and one.column not in known]
    if not lost:
        return None
    table = qualified(look.spec.schema_name, look.spec.table)
    text = f"{table} has no column {', '.join(map(quote_ident, lost))}. {Why.WhereInvalid.next_step}"
    return stalled(look, Why.WhereInvalid, text)


def version_is_enough(look: Look) -> Verdict | None:
    """The extension has what is asked for."""
    spec = look.spec
    asked = {
        "HNSW": spec.method is Method.HNSW,
        "halfvec": spec.storage is Storage.HALFVEC,
        "bit": spec.storage is Storage.BIT,
        "L1": spec.metric is Metric.L1 and spec.storage is not Storage.BIT,
    }
    for feature, since in SINCE.items():
        if asked[feature] and look.observed.extension < since:
            have, want = (".".join(map(str, v)) for v in (look.observed.extension, since))
            return stalled(look, Why.VersionTooOld, f"{feature} came with pgvector {want}; the database has {have}.")
    return None


def role_may_build(look: Look) -> Verdict | None:
    """Only an owner may create an index; the message is the statement an administrator should run."""
    table, spec = look.observed.table, look.spec
    if table is not None and not table.owned:
        text = f"Our role is not an owner of {qualified(spec.schema_name, spec.table)}."
        grant = f"GRANT {quote_ident(table.owner)} TO {quote_ident(table.role)}"
        return stalled(look, Why.OwnerRightMissing, f"{text} Run: {grant}.")
    if table is not None and not table.creates:
        schema = quote_ident(spec.schema_name)
        text = f"Our role may not create an index in schema {schema}."
        grant = f"GRANT CREATE ON SCHEMA {schema} TO {quote_ident(table.role)}"
        return stalled(look, Why.OwnerRightMissing, f"{text} Run: {grant}.")
    return None
