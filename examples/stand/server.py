"""What the stand's HTTP servers have in common: a process on a free port, started when it answers, ended at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

import httpx2

from stand.process import Process, free_port


class Server:
    """One local HTTP server. A subclass says how it is started and where it answers."""

    HEALTH: ClassVar[str]
    """Path that answers 200 when it is up."""

    START_SECONDS: ClassVar[float] = 60.0
    """An interpreter with its libraries: a second on an idle machine, more while something is being compiled."""

    GRACE: ClassVar[float] = 3.0
    """Seconds between SIGTERM and SIGKILL."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        directory: Path,
        *,
        port: int | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Describe it; its log goes to `directory`. `{port}` in argv and in env's values stands for its port."""
        directory.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        words = [word.replace("{port}", str(self.port)) for word in argv]
        filled = {key: value.replace("{port}", str(self.port)) for key, value in env.items()} if env else None
        self._process = Process(name, words, log=directory / f"{name}.log", env=filled)

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

    @property
    def url(self) -> str:
        """Of its root."""
        return f"http://{self.address}"

    @property
    def base_url(self) -> str:
        """With /v1, as OPENAI_BASE_URL."""
        return f"{self.url}/v1"

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.exit_code

    def start(self) -> None:
        """Start and return when it answers."""
        self._process.start()
        self._process.wait_until(self._answers, f"answering {self.HEALTH}", self.START_SECONDS)

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.alive()

    def stop(self) -> None:
        """SIGTERM, then wait."""
        self._process.terminate(grace=self.GRACE)

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()

    def _answers(self) -> bool:
        try:
            answer = httpx2.get(f"{self.url}{self.HEALTH}", timeout=2, trust_env=False)
        except httpx2.TransportError:
            return False
        return answer.status_code == httpx2.codes.OK
