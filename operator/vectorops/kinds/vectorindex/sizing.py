"""How much memory, how many workers and lists a build gets, and when it will be done. Pure arithmetic.

The graph of an HNSW build must fit into maintenance_work_mem, or the build goes on on disk, many times slower. What
a server can spare cannot be asked by SQL, so Auto takes what its administrator already said: the largest of
maintenance_work_mem, shared_buffers and a quarter of effective_cache_size. Refused: guessing the machine's memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from vectorops.kinds.vectorindex.naming import hnsw_of
from vectorops.kinds.vectorindex.resource import Method, Storage, VectorIndexSpec

KIB, MIB = 1024, 1024 * 1024
UNITS = {"Ki": KIB, "Mi": MIB, "Gi": 1024 * MIB, "Ti": 1024 * 1024 * MIB}
ELEMENT_BYTES = 216  # pgvector's HnswElementData with its lock and ten heap pointers, allocation headers, rounding
NEIGHBOUR_BYTES = 16  # HnswCandidate: pointer, distance, flag
VECTOR_HEADER = 8  # varlena header, dimensions
SLACK = 1.05  # levels are drawn at random, rows arrive while it builds
SHARED_OVERHEAD = 4 * MIB  # pgvector keeps 3 MB of the shared area for itself in a parallel build
STEP = 16 * MIB  # figures a person can read
LEAST_MEMORY = 64 * MIB  # PostgreSQL's own default: less is never asked for by Auto
MOST_MEMORY = 2047 * 1024 * MIB  # maintenance_work_mem is an int of kB
FEW_ROWS = 10_000  # below, a serial build takes seconds, and starting workers with their shared memory is not worth it
SAFE_PARALLEL = (0, 8, 2)  # pgvector before it overflows a buffer in parallel builds (CVE fixed in 0.8.2)

LOADING_SHARE = 0.85  # of the build's time; then come the write to disk, the validation passes and the waits
SPILLED_WIDTH = 2  # after spilling each row costs more than the one before: the far end of the ETA


@dataclass(frozen=True)
class Limits:
    """What the server allows, in bytes and processes."""

    maintenance_work_mem: int
    shared_buffers: int
    effective_cache_size: int
    max_parallel_maintenance_workers: int
    max_parallel_workers: int
    max_worker_processes: int


@dataclass(frozen=True)
class Sizing:
    """What a build is given, and why if that is not obvious."""

    memory: int  # bytes
    workers: int
    note: str = ""


def graph_bytes(rows: int, dimensions: int, m: int, storage: Storage) -> int:
    """Memory of an HNSW graph of that many rows while it is built."""
    bits = {Storage.VECTOR: 32, Storage.HALFVEC: 16, Storage.BIT: 1}
    value = VECTOR_HEADER + -(-dimensions * bits[storage] // 8)
    links = NEIGHBOUR_BYTES * (2 * m + m / (m - 1))  # 2m at level 0, m at each of 1 / (m - 1) further levels
    return math.ceil(rows * (value + links + ELEMENT_BYTES) * SLACK)


def kmeans_bytes(rows: int, dimensions: int, lists: int) -> int:
    """Memory of IVFFlat's k-means: samples, centers and the bounds between them."""
    samples = min(max(50 * lists, 10_000), max(rows, 1))
    return math.ceil((samples * (VECTOR_HEADER + 4 * dimensions) + samples * lists * 4 + lists * lists * 4) * SLACK)


def lists_for(rows: int) -> int:
    """pgvector's advice: rows / 1000 up to a million rows, then the square root; never fewer than 10."""
    wanted = rows // 1000 if rows <= 1_000_000 else math.isqrt(rows)
    return min(max(wanted, 10), 32768)


def size(spec: VectorIndexSpec, rows: int, dimensions: int, limits: Limits, extension: tuple[int, ...]) -> Sizing:
    """Memory and workers of a build of `rows` rows."""
    workers, why = _workers(spec, rows, limits, extension)
    return Sizing(_memory(spec, rows, dimensions, limits), workers, why)


def _memory(spec: VectorIndexSpec, rows: int, dimensions: int, limits: Limits) -> int:
    given = quantity(spec.build.maintenance_memory)
    if given is not None:
        return given
    if spec.method is Method.HNSW:
        needed = graph_bytes(rows, dimensions, hnsw_of(spec).m, spec.storage)
    else:
        needed = kmeans_bytes(rows, dimensions, lists_for(rows))
    allowed = max(limits.maintenance_work_mem, limits.shared_buffers, limits.effective_cache_size // 4)
    wanted = math.ceil((needed + SHARED_OVERHEAD) / STEP) * STEP
    return max(min(wanted, allowed, MOST_MEMORY), LEAST_MEMORY)


def _workers(spec: VectorIndexSpec, rows: int, limits: Limits, extension: tuple[int, ...]) -> tuple[int, str]:
    given = spec.build.parallel_workers
    if spec.method is Method.HNSW and extension < SAFE_PARALLEL:
        return 0, "serial: parallel builds are not safe before pgvector 0.8.2" if given != 0 else ""
    ceiling = min(limits.max_parallel_workers, limits.max_worker_processes)
    if given is not None:
        return min(given, ceiling), f"the server allows {ceiling} parallel workers" if given > ceiling else ""
    if rows < FEW_ROWS:
        return 0, ""
    return min(limits.max_parallel_maintenance_workers, ceiling), ""


def quantity(text: str) -> int | None:
    """Bytes of a quantity such as 2Gi; None for Auto."""
    return None if text == "Auto" else int(text[:-2]) * UNITS[text[-2:]]


def duration_text(seconds: float) -> str:
    """A duration for a person: 45s, 2m10s, 1h05m, 2d03h."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


@dataclass(frozen=True)
class Spill:
    """When the graph outgrew its memory, and after how many tuples."""

    tuples: int
    at: datetime


@dataclass(frozen=True)
class Estimate:
    """What remains, in seconds; `most` is larger than `least` when that is honest."""

    least: float
    most: float

    @property
    def text(self) -> str:
        """E.g. 2m10s, or 10m00s-20m00s when the far end is not known better."""
        near, far = duration_text(self.least), duration_text(self.most)
        return near if near == far else f"{near}-{far}"


def remaining(share: float, tuples: int, started: datetime, now: datetime, spill: Spill | None) -> Estimate | None:
    """What remains of a build whose loading phase has done `share` (0..1) of the table; None when it cannot be said.

    Before a spill all rows cost about the same. After it, only what was loaded since tells the pace, and the far end
    is set at twice that: rows get dearer as the graph grows beyond the cache.
    """
    if spill is None:
        return _at_pace(share, 0.0, now - started, 1)
    loaded = share * spill.tuples / tuples if tuples > 0 else share
    return _at_pace(share, loaded, now - spill.at, SPILLED_WIDTH)


def _at_pace(share: float, since: float, elapsed: timedelta, width: int) -> Estimate | None:
    done, seconds = share - since, elapsed.total_seconds()
    if done <= 0.01 or seconds < 2:  # too little to divide by
        return None
    loading = (1 - share) / (done / seconds)
    tail = (
        (1 / LOADING_SHARE - 1) * (seconds * share / done + loading)
        if width == 1
        else (1 / LOADING_SHARE - 1) * loading
    )
    return Estimate(loading + tail, loading * width + tail)
