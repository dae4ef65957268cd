"""vectorops: a Kubernetes operator for pgvector search. The map, top to bottom; imports point down only.

    __main__.py   the command line
    app.py        puts everything together: settings -> Context -> every kind bound -> health and metrics
    kinds/        WHAT can be asked for: one room a kind, and the rooms do not know each other
    runtime/      HOW any kind is reconciled: the loop, conditions, status, CRDs; written once, knows no kind
    clients/      the outside world, one module a neighbour; library errors stop here
    errors.py     what can go wrong, sorted by who has to do something about it
    metrics.py    every Prometheus series
    settings.py   every environment variable

Begin with `kinds/__init__.py`, open one room, read its `resource.py` and then its `plan.py`.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("vectorops")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0.0.0+source"

__all__ = ["__version__"]
