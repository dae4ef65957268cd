"""What a backfill will cost, from a sample of its texts. Pure: the statement, and the arithmetic of its answer.

The sample is of texts, not of rows: those whose hash falls into a share of all hashes. So equal texts are in it
together or not at all, and how many rows share a text is estimated with the same sample. It is the same sample as long
as the texts are the same, or a plan's hash would change with every look at it. What is known of all rows (how many, how
many bytes) is taken from the counts; the sample only says how many tokens a byte of them is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vectorops.clients.embedding_packing import (
    MAX_INPUTS,
    MAX_REQUEST_TOKENS,
    OPTIMISTIC_BYTES,
    PROVIDER_ESTIMATE,
    most_tokens,
)
from vectorops.clients.texttemplate import text_sql
from vectorops.kinds.embeddingbackfill.observation import Counts, Estimate, Rates
from vectorops.kinds.embeddingbackfill.selection import Scope, narrowed_sql, needs_sql, pending_sql
from vectorops.kinds.embeddingbackfill.sql import counted_sql
from vectorops.kinds.embeddingbackfill.statement import Statement

SAMPLE_ROWS = 1000  # their tokens a byte are known to one percent or so, whatever the table's size
SAMPLE_BYTES = 8_000_000  # of texts: a second for a tokeniser, and long ones would fill the memory
MOST_TEXTS = 4 * SAMPLE_ROWS  # twice what a share brings at most, twice over: the hashes are not that uneven
SPREAD = 2.0  # standard errors that are stated: nineteen of twenty samples are nearer
UNCALIBRATED_PERCENT = 50  # four bytes a token: right for English, up to half off for other languages and for code
CALIBRATED_PERCENT = 15  # what the provider billed lately for texts of this store
MINUTE, DAY = 60, 86_400


@dataclass(frozen=True)
class Sampled:
    """One text of the sample."""

    size: int  # UTF-8 bytes
    rows: int  # that share it
    tokens: int | None = None  # as counted; None where no tokeniser is known


def share_of(counts: Counts) -> int:
    """One in how many texts is sampled: a power of two, so that the share is a mask of the hash."""
    wanted = max(counts.pending / SAMPLE_ROWS, counts.pending_bytes / SAMPLE_BYTES)
    return int(2 ** max(0, math.floor(math.log2(wanted)))) if wanted > 1 else 1


def sample_sql(scope: Scope, share: int, *, bookkeeping: bool = True) -> Statement:
    """One in `share` of the texts to embed: text (cut to what a model may read), and how many rows share it."""
    v = scope.values(mask=share - 1, most=MOST_TEXTS)
    # one collation: columns of several have none in common, and then nothing could be hashed or grouped
    text = f'{text_sql(scope.target.template, "t").text} COLLATE "C"'
    pending = f"{narrowed_sql(scope, v)} AND {needs_sql(scope, v)} AND NOT {text_sql(scope.target.template, 't').blank}"
    pending = pending_sql(scope, v) if bookkeeping else pending  # nothing was recorded yet, so nothing has failed
    return v.statement(
        f"""SELECT left({text}, {OPTIMISTIC_BYTES}) AS text, count(*) AS rows
FROM {counted_sql(scope, v, bookkeeping)}
WHERE {pending}
  AND hashtextextended({text}, 0) & {v["mask"]}::bigint = 0
GROUP BY 1
LIMIT {v["most"]}"""  # noqa: S608 - identifiers are quoted, literals escaped
    )


def estimate(counts: Counts, sample: Sequence[Sampled], share: int, rate: float = 0.0) -> Estimate:
    """What all of it is. `rate`: tokens a byte as the provider billed lately, 0 where it has not."""
    counted = all(one.tokens is not None for one in sample)
    a_byte = rate or PROVIDER_ESTIMATE
    tokens = [one.tokens if one.tokens is not None else one.size * a_byte for one in sample]
    sizes = [one.size * one.rows for one in sample]
    rows, size = sum(one.rows for one in sample), sum(sizes)
    if not size:  # the share held none of a few texts
        measure = CALIBRATED_PERCENT if rate else UNCALIBRATED_PERCENT
        longest = most_tokens(min(counts.pending_bytes, OPTIMISTIC_BYTES))
        return Estimate(counts.pending, math.ceil(counts.pending_bytes * a_byte), measure, longest)
    ratio = sum(tokens) / size
    error = _relative_error(tokens, sizes, ratio) * math.sqrt(1 - 1 / share)
    measure = 0 if counted else CALIBRATED_PERCENT if rate else UNCALIBRATED_PERCENT
    return Estimate(
        texts=max(1, round(counts.pending * len(sample) / rows)),
        tokens=math.ceil(counts.pending_bytes * ratio),
        error_percent=min(100, math.ceil(100 * error) + measure),
        longest=most_tokens(max(one.size for one in sample)),
    )


def duration_seconds(rows: int, estimated: Estimate, rates: Rates) -> int | None:
    """Seconds at the lowest of the limits; None where nothing limits it."""
    longest = max(1.0, estimated.tokens / max(1, estimated.texts))
    a_request = max(1, min(rates.batch_size or MAX_INPUTS, int(MAX_REQUEST_TOKENS / longest)))
    needed = [
        (math.ceil(estimated.texts / a_request) * MINUTE, rates.requests_per_minute),
        (estimated.tokens * MINUTE, rates.tokens_per_minute),
        (rows, rates.rows_per_second),
    ]
    times = [math.ceil(amount / limit) for amount, limit in needed if limit]
    return max(times) if times else None


def lower(*limits: int | None) -> int | None:
    """The lowest of the limits that are stated."""
    return min((limit for limit in limits if limit is not None), default=None)


def _relative_error(values: Sequence[float], sizes: Sequence[int], ratio: float) -> float:
    """Of a ratio of two sums over a sample, as a share of it (Cochran, Sampling Techniques, 6.2)."""
    count, total = len(values), sum(values)
    if count < 2 or not total:
        return 1.0
    squares = sum((value - ratio * size) ** 2 for value, size in zip(values, sizes, strict=True))
    return SPREAD * math.sqrt(count / (count - 1) * squares) / total
