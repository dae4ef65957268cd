"""Logging: one line an event, JSON or text, and nothing of what neighbours' libraries say in passing.

Lines of an object's task carry its kind, namespace, name and uid as fields, also those of the work that it began: a
task takes over the context of the one that starts it. What is shared by objects is started `apart`, or its lines would
name whoever happened to come first.

The libraries that speak to neighbours log request bodies, URLs and parameters at low levels: these would carry row
texts and keys, so they are kept at WARNING whatever level is asked for.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
from typing import Literal

import structlog
from structlog.contextvars import bind_contextvars, clear_contextvars, merge_contextvars

QUIET = ("openai", "httpx2", "httpcore2", "asyncpg", "kubernetes", "aiohttp", "asyncio")
SILENT = ("kopf",)  # tells every try of every request, with the server's words; what matters of it we tell ourselves


def configure_logging(format_: Literal["json", "text"], level: str) -> None:
    """Send every record of the process to standard error in one format."""
    shared: list[structlog.typing.Processor] = [
        _whose,
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
    for name in SILENT:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def about(kind: str, namespace: str, name: str, uid: str) -> None:
    """From here on, this task's lines and those of tasks it starts are about that object."""
    bind_contextvars(kind=kind, namespace=namespace, name=name, uid=uid)


def apart() -> contextvars.Context:
    """A context for `create_task` whose lines are about no object: for what several objects wait for."""
    context = contextvars.copy_context()
    context.run(clear_contextvars)
    return context


def _whose(logger: logging.Logger, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """The fields of the task at work. Callbacks of a connection run in the context of whoever opened it: without."""
    try:
        if asyncio.current_task() is None:
            return event
    except RuntimeError:  # a thread: one that works for a task has its context, any other an empty one
        pass
    return merge_contextvars(logger, method, event)
