"""OpenAI's error answers: status, body and headers, in its words, because clients branch on them.

Sources: error texts as users report them in the issue trackers of openai-python, langchain and others. Every
answer is built by a function named after its `code`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from stand.provider.limits import Refused, duration


@dataclass(eq=False)
class ErrorAnswer(Exception):
    """An answer that is an error; raised on the way to it."""

    status: int
    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, object]:
        """The JSON OpenAI sends."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


def missing_api_key() -> ErrorAnswer:
    """401: no Authorization header."""
    return ErrorAnswer(
        401,
        "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
        "(i.e. Authorization: Bearer YOUR_KEY).",
    )


def invalid_api_key(key: str) -> ErrorAnswer:
    """401: the key is echoed, its middle masked, as OpenAI does; a log of this line is a leak worth testing for."""
    shown = f"{key[:8]}{'*' * max(4, len(key) - 12)}{key[-4:]}"
    message = f"Incorrect API key provided: {shown}. You can find your API key at https://platform.openai.com/account/api-keys."
    return ErrorAnswer(401, message, code="invalid_api_key")


def insufficient_quota() -> ErrorAnswer:
    """429 that no waiting cures: the money is gone."""
    message = (
        "You exceeded your current quota, please check your plan and billing details. For more information on this "
        "error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors."
    )
    return ErrorAnswer(429, message, type="insufficient_quota", code="insufficient_quota")


def rate_limit_exceeded(model: str, refused: Refused) -> ErrorAnswer:
    """429 with Retry-After, or without one when the request is larger than the limit itself."""
    short = {"requests": "RPM", "tokens": "TPM"}[refused.limit]
    where = f"for {model} in organization org-stand on {refused.limit} per min ({short})"
    if math.isinf(refused.wait_seconds):
        message = f"Request too large {where}: Limit {refused.per_minute}, Requested {refused.requested}. "
        message += "The input or output tokens must be reduced in order to run successfully."
        return ErrorAnswer(429, message, type=refused.limit, code="rate_limit_exceeded")
    message = f"Rate limit reached {where}: Limit {refused.per_minute}, Used {refused.used}, "
    message += f"Requested {refused.requested}. Please try again in {duration(refused.wait_seconds)}. "
    message += "Visit https://platform.openai.com/account/rate-limits to learn more."
    wait = {
        "retry-after": str(math.ceil(refused.wait_seconds)),
        "retry-after-ms": str(math.ceil(refused.wait_seconds * 1000)),
    }
    return ErrorAnswer(429, message, type=refused.limit, code="rate_limit_exceeded", headers=wait)


def invalid_input() -> ErrorAnswer:
    """400 for a batch with a text the provider will not take; it does not say which one."""
    return ErrorAnswer(
        400, "'$.input' is invalid. Please check the API reference: https://platform.openai.com/docs/api-reference."
    )


def empty_string() -> ErrorAnswer:
    """400: a text of no characters."""
    return ErrorAnswer(400, "Invalid 'input': input cannot be an empty string.", param="input")


def too_many_inputs(limit: int, given: int) -> ErrorAnswer:
    """400: more texts than one request may hold."""
    message = f"Invalid 'input': array too long. Expected an array with maximum length {limit}, "
    message += f"but got an array with length {given} instead."
    return ErrorAnswer(400, message, param="input", code="array_above_max_length")


def text_too_long(limit: int, given: int) -> ErrorAnswer:
    """400: one text above the model's context; it does not say which one."""
    message = f"This model's maximum context length is {limit} tokens, however you requested {given} tokens "
    message += f"({given} in your prompt; 0 for the completion). Please reduce your prompt; or completion length."
    return ErrorAnswer(400, message)


def max_tokens_per_request(limit: int, given: int) -> ErrorAnswer:
    """400: all texts together above the limit of one request."""
    message = f"Requested {given} tokens, max {limit} tokens per request"
    return ErrorAnswer(400, message, type="max_tokens_per_request", code="max_tokens_per_request")


def server_error(status: int) -> ErrorAnswer:
    """5xx: somebody else's problem, for a while."""
    overloaded = "The engine is currently overloaded, please try again later"
    failed = "The server had an error while processing your request. Sorry about that!"
    return ErrorAnswer(status, overloaded if status == 503 else failed, type="server_error")
