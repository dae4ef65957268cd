"""The HTTP application: one request's way from its first byte to the last.

The order is a real provider's: body, key, bounds, rate limit, then the model works (latency), the bill is
written, and only then the answer goes out. Holds and faults sit at the points a client can be surprised at.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from stand.provider import faults, openai_errors
from stand.provider.batches import Door
from stand.provider.control import control_routes
from stand.provider.faults import Fault
from stand.provider.openai_errors import ErrorAnswer
from stand.provider.state import RequestRecord, State
from stand.provider.vectors import Vector, vector_for

MAX_INPUTS: Final = 2048
MAX_TOKENS_PER_TEXT: Final = 8191
MAX_TOKENS_PER_REQUEST: Final = 300_000
"""OpenAI's bounds for embeddings; the runbook's model has these."""

PAGE: Final = "<!doctype html><title>Sign in</title><p>Please sign in to the network to continue."
"""What a proxy in the way answers with."""


@dataclass(frozen=True)
class Asked:
    """A request that was understood."""

    texts: list[str]
    model: str
    dimensions: int
    base64: bool
    tokens: int
    longest: int
    key: str


def application(state: State) -> Starlette:
    """The application over its memory."""

    async def embeddings(request: Request) -> Response:
        try:
            return await _embeddings(state, request)
        except ErrorAnswer as error:
            headers = state.limits.headers() | dict(error.headers)
            return JSONResponse(error.body(), error.status, headers=headers)

    async def models(_: Request) -> Response:
        one = {"id": "text-embedding-3-small", "object": "model", "owned_by": "stand"}
        return JSONResponse({"object": "list", "data": [one]})

    def check(request: Request) -> None:
        _check_key(state, request.headers.get("authorization", "").removeprefix("Bearer "))

    def produce(body: Mapping[str, Any]) -> dict[str, Any]:
        return _in_batch(state, _asked(state, body, ""))

    routes = [Route("/v1/embeddings", embeddings, methods=["POST"]), Route("/v1/models", models)]
    routes += Door(lambda: state.batches, check, produce).routes()
    return Starlette(routes=[*routes, *control_routes(state)])


def _in_batch(state: State, asked: Asked) -> dict[str, Any]:
    """One line of a batch: no rate limit, the same bounds, the same bill."""
    _check_bounds(asked)
    if any(poison in text for text in asked.texts for poison in state.poison):
        raise openai_errors.invalid_input()
    state.bill.add(asked.texts, asked.tokens)
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(vector_for(text, asked.dimensions), asked.base64)}
        for index, text in enumerate(asked.texts)
    ]
    usage = {"prompt_tokens": asked.tokens, "total_tokens": asked.tokens}
    return {"object": "list", "data": data, "model": asked.model, "usage": usage}


async def _embeddings(state: State, request: Request) -> Response:
    try:
        body = await request.json()
    except ValueError as error:
        raise ErrorAnswer(400, "We could not parse the JSON body of your request.") from error
    asked = _asked(state, body, request.headers.get("authorization", "").removeprefix("Bearer "))
    encoding = "base64" if asked.base64 else "float"
    record = RequestRecord(time.time(), len(asked.texts), asked.tokens, asked.model, encoding)
    await state.received(record)
    await state.hold_at("Received", record)
    try:
        response = await _answer(state, asked, record)
    except ErrorAnswer as error:
        await state.became(record, "Answered", error.status)
        raise
    await state.became(record, "Answered", response.status_code)
    return response


async def _answer(state: State, asked: Asked, record: RequestRecord) -> Response:
    """From an understood request to its response."""
    _check_key(state, asked.key)
    fault = faults.next_fault(state.faults)
    if fault is not None and fault.kind in faults.ERRORS:
        raise faults.error_of(fault, asked.key, asked.model)
    if fault is not None and fault.kind in faults.UNBILLED:
        return await _no_answer(state, fault)
    if state.errors.strikes():
        raise openai_errors.server_error(state.errors.status)
    _check_bounds(asked)
    state.change_limits()
    if refused := state.limits.take(asked.tokens, state.now()):
        raise openai_errors.rate_limit_exceeded(asked.model, refused)
    if any(poison in text for text in asked.texts for poison in state.poison):
        raise openai_errors.invalid_input()
    await state.work()
    cheap = state.pool if asked.base64 and fault is None and asked.dimensions == state.dimensions else None
    vectors = [] if cheap else [vector_for(text, asked.dimensions) for text in asked.texts]
    state.bill.add(asked.texts, asked.tokens)
    record.billed = True
    await state.became(record, "Billed")
    await state.hold_at("Billed", record)
    if fault is not None and fault.kind == "HangBilled":
        await state.hang()
    if cheap is not None:
        content = cheap.answer(asked.texts, asked.model, asked.tokens)
        return Response(content, headers=state.limits.headers(), media_type="application/json")
    return _response(asked, fault, vectors, state.limits.headers())


def _check_key(state: State, key: str) -> None:
    """401 unless the API key is one that is accepted."""
    if not key:
        raise openai_errors.missing_api_key()
    if state.api_keys is not None and key not in state.api_keys:
        raise openai_errors.invalid_api_key(key)


def _asked(state: State, body: Any, key: str) -> Asked:
    """The body, understood; 400 for what is no request."""
    if not isinstance(body, Mapping) or not isinstance(body.get("model"), str):
        raise ErrorAnswer(400, "you must provide a model parameter")
    texts = [body.get("input")] if isinstance(body.get("input"), str) else body.get("input")
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise openai_errors.invalid_input()
    dimensions = body.get("dimensions", state.dimensions)
    if not isinstance(dimensions, int) or not 1 <= dimensions <= state.dimensions:
        message = f"Invalid value for 'dimensions' = {dimensions}. Must be less than or equal to {state.dimensions}."
        raise ErrorAnswer(400, message, param="dimensions")
    return Asked(
        texts=texts,
        model=body["model"],
        dimensions=dimensions,
        base64=body.get("encoding_format") == "base64",
        tokens=sum(counts := [state.count(text) for text in texts]),
        longest=max(counts),
        key=key,
    )


def _check_bounds(asked: Asked) -> None:
    """OpenAI's limits of one request."""
    if len(asked.texts) > MAX_INPUTS:
        raise openai_errors.too_many_inputs(MAX_INPUTS, len(asked.texts))
    if "" in asked.texts:
        raise openai_errors.empty_string()
    if asked.longest > MAX_TOKENS_PER_TEXT:
        raise openai_errors.text_too_long(MAX_TOKENS_PER_TEXT, asked.longest)
    if asked.tokens > MAX_TOKENS_PER_REQUEST:
        raise openai_errors.max_tokens_per_request(MAX_TOKENS_PER_REQUEST, asked.tokens)


async def _no_answer(state: State, fault: Fault) -> Response:
    """What arrives instead of the model's answer."""
    if fault.kind == "Html":
        return HTMLResponse(PAGE)
    if fault.kind == "Redirect":
        return RedirectResponse(str(fault.details.get("location", "/elsewhere")), 307)
    await state.hang()
    raise openai_errors.server_error(503)  # only a reset comes here


def _response(asked: Asked, fault: Fault | None, vectors: list[Vector], headers: dict[str, str]) -> Response:
    """The answer as bytes, spoiled as the fault says."""
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(vector, asked.base64)}
        for index, vector in faults.spoil(fault, vectors)
    ]
    usage = {"prompt_tokens": asked.tokens, "total_tokens": asked.tokens}
    answer: dict[str, object] = {"object": "list", "data": data, "model": asked.model, "usage": usage}
    kind = fault.kind if fault else None
    if kind == "NoUsage":
        del answer["usage"]
    content = json.dumps(answer).encode()
    if kind == "InvalidJson":
        content = content[: len(content) // 2]
    if kind == "Truncated":
        headers = headers | {"content-length": str(len(content))}
        return StreamingResponse(_first_half(content), headers=headers, media_type="application/json")
    return Response(content, headers=headers, media_type="application/json")


async def _first_half(content: bytes) -> AsyncIterator[bytes]:
    """Half of what the headers promise; the server closes the connection on that."""
    yield content[: len(content) // 2]


def _encoded(vector: Vector, as_base64: bool) -> str | list[float]:
    """Little-endian float32 in base64, or JSON numbers that name the same float32s."""
    if as_base64:
        return base64.b64encode(vector.astype(np.dtype("<f4")).tobytes()).decode()
    return [float(value) for value in vector]
