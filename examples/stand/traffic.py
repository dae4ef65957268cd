"""People searching, in the background: HTTP requests to the search service, drawn as the shop's log draws them.

Every search goes to one of the addresses in the file that the operator reads too, as a Service would spread them.
Answers that are no 2xx, answers that are no list of products, and no answer at all are errors. A late answer is none:
how late it was says how busy the machine is, so it is counted and told. Used by the demo throughout. Refused: load; it
is a handful of requests a second.
"""

from __future__ import annotations

import http.client
import json
import random
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Final

import asyncpg

from stand.background import Background

PAUSE_SECONDS: Final = 0.2  # five searches a second: traffic, and the embedding server keeps time for the backfill
SLOW_SECONDS: Final = 2.0  # the runbook's critical latency
LOST_SECONDS: Final = 120.0  # twice what the service itself waits for anything: no answer by then is none
LIMIT: Final = 10
DRAWN: Final = 2_000  # the newest searches of the log; drawing from them follows its skew

RECENT: Final = "SELECT query FROM searches WHERE btrim(query) <> '' ORDER BY created_at DESC LIMIT $1"


async def recent_queries(dsn: str) -> list[str]:
    """What was searched last, with repetitions, newest first."""
    connection = await asyncpg.connect(dsn)
    try:
        return [row["query"] for row in await connection.fetch(RECENT, DRAWN)]
    finally:
        await connection.close()


class Traffic(Background):
    """A thread that searches until it is stopped."""

    JOIN_SECONDS: ClassVar[float] = LOST_SECONDS + 10.0

    def __init__(
        self,
        addresses: Path,
        service: str,
        token: str,
        queries: Sequence[str],
        seed: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`addresses` is the file; `service` a key of it, such as "shop/api:3000"."""
        super().__init__("traffic")
        self._addresses, self._service, self._token = addresses, service, token
        self._queries, self._random, self._clock = queries, random.Random(seed), clock
        self.searches = self.errors = self.cached = self.slow = 0
        self.slowest = 0.0  # seconds
        self.first_error = ""  # with the time of day, to be found in the logs

    def run(self) -> None:
        """Search."""
        while not self.stopping.wait(PAUSE_SECONDS):
            began = self._clock()
            self.searches += 1
            try:
                self._search(self._random.choice(self._queries))
            except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
                self.errors += 1
                self.first_error = self.first_error or f"{datetime.now():%X} {type(error).__name__}: {error}"
            took = self._clock() - began
            self.slow += took > SLOW_SECONDS
            self.slowest = max(self.slowest, took)

    def told(self) -> str:
        """What was seen, as a line for a person."""
        late = f"{self.slow} took longer than {SLOW_SECONDS:g} s" if self.slow else "none late"
        return (
            f"{self.searches}, {self.errors} errors, {self.cached} from the cache; "
            f"{late}, the slowest {self.slowest:.1f} s"
        )

    def _search(self, query: str) -> None:
        ready = json.loads(self._addresses.read_text())[self._service]
        connection = http.client.HTTPConnection(self._random.choice(ready), timeout=LOST_SECONDS)
        try:
            body = json.dumps({"query": query[:8192], "limit": LIMIT})
            headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
            connection.request("POST", "/api/vectors/search", body, headers)
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != http.client.OK:
                raise ValueError(f"HTTP {answer.status}")
            found = json.loads(content)
            if not isinstance(found["results"], list) or len(found["results"]) > LIMIT:
                raise ValueError("the answer is no list of products")
            self.cached += found.get("cached") is not None
        finally:
            connection.close()
