"""The budget of foreign input: fair, and never more than there is."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vectorops.clients.foreign.budget import Budget, Reservation, charged_to, neighbour


def test_one_neighbour_alone_holds_at_most_half() -> None:
    budget = Budget(total=100)
    held = [budget.reserve(10, lambda: None, "greedy") for _ in range(20)]
    assert sum(one.held for one in held) == 5


@pytest.mark.parametrize(("greedy", "most"), [(1, 50), (2, 68), (3, 76), (9, 92)])
def test_however_many_are_greedy_something_is_left_to_a_newcomer(greedy: int, most: int) -> None:
    budget = Budget(total=100)
    for turn in range(100 * greedy):
        budget.reserve(1, lambda: None, f"greedy-{turn % greedy}")
    assert budget.held <= most
    assert budget.reserve(100 - most, lambda: None, "newcomer").held


def test_who_holds_least_is_served_first() -> None:
    budget, order = Budget(total=100), list[str]()
    held = [budget.reserve(10, lambda: None, "greedy") for _ in range(5)]
    others = [budget.reserve(25, lambda: None, name) for name in ("a", "b")]
    for _ in range(3):
        budget.reserve(10, lambda: order.append("greedy"), "greedy")
    budget.reserve(10, lambda: order.append("newcomer"), "newcomer")
    for one in [*held, *others]:
        one.give_back()
    assert order[0] == "newcomer"
    assert order.count("greedy") == 3


def test_what_can_never_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="half"):
        Budget(total=100).reserve(51, lambda: None)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 50), st.booleans()), max_size=60))
def test_the_total_is_never_exceeded_and_all_are_served_in_the_end(steps: list[tuple[str, int, bool]]) -> None:
    budget, made = Budget(total=100), list[Reservation]()
    for owner, size, gives_back in steps:
        made.append(budget.reserve(size, lambda: None, owner))
        assert budget.held <= 100
        if gives_back:
            next(one for one in made if one.held).give_back()
    for _ in made:
        for one in [one for one in made if one.held]:
            one.give_back()
        assert budget.held <= 100
    assert (budget.held, budget.waiting) == (0, 0)


async def test_who_is_cancelled_while_waiting_leaves_no_trace() -> None:
    budget = Budget(total=100)
    blocker = budget.reserve(50, lambda: None, neighbour())

    async def wait() -> None:
        async with budget.hold(50):
            raise AssertionError("there was no room")

    waiting = asyncio.create_task(wait())
    while not budget.waiting:
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    blocker.give_back()
    assert (budget.held, budget.waiting) == (0, 0)


async def test_tasks_are_charged_to_the_neighbour_that_began_them() -> None:
    async def who() -> str:
        return neighbour()

    with charged_to("tenant"):
        task = asyncio.create_task(who())
    assert (await task, neighbour()) == ("tenant", "")
