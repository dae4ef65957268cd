"""Searches in the background, as the shop's service would send them, counting what goes wrong.

Every search of products goes through `find_similar_products`, over a connection of its own; every tenth asks the
catalogue whether a valid vector index of the table exists at that moment. Used while an index is rebuilt, by the demo
and by tests.
"""

from __future__ import annotations

import asyncio
from typing import Final

import asyncpg

from stand.background import Background

PLAIN: Final = "SELECT 1 FROM {table} ORDER BY embedding <=> $1::text::vector LIMIT 10"
SEARCH: Final = "SELECT id FROM find_similar_products($1::text::vector, 0.1, 10, NULL, NULL, NULL)"
INDEXED: Final = """
SELECT EXISTS (
    SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
    WHERE i.indrelid = $1::text::regclass AND i.indisvalid AND a.amname IN ('hnsw', 'ivfflat')
)
"""
PAUSE_SECONDS: Final = 0.01  # about a hundred searches a second at the most: load, not a flood


class Searcher(Background):
    """A thread that searches until it is stopped."""

    def __init__(self, dsn: str, vector: str, table: str = "products") -> None:
        """`vector` in pgvector's text form. Tables other than products are searched as they are."""
        super().__init__("searcher")
        self._table, self._sql = table, SEARCH if table == "products" else PLAIN.format(table=table)
        self._dsn, self._vector = dsn, vector
        self.searches = self.errors = self.empty = self.unindexed = 0
        self.first_error = ""

    def run(self) -> None:
        """Search."""
        asyncio.run(self._search())

    def check(self) -> None:
        """Raise AssertionError where a search failed, found nothing, or met a table without a valid index."""
        problems = f"{self.errors} errors ({self.first_error}), {self.empty} empty, {self.unindexed} without an index"
        if not self.searches or self.errors or self.empty or self.unindexed:
            raise AssertionError(f"of {self.searches} searches: {problems}")

    async def _search(self) -> None:
        connection = await asyncpg.connect(self._dsn)
        try:
            while not self.stopping.is_set():
                await self._once(connection)
                await asyncio.sleep(PAUSE_SECONDS)
        finally:
            await connection.close()

    async def _once(self, connection: asyncpg.Connection) -> None:
        self.searches += 1
        try:
            rows = await connection.fetch(self._sql, self._vector)
            self.empty += not rows
            if self.searches % 10 == 1:
                self.unindexed += not await connection.fetchval(INDEXED, self._table)
        except asyncpg.PostgresError as error:
            self.errors += 1
            self.first_error = self.first_error or type(error).__name__
