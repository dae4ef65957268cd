"""What an embedding provider's refusals mean, in one table: status and code to an error that names the next step.

Messages are fixed texts around the status and the provider's own code; the provider's words stay outside, because
they may echo a key or a text. Refused here: retrying; whoever asked decides that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from vectorops.clients.embedding_headers import reset_after
from vectorops.errors import OperatorError, Reason, Stalled, Transient

LONGEST_RETRY_AFTER = 600.0  # seconds: a longer wish is looked at again after ten minutes
LONGEST_RESET = 60.0  # seconds: limits are per minute, and the reset of some servers is that of a day's limit
NO_MONEY = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
# Parameters that not every server knows; the request is repeated without the one that was refused.
OPTIONAL = {"dimensions": ("dimension", "matryoshka"), "encoding_format": ("encoding_format", "base64")}


class RejectedInput(OperatorError):
    """The provider will not take these texts; it does not say which. Nothing was billed. Halve and try again."""


class Unanswered(Transient):
    """Sent, and no usable answer came back: it may have been billed. Trying again is the remedy."""


class UnusableVectors(Stalled):
    """An answer that no repetition makes better: the vectors do not fit the column. It was billed."""


class RefusedParameter(OperatorError):
    """The server does not know the optional parameter named in `parameter`. Nothing was billed."""

    def __init__(self, parameter: str) -> None:
        super().__init__(Reason.ProviderRejected, f"the provider refuses the parameter {parameter}")
        self.parameter = parameter


@dataclass(frozen=True)
class Refusal:
    """An error answer: its status, and of its body what decides. `message` is read, never shown."""

    status: int
    code: str = ""
    type: str = ""
    param: str = ""
    message: str = ""
    retry_after: float = 0.0

    @property
    def named(self) -> str:
        """Status and code for messages; a code that is not one plain word is left out."""
        word = self.code if re.fullmatch(r"[a-z0-9_.-]{1,64}", self.code) else ""
        return f"HTTP {self.status}" + (f", {word}" if word else "")


def from_refusal(refusal: Refusal) -> OperatorError:
    """The error that a refusal means."""
    if refusal.status == 402 or NO_MONEY & {refusal.code, refusal.type}:
        return Stalled(Reason.QuotaExhausted, f"the provider says that the account has no quota left ({refusal.named})")
    if refusal.status in (401, 403):
        return Stalled(Reason.ProviderAuthenticationFailed, f"the provider refuses the API key ({refusal.named})")
    if refusal.status == 429:
        return _too_many(refusal)
    if refusal.status in (400, 413, 422):
        return _bad_request(refusal)
    if refusal.status >= 500 or refusal.status in (408, 409, 425):
        message = f"the provider answered {refusal.named}"
        return Transient(Reason.ProviderUnavailable, message, refusal.retry_after)
    if 300 <= refusal.status < 400:
        message = f"the provider answered with a redirect ({refusal.named}), and a key is not sent on"
        return Stalled(Reason.ProviderRejected, f"{message}; put the final base URL into the Secret")
    return Stalled(Reason.ProviderRejected, f"the provider does not know the model or the base URL ({refusal.named})")


def _too_many(refusal: Refusal) -> OperatorError:
    if "too large" in refusal.message.lower():  # OpenAI: no waiting helps, the request is larger than the limit
        return RejectedInput("RequestTooLarge", f"the request is larger than the limit a minute ({refusal.named})")
    message = f"the provider's rate limit is waited for ({refusal.named})"
    return Transient(Reason.RateLimited, message, refusal.retry_after)


def _bad_request(refusal: Refusal) -> OperatorError:
    said = refusal.message.lower()
    for parameter, words in OPTIONAL.items():
        if refusal.param == parameter or (not refusal.param and any(word in said for word in words)):
            return RefusedParameter(parameter)
    if refusal.param == "model" or refusal.code == "model_not_found":
        return Stalled(Reason.ProviderRejected, f"the provider does not know the model ({refusal.named})")
    return RejectedInput("RejectedInput", f"the provider refuses the text ({refusal.named})")


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float:
    """Seconds asked for by `retry-after-ms` or `retry-after` (a number or a date), at most ten minutes.

    Without them, until the limit that is used up most is whole again, at most a minute; 0 when nothing says so.
    """
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,6})?", value):
            return min(float(value) / unit, LONGEST_RETRY_AFTER)
    try:
        date = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return min(reset_after(headers), LONGEST_RESET)
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return min(max(0.0, (date - (now or datetime.now(UTC))).total_seconds()), LONGEST_RETRY_AFTER)
