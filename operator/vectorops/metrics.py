"""Every Prometheus series, declared once, and the functions that move them.

Labels hold kinds, reasons and names of objects: words of a bounded vocabulary or things a person created. Never a uid,
a pid, an SQL text or a message. `condition` is the only series with an object's name; it goes with the object.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from prometheus_client import Counter, Gauge, Histogram

from vectorops import __version__

# From the 10 ms of an idle look to the 30 s after which any request of a pass has ended.
PASS_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
TRUTH: Final = {"True": 1.0, "False": 0.0}  # everything else is Unknown
UNKNOWN: Final = -1.0

MODEL_CHARACTERS: Final = 64  # of a model's name in a label; the longest in use have forty
MOST_MODELS: Final = 50  # names of models at a time; what comes beyond them is counted together
OTHER_MODELS: Final = "other"

RECONCILES: Final = Counter("vectorops_reconcile", "Passes: ok, stalled or error.", ["kind", "result"])
RECONCILE_SECONDS: Final = Histogram("vectorops_reconcile_seconds", "Length of a pass.", ["kind"], buckets=PASS_BUCKETS)
RECONCILE_ERRORS: Final = Counter("vectorops_reconcile_errors", "Errors met, by reason.", ["kind", "reason"])
OBJECTS: Final = Gauge("vectorops_objects", "Objects that are followed.", ["kind"])
CONDITION: Final = Gauge(
    "vectorops_condition",
    "A condition of an object: 1 True, 0 False, -1 Unknown. Absent while the object does not carry it.",
    ["kind", "namespace", "name", "type"],
)
LOOP_RESTARTS: Final = Counter(
    "vectorops_loop_restarts", "Loops of objects that ended while the object was there, and were begun again.", ["kind"]
)
WATCH_RESTARTS: Final = Counter("vectorops_watch_restarts", "Times the watch of the API server was begun anew.")
UNANSWERED: Final = Gauge("vectorops_kubernetes_silent_seconds", "Seconds since the API server last answered.")
CRD_FIELDS_MISSING: Final = Gauge(
    "vectorops_crd_fields_missing", "Fields of this operator that the served CRDs do not know, and so drop."
)
ABANDONED: Final = Counter(
    "vectorops_abandoned", "Deleted objects that were let go with something possibly left outside.", ["kind"]
)
STATUS_WRITES: Final = Counter("vectorops_status_writes", "Writes of status.", ["kind"])
EVENTS: Final = Counter("vectorops_events", "Events told, those counted into a series included.", ["kind", "reason"])
SQL_STATEMENTS: Final = Counter("vectorops_sql_statements", "Statements sent to databases.")
EMBEDDING_TOKENS: Final = Counter("vectorops_embedding_tokens", "Tokens billed by the provider.", ["model"])
EMBEDDING_REQUESTS: Final = Counter(
    "vectorops_embedding_requests", "Requests to the embedding provider: ok, or the reason they failed.", ["result"]
)
ROWS_EMBEDDED: Final = Counter("vectorops_rows_embedded", "Rows whose embedding was written.")
LOOP_LAG: Final = Gauge("vectorops_loop_lag_seconds", "How late the event loop's last heartbeat was.")
WORK_RUNNING: Final = Gauge("vectorops_work_running", "Pieces of long work that run now.", ["name"])
LEADING: Final = Gauge("vectorops_leading", "1 where this process leads by a lease, 0 where it does not.")
BUILD_INFO: Final = Gauge("vectorops_build_info", "Always 1; the version is in the label.", ["version"])


class _Carried:
    """Which conditions each object has in `CONDITION`, so that those it sheds go."""

    def __init__(self) -> None:
        self._types: dict[tuple[str, str, str], set[str]] = {}

    def show(self, at: tuple[str, str, str], truths: Mapping[str, float]) -> None:
        """Make the object's series exactly these."""
        for shed in self._types.pop(at, set()) - truths.keys():
            CONDITION.remove(*at, shed)
        for type_, truth in truths.items():
            CONDITION.labels(*at, type_).set(truth)
        if truths:
            self._types[at] = set(truths)


_carried: Final = _Carried()


def reconciled(kind: str, result: str, seconds: float) -> None:
    """A pass has ended; `result` is ok, stalled or error."""
    RECONCILES.labels(kind, result).inc()
    RECONCILE_SECONDS.labels(kind).observe(seconds)


def failed(kind: str, reason: str) -> None:
    """A pass, a write of status or an event met an error."""
    RECONCILE_ERRORS.labels(kind, reason).inc()


def objects(kind: str, count: int) -> None:
    """So many objects of the kind are followed now."""
    OBJECTS.labels(kind).set(count)


def conditions(kind: str, namespace: str, name: str, stated: Iterable[Mapping[str, Any]]) -> None:
    """The object's conditions are these now, as in `status.conditions`."""
    _carried.show((kind, namespace, name), {str(c["type"]): TRUTH.get(str(c["status"]), UNKNOWN) for c in stated})


def forget(kind: str, namespace: str, name: str) -> None:
    """The object is gone, and so are its series."""
    _carried.show((kind, namespace, name), {})


def loop_restarted(kind: str) -> None:
    """The loop of an object had ended early and was begun again."""
    LOOP_RESTARTS.labels(kind).inc()


def watch_restarted() -> None:
    """Something had ended the watch, and it was begun anew."""
    WATCH_RESTARTS.inc()


def unanswered(seconds: float) -> None:
    """The API server last answered so long ago."""
    UNANSWERED.set(seconds)


def crd_fields_missing(count: int) -> None:
    """The served CRDs lack so many fields."""
    CRD_FIELDS_MISSING.set(count)


def abandoned(kind: str) -> None:
    """A deleted object was let go with something possibly left outside."""
    ABANDONED.labels(kind).inc()


def status_written(kind: str) -> None:
    """A status was written."""
    STATUS_WRITES.labels(kind).inc()


def event_recorded(kind: str, reason: str) -> None:
    """An event was told, or counted into its series."""
    EVENTS.labels(kind, reason).inc()


def statement_sent() -> None:
    """An SQL statement was sent."""
    SQL_STATEMENTS.inc()


def embedding_requested(result: str) -> None:
    """A request to the provider has ended: ok, or the reason of its failure."""
    EMBEDDING_REQUESTS.labels(result).inc()


class _Models:
    """Names of models as labels: a spec's author chooses them, so they are few, short, and go with their stores."""

    def __init__(self) -> None:
        self._shown: set[str] = set()

    def label(self, model: str) -> str:
        """Its own label, or the one that all share that came too late."""
        word = model[:MODEL_CHARACTERS]
        if word not in self._shown and len(self._shown) >= MOST_MODELS:
            return OTHER_MODELS
        self._shown.add(word)
        return word

    def forget(self, model: str) -> None:
        """Nobody has that model any more."""
        word = model[:MODEL_CHARACTERS]
        if word in self._shown:
            self._shown.discard(word)
            EMBEDDING_TOKENS.remove(word)


_models: Final = _Models()


def tokens_billed(model: str, tokens: int) -> None:
    """The provider billed tokens for this model."""
    EMBEDDING_TOKENS.labels(_models.label(model)).inc(tokens)


def model_gone(model: str) -> None:
    """No store asks for this model any more."""
    _models.forget(model)


def rows_embedded(rows: int) -> None:
    """Embeddings of so many rows were written."""
    ROWS_EMBEDDED.inc(rows)


def loop_lag(seconds: float) -> None:
    """The event loop's heartbeat came so late."""
    LOOP_LAG.set(seconds)


def work_running(name: str, count: int) -> None:
    """So many pieces of this long work run now."""
    WORK_RUNNING.labels(name).set(count)


def led(leads: bool) -> None:
    """This process leads from now on, or does no more."""
    LEADING.set(leads)


def built() -> None:
    """Say which version runs."""
    BUILD_INFO.labels(__version__).set(1)
