"""SQL over the log of searches: the most searched queries, and a sample as the log draws them. Pure text.

Every name is quoted, every value a parameter. What is no query never leaves the server: it is counted there.
"""

from __future__ import annotations

from dataclasses import dataclass

from vectorops.clients.sql import quote_ident
from vectorops.kinds.cachewarmup.queries import MOST_CHARACTERS

MOST_BYTES = 4 * MOST_CHARACTERS  # in any encoding; compared first: it does not unpack a stored megabyte


@dataclass(frozen=True)
class Log:
    """Where the searches are, by names as they stand in the catalogue."""

    schema: str
    table: str
    query: str
    count: str | None = None
    time: str | None = None
    window_seconds: int | None = None
    exact: bool = False  # whether every spelling is a query of its own


def arguments(log: Log, anchor: object) -> tuple[object, ...]:
    """Values for $2 and $3 of both statements."""
    if log.time is None:
        return ()
    return (anchor,) if log.window_seconds is None else (anchor, float(log.window_seconds))


def popular_sql(log: Log) -> str:
    """`query, weight, total_weight, ignored`: at most $1 queries, the heaviest first; query NULL: there is none."""
    return f"""WITH {_grouped(log)}
SELECT query, weight, sum(weight) FILTER (WHERE query IS NOT NULL) OVER () AS total_weight,
       coalesce(sum(entries) FILTER (WHERE query IS NULL) OVER (), 0)::bigint AS ignored
FROM grouped ORDER BY query IS NULL, weight DESC, query COLLATE "C" LIMIT $1"""  # noqa: S608 - identifiers are quoted


def drawn_sql(log: Log) -> str:
    """`query, times`: $1 draws with replacement, each query as likely as its share of the log."""
    return f"""WITH {_grouped(log)},
numbered AS (
    SELECT query, row_number() OVER (ORDER BY query COLLATE "C") AS n,
           sum(weight) OVER (ORDER BY query COLLATE "C") AS upto
    FROM grouped WHERE query IS NOT NULL),
bounds AS (SELECT array_agg(upto ORDER BY n) AS uptos, max(upto) AS total FROM numbered),
draws AS (SELECT width_bucket(random() * total, uptos) + 1 AS n FROM bounds, generate_series(1, $1))
SELECT query, count(*)::int AS times FROM draws JOIN numbered USING (n) GROUP BY query ORDER BY query COLLATE "C" """  # noqa: S608 - as above


def _grouped(log: Log) -> str:
    text, weight = quote_ident(log.query), "1::float8"
    usable = f"octet_length({text}) <= {MOST_BYTES}"
    checks = f"char_length({text}) <= {MOST_CHARACTERS} AND {text} ~ '[^[:space:]]' AND {text} !~ '[[:cntrl:]]'"
    if log.count is not None:
        weight = f"{quote_ident(log.count)}::float8"
        checks += f" AND {weight} > 0 AND {weight} < 1e15"
    key = "spelled" if log.exact else "lower(regexp_replace(spelled, '[[:space:]]+', ' ', 'g'))"
    return f"""log AS (
    SELECT CASE WHEN {usable} THEN CASE WHEN {checks} THEN btrim({text}::text) END END AS spelled, {weight} AS weight
    FROM {quote_ident(log.schema)}.{quote_ident(log.table)}{_window(log)}),
spellings AS (SELECT spelled, sum(weight) AS weight, count(*) AS entries FROM log GROUP BY spelled),
grouped AS (
    SELECT (array_agg(spelled ORDER BY weight DESC, spelled COLLATE "C"))[1] AS query,
           sum(weight) AS weight, sum(entries) AS entries
    FROM spellings GROUP BY {key})"""  # noqa: S608 - as above


def _window(log: Log) -> str:
    if log.time is None:
        return ""
    time = quote_ident(log.time)
    since = "" if log.window_seconds is None else f" AND {time} >= $2::timestamptz - make_interval(secs => $3)"
    return f"\n    WHERE {time} < $2::timestamptz{since}"
