"""What people did in the shop: a month of searches with a realistic skew, and profiles of interests.

Popularity follows Zipf's law, as query logs do: a few queries make up most of the traffic, thousands are asked
once. People write one query in several ways (case, spaces), buy during the day, and now and then send what is no
query at all: nothing, a keyboard mash, a whole page, an injection, a language without a word in the catalogue.
Deterministic in `seed`. Refused here: databases, vectors.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from stand.catalogue import Product

DAYS: Final = 30
"""How far back searches go."""

EXPONENT: Final = 1.05
"""Zipf's exponent; published query logs lie between 0.8 and 1.3."""

DISTINCT_SHARE: Final = 0.25
"""Distinct queries for one search: 20,000 searches draw from 5,000 queries."""

GARBAGE_SHARE: Final = 0.03
"""Searches that are no queries."""

USERS: Final = 2_000
"""Accounts that search; a third of all searches are made without one."""

POPULAR: Final = ("thermos", "vacuum flask", "keeps coffee hot", "sleeping bag", "rain jacket", "kitchen knife")
"""The head of the distribution: known by name, so that a test may ask for them."""

GARBAGE: Final = (
    "",
    "   ",
    "?",
    "asdfghjkl",
    "aaaaaaaaaaaaaaaaaaaaaaaa",
    "' OR 1=1 --",
    "<script>alert(1)</script>",
    "https://example.com/?utm_source=mail",
    "%%%",
    "\U0001f525\U0001f525\U0001f525",
    "не работает",
    "\u200b",
    "../../etc/passwd",
    "lorem ipsum dolor sit amet " * 40,
)
"""What search boxes really get."""

WISHES: Final = ("cheap", "small", "for kids", "second hand", "red")
"""What people add to a name."""

Search = tuple[str, int | None, int, datetime]
"""query, user_id, results_count, created_at."""


def searches(catalogue: Sequence[Product], count: int, *, now: datetime, seed: int = 1) -> list[Search]:
    """`count` searches of the last DAYS before `now`, oldest first."""
    chance = random.Random(f"searches:{seed}")
    queries = _queries(catalogue, max(len(POPULAR), round(count * DISTINCT_SHARE)), chance)
    ranks = _zipf(len(queries), count, seed)
    rows = [_search(queries[rank], now, chance) for rank in ranks]
    return sorted(rows, key=lambda row: row[3])


def profiles(catalogue: Sequence[Product], count: int, *, seed: int = 1) -> list[tuple[str]]:
    """`count` users' interests: two or three categories, and things they like."""
    chance = random.Random(f"profiles:{seed}")
    categories = sorted({one.category for one in catalogue} - {"other"}) or ["other"]
    rows: list[tuple[str]] = []
    for _ in range(count):
        liked = chance.sample(categories, min(len(categories), chance.randint(1, 3)))
        things = [one.title for one in chance.choices(catalogue, k=chance.randint(2, 4))]
        rows.append((f"Interested in {', '.join(liked)}. Looked at {', '.join(things)}.",))
    return rows


def _queries(catalogue: Sequence[Product], count: int, chance: random.Random) -> list[str]:
    """Distinct queries, the most popular first."""
    found = dict.fromkeys(POPULAR)
    while len(found) < count:
        found.setdefault(_query(chance.choice(catalogue), chance))
        if chance.random() < 0.001:  # a tiny catalogue runs out of its own words
            found.setdefault(f"{chance.choice(catalogue).title} {chance.randint(1, 999)}")
    return list(found)


def _query(product: Product, chance: random.Random) -> str:
    """What somebody who wants this product types."""
    kind = chance.random()
    if kind < 0.5:
        return product.title.lower()
    if kind < 0.65 and product.synonyms:
        return chance.choice(product.synonyms).lower()
    words = [word for word in product.description.lower().rstrip(".").split() if len(word) > 3]
    if kind < 0.85 and len(words) > 2:
        start = chance.randrange(len(words) - 1)
        return " ".join(words[start : start + chance.randint(2, 4)]).strip(" ,;.")
    return f"{product.title.lower()} {chance.choice((*WISHES, product.category))}"


def _zipf(distinct: int, count: int, seed: int) -> list[int]:
    """`count` ranks below `distinct`, by Zipf's law."""
    weights = 1 / np.arange(1, distinct + 1) ** EXPONENT
    drawn = np.random.default_rng(seed).choice(distinct, size=count, p=weights / weights.sum())
    return [int(rank) for rank in drawn]


def _search(query: str, now: datetime, chance: random.Random) -> Search:
    user = None if chance.random() < 1 / 3 else chance.randint(1, USERS)
    at = _moment(now, chance)
    if chance.random() < GARBAGE_SHARE:
        return chance.choice(GARBAGE), user, 0, at
    results = 0 if chance.random() < 0.05 else min(50, int(chance.expovariate(1 / 15)) + 1)
    return _written(query, chance), user, results, at


def _written(query: str, chance: random.Random) -> str:
    """The same query as different people write it."""
    kind = chance.random()
    if kind < 0.75:
        return query
    if kind < 0.87:
        return query.capitalize()
    if kind < 0.93:
        return f"{query} "
    return query.upper() if kind < 0.96 else query.replace(" ", "  ")


def _moment(now: datetime, chance: random.Random) -> datetime:
    """In the last DAYS, three of four between 8 and 22 o'clock, never after `now`."""
    day = now - timedelta(days=chance.uniform(0, DAYS - 1))
    hour = chance.uniform(8, 22) if chance.random() < 0.75 else chance.uniform(0, 24)
    moment = day.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(hours=hour)
    return moment if moment <= now else moment - timedelta(days=1)
