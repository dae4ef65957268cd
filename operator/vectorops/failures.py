"""The exceptions of `vectorops.errors`, where they are explained and where everybody takes them from.

They hold a reason's word and a message and nothing of a library's. Refused: knowing any reason.
"""

from __future__ import annotations

import traceback


class OperatorError(Exception):
    """Base of what the operator raises on purpose. `reason` is CamelCase, `message` says what to do next."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = str(reason)
        self.message = message


class Stalled(OperatorError):
    """Others must act. Nothing is done to the world until it is seen to be mended."""


class Waiting(OperatorError):
    """Something else must finish first; look again after `after` seconds."""

    def __init__(self, reason: str, message: str, after: float = 5.0) -> None:
        super().__init__(reason, message)
        self.after = after


class Transient(OperatorError):
    """Trying again is the remedy. `after` is a floor in seconds asked for by the other side (Retry-After)."""

    def __init__(self, reason: str, message: str, after: float = 0.0) -> None:
        super().__init__(reason, message)
        self.after = after


def frames(error: BaseException) -> str:
    """An unforeseen exception for the log: its type and where it came from, never its text, which may hold a secret."""
    return f"{type(error).__name__}\n{''.join(traceback.format_tb(error.__traceback__))}"
