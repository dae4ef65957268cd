"""`python -m stand.service`: one replica, until SIGTERM, which lets requests in hand end and exits with 0."""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal

import uvicorn

from stand.service.app import make_app
from stand.service.settings import Settings

GRACE_SECONDS = 1  # on top of the patience with one search: writing the answer


class Server(uvicorn.Server):
    """Without uvicorn's own signal handling, which raises the signal again at the end: that is exit code -15."""

    def capture_signals(self) -> contextlib.nullcontext[None]:  # type: ignore[override]
        """Nothing is captured here; `serve` does."""
        return contextlib.nullcontext()


async def serve(settings: Settings) -> None:
    """Serve until told to stop."""
    config = uvicorn.Config(
        make_app(settings),
        host="127.0.0.1",
        port=settings.port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=math.ceil(settings.patience_seconds) + GRACE_SECONDS,
    )
    server = Server(config)

    def stop() -> None:
        server.should_exit = True

    for one in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(one, stop)
    await server.serve()


if __name__ == "__main__":
    asyncio.run(serve(Settings()))
