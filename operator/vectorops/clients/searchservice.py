"""The search service: one request at a time, and a sweep over its figures.

An answer of any kind is an `Answer`; what is no answer, or none that may be used, is one of our errors. A question
goes to the next process behind the Service where one does not answer; what changes something is sent once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import count
from typing import Any, TypeVar

from pydantic import SecretStr

from vectorops.clients import service_figures as figures_of
from vectorops.clients.foreign import threads
from vectorops.clients.foreign.lines import Wanted
from vectorops.clients.service_addresses import Addresses
from vectorops.clients.service_figures import CacheFigures, Counters, Interval, JobFigures, PoolFigures
from vectorops.clients.service_wire import Answer, Wire, invalid
from vectorops.clients.tls.trust import trusting
from vectorops.errors import OperatorError, Reason, Stalled, Transient

F = TypeVar("F")

CA_FIELD = "spec.service.caSecretRef"
SECONDS = 10.0  # for a whole answer: the worst search that thresholds speak of takes 2
ASKED_AT_ONCE = 4  # the sweep is a guest
MOST_PROCESSES = 16  # behind one Service whose counters and pools are read

CACHE_STATS = "/api/performance/cache/stats"
CACHE_INVALIDATE = "/api/performance/cache/invalidate"
CACHE_CLEAN_UP = "/api/performance/cache/cleanup"
POOL_STATS = "/api/performance/pool/stats"
JOBS = "/api/embeddings/jobs/status"
HEALTH = "/api/vector-monitoring/health"
METRICS = "/api/vector-monitoring/metrics"

UNSUPPORTED = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED})


@dataclass(frozen=True)
class ServiceFigures:
    """One sweep. None: the endpoint is not supported, or gave no figure; `failure` speaks of the whole service."""

    health: str | None = None
    cache: CacheFigures | None = None
    pool: PoolFigures | None = None
    jobs: JobFigures | None = None
    interval: Interval = field(default_factory=Interval)
    unsupported: frozenset[str] = frozenset()  # paths
    failure: OperatorError | None = None
    failures: tuple[tuple[str, str], ...] = ()  # (path, reason) of single endpoints


@dataclass(frozen=True)
class ServiceAt:
    """Which Service, and how it is spoken to."""

    namespace: str
    name: str
    port: int
    https: bool = False
    ca_pem: str | None = None  # the only CA that is believed; None: the system's


class SearchService:
    """One service behind its Service reference."""

    def __init__(
        self,
        namespace: str,
        name: str,
        port: int,
        *,
        https: bool = False,
        token: SecretStr | None = None,
        addresses: Addresses | None = None,
        ca_pem: str | None = None,
    ) -> None:
        """Nothing is opened before the first request. Raises Stalled(SecretInvalid) for a CA that is none."""
        self.namespace, self.name, self.port = namespace, name, port
        trust = trusting(ca_pem, CA_FIELD) if ca_pem is not None else None
        self._wire = Wire(https, token, f"{name}.{namespace}.svc", trust)
        self._addresses = addresses or Addresses()
        self._turn = count()
        self._former: dict[str, Counters] = {}

    async def close(self) -> None:
        """Close the connections."""
        await self._wire.close()

    async def call(self, method: str, path: str, *, json: Any | None = None, timeout: float = SECONDS) -> Answer:
        """One request; GET goes to the next process where one cannot be reached.

        Raises Stalled (ServiceAuthenticationFailed, ServiceRedirects, ServiceTLSFailed), Transient (ServiceUnavailable,
        ServiceTimeout, ServiceAnswerInvalid).
        """
        listed = self._listed()
        start = next(self._turn) % len(listed)
        tries = [*listed[start:], *listed[:start]][: len(listed) if method == "GET" else 1]
        for at, address in enumerate(tries, 1):
            try:
                return await self._wire.ask(address, method, path, json, timeout)
            except Transient as error:
                if error.reason != Reason.ServiceUnavailable or at == len(tries):
                    raise
        raise AssertionError("the loop returns or raises")

    async def cache(self) -> CacheFigures | None:
        """The cache's figures; None where the service does not offer them."""
        return await self._read(CACHE_STATS, figures_of.cache_figures)

    async def pool(self) -> PoolFigures | None:
        """The pool's figures; None where the service does not offer them."""
        return await self._read(POOL_STATS, figures_of.pool_figures)

    async def pools(self) -> tuple[PoolFigures, ...]:
        """The pool of each process behind the Service (of the first sixteen); empty where it is not offered.

        Raises as `call` does where no process answers.
        """
        asked = self._listed()[:MOST_PROCESSES]
        answers = await asyncio.gather(*(self._pool_of(address) for address in asked), return_exceptions=True)
        present = _answered(answers)
        return tuple(one for one in present if one is not None)

    async def _pool_of(self, address: str) -> PoolFigures | None:
        answer = await self._wire.ask(address, "GET", POOL_STATS, None, SECONDS)
        return None if answer.status in UNSUPPORTED else figures_of.pool_figures(_object(answer, POOL_STATS))

    async def invalidate_cache(self) -> int | None:
        """Empty the cache (runbook: Clear Cache). Returns entries removed, where told. Stalled: EndpointUnsupported."""
        return await self._command(CACHE_INVALIDATE)

    async def clean_up_cache(self) -> int | None:
        """Remove expired entries. Returns entries removed, where told. Stalled: EndpointUnsupported."""
        return await self._command(CACHE_CLEAN_UP)

    async def figures(self) -> ServiceFigures:
        """One request an endpoint, at most four at a time. Our errors are not raised: they stand in the figures."""
        gate = asyncio.Semaphore(ASKED_AT_ONCE)
        unsupported: set[str] = set()
        failures: dict[str, OperatorError] = {}

        async def seen(path: str, ask: Callable[[], Awaitable[F | None]]) -> F | None:
            async with gate:
                try:
                    found = await ask()
                except OperatorError as error:
                    failures[path] = error
                    return None
            if found is None:
                unsupported.add(path)
            return found

        health, cache, pool, jobs, interval = await asyncio.gather(
            seen(HEALTH, lambda: self._read(HEALTH, _word)),
            seen(CACHE_STATS, self.cache),
            seen(POOL_STATS, self.pool),
            seen(JOBS, lambda: self._read(JOBS, figures_of.job_figures)),
            seen(METRICS, self._interval),
        )
        everything = len(failures) and not any((health, cache, pool, jobs, interval)) and not unsupported
        return ServiceFigures(
            health=health,
            cache=cache,
            pool=pool,
            jobs=jobs,
            interval=interval or Interval(),
            unsupported=frozenset(unsupported),
            failure=next(iter(failures.values())) if everything else _refused(failures),
            failures=tuple(sorted((path, error.reason) for path, error in failures.items())),
        )

    async def _interval(self) -> Interval | None:
        """Every process's counters since the last sight of it; None where none of them offers metrics."""
        asked = self._listed()[:MOST_PROCESSES]
        answers = await asyncio.gather(*(self._counters(address) for address in asked), return_exceptions=True)
        present = [one for one in _answered(answers) if one is not None]
        if not present:
            return None
        found = figures_of.interval(self._former, present)
        self._former = {one.process: one for one in present}
        return found

    async def _counters(self, address: str) -> Counters | None:
        answer = await self._wire.ask(address, "GET", METRICS, None, SECONDS, Wanted(figures_of.READ))
        if answer.status in UNSUPPORTED:
            return None
        _must_be_ok(answer, METRICS)
        try:
            return await threads.parse(figures_of.counters, answer.text, address)
        except ValueError:
            raise invalid(METRICS, "is no Prometheus text") from None  # the exception quotes the line

    async def _read(self, path: str, parse: Callable[[Any], F]) -> F | None:
        answer = await self.call("GET", path)
        if answer.status in UNSUPPORTED:
            return None
        return parse(_object(answer, path))

    async def _command(self, path: str) -> int | None:
        answer = await self.call("POST", path)
        if answer.status in UNSUPPORTED:
            text = f"The search service does not offer POST {path}. {Reason.EndpointUnsupported.next_step}"
            raise Stalled(Reason.EndpointUnsupported, text)
        _must_be_ok(answer, path)
        removed = answer.body.get("removed") if isinstance(answer.body, dict) else None
        return removed if isinstance(removed, int) and not isinstance(removed, bool) else None

    def _listed(self) -> tuple[str, ...]:
        listed = self._addresses.of(self.namespace, self.name, self.port)
        if not listed:
            text = f"No process of Service {self.name} is ready. {Reason.ServiceUnavailable.next_step}"
            raise Transient(Reason.ServiceUnavailable, text)
        return listed


class SearchServices:
    """The services of this process: each owner (a VectorStore's namespace and name) has a client of its own."""

    def __init__(self, addresses: Addresses | None = None) -> None:
        self._addresses = addresses or Addresses()
        self._open: dict[tuple[str, str], tuple[ServiceAt, SecretStr | None, SearchService]] = {}

    async def open(self, owner: tuple[str, str], at: ServiceAt, token: SecretStr | None) -> SearchService:
        """The owner's service; the same reference with the same token is one object, which keeps its counters.

        A changed reference, token or CA is a new object, and the former one is closed. Raises Stalled(SecretInvalid).
        """
        former = self._open.get(owner)
        if former is not None and former[:2] == (at, token):
            return former[2]
        how: dict[str, Any] = {"https": at.https, "token": token, "ca_pem": at.ca_pem, "addresses": self._addresses}
        service = SearchService(at.namespace, at.name, at.port, **how)
        self._open[owner] = (at, token, service)
        if former is not None:
            await former[2].close()
        return service

    async def discard(self, owner: tuple[str, str]) -> None:
        """The owner is gone: close its connections."""
        former = self._open.pop(owner, None)
        if former is not None:
            await former[2].close()

    async def close(self) -> None:
        """Close all connections."""
        for owner in list(self._open):
            await self.discard(owner)


def _answered(answers: Sequence[F | BaseException]) -> list[F]:
    """What was answered. Raises what is no error of ours, and where nothing was answered the first error."""
    errors = [one for one in answers if isinstance(one, BaseException)]
    for error in errors:
        if not isinstance(error, OperatorError):
            raise error
    found = [one for one in answers if not isinstance(one, BaseException)]
    if errors and not any(one is not None for one in found):
        raise errors[0]
    return found


def _object(answer: Answer, path: str) -> dict[str, Any]:
    _must_be_ok(answer, path)
    if not isinstance(answer.body, dict):
        raise invalid(path, "is no JSON object")
    return answer.body


def _must_be_ok(answer: Answer, path: str) -> None:
    if not answer.ok:
        text = f"The search service answers {path} with HTTP {answer.status}. {Reason.ServiceUnavailable.next_step}"
        raise Transient(Reason.ServiceUnavailable, text, after=answer.retry_after)


def _refused(failures: dict[str, OperatorError]) -> OperatorError | None:
    """What concerns the whole service though single endpoints answered: its token is refused, it points elsewhere."""
    return next((error for error in failures.values() if isinstance(error, Stalled)), None)


def _word(body: Any) -> str:
    word = body.get("status")
    return word[:32] if isinstance(word, str) and word.isalnum() else "unknown"
