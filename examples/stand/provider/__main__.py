"""Run the mock provider in the foreground: `python -m stand.provider --port N --dimensions D`."""

from __future__ import annotations

import argparse
from typing import Final

import uvicorn

from stand.provider.app import application
from stand.provider.state import State

SHUTDOWN_SECONDS: Final = 1
"""Held requests do not keep the process alive."""


def main() -> None:
    """Serve on 127.0.0.1 until a signal."""
    parser = argparse.ArgumentParser(prog="stand.provider", description="an OpenAI-compatible embeddings mock")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dimensions", type=int, default=1536, help="of every vector, and the most a request may ask")
    parser.add_argument("--api-key", action="append", help="a key to accept (default: every key)")
    given = parser.parse_args()
    state = State(given.dimensions, frozenset(given.api_key) if given.api_key else None)
    uvicorn.run(
        application(state),
        host="127.0.0.1",
        port=given.port,
        log_level="warning",
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )


if __name__ == "__main__":
    main()
