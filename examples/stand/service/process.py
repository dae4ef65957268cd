"""One replica of the search service as a process."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

import httpx2

from stand.process import Process, free_port

START_SECONDS: Final = 60
"""An interpreter with uvicorn and asyncpg: a second on an idle machine."""


class SearchServiceProcess:
    """`python -m stand.service` on a free port."""

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
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        own = {
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]),
            "PORT": str(self.port),
            "DATABASE_URL": database_url,
            "EMBEDDINGS_BASE_URL": embeddings_base_url,
            "EMBEDDINGS_API_KEY": embeddings_api_key,
        }
        argv = [sys.executable, "-m", "stand.service"]
        self._process = Process(name, argv, log=directory / f"{name}.log", env={**os.environ, **own, **(env or {})})

    def __enter__(self) -> Self:
        """Start, and stop() at the end."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self.stop()

    @property
    def address(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start and return when it is healthy."""
        self._process.start()
        self._process.wait_until(self._healthy, "answering /api/health", START_SECONDS)

    def stop(self) -> None:
        """SIGTERM, then wait; requests in hand are answered."""
        self._process.terminate(grace=10)

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.exit_code

    def _healthy(self) -> bool:
        try:
            url = f"http://{self.address}/api/health"
            return httpx2.get(url, timeout=2, trust_env=False).status_code == httpx2.codes.OK
        except httpx2.TransportError:
            return False
