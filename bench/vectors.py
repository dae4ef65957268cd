"""A table of vectors with structure, the same for every benchmark of searches and indexes.

32 latent dimensions in 50 clusters, turned into as many dimensions as wanted, of unit length: real embeddings have
such a structure, random vectors do not, and an index over those says nothing. Seeded; written by binary COPY.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import asyncpg
import numpy as np
from numpy.typing import NDArray

LATENT, CLUSTERS, SEED = 32, 50, 11
BLOCK = 5_000  # rows made at a time
NOISE = 0.35  # of a row around its cluster's centre


def blocks(rows: int, dimensions: int, seed: int = SEED) -> Iterator[NDArray[np.float32]]:
    """The rows, block by block."""
    random = np.random.default_rng(seed)
    turn = random.normal(size=(LATENT, dimensions)).astype(np.float32)
    centres = random.normal(size=(CLUSTERS, LATENT)).astype(np.float32)
    for start in range(0, rows, BLOCK):
        count = min(BLOCK, rows - start)
        near = centres[random.integers(0, CLUSTERS, count)]
        made = (near + NOISE * random.normal(size=(count, LATENT)).astype(np.float32)) @ turn
        yield made / np.linalg.norm(made, axis=1, keepdims=True)


def copy_bytes(first: int, vectors: NDArray[np.float32]) -> bytes:
    """A binary COPY of (id int, embedding vector)."""
    d = vectors.shape[1]
    row = np.dtype([
        ("fields", ">i2"), ("a", ">i4"), ("id", ">i4"), ("b", ">i4"), ("d", ">u2"), ("unused", ">u2"),
        ("v", ">f4", (d,)),
    ])  # fmt: skip
    rows = np.zeros(len(vectors), dtype=row)
    rows["fields"], rows["a"], rows["b"], rows["d"] = 2, 4, 4 + 4 * d, d
    rows["id"], rows["v"] = np.arange(first, first + len(vectors)), vectors
    return b"PGCOPY\n\xff\r\n\0" + bytes(8) + rows.tobytes() + b"\xff\xff"


async def fill(dsn: str, rows: int, dimensions: int, table: str = "item") -> None:
    """Make and fill the table, and analyze it."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, embedding vector({dimensions}) NOT NULL)")
        first = 1
        for block in blocks(rows, dimensions):
            data = io.BytesIO(copy_bytes(first, block))
            await connection.copy_to_table(table, source=data, format="binary", columns=["id", "embedding"])
            first += len(block)
        await connection.execute(f"VACUUM ANALYZE {table}")
    finally:
        await connection.close()


def as_text(vector: NDArray[np.float32]) -> str:
    """pgvector's text form."""
    return "[" + ",".join(f"{x:.6f}" for x in vector) + "]"
