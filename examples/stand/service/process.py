"""One replica of the search service as a process."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from stand.server import Server


class SearchServiceProcess(Server):
    """`python -m stand.service` on a free port. At the end requests in hand are answered."""

    HEALTH = "/api/health"
    GRACE = 10.0

    def __init__(
        self,
        directory: Path,
        *,
        database_url: str,
        embeddings_base_url: str,
        embeddings_api_key: str = "unused",
        env: Mapping[str, str] | None = None,
        name: str = "api",
    ) -> None:
        """`env` holds more of the service's settings, e.g. VECTOR_POOL_MAX; secrets go by the environment too."""
        own = {
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]),
            "PORT": "{port}",
            "DATABASE_URL": database_url,
            "EMBEDDINGS_BASE_URL": embeddings_base_url,
            "EMBEDDINGS_API_KEY": embeddings_api_key,
        }
        argv = [sys.executable, "-m", "stand.service"]
        super().__init__(name, argv, directory, env={**os.environ, **own, **(env or {})})
