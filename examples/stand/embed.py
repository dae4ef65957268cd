"""Embed a few texts through any OpenAI-compatible server: for searches by hand and in tests.

`python -m stand.embed --base-url http://127.0.0.1:PORT/v1 "keeps coffee hot"` prints the vector as pgvector
writes it, ready for `psql`. Not for bulk: embedding a table is the product's work.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

from openai import AsyncOpenAI

from stand.embedding_server import QUERY_MODEL


async def embed(
    base_url: str, texts: Sequence[str], *, model: str = QUERY_MODEL, api_key: str = "unused"
) -> list[list[float]]:
    """One vector a text, in the texts' order. openai's errors pass through."""
    async with AsyncOpenAI(base_url=base_url, api_key=api_key) as client:
        answer = await client.embeddings.create(model=model, input=list(texts))
    return [one.embedding for one in sorted(answer.data, key=lambda one: one.index)]


async def embed_query(base_url: str, text: str, *, model: str = QUERY_MODEL, api_key: str = "unused") -> list[float]:
    """The vector of one search query."""
    return (await embed(base_url, [text], model=model, api_key=api_key))[0]


def vector_literal(vector: Sequence[float]) -> str:
    """pgvector's text form: [0.1,0.2]."""
    return "[" + ",".join(f"{value:.8g}" for value in vector) + "]"


def main() -> None:
    """Print one text's vector."""
    parser = argparse.ArgumentParser(prog="stand.embed", description="print a text's embedding for psql")
    parser.add_argument("text")
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--model", default=QUERY_MODEL)
    given = parser.parse_args()
    vector = asyncio.run(embed_query(given.base_url, given.text, model=given.model))
    sys.stdout.write(vector_literal(vector) + "\n")


if __name__ == "__main__":
    main()
