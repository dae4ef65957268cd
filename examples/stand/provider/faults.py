"""The ways to misbehave, as they are ordered through the control plane.

A fault is JSON: {"kind": ..., "times": n}; without `times` it stays until the faults are set again. Faults form a
queue: each request meets the first one that has times left.

| kind | what the client gets | billed |
|---|---|---|
| Status | `status` (default 500) with OpenAI's body; `retryAfter` seconds as header | no |
| InvalidApiKey | 401 invalid_api_key | no |
| InsufficientQuota | 429 insufficient_quota | no |
| RateLimited | 429 rate_limit_exceeded with `retryAfter` seconds (default 1) | no |
| Hang | nothing, until the client gives up or POST /reset | no |
| HangBilled | the same, after the answer was produced | yes |
| Truncated | half of the answer, then the connection closes | yes |
| Html | 200 with a web page, as a captive portal sends | no |
| InvalidJson | 200 that is no JSON | yes |
| Redirect | 307 to `location` (default /elsewhere) | no |
| WrongDimension | vectors of `dimensions` (default one more than asked) | yes |
| ShortList | the last vector is missing | yes |
| NotANumber | the first vector holds a NaN | yes |
| Zero | the first vector is all zeros | yes |
| AllZero | every vector is all zeros | yes |
| Shuffled | the right vectors in reverse order, with the right `index` each | yes |
| NoUsage | an answer without `usage` | yes |

Pure: this module changes payloads and says which kinds exist; sending is `app`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from stand.provider import openai_errors as errors
from stand.provider.limits import Refused
from stand.provider.openai_errors import ErrorAnswer
from stand.provider.vectors import Vector

ERRORS: Final = frozenset({"Status", "InvalidApiKey", "InsufficientQuota", "RateLimited"})
"""Answered with an error body, before anything is produced."""

UNBILLED: Final = frozenset({"Hang", "Html", "Redirect"})
"""Not an answer of the model."""

BILLED: Final = frozenset(
    {
        "HangBilled",
        "Truncated",
        "InvalidJson",
        "WrongDimension",
        "ShortList",
        "NotANumber",
        "Zero",
        "AllZero",
        "Shuffled",
        "NoUsage",
    }
)
"""The model has worked; what is wrong is what arrives."""


@dataclass
class Fault:
    """One order to misbehave; `times` None is for ever."""

    kind: str
    times: int | None
    details: Mapping[str, Any]

    @classmethod
    def parse(cls, order: Mapping[str, Any]) -> Fault:
        """From JSON; ValueError for a kind that does not exist."""
        details = dict(order)
        kind, times = details.pop("kind", None), details.pop("times", None)
        if kind not in ERRORS | UNBILLED | BILLED:
            raise ValueError(f"no fault {kind!r}; there are {', '.join(sorted(ERRORS | UNBILLED | BILLED))}")
        return cls(kind, times, details)


def next_fault(queue: Sequence[Fault]) -> Fault | None:
    """The fault this request meets; one of its times is used up."""
    for fault in queue:
        if fault.times is None:
            return fault
        if fault.times > 0:
            fault.times -= 1
            return fault
    return None


def error_of(fault: Fault, key: str, model: str) -> ErrorAnswer:
    """The error answer of a fault of ERRORS."""
    if fault.kind == "InvalidApiKey":
        return errors.invalid_api_key(key)
    if fault.kind == "InsufficientQuota":
        return errors.insufficient_quota()
    if fault.kind == "RateLimited":
        wait = float(fault.details.get("retryAfter", 1))
        return errors.rate_limit_exceeded(model, Refused("requests", 1, 1, 1, wait))
    answer = errors.server_error(int(fault.details.get("status", 500)))
    wait_header = {"retry-after": str(fault.details["retryAfter"])} if "retryAfter" in fault.details else {}
    return ErrorAnswer(answer.status, answer.message, answer.type, headers=wait_header)


def spoil(fault: Fault | None, vectors: list[Vector]) -> list[tuple[int, Vector]]:
    """The vectors with their indexes, as they go into the answer."""
    rows = list(enumerate(vectors))
    kind = fault.kind if fault else None
    if fault is not None and kind == "WrongDimension":
        length = int(fault.details.get("dimensions", len(vectors[0]) + 1))
        return [(index, np.resize(vector, length)) for index, vector in rows]
    if kind == "ShortList":
        return rows[:-1]
    if kind == "AllZero":
        return [(index, np.zeros_like(vector)) for index, vector in rows]
    if kind in ("NotANumber", "Zero"):
        first = np.zeros_like(vectors[0]) if kind == "Zero" else vectors[0].copy()
        first[0] = np.nan if kind == "NotANumber" else 0
        return [(0, first), *rows[1:]]
    return rows[::-1] if kind == "Shuffled" else rows
