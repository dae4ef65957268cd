"""The search service of the runbook, small but real: what the operator looks after.

Every endpoint the runbook names, over the shop's own Postgres as the role `api`: a pool of VECTOR_POOL_MAX connections,
a query cache of two levels with expiry, Prometheus metrics, its own slow backfill job. One process is one replica.
Refused here: being fast, and anything the runbook does not ask of such a service.
"""

from stand.service.process import SearchServiceProcess

__all__ = ["SearchServiceProcess"]
