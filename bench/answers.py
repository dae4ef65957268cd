"""What it costs to make rows of an answer: CPU a vector and memory, from the bytes of the body to what COPY sends.

Three ways over the same vectors, 2,048 of 1,536 dimensions: ours; what the official client does by default (base64 to
lists of floats) with pgvector's codec for asyncpg; and JSON numbers with text literals, as most scripts do. Rounds are
interleaved and CPU is that of the process, the smallest of all rounds, because the machine's other work only adds.
Memory is the peak that Python allocates, the body included, over the body's size.

    make bench-answers [ROUNDS=20] [TEXTS=2048]
"""

from __future__ import annotations

import base64
import gc
import json
import os
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
from openai._models import construct_type
from openai.types import CreateEmbeddingResponse
from pgvector import Vector

from vectorops.clients.embedding_answers import read_answer

ROUNDS = int(os.environ.get("ROUNDS", "20"))
TEXTS = int(os.environ.get("TEXTS", "2048"))
DIMENSIONS = 1536
LEAST_LISTS, LEAST_TEXT, MOST_MEMORY = 4.0, 40.0, 2.2


def bodies() -> tuple[bytes, bytes]:
    """The same vectors in base64 and as numbers with nine digits, as a float32 needs."""
    vectors = np.random.default_rng(7).standard_normal((TEXTS, DIMENSIONS)).astype("<f4")
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    def body(encoded: list[object]) -> bytes:
        data = [{"object": "embedding", "index": at, "embedding": one} for at, one in enumerate(encoded)]
        usage = {"prompt_tokens": 9, "total_tokens": 9}
        return json.dumps({"object": "list", "data": data, "model": "text-embedding-3-small", "usage": usage}).encode()

    coded = body([base64.b64encode(vector.tobytes()).decode() for vector in vectors])
    return coded, body([[float(f"{number:.9g}") for number in vector] for vector in vectors])


def ours(body: bytes) -> object:
    """Checked, in pgvector's binary format."""
    return read_answer(body, TEXTS, DIMENSIONS).vectors


def lists(body: bytes) -> object:
    """As the official client parses when nobody asks for anything else, and pgvector's codec packs."""
    answer = construct_type(type_=CreateEmbeddingResponse, value=json.loads(body))
    for one in answer.data:  # type: ignore[attr-defined]
        one.embedding = np.frombuffer(base64.b64decode(one.embedding), dtype="float32").tolist()
    return [Vector(one.embedding).to_binary() for one in answer.data]  # type: ignore[attr-defined]


def text(body: bytes) -> object:
    """Numbers to a list, a list to a literal."""
    return [("[" + ",".join(map(str, one["embedding"])) + "]").encode() for one in json.loads(body)["data"]]


def cpu(way: Callable[[bytes], object], body: bytes) -> float:
    """Microseconds a vector."""
    gc.collect()
    began = time.process_time()
    way(body)
    return (time.process_time() - began) / TEXTS * 1e6


def memory(way: Callable[[bytes], object], body: bytes) -> float:
    """The peak over the size of the body, which is there all the time."""
    gc.collect()
    tracemalloc.start()
    try:
        kept = way(body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert kept
    return (peak + len(body)) / len(body)


def main() -> int:
    """Measure, print a table. 1 when a goal is missed."""
    coded, numbers = bodies()
    ways = {"ours": (ours, coded), "lists + codec": (lists, coded), "floats + text": (text, numbers)}
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, (way, body) in ways.items():
            if name != "floats + text" or len(took[name]) < max(3, ROUNDS // 5):  # seconds a round
                took[name].append(cpu(way, body))
    out, best = sys.stdout.write, {name: min(rounds) for name, rounds in took.items()}
    peaks = {name: memory(way, body) for name, (way, body) in ways.items()}
    out(f"{TEXTS} vectors of {DIMENSIONS}, {len(coded) / 1e6:.1f} MB of base64, {len(numbers) / 1e6:.1f} of numbers\n")
    out(f"{'':16}{'us a vector':>12}{'median':>9}{'rounds':>8}{'ratio':>8}{'memory':>9}\n")
    for name, rounds in took.items():
        out(f"{name:16}{best[name]:12.1f}{statistics.median(rounds):9.1f}{len(rounds):8}")
        out(f"{best[name] / best['ours']:7.1f}x{peaks[name]:8.2f}x\n")
    met = best["lists + codec"] >= LEAST_LISTS * best["ours"] and best["floats + text"] >= LEAST_TEXT * best["ours"]
    met = met and peaks["ours"] <= MOST_MEMORY
    out(f"goal: {LEAST_LISTS:g}x, {LEAST_TEXT:g}x, memory at most {MOST_MEMORY}: {'met' if met else 'MISSED'}\n")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
