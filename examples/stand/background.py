"""Something that goes on in a thread of its own until the `with` ends."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import ClassVar, Self


class Background(ABC):
    """Begins with `with`, is asked to stop at its end. `run` looks at `stopping` between two steps."""

    JOIN_SECONDS: ClassVar[float] = 30.0
    """Longer than any of its steps may take."""

    def __init__(self, name: str) -> None:
        """Nothing begins yet."""
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self.run, name=name, daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stopping.set()
        self._thread.join(timeout=self.JOIN_SECONDS)

    @abstractmethod
    def run(self) -> None:
        """What goes on."""
