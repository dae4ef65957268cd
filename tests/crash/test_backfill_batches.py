"""Kill the operator at every effect of one backfill in batch mode: every row is right, and no text is paid twice.

The provider is a process with a bill that outlives the operators. Unlike an online request, a batch is found again: so
the bill is exact to the token, whatever was in flight.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.crash.conftest import TEXTS, query

from stand.provider.vectors import tokens_of, vector_for
from stand.scene import Scene, backfill_spec, store_spec

if TYPE_CHECKING:
    from stand.provider import Provider
    from stand.shop import Shop

pytestmark = [pytest.mark.crash, pytest.mark.cluster]

ROOM = "vectorops.kinds.embeddingbackfill"
FILL = "vfill/products"
ACCOUNT = "SELECT tokens_reserved, tokens_billed, rows_done FROM vectorops.spend"
LEFT = "SELECT (SELECT count(*) FROM vectorops.batch) AS batches, (SELECT count(*) FROM vectorops.batch_row) AS rows"
BEFORE_CREATED = ("begin_batch", "add_rows", "reserve_batch", "upload_file", "note_file")
AFTER_CREATED = ("create_batch", "note_batch", "rows_of_texts", "write_batch", "forget_rows", "settle_batch")


def test_a_kill_after_any_effect_of_a_batch_pays_no_text_twice(
    scene: Scene, shop: Shop, provider: Provider, killed: Callable[..., None]
) -> None:
    scene.apply("VectorStore", "shop", store_spec())
    scene.apply("EmbeddingBackfill", "products", backfill_spec(mode="Batch"))
    for effect in BEFORE_CREATED:
        killed("after", f"{ROOM}.batching_effects:{effect}", 1)
        assert provider.batches()["batches"] == [], effect
    for effect in AFTER_CREATED:
        module = "effects" if effect == "write_batch" else "batching_effects"
        killed("after", f"{ROOM}.{module}:{effect}", 1)
        assert len(provider.batches()["batches"]) == 1, effect
    scene.operator()
    scene.wait_status(FILL, "Complete", timeout=90)
    assert scene.condition(FILL, "Complete")["reason"] == "Succeeded"

    rows = query(shop, TEXTS)
    wrong = [row["id"] for row in rows if not np.array_equal(row["embedding"].to_numpy(), vector_for(row["text"], 384))]
    assert wrong == [] and len(rows) == 1000
    bill = provider.bill()
    assert set(bill["perText"].values()) == {1}
    assert bill["tokens"] == sum(tokens_of(text) for text in {row["text"] for row in rows})
    assert [tuple(row) for row in query(shop, ACCOUNT)] == [(0, bill["tokens"], 1000)]
    assert [tuple(row) for row in query(shop, LEFT)] == [(0, 0)]
