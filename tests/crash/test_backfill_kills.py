"""Kill the operator twenty times in one backfill, at points that a seed has drawn, and account for every token.

A point is the n-th return of any effect, or a moment. The provider is a process with a bill; the vector of a text and
its tokens are functions of the text. What a kill may cost is W: what was reserved for the requests in flight and the
answers not yet written. It stands in `status.cost.atRiskTokens`, and every table here holds at least twenty of it.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.crash.conftest import LAUNCHER, TEXTS, query

from stand.provider.vectors import tokens_of, vector_for
from stand.scene import Scene, backfill_spec, store_spec

if TYPE_CHECKING:
    from stand.provider import Provider
    from stand.shop import Shop

pytestmark = [pytest.mark.crash, pytest.mark.cluster]

EFFECTS = "vectorops.kinds.embeddingbackfill.effects"
ONCE = ("begin_run", "take_table_lock", "read_page", "copy_equal")  # each process comes by, however little it does
OFTEN = ("reserve_spend", "send_request", "write_batch")
FILL = "vfill/products"
LATENCY = 0.05  # seconds of the provider: kills find requests in flight
SHAPE = {"batchSize": 4, "concurrency": 2}
STATES = "SELECT row_key, text_hash, model, dimensions FROM vectorops.embedding_state"
ACCOUNT = "SELECT tokens_reserved AS reserved, tokens_billed AS billed, rows_done, requests FROM vectorops.spend"
SHARED = "UPDATE products SET title = 'shared ' || id % 50, description = 'by some' WHERE id % 3 = 0"
OF_OTHERS = "UPDATE products SET embedding = array_fill(1, ARRAY[384])::vector WHERE id % 2 = 0"


@dataclass(frozen=True)
class Point:
    """Where a process is killed: after the n-th return of an effect, or after n requests and some seconds."""

    effect: str | None
    nth: int
    seconds: float = 0.0


def drawn(seed: int, kills: int) -> list[Point]:
    """So many points; half of them at effects, each effect at least once where there are enough."""
    chance = random.Random(seed)
    effects = [*ONCE, *OFTEN, *chance.choices(OFTEN, k=kills // 2)]
    if kills // 2 < len(ONCE + OFTEN):
        chance.shuffle(effects)
    points = [Point(one, 1 if one in ONCE else chance.randint(1, 5)) for one in effects][: kills // 2]
    points += [Point(None, chance.randint(0, 4), chance.uniform(0, 2 * LATENCY)) for _ in range(kills - len(points))]
    chance.shuffle(points)
    return points


class Ledger:
    """What a run was billed, what of it is in the table, and what it says is at risk."""

    def __init__(self, scene: Scene, shop: Shop, provider: Provider) -> None:
        self.scene, self.shop, self.provider = scene, shop, provider
        self.texts = {row["id"]: row["text"] for row in query(shop, TEXTS)}
        self.unique = sum(tokens_of(text) for text in set(self.texts.values()))
        self.lost = self.at_risk = self.most = 0

    def kill(self, point: Point) -> None:
        """Let an operator come to that point, kill it there, and wait until the provider has billed all it was sent."""
        if point.effect is not None:
            operator = self.scene.operator(LAUNCHER, "after", f"{EFFECTS}:{point.effect}", str(point.nth), wait=False)
            self.scene.wait(f"the kill at {point}", lambda: not operator.process.alive(), 60)
            assert "crash point reached" in operator.log.read_text()
        else:
            operator = self.scene.operator(wait=False)
            self.provider.wait_for(None, at_least=len(self.provider.requests()) + point.nth, timeout=60)
            time.sleep(point.seconds)  # anywhere is a moment, not a condition
            operator.process.kill()
        self.scene.wait("all requests to be billed", lambda: all(one["billed"] for one in self.provider.requests()))

    def balance(self, point: Point) -> None:
        """Assert that this kill cost no more than it says was at risk, and no more than was in flight."""
        begun = query(self.shop, "SELECT to_regclass('vectorops.spend') AS there")[0]["there"] is not None
        states, accounts = (query(self.shop, STATES), query(self.shop, ACCOUNT)) if begun else ([], [])
        hashes = {hashlib.sha256(text.encode()).digest(): text for text in self.texts.values()}
        made = sum(tokens_of(hashes[text_hash]) for text_hash in {row["text_hash"] for row in states})
        reserved = accounts[0]["reserved"] if accounts else 0
        lost, risk = self.provider.bill()["tokens"] - made - self.lost, reserved - self.at_risk
        in_flight = sum(one["tokens"] for one in self.provider.requests()[-SHAPE["concurrency"] :])
        assert 0 <= lost <= in_flight, point
        assert lost <= risk, f"more than is stated as at risk: {point}"
        self.lost, self.at_risk, self.most = self.lost + lost, reserved, max(self.most, risk)

    def settle(self) -> None:
        """The last operator ends the run: every row right, everything paid once but for what the kills lost."""
        self.scene.operator()
        self.scene.wait_status(FILL, "Complete", timeout=90)
        assert self.scene.condition(FILL, "Complete")["reason"] == "Succeeded"
        rows, states = query(self.shop, TEXTS), {row["row_key"]: row for row in query(self.shop, STATES)}
        assert len(rows) == len(states) == 1000
        assert all(row["embedding"] is not None for row in rows) and wrong_rows(self.shop) == []
        for row in rows:
            assert states[str(row["id"])]["text_hash"] == hashlib.sha256(row["text"].encode()).digest(), row["id"]
        [account] = query(self.shop, ACCOUNT)
        assert self.provider.bill()["tokens"] == self.unique + self.lost, "who is not killed pays nothing twice"
        cost = self.scene.get(FILL)["status"]["cost"]
        assert self.lost <= cost["atRiskTokens"] == account["reserved"] == self.at_risk
        assert (cost["tokens"], account["rows_done"]) == (account["billed"], 1000)
        assert self.unique >= 20 * self.most, "the table holds twenty times what a kill may cost"


@pytest.fixture
def run_killed(scene: Scene, shop: Shop, provider: Provider) -> Callable[..., Ledger]:
    """run_killed(seed, kills, **spec): a backfill that is killed so often, then done. Returns what it cost."""

    def run(seed: int, kills: int, **spec: Any) -> Ledger:
        ledger = Ledger(scene, shop, provider)
        provider.control(latencySeconds=LATENCY)
        scene.apply("VectorStore", "shop", store_spec())
        scene.apply("EmbeddingBackfill", "products", backfill_spec(**SHAPE, **spec))
        for point in drawn(seed, kills):
            ledger.kill(point)
            ledger.balance(point)
        [account] = query(shop, ACCOUNT)
        assert account["rows_done"] < 1000, "every kill was within the run"
        assert ledger.lost > 0, "and some met a request in flight"
        ledger.settle()
        return ledger

    return run


def test_twenty_kills_at_drawn_effects_and_moments_cost_no_more_than_the_status_says_is_at_risk(
    run_killed: Callable[..., Ledger],
) -> None:
    assert {point.effect for point in drawn(6, 20)} == {None, *ONCE, *OFTEN}
    run_killed(6, 20)


def test_kills_beside_answers_that_are_wrong_leave_no_wrong_vector(
    scene: Scene, shop: Shop, provider: Provider
) -> None:
    chance = random.Random(8)
    scene.apply("VectorStore", "shop", store_spec())
    scene.apply("EmbeddingBackfill", "products", backfill_spec(**SHAPE))
    provider.control(latencySeconds=LATENCY)
    for kind, answers in (("Shuffled", 3), ("ShortList", 3), ("NotANumber", 3), ("WrongDimension", 1)):
        provider.control(faults=[{"kind": kind, "times": answers}])
        operator = scene.operator(wait=False)
        provider.wait_for(None, at_least=len(provider.requests()) + answers, timeout=60)
        time.sleep(chance.uniform(0, 2 * LATENCY))  # anywhere is a moment, not a condition
        operator.process.kill()
    assert wrong_rows(shop) == []
    provider.control(faults=[], latencySeconds=0)

    scene.operator()
    scene.wait_status(FILL, "Complete", timeout=90)
    assert scene.condition(FILL, "Complete")["reason"] == "Succeeded"
    assert wrong_rows(shop) == [] and len(query(shop, STATES)) == 1000
    [account], bill = query(shop, ACCOUNT), provider.bill()["tokens"]
    assert account["billed"] <= bill <= account["billed"] + account["reserved"]


def test_a_budget_of_half_the_work_is_kept_across_kills_and_restarts_and_goes_on_when_raised(
    scene: Scene, shop: Shop, provider: Provider
) -> None:
    all_of_it = sum(tokens_of(row["text"]) for row in query(shop, TEXTS))
    half, shape = all_of_it // 2, {"batchSize": 16, "concurrency": 2}
    provider.control(latencySeconds=LATENCY)
    scene.apply("VectorStore", "shop", store_spec())
    scene.apply("EmbeddingBackfill", "products", backfill_spec(**shape, budget={"maxTokens": half}))
    for requests in (6, 8):  # by then it has learned what a text is billed
        operator = scene.operator(wait=False)
        provider.wait_for(None, at_least=len(provider.requests()) + requests, timeout=60)
        operator.process.kill()
    scene.operator()
    scene.wait_reason(FILL, "BudgetExhausted", timeout=90)
    spent = provider.bill()["tokens"]
    assert 0.6 * half < spent <= half, "what the kills left at risk counts as spent"
    assert 0 < sum(row["embedding"] is None for row in query(shop, TEXTS)) < 1000
    scene.stop()

    scene.operator()
    scene.wait_reason(FILL, "BudgetExhausted")
    assert spent <= provider.bill()["tokens"] <= half, "another process keeps it too"
    scene.patch(FILL, {"budget": {"maxTokens": 2 * all_of_it}})
    scene.wait_status(FILL, "Complete", timeout=90)
    assert wrong_rows(shop) == [] and all(row["embedding"] is not None for row in query(shop, TEXTS))
    cost = scene.get(FILL)["status"]["cost"]
    assert all_of_it <= provider.bill()["tokens"] <= all_of_it + cost["atRiskTokens"]


def wrong_rows(shop: Shop) -> list[int]:
    """Rows whose embedding is not that of their text."""
    filled = [row for row in query(shop, TEXTS) if row["embedding"] is not None]
    return [
        row["id"] for row in filled if not np.array_equal(row["embedding"].to_numpy(), vector_for(row["text"], 384))
    ]


def test_kills_of_a_forced_run_buy_no_text_again_that_it_has_made_and_copy_equal_ones(
    run_killed: Callable[..., Ledger], scene: Scene, shop: Shop, provider: Provider
) -> None:
    query(shop, SHARED)
    query(shop, OF_OTHERS)
    ledger = run_killed(7, 6, select="All")
    assert len(set(ledger.texts.values())) < 800, "texts are shared"

    sent = len(provider.requests())
    scene.kubectl("delete", FILL)
    scene.apply("EmbeddingBackfill", "products", backfill_spec(**SHAPE, select="All"))
    scene.wait_reason(FILL, "AlreadyExecuted", condition="Complete")
    assert len(provider.requests()) == sent, "applied again, it sends nothing"
