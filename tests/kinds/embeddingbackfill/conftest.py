"""A table of products without embeddings, and an operator process whose store names it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from pgvector.asyncpg import register_vector

from stand.provider import Provider

from .driver import DIMENSIONS, ROWS, World


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(database_url)
    await register_vector(connection)
    await connection.execute(
        f"""CREATE TABLE products (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text, description text,
                                  embedding vector({DIMENSIONS}));
            INSERT INTO products (title, description)
            SELECT 'thing ' || n, repeat('useful ', 1 + n % 7) || n FROM generate_series(1, {ROWS}) n"""
    )
    yield connection
    await connection.close()


@pytest.fixture
async def world(database_url: str, provider: Provider, db: asyncpg.Connection[Any]) -> AsyncIterator[World]:
    provider.reset()
    async with World(database_url, provider.base_url, provider.api_key) as world:
        yield world
        provider.reset()
