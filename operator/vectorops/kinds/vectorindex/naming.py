"""What the index is called and what makes it this index: names, definition, hashes. Pure.

All names are deterministic, so that after a crash the same name is found again. Postgres silently cuts names longer
than 63 bytes; nothing here ever makes one.
"""

from __future__ import annotations

import hashlib

from vectorops.clients.predicate import Compared, predicate_sql
from vectorops.kinds.vectorindex.parts import Hnsw, Ivfflat
from vectorops.kinds.vectorindex.resource import Method, Metric, Storage, VectorIndexSpec

NAME_BYTES = 63  # NAMEDATALEN - 1: the server's limit, in bytes
HASH_DIGITS = 8  # 32 bits: two builds of one table with the same digits are not met by chance
SUFFIX = {Method.HNSW: "hnsw", Method.IVFFLAT: "ivfflat"}
OPERATOR_CLASS = {Metric.COSINE: "cosine_ops", Metric.L2: "l2_ops", Metric.INNER_PRODUCT: "ip_ops", Metric.L1: "l1_ops"}
TYPE = {Storage.VECTOR: "vector", Storage.HALFVEC: "halfvec", Storage.BIT: "bit"}


def cut(text: str, limit: int) -> str:
    """The longest beginning of `text` that has at most `limit` bytes; characters stay whole."""
    return text.encode()[:limit].decode(errors="ignore")


def digits(*parts: str) -> str:
    """Eight hex digits of all parts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:HASH_DIGITS]


def index_name(spec: VectorIndexSpec) -> str:
    """spec.indexName, or idx_<table>_<column>_<method>; one that had to be cut carries a hash of the whole."""
    if spec.index_name is not None:
        return spec.index_name
    base, suffix = f"idx_{spec.table}_{spec.column}", f"_{SUFFIX[spec.method]}"
    if spec.storage is Storage.BIT:
        base += "_bit"
    if spec.where:
        base += f"_{digits(predicate(spec))}"
    if len((base + suffix).encode()) <= NAME_BYTES:
        return base + suffix
    suffix = f"_{digits(base)}{suffix}"
    return cut(base, NAME_BYTES - len(suffix)) + suffix


def build_name(spec: VectorIndexSpec, uid: str) -> str:
    """The name under which this object builds this definition: <base>_vo_<8 hex>."""
    suffix = f"_vo_{digits(uid, definition(spec))}"
    return cut(index_name(spec), NAME_BYTES - len(suffix)) + suffix


def old_name(build: str) -> str:
    """The name that the replaced index bears until it is dropped: the build's name + _old."""
    suffix = build[-len("_vo_") - HASH_DIGITS :] + "_old"
    base = build[: -len("_vo_") - HASH_DIGITS]
    return cut(base, NAME_BYTES - len(suffix)) + suffix


def too_long(spec: VectorIndexSpec) -> tuple[str, ...]:
    """The fields whose value has more than 63 bytes: the API server counts characters."""
    given = {"schema": spec.schema_name, "table": spec.table, "column": spec.column, "indexName": spec.index_name or ""}
    return tuple(field for field, value in given.items() if len(value.encode()) > NAME_BYTES)


def compared(spec: VectorIndexSpec) -> list[Compared]:
    """The conditions of `where`."""
    return [
        Compared(one.column, str(one.operator), tuple(one.values or ([one.value] if one.value is not None else [])))
        for one in spec.where or ()
    ]


def predicate(spec: VectorIndexSpec) -> str:
    """SQL of `where`; empty without."""
    return predicate_sql(compared(spec))


def operator_class(spec: VectorIndexSpec) -> str:
    """E.g. vector_cosine_ops; of bits there is the Hamming distance only."""
    if spec.storage is Storage.BIT:
        return "bit_hamming_ops"
    return f"{TYPE[spec.storage]}_{OPERATOR_CLASS[spec.metric]}"


def hnsw_of(spec: VectorIndexSpec) -> Hnsw:
    """The HNSW parameters, with defaults."""
    return spec.hnsw or Hnsw()


def ivfflat_of(spec: VectorIndexSpec) -> Ivfflat:
    """The IVFFlat parameters, with defaults."""
    return spec.ivfflat or Ivfflat()


def options(spec: VectorIndexSpec) -> dict[str, int | None]:
    """The WITH clause as wanted; None stands for Auto."""
    if spec.method is Method.HNSW:
        return {"m": hnsw_of(spec).m, "ef_construction": hnsw_of(spec).ef_construction}
    return {"lists": ivfflat_of(spec).lists}


def definition(spec: VectorIndexSpec) -> str:
    """What makes it this index and no other, in words near to SQL; the identity of a build."""
    clause = ", ".join(f"{name} = {'Auto' if value is None else value}" for name, value in options(spec).items())
    target = f"{spec.schema_name}.{spec.table} ({spec.column} {operator_class(spec)})"
    where = f" WHERE {predicate(spec)}" if spec.where else ""
    return f"{index_name(spec)} ON {target} USING {SUFFIX[spec.method]} WITH ({clause}){where}"


def attempt_hash(spec: VectorIndexSpec) -> str:
    """What an attempt depends on: an attempt that failed for good is repeated only when this differs."""
    build = spec.build.model_dump_json()
    return hashlib.sha256("\0".join((definition(spec), build, spec.run_token or "")).encode()).hexdigest()[:16]
