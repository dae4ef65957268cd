"""Embeddings from any OpenAI-compatible provider: texts in, checked vectors in pgvector's binary format out.

One `Embedder` a store, key and model, shared by all requests of that store, so that limits a minute and the
provider's `Retry-After` are kept together. Nothing is retried here: errors say what helps, and the caller, who knows
the budget, decides. Refused: choosing a model, remembering keys in messages or logs, cutting texts silently.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from vectorops import metrics
from vectorops.clients.embedding_account import (
    CA_FIELD,
    DEFAULT_BASE_URL,
    Account,
    check_ca,
    check_key,
    checked_base_url,
)
from vectorops.clients.embedding_batches import Batches
from vectorops.clients.embedding_errors import RefusedParameter, RejectedInput, Unanswered
from vectorops.clients.embedding_flow import Breaker, Flow
from vectorops.clients.embedding_limits import Clock, Limits, Pause
from vectorops.clients.embedding_packing import answer_bytes, most_texts
from vectorops.clients.embedding_tokens import Load, Measured, Meter
from vectorops.clients.foreign import threads
from vectorops.clients.foreign.budget import ANSWERS, LARGEST_BYTES
from vectorops.clients.tls.renewed import Renewed
from vectorops.clients.tls.trust import trusting
from vectorops.errors import OperatorError, Reason, Stalled, Transient

if TYPE_CHECKING:
    from vectorops.clients.embedding_wire import Heard, Wire

REQUEST_SECONDS = 120.0  # a slow local model with a full batch; OpenAI answers within a few
MOST_MODELS = 4  # of one store: its own and that for queries, and both once more while a spec changes
PROBE = "vector"  # an innocent text: when it is refused too, the request is wrong and not the text


@dataclass(frozen=True)
class Embedded:
    """One answer. `vectors[i]` is None where the provider sent no usable numbers for text i."""

    vectors: tuple[bytes | None, ...]  # pgvector's binary format
    tokens: int  # as billed, or as expected where the provider does not say


class Embedder:
    """The way to one account at one provider."""

    def __init__(self, account: Account, api_key: SecretStr | None, timeout: float, clock: Clock) -> None:
        self.account = account
        self.clock = clock
        self.limits = Limits(clock=clock)
        self.flow = Flow(clock, alone=True)
        self.breaker = Breaker(clock)
        self.meter = Meter(account.model, trusted=account.base_url == DEFAULT_BASE_URL)
        self.as_text = True  # whether answers hold decimals instead of base64; until the first one they may
        self.answered = False  # whether it ever gave a usable answer in this process
        self._pause = Pause(clock)
        self._api_key, self._timeout = api_key, timeout
        self._wire: Renewed[Wire] = Renewed(self._new_wire)
        self._ca_pem: str | None = None
        self._seal = ""
        self._options: dict[str, Any] = {"dimensions": account.dimensions, "encoding_format": "base64"}
        self.batches = Batches(account.base_url, api_key, timeout)

    def believe(self, ca_pem: str | None) -> None:
        """Whose certificates count from the next request on; None: the system's CAs. Raises Stalled(SecretInvalid)."""
        if ca_pem != self._ca_pem:
            trust = trusting(ca_pem, CA_FIELD) if ca_pem is not None else None
            self._wire.trust = self.batches.wire.trust = trust
            self._ca_pem = ca_pem

    @property
    def fingerprint(self) -> str:
        """The account's, and the CA's where one is named: what an attempt depends on. Safe to show."""
        ca = hashlib.sha256(self._ca_pem.encode()).hexdigest()[:16] if self._ca_pem is not None else ""
        return self.account.fingerprint + ca

    async def seal(self) -> str:
        """32 hex digits of base URL and key: in whose hands texts and bill are. Slow to try out, so safe to show."""
        if not self._seal:
            self._seal = await asyncio.to_thread(self.account.seal)
        return self._seal

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """Wait until the limits allow it, then send one request."""
        load = _bytes_of(texts)
        await self.admit(load)
        return await self.request(texts, load)

    async def measure(self, texts: Sequence[str]) -> list[Measured]:
        """The texts as they may be sent: cut to what the model reads, and counted where its tokeniser is known."""
        return await threads.parse(self.meter.measure, texts)

    @property
    def most_texts(self) -> int:
        """How many texts one request should have, so that it leaves room for the answers to others."""
        return most_texts(LARGEST_BYTES // 4, self.account.dimensions, self.as_text)

    async def admit(self, load: Load) -> None:
        """Wait until the limits, the provider's last `Retry-After` and its failures allow a request of that load."""
        await self.limits.admit(self.meter.paced(load))
        await self._pause.over()
        await self.breaker.admit()

    async def request(self, texts: Sequence[str], load: Load | None = None) -> Embedded:
        """One request without waiting. Raises RejectedInput, Unanswered, UnusableVectors, Stalled or Transient."""
        load = load or _bytes_of(texts)
        most = min(LARGEST_BYTES, answer_bytes(len(texts), self.account.dimensions, self.as_text))
        async with ANSWERS.hold(most):  # before anything is sent: a paid answer must find its room
            return await self._request(texts, load, most)

    async def _request(self, texts: Sequence[str], load: Load, most: int) -> Embedded:
        sent = self.limits.sent(self.meter.paced(load))
        sent_at = self.clock.now()
        try:
            body = await self._post(texts, partial(self.limits.heard, sent=sent), most)
        except OperatorError as error:
            metrics.embedding_requested(error.reason)
            self._learn_from(error, sent_at)
            if isinstance(error, RejectedInput) and len(texts) == 1 and not self.answered:
                await self.prove_innocence()
            raise
        finally:
            self.limits.landed(sent)
        metrics.embedding_requested("ok")
        self.breaker.answered()
        self.flow.open()
        answers = await asyncio.to_thread(importlib.import_module, "vectorops.clients.embedding_answers")
        answer = await threads.parse(answers.read_answer, body, len(texts), self.account.dimensions)
        self.answered, self.as_text = True, answer.as_text
        self.flow.answered(self.limits.waited)
        if answer.tokens is not None:
            self.meter.learn(load, answer.tokens)
        tokens = self.meter.expected(load) if answer.tokens is None else answer.tokens
        metrics.tokens_billed(self.account.model, tokens)
        return Embedded(answer.vectors, tokens)

    def _learn_from(self, error: OperatorError, sent_at: float) -> None:
        if error.reason == Reason.InvalidAnswer:
            self.as_text = True  # another server behind the URL may answer in decimals now
        if isinstance(error, Transient):
            self._pause.extend(error.after)
        if error.reason == Reason.ProviderUnavailable:
            self.breaker.failed(sent_at)
        else:
            self.breaker.answered()
            self.flow.open()
        if error.reason in (Reason.ProviderUnavailable, Reason.RateLimited):
            self.flow.overloaded(sent_at)

    def leave(self) -> list[asyncio.Task[None]]:
        """Nobody will open it again: its connections are closed when what is under way has ended."""
        return [task for task in (self._wire.leave(), self.batches.wire.leave()) if task is not None]

    async def close(self) -> None:
        """Close the connections."""
        await self.batches.close()
        await self._wire.close()

    @property
    def options(self) -> dict[str, Any]:
        """The optional parameters of a request, without those that the server was found not to know."""
        return dict(self._options)

    def do_without(self, parameter: str) -> None:
        """The server does not know an optional parameter. Raises Stalled if there is no doing without it."""
        self._do_without(RefusedParameter(parameter))

    async def _post(self, texts: Sequence[str], heard: Heard, most: int) -> bytearray:
        async with self._wire.use() as wire:
            while True:
                try:
                    return await wire.post(self.account.model, texts, self._options, heard, most)
                except RefusedParameter as error:
                    self._do_without(error)

    async def _new_wire(self, trust: ssl.SSLContext | None) -> Wire:
        # half a second of imports, off the event loop
        module = await asyncio.to_thread(importlib.import_module, "vectorops.clients.embedding_wire")
        key = self._api_key.get_secret_value() if self._api_key else None
        wire: Wire = await asyncio.to_thread(module.Wire, self.account.base_url, key, self._timeout, trust)
        return wire

    def _do_without(self, error: RefusedParameter) -> None:
        # An optional parameter that the server does not know: its own choice is checked when it answers.
        if self._options.get(error.parameter) is None or self._options[error.parameter] == "float":
            message = f"the provider refuses the parameter {error.parameter}"
            raise Stalled(Reason.ProviderRejected, message) from error
        left = {name: value for name, value in self._options.items() if name != error.parameter}
        # left out, the official client would ask for base64 by itself
        self._options = left | ({"encoding_format": "float"} if error.parameter == "encoding_format" else {})

    async def prove_innocence(self) -> None:
        """Before the first text is called poison: would the provider take any text at all?"""
        try:
            most = answer_bytes(1, self.account.dimensions, as_text=True)
            await self._post([PROBE], lambda _: None, most)
        except RejectedInput as error:
            message = "the provider refuses every request, whatever its text"
            raise Stalled(Reason.ProviderRejected, message) from error
        self.answered = True


class Embedders:
    """All embedders of this process: those of stores that are there, with keys that are still theirs."""

    def __init__(self, timeout: float = REQUEST_SECONDS, clock: Clock = Clock()) -> None:  # noqa: B008 - immutable
        self._timeout, self._clock = timeout, clock
        self._open: dict[Account, Embedder] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._open)

    def discard(self, store_uid: str) -> None:
        """The store is gone, and so are its accounts; what is under way ends as it would have."""
        for account in [account for account in self._open if account.store_uid == store_uid]:
            self._leave(account)

    def _leave(self, account: Account) -> None:
        for task in self._open.pop(account).leave():
            self._leaving.add(task)  # or the garbage collector may take it before it ran
            task.add_done_callback(self._leaving.discard)
        if all(other.model != account.model for other in self._open):
            metrics.model_gone(account.model)

    def _replace(self, account: Account) -> None:
        """A rotated key or another URL takes the former one's place; of models a store has few at a time."""
        others = [other for other in self._open if other.store_uid == account.store_uid and other != account]
        same = [other for other in others if (other.model, other.dimensions) == (account.model, account.dimensions)]
        for former in same or others[: len(others) - MOST_MODELS + 1]:
            self._leave(former)

    def open(
        self,
        store_uid: str,
        *,
        api_key: SecretStr | None,
        model: str,
        dimensions: int,
        base_url: str | None = None,
        ca_pem: str | None = None,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
    ) -> Embedder:
        """The store's embedder; the same one while key, URL, model and dimensions stay. Sends nothing.

        Raises Stalled (SecretInvalid) for a base URL that is none, for a key that cannot be sent, and for a CA that is
        none or would verify nothing. A CA that was rotated is no other account: it counts from the next request on.
        """
        url = checked_base_url(base_url or DEFAULT_BASE_URL)
        check_key(api_key, url)
        check_ca(ca_pem, url)
        key_hash = hashlib.sha256(api_key.get_secret_value().encode()).hexdigest() if api_key else ""
        account = Account(store_uid, url, key_hash, model, dimensions)
        embedder = self._open.get(account)
        if embedder is None:
            embedder = Embedder(account, api_key, self._timeout, self._clock)
        embedder.believe(ca_pem)
        if account not in self._open:
            self._open[account] = embedder
            self._replace(account)
        if embedder.limits.stated != (requests_per_minute, tokens_per_minute):
            embedder.limits.restate(requests_per_minute, tokens_per_minute)
        if requests_per_minute is not None and tokens_per_minute is not None:
            embedder.flow.open()
        return embedder

    async def close(self) -> None:
        """Close all connections; open requests break."""
        embedders = list(self._open.values())
        self._open.clear()
        for embedder in embedders:
            await embedder.close()


def _bytes_of(texts: Sequence[str]) -> Load:
    return Load(sum(len(text.encode()) for text in texts), len(texts))


__all__ = ["Account", "Embedded", "Embedder", "Embedders", "RejectedInput", "Unanswered"]
