"""The outside world, one module a neighbour: Postgres, the embedding provider, Kubernetes, its Secrets.

What a library raises stops here: it leaves as one of `vectorops.errors`, by one table a neighbour. Nothing in here
decides what to do, and nothing in here knows a kind.
"""
