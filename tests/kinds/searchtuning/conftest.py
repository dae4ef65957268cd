"""The world of a tuning."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from .driver import World, fill


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    """A filled table with a poor index, and an operator process."""
    await fill(database_url)
    async with World(database_url) as world:
        await world.index()
        yield world
