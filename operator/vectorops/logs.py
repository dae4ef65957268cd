"""Logging: one line an event, JSON or text, and nothing of what neighbours' libraries say in passing.

The libraries that speak to neighbours log request bodies, URLs and parameters at low levels: these would carry row
texts and keys, so they are kept at WARNING whatever level is asked for.
"""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog

QUIET = ("openai", "httpx2", "httpcore2", "asyncpg", "kubernetes", "aiohttp", "asyncio", "kopf")


def configure_logging(format_: Literal["json", "text"], level: str) -> None:
    """Send every record of the process to standard error in one format."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if format_ == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
