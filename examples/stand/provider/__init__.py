"""The mock provider: an OpenAI-compatible embeddings API that misbehaves on demand and keeps the bill.

For tests and benches that need what no real provider gives: a vector that can be checked (`vector_for`), errors
at the moment of one's choice, and an exact account of what was paid. `Provider` runs it as a process;
`python -m stand.provider --port N --dimensions D` runs it in the foreground.

    vectors.py   what the vector of a text is, and what a text costs
    limits.py    token buckets for requests and tokens a minute
    load.py      counted tokens, latency and errors by chance, answers from a pool of vectors
    openai_errors.py  OpenAI's error bodies, word for word where they are known
    faults.py    the ways to misbehave, as they are ordered through POST /control
    state.py     settings, bill and request log: what the control plane reads and writes
    app.py       the HTTP application
    batches.py   files and batches: the interface for half the price
    control.py   the control plane over HTTP
    client.py    the process and its control plane, for tests

POST /v1/embeddings, GET /v1/models; POST /control, POST /reset, GET /bill, GET /requests (no key asked).
Not here: meaning (near texts do not get near vectors; `embedding_server` has a real model) and token arrays as
input.
"""

from stand.provider.client import Provider
from stand.provider.vectors import tokens_of, vector_for

__all__ = ["Provider", "tokens_of", "vector_for"]
