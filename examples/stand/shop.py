"""The shop's database: real product texts, a month of searches, and the two roles that log in.

`create_shop` fills an empty database in seconds; rows start without embeddings, because making them is what the
product is shown doing. `clone_shop` copies a filled one. `shop_operator` is the role vectorops logs in as: it
owns the tables and is no superuser; `api` is the search service's and only reads. Roles belong to the whole
cluster, so their passwords are derived from the superuser's: every shop of one cluster has the same.

Refused here: starting Postgres, calling an embedding model, indexes on vectors (the operator's work).
"""

from __future__ import annotations

import hashlib
import hmac
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import asyncpg
import numpy as np
from pgvector.asyncpg import register_vector

from stand.catalogue import Product, products
from stand.postgres import Postgres
from stand.shop_traffic import profiles, searches

DIMENSIONS: Final = 384
"""Of the stand's real model, multilingual-e5-small."""

OPERATOR: Final = "shop_operator"
"""The role the operator logs in as."""

API: Final = "api"
"""The role the search service logs in as."""

SEARCHES: Final = 20_000
"""A small shop's month: enough that popular queries stand out of the noise, and loaded in a second."""

PROFILES: Final = 500
"""Enough for a third table that takes part in maintenance."""

NOISE: Final = 0.25
"""Length of the noise added to a unit vector: copies stay nearer to their original than to other products."""

COPY_ROWS: Final = 5_000
"""Vectors made and sent at a time: 8 MB of floats."""

ROLES_SQL: Final = """
DO $$ BEGIN
    CREATE ROLE api LOGIN PASSWORD {api};
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$;
DO $$ BEGIN
    CREATE ROLE shop_operator LOGIN CREATEROLE PASSWORD {operator} IN ROLE pg_monitor, pg_signal_backend;
    GRANT api TO shop_operator WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$;
"""
"""pg_monitor holds pg_read_all_stats; CREATEROLE with ADMIN on api is what ALTER ROLE api IN DATABASE ... SET asks."""


@dataclass(frozen=True)
class Shop:
    """One shop's database: its name and a URL for each who logs in."""

    database: str
    admin_dsn: str = field(repr=False)
    operator_dsn: str = field(repr=False)
    api_dsn: str = field(repr=False)
    operator_password: str = field(repr=False)
    api_password: str = field(repr=False)


async def create_shop(dsn: str, products: int = 3000, *, searches: int = SEARCHES, seed: int = 1) -> Shop:
    """Fill the empty database of this superuser URL and make the roles where they are missing."""
    shop = _shop(dsn)
    await _prepare(shop)
    connection = await asyncpg.connect(shop.operator_dsn)
    try:
        async with connection.transaction():
            await connection.execute(Path(__file__).with_name("shop.sql").read_text())
            await _fill(connection, products, searches, seed)
        await connection.execute("ANALYZE products, searches, user_profiles")
    finally:
        await connection.close()
    return shop


async def clone_shop(postgres: Postgres, shop: Shop, database: str) -> Shop:
    """Copy a shop, embeddings and indexes included. The original must have no open connections."""
    copy = _shop(postgres.create_database(database, template=shop.database))
    await _prepare(copy)  # a database's own rights are not copied
    return copy


async def fill_noisy_copy(dsn: str, rows: int = 30_000, seed: int = 1, noise: float = NOISE) -> int:
    """Fill product_vectors with `rows` vectors: those of products, over and over, with noise; the count.

    Every vector is of unit length. Raises ValueError while no product has an embedding.
    """
    connection = await asyncpg.connect(dsn)
    try:
        await register_vector(connection)
        real = await connection.fetch("SELECT id, embedding FROM products WHERE embedding IS NOT NULL ORDER BY id")
        if not real:
            raise ValueError("no product has an embedding yet: run a backfill, then fill the noisy copy")
        ids = [row["id"] for row in real]
        originals = np.stack([row["embedding"].to_numpy() for row in real])
        generator = np.random.default_rng(seed)
        for start in range(0, rows, COPY_ROWS):
            chosen = np.arange(start, min(start + COPY_ROWS, rows)) % len(ids)
            vectors = _noisy(originals[chosen], generator, noise)
            records = zip((ids[one] for one in chosen), vectors, strict=True)
            await connection.copy_records_to_table(
                "product_vectors", records=records, columns=["product_id", "embedding"]
            )
        await connection.execute("ANALYZE product_vectors")
    finally:
        await connection.close()
    return rows


def role_password(dsn: str, role: str) -> str:
    """The password of a role in the cluster whose superuser URL this is."""
    superuser = unquote(urlsplit(dsn).password or "")
    return hmac.new(superuser.encode(), role.encode(), hashlib.sha256).hexdigest()[:32]


def _shop(dsn: str) -> Shop:
    operator, api = role_password(dsn, OPERATOR), role_password(dsn, API)
    return Shop(
        database=unquote(urlsplit(dsn).path.lstrip("/")),
        admin_dsn=dsn,
        operator_dsn=_as(dsn, OPERATOR, operator),
        api_dsn=_as(dsn, API, api),
        operator_password=operator,
        api_password=api,
    )


def _as(dsn: str, role: str, password: str) -> str:
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(netloc=f"{quote(role)}:{quote(password)}@{parts.hostname}:{parts.port}"))


async def _prepare(shop: Shop) -> None:
    """What only a superuser may: roles, extensions, rights on the database."""
    connection = await asyncpg.connect(shop.admin_dsn)
    try:
        await connection.execute(ROLES_SQL.format(operator=f"'{shop.operator_password}'", api=f"'{shop.api_password}'"))
        await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        if await connection.fetchval("SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_stat_statements'"):
            await connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
            await connection.execute("CREATE EXTENSION IF NOT EXISTS pg_prewarm")
        await connection.execute("CREATE SCHEMA IF NOT EXISTS search_cache AUTHORIZATION api")
        name = await connection.fetchval("SELECT quote_ident(current_database())")
        await connection.execute(f"GRANT CREATE ON DATABASE {name} TO shop_operator")
        await connection.execute("GRANT CREATE ON SCHEMA public TO shop_operator")
    finally:
        await connection.close()


async def _fill(connection: asyncpg.Connection, count: int, searched: int, seed: int) -> None:
    catalogue, now = products(count, seed), datetime.now(UTC)
    await connection.copy_records_to_table(
        "products",
        records=_product_rows(catalogue, now, random.Random(seed)),
        columns=["title", "description", "category", "price", "created_at", "updated_at"],
    )
    await connection.copy_records_to_table(
        "searches",
        records=searches(catalogue, searched, now=now, seed=seed),
        columns=["query", "user_id", "results_count", "created_at"],
    )
    await connection.copy_records_to_table(
        "user_profiles", records=profiles(catalogue, PROFILES, seed=seed), columns=["interests"]
    )


def _product_rows(catalogue: list[Product], now: datetime, chance: random.Random) -> list[tuple[object, ...]]:
    """Listed some time in the last two years, edited since, or not."""
    rows: list[tuple[object, ...]] = []
    for one in catalogue:
        age = chance.uniform(1, 730)
        edited = age if chance.random() < 0.7 else chance.uniform(0, age)
        listed_at, edited_at = (now - timedelta(days=days) for days in (age, edited))
        rows.append((one.title, one.description, one.category, one.price, listed_at, edited_at))
    return rows


def _noisy(
    originals: np.ndarray[tuple[int, int], np.dtype[np.float32]], generator: np.random.Generator, noise: float
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    added = generator.standard_normal(originals.shape, dtype=np.float32)
    vectors = originals + added * np.float32(noise / np.sqrt(originals.shape[1]))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)
