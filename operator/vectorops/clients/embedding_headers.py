"""What the headers of a provider's answers say of its limits: how many, how many left, until when. Pure.

The names are OpenAI's, which most compatible servers send too. A header that cannot be read is one that is missing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
DURATION = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ms|s|m|h|d))+")
PART = re.compile(r"([0-9.]+)(ms|s|m|h|d)")
NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?")


@dataclass(frozen=True)
class Allowance:
    """One limit a minute as the provider tells it; None for what it does not tell."""

    limit: float | None = None
    remaining: float | None = None
    reset: float | None = None  # seconds until all of it is there again

    @property
    def used_up(self) -> float:
        """How much of it is gone, 0 to 1; 0 when that is not told."""
        if not self.limit or self.remaining is None:
            return 0.0
        return 1 - min(1.0, self.remaining / self.limit)


def allowances(headers: Mapping[str, str]) -> tuple[Allowance, Allowance]:
    """The limits of requests and of tokens."""
    requests, tokens = (_allowance(headers, of) for of in ("requests", "tokens"))
    return requests, tokens


def reset_after(headers: Mapping[str, str]) -> float:
    """Seconds until the limit that is nearest to its end is whole again; 0 when the headers do not say."""
    told = [one for one in allowances(headers) if one.reset is not None]
    return max(told, key=lambda one: one.used_up).reset or 0.0 if told else 0.0


def seconds_of(text: str) -> float | None:
    """Seconds of a duration in Go's notation (1m30s, 7.66s, 120ms) or of a plain number."""
    if NUMBER.fullmatch(text):
        return float(text)
    if DURATION.fullmatch(text):
        return sum(float(number) * UNITS[unit] for number, unit in PART.findall(text))
    return None


def _allowance(headers: Mapping[str, str], of: str) -> Allowance:
    limit, remaining, reset = (headers.get(f"x-ratelimit-{what}-{of}", "") for what in ("limit", "remaining", "reset"))
    return Allowance(_number(limit) or None, _number(remaining), seconds_of(reset))


def _number(text: str) -> float | None:
    return float(text) if NUMBER.fullmatch(text) else None
