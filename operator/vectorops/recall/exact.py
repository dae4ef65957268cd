"""Exact nearest neighbours of many queries in one pass over the table.

A search per query without an index reads the whole table each time. Here the table is read once, by binary COPY, and
every block of rows is compared with all queries at once by one matrix product (L1, which is none, row by row). Memory
does not grow with the table. Arithmetic is done in a thread, so the event loop goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vectorops.clients.foreign import threads
from vectorops.clients.sqlstate import speaking
from vectorops.errors import Reason, Waiting
from vectorops.recall.target import Distance, Target

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vectorops.clients.postgres import Connection

COPY_HEADER = 19
"""Bytes before the first row of a binary COPY: signature 11, flags 4, length of the extension 4."""

BLOCK_BYTES = 8 * 1024 * 1024
"""Rows that are compared at once: large enough for a fast matrix product, small enough to be forgotten soon."""


@dataclass(frozen=True)
class Neighbours:
    """The exact answer: for each query the `k` nearest rows, nearest first."""

    ids: NDArray[np.uint64]  # (queries, k): block << 16 | offset of the ctid
    distances: NDArray[np.float64]  # (queries, k): as the operator of the index says; inf where there are fewer rows
    rows: int  # compared


def row_id(ctid: tuple[int, int]) -> int:
    """A ctid (block, offset) as one number."""
    return ctid[0] << 16 | ctid[1]


def parse_vectors(texts: list[str], target: Target) -> NDArray[np.float32]:
    """Vectors or bit strings of the column as text, as a matrix (queries, dimensions)."""
    import numpy as np

    if target.column_type == "bit":
        rows = [np.frombuffer(text.encode(), dtype=np.uint8) - ord("0") for text in texts]
    else:
        rows = [np.array(text[1:-1].split(","), dtype=np.float32) for text in texts]
    return np.asarray(rows, dtype=np.float32)


async def exact_neighbours(
    connection: Connection, target: Target, queries: NDArray[np.float32], own: NDArray[np.uint64], k: int
) -> Neighbours:
    """Read the table once in the transaction that is open. `own`: the row each query was taken from, left out; 0: none.

    Raises what the database raises, translated; Waiting(TargetNotFound) when the column's shape changed meanwhile.
    """
    search = Search(target, queries, own, k)
    pending = bytearray()
    copied = 0

    async def received(data: bytes) -> None:
        nonlocal copied
        pending.extend(data)
        if copied == 0 and len(pending) >= COPY_HEADER:
            del pending[:COPY_HEADER]
            copied = COPY_HEADER
        whole = len(pending) // search.row_bytes
        if copied and whole * search.row_bytes >= BLOCK_BYTES:
            block = bytes(pending[: whole * search.row_bytes])
            del pending[: len(block)]
            await threads.parse(search.feed, block)

    with speaking("reading the vectors"):
        await connection.copy_from_query(target.copy_sql(), output=received, format="binary")
    whole = len(pending) // search.row_bytes
    if len(pending) - whole * search.row_bytes != 2:  # the trailer: a 16 bit -1
        text = "The rows of the column are not of one size: its type has changed meanwhile."
        raise Waiting(Reason.TargetNotFound, text, after=60.0)
    await threads.parse(search.feed, bytes(pending[: whole * search.row_bytes]))
    return search.result()


@dataclass
class Search:
    """The nearest rows so far, of every query."""

    target: Target
    queries: NDArray[np.float32]
    own: NDArray[np.uint64]
    k: int
    rows: int = 0
    _left: NDArray[Any] = field(init=False)
    _ids: NDArray[Any] = field(init=False)
    _scores: NDArray[Any] = field(init=False)
    _row: np.dtype[Any] = field(init=False)

    def __post_init__(self) -> None:
        import numpy as np

        count, d = len(self.queries), self.target.dimensions
        self._left = self._key(self.queries)
        self._ids = np.zeros((count, self.k), dtype=np.uint64)
        self._scores = np.full((count, self.k), np.inf, dtype=np.float32)
        head = [("fields", ">i2"), ("length", ">i4"), ("block", ">u4"), ("offset", ">u2"), ("size", ">i4")]
        if self.target.column_type == "bit":
            body: list[Any] = [("bits", ">i4"), ("value", "u1", ((d + 7) // 8,))]
        else:
            element = ">f4" if self.target.column_type == "vector" else ">f2"
            body = [("dimensions", ">u2"), ("unused", ">u2"), ("value", element, (d,))]
        self._row = np.dtype([*head, *body])

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of the COPY."""
        return int(self._row.itemsize)

    def feed(self, block: bytes) -> None:
        """Compare whole rows of the COPY with every query."""
        import numpy as np

        if not block:
            return
        rows = np.frombuffer(block, dtype=self._row)
        ids = rows["block"].astype(np.uint64) << np.uint64(16) | rows["offset"].astype(np.uint64)
        scores = self._compare(self._key(self._values(rows)))
        self._leave_out(ids, scores)
        self.rows += len(rows)
        keep = min(self.k, len(rows))
        best = np.argpartition(scores, keep - 1, axis=1)[:, :keep]
        scores = np.concatenate([self._scores, np.take_along_axis(scores, best, axis=1)], axis=1)
        named = np.concatenate([self._ids, ids[best]], axis=1)
        order = np.argsort(scores, axis=1, kind="stable")[:, : self.k]
        self._scores = np.take_along_axis(scores, order, axis=1)
        self._ids = np.take_along_axis(named, order, axis=1)

    def result(self) -> Neighbours:
        """What was found."""
        import numpy as np

        scores = self._scores.astype(np.float64)
        match self.target.distance:
            case Distance.COSINE:
                distances = 1 + scores
            case Distance.L2:
                norms = np.einsum("ij,ij->i", self._left, self._left, dtype=np.float64)
                distances = np.sqrt(np.maximum(scores + norms[:, None], 0))
            case Distance.HAMMING:
                distances = (self.target.dimensions + scores) / 2
            case _:
                distances = scores
        return Neighbours(self._ids, distances, self.rows)

    def _values(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        import numpy as np

        if self.target.column_type == "bit":
            return np.unpackbits(rows["value"], axis=1)[:, : self.target.dimensions].astype(np.float32)
        return np.asarray(rows["value"].astype(np.float32))

    def _key(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the index holds of them: rounded to half, signs, or unit vectors."""
        import numpy as np

        if self.target.key_type == "bit":
            return np.where(values > 0, np.float32(1), np.float32(-1))
        if self.target.key_type == "halfvec":
            values = values.astype(np.float16).astype(np.float32)
        if self.target.distance is Distance.COSINE:
            norms = np.linalg.norm(values, axis=1, keepdims=True)
            with np.errstate(invalid="ignore", divide="ignore"):
                return np.asarray(values / norms)  # a zero vector becomes NaN: the index does not hold it
        return values

    def _compare(self, right: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores (queries, rows) that order the rows as the operator does."""
        import numpy as np

        if self.target.distance is Distance.L1:
            return np.stack([np.abs(right - query).sum(axis=1) for query in self._left])
        scores = -(self._left @ right.T)
        if self.target.distance is Distance.L2:
            scores = 2 * scores + np.einsum("ij,ij->i", right, right)[None, :]
        return np.asarray(np.nan_to_num(scores, nan=np.inf, copy=False))

    def _leave_out(self, ids: NDArray[np.uint64], scores: NDArray[np.float32]) -> None:
        import numpy as np

        order = np.argsort(self.own)
        place = np.searchsorted(self.own, ids, sorter=order)
        for row in np.flatnonzero(place < len(self.own)):
            query = order[place[row]]
            if self.own[query] == ids[row]:
                scores[query, row] = np.inf
