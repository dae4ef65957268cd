"""The mock provider as a process, with its control plane as methods.

Synchronous, for tests and scripts; in a coroutine use `await asyncio.to_thread(provider.wait_for, ...)` for the one
call that waits.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import Any, Final

import httpx2 as httpx

from stand.server import Server

ANSWER_SECONDS: Final = 30
"""The control plane answers at once; a bill of 100,000 texts takes a second."""


class Provider(Server):
    """One mock provider on a free port, with a random API key that it insists on. Ended, open requests break."""

    HEALTH = "/bill"

    def __init__(
        self, directory: Path, *, dimensions: int = 1536, api_key: str | None = None, port: int | None = None
    ) -> None:
        """Describe it; its log goes to `directory`. A started process has an empty bill."""
        self.dimensions = dimensions
        self.api_key = api_key or f"sk-stand-{secrets.token_hex(12)}"
        argv = [sys.executable, "-m", "stand.provider", "--port", "{port}"]
        argv += ["--dimensions", str(dimensions), "--api-key", self.api_key]
        path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
        super().__init__("provider", argv, directory, port=port, env=os.environ | {"PYTHONPATH": path})
        self._http = httpx.Client(base_url=self.url, timeout=ANSWER_SECONDS, trust_env=False)

    def control(self, **order: Any) -> None:
        """POST /control with JSON keys as arguments; each replaces what was set before, the rest stays.

        latencySeconds=0.2; faults=[{"kind": "Status", "status": 503, "times": 2}] (kinds in `faults`);
        poison=["a piece of text"]; limits={"requestsPerMinute": 60, "tokensPerMinute": 6000, "burstSeconds": 1}
        or None; holdRequests="Received", "Billed" or None (None lets go); apiKeys=["sk-..."] or None (every key);
        batches={...} (orders in `batches`).
        For benches: tokenizer="cl100k" or "bytes"; latencySeconds={"median": 0.4, "sigma": 0.5, "seed": 1};
        errors={"share": 0.005, "status": 503, "seed": 1}; laterLimits={"afterRequests": 5, **limits};
        cheapVectors=True (one of 256 vectors a text, not `vector_for`);
        timeScale=20 (limits and latency in faster time; set before limits).
        Raises ValueError with the provider's words.
        """
        answer = self._http.post("/control", json=order)
        if answer.is_error:
            raise ValueError(answer.json()["error"])

    def fail_next(self, kind: str, times: int = 1, **details: Any) -> None:
        """The next requests meet this fault; replaces the faults there are."""
        self.control(faults=[{"kind": kind, "times": times, **details}])

    def bill(self) -> dict[str, Any]:
        """{requests, tokens, texts, perText: {text: times}} of what was produced since the start or reset."""
        bill: dict[str, Any] = self._http.get("/bill").raise_for_status().json()
        return bill

    def batches(self) -> dict[str, Any]:
        """{batches: [{id, status, lines, completed, failed, name}], files: [name, ...]} of the batch interface."""
        found: dict[str, Any] = self._http.get("/batches").raise_for_status().json()
        return found

    def requests(self, state: str | None = None) -> list[dict[str, Any]]:
        """The log, oldest first: {at, texts, tokens, model, encoding, state, status, billed}.

        States: Received, Held, Billed, Answered.
        """
        return self.wait_for(state, at_least=0, timeout=0)

    def wait_for(self, state: str | None, *, at_least: int = 1, timeout: float = 10) -> list[dict[str, Any]]:
        """Return as soon as so many requests are in a state. Raises TimeoutError."""
        query = {"atLeast": str(at_least), "timeoutSeconds": str(timeout)} | ({"state": state} if state else {})
        answer = self._http.get("/requests", params=query, timeout=timeout + ANSWER_SECONDS).raise_for_status()
        found: list[dict[str, Any]] = answer.json()
        if len(found) < at_least:
            raise TimeoutError(f"{len(found)} of {at_least} requests {state or 'received'} within {timeout:g} s")
        return found

    def reset(self) -> None:
        """Settings, faults, bill and log as at the start; held and hanging requests are let go."""
        self._http.post("/reset").raise_for_status()
