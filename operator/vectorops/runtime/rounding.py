"""How figures are rounded for a status: an unchanged world writes nothing, and a busy one little. Pure."""

from __future__ import annotations

from decimal import Decimal

EXACT_ROWS = 10_000
"""Below this a person may be counting along (a demo, a test table); above nobody reads single rows."""


def percent(part: int, whole: int) -> int | None:
    """Whole percent, rounded down; None of nothing."""
    return None if whole <= 0 else max(0, min(100, 100 * part // whole))


def two_digits(number: int) -> int:
    """Two significant digits; exact below a hundred."""
    scale = int(10 ** max(0, len(str(abs(number))) - 2))
    return (number + scale // 2) // scale * scale


def rows(number: int) -> int:
    """Exact where somebody may count along, else two significant digits."""
    return number if number < EXACT_ROWS else two_digits(number)


def rate_text(value: float) -> str:
    """A rate or an amount as a person reads it: two significant digits, without an exponent."""
    return f"{Decimal(f'{value:.2g}'):f}"


def duration(seconds: int) -> str:
    """At most two units, as kubectl prints an age: 45s, 2m10s, 3h5m, 2d4h."""
    for size, unit, smaller, smaller_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if seconds >= size:
            rest = seconds % size // smaller
            return f"{seconds // size}{unit}" + (f"{rest}{smaller_unit}" if rest else "")
    return f"{seconds}s"


def size_text(size_bytes: int) -> str:
    """Bytes for a person, as pg_size_pretty writes them, three digits at most: 781 MB, 7.4 GB."""
    value = float(size_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < (10 * 1024 if unit == "bytes" else 1000):
            return f"{value:.0f} {unit}" if value >= 10 or unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TB"
