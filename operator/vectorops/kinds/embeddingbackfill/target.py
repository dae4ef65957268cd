"""What is to be filled: the store's declaration, what the catalogue says of it, and whether the two fit. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from vectorops.clients.sql import qualified, quote_ident
from vectorops.clients.texttemplate import TemplateError, TextTemplate, parse_template
from vectorops.errors import Stalled
from vectorops.kinds.embeddingbackfill.reasons import Reason

TABLES = ("r", "p")  # pg_class.relkind: ordinary and partitioned; views and foreign tables have no unique index
VECTORS = ("vector", "halfvec")
ANY_DIMENSIONS = -1  # pg_attribute.atttypmod of a vector column declared without a size


@dataclass(frozen=True)
class Declared:
    """What the VectorStore says: its embeddings and one entry of its tables."""

    store: str
    model: str
    dimensions: int
    price: Decimal | None  # US dollars a million tokens
    schema: str
    table: str
    column: str
    template: str
    prefix: str
    entry: str = ""  # the entry's name
    key_columns: tuple[str, ...] = ()  # empty: the primary key

    @property
    def name(self) -> str:
        """schema.table, quoted: in statements, in messages, and as table_name of our bookkeeping."""
        return qualified(self.schema, self.table)


@dataclass(frozen=True)
class KeyColumn:
    """One column of the key, in the key's order."""

    name: str
    type: str  # as format_type writes it
    builtin: bool  # its ordering operators are those of pg_catalog
    not_null: bool


@dataclass(frozen=True)
class Facts:
    """What the catalogue says of the declared table. `kind` None: there is no such table."""

    kind: str | None
    oid: int = 0
    columns: tuple[str, ...] = ()
    missing_keys: tuple[str, ...] = ()  # declared in keyColumns, absent in the table
    keys: tuple[KeyColumn, ...] = ()
    unique: bool = False  # a unique index makes these keys name one row
    type: str = ""  # of the embedding column
    dimensions: int = ANY_DIMENSIONS
    type_schema: str = ""
    may_read: bool = True
    may_update: bool = True
    role: str = ""


@dataclass(frozen=True)
class Target:
    """A table that can be filled."""

    declared: Declared
    oid: int
    keys: tuple[KeyColumn, ...]
    type_schema: str
    template: TextTemplate
    sized: bool = True  # the column's type says how many dimensions its vectors have


@dataclass(frozen=True)
class Flaw:
    """Why it cannot be filled, and the next step."""

    reason: Reason
    message: str


def target_of(declared: Declared, facts: Facts) -> Target | Flaw:
    """The target, or the first thing a person must mend."""
    for check in (_table_flaw, _template_flaw, _column_flaw, _key_flaw, _right_flaw):
        flaw = check(declared, facts)
        if flaw is not None:
            return flaw
    template = parse_template(declared.template, declared.prefix)
    sized = facts.dimensions != ANY_DIMENSIONS
    return Target(declared, facts.oid, facts.keys, facts.type_schema, template, sized)


def _table_flaw(declared: Declared, facts: Facts) -> Flaw | None:
    if facts.kind is None:
        return Flaw(Reason.TableNotFound, f"There is no table {declared.name}. {Reason.TableNotFound.next_step}")
    if facts.kind not in TABLES:
        return Flaw(Reason.TableNotFound, f"{declared.name} is not a table. {Reason.TableNotFound.next_step}")
    return None


def _template_flaw(declared: Declared, facts: Facts) -> Flaw | None:
    where = f"textTemplate of table {declared.entry} in VectorStore {declared.store}"
    if not declared.template:
        message = f"{where} is not set; without it nobody knows what to embed. {Reason.NoTextTemplate.next_step}"
        return Flaw(Reason.NoTextTemplate, message)
    try:
        unknown = parse_template(declared.template, declared.prefix).unknown(facts.columns)
    except TemplateError as error:
        return Flaw(Reason.TemplateInvalid, f"{where} cannot be read: {error}. Correct it there.")
    if unknown:
        named = ", ".join(quote_ident_safe(column) for column in unknown)
        message = f"{where} names {named}, which {declared.name} does not have. Correct it there, or create the column."
        return Flaw(Reason.TemplateInvalid, message)
    if declared.column in parse_template(declared.template).columns:
        return Flaw(Reason.TemplateInvalid, f"{where} names the embedding column itself. Correct it there.")
    return None


def _column_flaw(declared: Declared, facts: Facts) -> Flaw | None:
    column = quote_ident_safe(declared.column)
    if declared.column not in facts.columns:
        return Flaw(Reason.ColumnNotFound, f"{declared.name} has no column {column}. {Reason.ColumnNotFound.next_step}")
    if facts.missing_keys:
        named = ", ".join(quote_ident_safe(key) for key in facts.missing_keys)
        message = f"{declared.name} has no column {named}, which keyColumns names. {Reason.ColumnNotFound.next_step}"
        return Flaw(Reason.ColumnNotFound, message)
    if facts.type not in VECTORS:
        message = f"{column} of {declared.name} is of type {facts.type}, not vector or halfvec. "
        message += Reason.NotAVectorColumn.next_step
        return Flaw(Reason.NotAVectorColumn, message)
    if facts.dimensions not in (ANY_DIMENSIONS, declared.dimensions):
        message = f"{column} of {declared.name} is {facts.type}({facts.dimensions}), spec.embeddings.dimensions of "
        message += f"VectorStore {declared.store} is {declared.dimensions}. {Reason.DimensionMismatch.next_step}"
        return Flaw(Reason.DimensionMismatch, message)
    return None


def _key_flaw(declared: Declared, facts: Facts) -> Flaw | None:
    if not facts.keys or not facts.unique or not all(key.not_null for key in facts.keys):
        what = "has no primary key" if not facts.keys else "has no unique index on NOT NULL keyColumns"
        return Flaw(Reason.NoPrimaryKey, f"{declared.name} {what}. {Reason.NoPrimaryKey.next_step}")
    for key in facts.keys:
        if not key.builtin:
            message = f"{quote_ident_safe(key.name)} of {declared.name} is of type {key.type}, which is not built in."
            return Flaw(Reason.KeyNotSupported, f"{message} {Reason.KeyNotSupported.next_step}")
    return None


def _right_flaw(declared: Declared, facts: Facts) -> Flaw | None:
    if facts.may_read and facts.may_update:
        return None
    rights = "SELECT, UPDATE" if not facts.may_read else f"UPDATE ({quote_ident_safe(declared.column)})"
    grant = f"GRANT {rights} ON {declared.name} TO {quote_ident_safe(facts.role)}"
    return Flaw(Reason.UpdateRightMissing, f"The operator's role may not fill {declared.name}. Run: {grant};")


def quote_ident_safe(name: str) -> str:
    """For messages: quoted like an identifier, also where it is none (too long, empty)."""
    try:
        return quote_ident(name)
    except Stalled:
        return '"' + name.replace('"', '""') + '"'
