"""What a Secret and a ConfigMap may cost: in values, in all that is kept, and in room while they are read."""

from __future__ import annotations

import asyncio
import base64
from types import SimpleNamespace
from typing import Any

import pytest

from vectorops.clients.foreign.budget import ANSWERS, charged_to
from vectorops.clients.secrets import LABEL, MOST_KEPT, MOST_VALUE, READING_BYTES, Purpose, Secrets
from vectorops.errors import Reason, Stalled
from vectorops.kinds.cachewarmup.queries import ConfigMapKeyRef
from vectorops.kinds.cachewarmup.source import MOST_LINES, config_map_lines

MIB = 1 << 20


class Cluster:
    """Secrets with one value of that many bytes, beside a small one; reading can be held up."""

    def __init__(self, size: int) -> None:
        self.size, self.reads, self.reading, self.most = size, 0, 0, 0
        self.go = asyncio.Event()
        self.go.set()

    async def get_secret(self, namespace: str, name: str) -> dict[str, Any]:
        self.reads, self.reading = self.reads + 1, self.reading + 1
        self.most = max(self.most, self.reading)
        await self.go.wait()
        self.reading -= 1
        values = {"large": b"x" * self.size, "url": b"small"}
        data = {key: base64.b64encode(value).decode() for key, value in values.items()}
        return {"metadata": {"labels": {LABEL: "any"}}, "data": data}


async def test_a_value_beyond_any_credential_is_told_and_not_kept_and_others_of_its_secret_can_be_read() -> None:
    secrets = Secrets(Cluster(MIB - 100))
    with pytest.raises(Stalled, match="put the value there and nothing else") as caught:
        await secrets.value("shop", "db", "large", Purpose.DATABASE)
    assert caught.value.reason == Reason.SecretInvalid
    assert (await secrets.value("shop", "db", "url", Purpose.DATABASE)).get_secret_value() == "small"
    assert sum(len(value or "") for _, kept in secrets._kept.values() for value in kept["data"].values()) < 100


async def test_all_values_that_are_kept_have_a_bound_and_the_oldest_go_first() -> None:
    cluster = Cluster(MOST_VALUE * 3 // 4 - 3)  # base64 makes it the most
    secrets = Secrets(cluster)
    fit = MOST_KEPT // MOST_VALUE
    for number in range(2 * fit):
        await secrets.value("shop", f"s{number}", "large", Purpose.DATABASE)
    assert fit - 1 <= len(secrets._kept) <= fit
    reads = cluster.reads
    await secrets.value("shop", f"s{2 * fit - 1}", "large", Purpose.DATABASE)
    assert cluster.reads == reads
    await secrets.value("shop", "s0", "large", Purpose.DATABASE)
    assert cluster.reads == reads + 1


async def test_secrets_that_are_read_at_once_have_room_of_the_budget_and_no_namespace_has_all_of_it() -> None:
    cluster = Cluster(10)
    cluster.go.clear()
    secrets = Secrets(cluster)

    async def read(namespace: str, number: int) -> None:
        with charged_to(namespace):
            await secrets.value(namespace, f"s{number}", "url", Purpose.DATABASE)

    greedy = [asyncio.create_task(read("greedy", number)) for number in range(100)]
    while not ANSWERS.waiting:
        await asyncio.sleep(0)
    assert cluster.most == ANSWERS.total // 2 // READING_BYTES
    victim = asyncio.create_task(read("victim", 0))
    while cluster.most == ANSWERS.total // 2 // READING_BYTES:
        await asyncio.sleep(0)
    cluster.go.set()
    await asyncio.gather(victim, *greedy)
    assert (ANSWERS.held, ANSWERS.waiting) == (0, 0)


async def test_a_config_map_of_more_lines_than_are_searched_is_refused() -> None:
    async def read(*_: Any) -> dict[str, Any]:
        return {"data": {"queries": "a\n" * (MOST_LINES + 1), "few": "a\n\nb\n"}}

    ctx: Any = SimpleNamespace(kubernetes=SimpleNamespace(read=read))
    with pytest.raises(Stalled, match="leave what is searched most") as caught:
        await config_map_lines(ctx, "shop", ConfigMapKeyRef(name="q", key="queries"))
    assert caught.value.reason == Reason.InvalidSpec
    assert await config_map_lines(ctx, "shop", ConfigMapKeyRef(name="q", key="few")) == ("a", "b")
