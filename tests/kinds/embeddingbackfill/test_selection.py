"""Which rows a request embeds, and which it leaves alone. What is asserted is the table, our records and the bill."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stand.provider import Provider, tokens_of, vector_for
from vectorops.kinds.embeddingbackfill.observation import Counts

from .driver import DIMENSIONS, ROWS, Backfill, World, missing, wrong_rows

pytestmark = pytest.mark.real

STATES = "SELECT count(*) FROM vectorops.embedding_state"
FOREIGN = f"array_fill(1::real, ARRAY[{DIMENSIONS}])::vector"  # what somebody else wrote


async def filled(world: World, provider: Provider, **spec: Any) -> None:
    """All rows embedded by another request, earlier, and the bill begun anew."""
    await world.backfill(**spec).created_again().until(lambda v: v.complete)
    provider.reset()


async def counted(backfill: Backfill) -> Counts:
    counts = (await backfill.look()).counts
    assert counts is not None
    return counts


async def complete(backfill: Backfill) -> str:
    return str((await backfill.until(lambda v: v.complete)).reason)


async def test_stale_embeds_what_was_edited_or_is_missing_and_nothing_else(
    world: World, db: Any, provider: Provider
) -> None:
    await filled(world, provider)
    await db.execute("UPDATE products SET title = 'edited ' || id WHERE id IN (3, 100)")
    await db.execute("INSERT INTO products (title, description) VALUES ('new', 'row')")
    assert await complete(world.backfill()) == "Succeeded"
    assert list(provider.bill()["perText"]) == ["new\n\nrow"], "Missing does not look at texts"
    provider.reset()
    backfill = world.backfill(select="Stale")
    seen = await counted(backfill)
    assert (seen.pending, seen.stale, seen.unknown, seen.missing) == (2, 2, 0, 0)
    assert await complete(backfill) == "Succeeded"
    assert provider.bill()["texts"] == 2
    assert await missing(db) == 0 and await wrong_rows(db) == []


@pytest.mark.parametrize("changed", ["template", "prefix", "model"])
async def test_stale_embeds_everything_anew_for_another_template_or_model(
    world: World, db: Any, provider: Provider, changed: str
) -> None:
    await filled(world, provider)
    text = "title || E'\\n\\n' || description"
    if changed == "template":
        world.table["textTemplate"], text = "{title}: {description}", "title || ': ' || description"
    elif changed == "prefix":
        world.table["documentPrefix"], text = "passage: ", f"'passage: ' || {text}"
    else:
        world.embeddings = {"model": "text-embedding-3-large"}
    world.declare()
    assert (await counted(world.backfill(select="Stale"))).stale == ROWS
    assert await complete(world.backfill(select="Stale")) == "Succeeded"
    assert provider.bill()["texts"] == ROWS and await wrong_rows(db, text) == []
    provider.reset()
    assert await complete(world.backfill(select="Stale")) == "Succeeded"
    assert provider.bill()["texts"] == 0


async def test_vectors_of_others_are_adopted_by_default_and_bought_again_once_their_text_changes(
    world: World, db: Any, provider: Provider
) -> None:
    await db.execute(f"UPDATE products SET embedding = {FOREIGN} WHERE id > 20")
    backfill = world.backfill(select="Stale")
    seen = await counted(backfill)
    assert (seen.pending, seen.unknown, seen.to_adopt) == (20, ROWS - 20, ROWS - 20)
    assert await complete(backfill) == "Succeeded"
    assert provider.bill()["texts"] == 20 and await db.fetchval(STATES) == ROWS
    assert len(await wrong_rows(db)) == ROWS - 20, "adopted as they are"
    provider.reset()
    await db.execute("UPDATE products SET title = 'edited' WHERE id = 30")
    assert await complete(world.backfill(select="Stale")) == "Succeeded"
    assert list(provider.bill()["perText"].values()) == [1]
    assert len(await wrong_rows(db)) == ROWS - 21


async def test_a_table_that_is_all_of_others_is_adopted_without_a_call(
    world: World, db: Any, provider: Provider
) -> None:
    await db.execute(f"UPDATE products SET embedding = {FOREIGN}")
    assert await complete(world.backfill(select="Stale")) == "Succeeded"
    assert provider.requests() == [] and await db.fetchval(STATES) == ROWS


async def test_vectors_of_others_are_bought_again_when_that_is_asked_for(
    world: World, db: Any, provider: Provider
) -> None:
    await db.execute(f"UPDATE products SET embedding = {FOREIGN} WHERE id > 20")
    backfill = world.backfill(select="Stale", unknownProvenance="Embed")
    seen = await counted(backfill)
    assert (seen.pending, seen.unknown, seen.to_adopt) == (ROWS, ROWS - 20, 0)
    assert await complete(backfill) == "Succeeded"
    assert provider.bill()["texts"] == ROWS and await wrong_rows(db) == []


async def test_a_vector_of_other_dimensions_is_stale_and_never_adopted(
    world: World, db: Any, provider: Provider
) -> None:
    await db.execute("ALTER TABLE products ALTER COLUMN embedding TYPE vector")
    await db.execute(f"UPDATE products SET embedding = {FOREIGN} WHERE id <= 50")
    await db.execute("UPDATE products SET embedding = '[1, 2, 3]' WHERE id BETWEEN 51 AND 60")
    backfill = world.backfill(select="Stale")
    seen = await counted(backfill)
    assert (seen.stale, seen.unknown, seen.pending) == (10, 50, ROWS - 50)
    assert await complete(backfill) == "Succeeded"
    assert provider.bill()["texts"] == ROWS - 50
    assert await db.fetchval(f"SELECT count(*) FROM products WHERE vector_dims(embedding) = {DIMENSIONS}") == ROWS


async def test_all_makes_every_row_anew_once_a_run(world: World, db: Any, provider: Provider) -> None:
    await filled(world, provider)
    backfill = world.backfill(select="All")
    assert await complete(backfill) == "Succeeded"
    bill = provider.bill()
    assert set(bill["perText"].values()) == {1} and bill["texts"] == ROWS and await wrong_rows(db) == []
    rows = backfill.status.rows
    assert rows is not None and (rows.done, rows.remaining) == (ROWS, 0)
    backfill.change(runToken="again")
    await backfill.until(lambda v: not v.complete)
    assert await complete(backfill) == "Succeeded"
    assert set(provider.bill()["perText"].values()) == {2}


async def test_all_goes_on_where_it_was_after_a_restart(
    world: World, db: Any, provider: Provider, database_url: str
) -> None:
    await filled(world, provider)
    world.state_limits()
    provider.control(holdRequests="Billed")
    backfill = world.backfill(select="All", batchSize=20, concurrency=2)
    await backfill.one_pass()
    await asyncio.to_thread(provider.wait_for, "Held", at_least=2)
    stopping = asyncio.create_task(world.work.stop(grace=10))
    await asyncio.sleep(0)
    provider.control(holdRequests=None)
    await stopping
    assert provider.bill()["texts"] == 40
    async with World(database_url, provider.base_url, provider.api_key) as restarted:
        assert await complete(restarted.backfill(select="All", batchSize=20)) == "Succeeded"
    assert set(provider.bill()["perText"].values()) == {1} and await wrong_rows(db) == []


@pytest.mark.parametrize("select", ["Missing", "Stale", "All"])
async def test_a_row_edited_while_its_text_is_at_the_provider_keeps_no_stale_vector(
    world: World, db: Any, provider: Provider, select: str
) -> None:
    if select != "Missing":
        await filled(world, provider)
        await db.execute("UPDATE products SET description = 'before' || id")
    provider.control(holdRequests="Billed")
    backfill = world.backfill(select=select)
    passes = asyncio.create_task(backfill.until(lambda v: v.complete))
    await asyncio.to_thread(provider.wait_for, "Held")
    await db.execute("UPDATE products SET title = 'edited' WHERE id = 1")
    await db.execute("INSERT INTO products (title, description) VALUES ('born', 'meanwhile')")
    await db.execute("DELETE FROM products WHERE id = 2")
    provider.control(holdRequests=None)
    await passes
    assert await missing(db) == 0 and await wrong_rows(db) == []


async def test_a_text_that_became_blank_keeps_its_vector_and_counts_as_skipped(
    world: World, db: Any, provider: Provider
) -> None:
    await filled(world, provider)
    await db.execute("UPDATE products SET title = ' ', description = NULL WHERE id = 7")
    for select in ("Stale", "All"):
        backfill = world.backfill(select=select)
        assert await complete(backfill) == "Succeeded"
        assert backfill.status.rows is not None and backfill.status.rows.skipped == 1
    assert await missing(db) == 0
    provider.reset()
    await db.execute("UPDATE products SET embedding = NULL WHERE id = 7")
    assert await complete(world.backfill()) == "Succeeded"
    assert await missing(db) == 1 and provider.requests() == []


async def test_one_product_is_regenerated_by_its_id(world: World, db: Any, provider: Provider) -> None:
    await filled(world, provider)
    backfill = world.backfill(select="All", ids=["42", "043"])
    assert await complete(backfill) == "Succeeded"
    wanted = await db.fetch("SELECT title || E'\\n\\n' || description AS text FROM products WHERE id IN (42, 43)")
    bill = provider.bill()
    assert sorted(bill["perText"]) == sorted(row["text"] for row in wanted)
    assert bill["tokens"] == sum(tokens_of(row["text"]) for row in wanted)
    rows = backfill.status.rows
    assert rows is not None and (rows.total, rows.done) == (2, 2)


async def test_ids_that_name_no_row_are_counted_and_told(world: World, db: Any, provider: Provider) -> None:
    backfill = world.backfill(ids=["7", "9999", "-1"])
    assert (await counted(backfill)).absent_ids == 2
    verdict = await backfill.until(lambda v: v.complete)
    assert "2 of spec.ids name no row" in verdict.message
    assert await missing(db) == ROWS - 1 and provider.bill()["texts"] == 1


BAD_IDS = [
    ("id bigint PRIMARY KEY", ["1", "forty-two"], 'spec.ids[1] does not read as the key of "public"."keyed" ("id"'),
    ("id smallint PRIMARY KEY", ["70000"], "spec.ids[0]"),
    ("id uuid PRIMARY KEY", ["42"], '"0b0e7c9e-3c1d-4c0a-9f58-6a4d1d2f3a4b"'),
    ("id date PRIMARY KEY", ["2026-02-30"], '"2026-01-31"'),
    ("a text, id bigint, PRIMARY KEY (a, id)", ["42"], """'["sku-42", "42"]'"""),
    ("a text, id bigint, PRIMARY KEY (a, id)", ['["x", "1"]', '["x", "y"]'], 'spec.ids[1] does not read as the key'),
    ("a text, id bigint, PRIMARY KEY (a, id)", ['["x", 1]'], "spec.ids[0]"),
    ("a text, id bigint, PRIMARY KEY (a, id)", ['["x"]'], "spec.ids[0]"),
    ("a text, id bigint, PRIMARY KEY (a, id)", ["[" * 1024], "spec.ids[0]"),
]  # fmt: skip


@pytest.mark.parametrize(("columns", "ids", "told"), BAD_IDS)
async def test_an_id_that_is_no_key_of_the_table_is_told_with_an_example(
    world: World, db: Any, provider: Provider, columns: str, ids: list[str], told: str
) -> None:
    await db.execute(f"CREATE TABLE keyed ({columns}, title text, embedding vector({DIMENSIONS}))")
    world.table = {"table": "keyed", "textTemplate": "{title}"}
    world.declare()
    verdict = await world.backfill(ids=ids).one_pass()
    assert (str(verdict.reason), verdict.stalled, verdict.action) == ("IdInvalid", True, None)
    assert told in verdict.message and "forty-two" not in verdict.message


async def test_where_narrows_and_odd_names_mean_what_they_say(world: World, db: Any, provider: Provider) -> None:
    await db.execute(
        """CREATE TABLE "Odd ""Shop" ("It's a ""Key" text PRIMARY KEY, "SELECT" text, row_key text, "Price €" numeric,
                                      text_hash text, embedding halfvec(384));
           INSERT INTO "Odd ""Shop"
           SELECT 'k''"\\' || n, 'text ' || n, CASE WHEN n % 2 = 0 THEN 'it''s "even"' END, n / 2.0
           FROM generate_series(1, 40) n"""
    )
    world.table = {"table": 'Odd "Shop', "textTemplate": "{SELECT}{row_key}"}
    world.declare()
    where = [
        {"column": "row_key", "operator": "Equal", "value": 'it\'s "even"'},
        {"column": "Price €", "operator": "LessOrEqual", "value": "10"},
        {"column": "Price €", "operator": "NotEqual", "value": "4"},
        {"column": "SELECT", "operator": "In", "values": [f"text {n}" for n in range(1, 15)]},
        {"column": "text_hash", "operator": "IsNull"},
    ]
    for select in ("Missing", "Stale", "All"):
        assert await complete(world.backfill(select=select, where=where, runToken=select)) == "Succeeded"
    written = await db.fetch(
        """SELECT "SELECT" AS text FROM "Odd ""Shop" WHERE embedding IS NOT NULL ORDER BY "Price €" """
    )
    assert [row["text"] for row in written] == [f"text {n}" for n in (2, 4, 6, 10, 12, 14)]
    assert await complete(world.backfill(select="Stale", ids=["k'\"\\3", "k'\"\\5"])) == "Succeeded"
    assert await missing(db, '"Odd ""Shop"') == 32


@pytest.mark.parametrize(
    ("where", "reason", "told"),
    [
        ({"column": "colour", "operator": "IsNull"}, "ColumnNotFound", 'no column "colour", which spec.where names'),
        ({"column": "id", "operator": "Equal", "value": "secret"}, "ConditionInvalid", '"id"'),
        ({"column": "embedding", "operator": "In", "values": ["secret"]}, "ConditionInvalid", '"embedding"'),
        ({"column": "made", "operator": "Less", "value": "secret"}, "ConditionInvalid", '"made"'),
        ({"column": "data", "operator": "Less", "value": "{}"}, "ConditionInvalid", '"data"'),
    ],
)
async def test_a_condition_that_does_not_fit_the_table_is_told(
    world: World, db: Any, provider: Provider, where: dict[str, Any], reason: str, told: str
) -> None:
    await db.execute("ALTER TABLE products ADD made date, ADD data json")
    verdict = await world.backfill(where=[where]).one_pass()
    assert (str(verdict.reason), verdict.stalled, verdict.action) == (reason, True, None)
    assert told in verdict.message and "secret" not in verdict.message


async def test_a_limit_takes_the_first_rows_that_need_it_also_where_texts_repeat(
    world: World, db: Any, provider: Provider
) -> None:
    await db.execute("UPDATE products SET title = 'same', description = 'text' WHERE id % 2 = 0")
    backfill = world.backfill(limit=25, batchSize=4, concurrency=3)
    verdict = await backfill.until(lambda v: v.complete)
    assert str(verdict.reason) == "LimitReached"
    written = await db.fetch("SELECT id FROM products WHERE embedding IS NOT NULL ORDER BY id")
    assert [row["id"] for row in written] == list(range(1, 26))
    assert set(provider.bill()["perText"].values()) == {1} and await wrong_rows(db) == []


async def test_rows_a_second_are_kept(world: World, db: Any, provider: Provider) -> None:
    await db.execute("DELETE FROM products WHERE id > 120")
    await world.backfill(rateLimits={"rowsPerSecond": 40}).until(lambda v: v.complete)
    assert await missing(db) == 0
    times = await db.fetch("SELECT embedded_at AS at FROM vectorops.embedding_state ORDER BY 1")
    assert (times[-1]["at"] - times[0]["at"]).total_seconds() >= (120 - 40) / 40 - 0.2
    assert len({row["at"] for row in times}) >= 3, "a second's rows at most go together"


async def test_others_vectors_in_between_are_neither_lost_nor_called_ours(
    world: World, db: Any, provider: Provider
) -> None:
    await filled(world, provider)
    await db.execute("UPDATE products SET title = 'edited' || id WHERE id <= 10")
    provider.control(holdRequests="Billed")
    passes = asyncio.create_task(world.backfill(select="Stale").until(lambda v: v.complete))
    await asyncio.to_thread(provider.wait_for, "Held")
    await db.execute(f"INSERT INTO products (title, description, embedding) VALUES ('theirs', '', {FOREIGN})")
    provider.control(holdRequests=None)
    await passes
    assert await wrong_rows(db) == ["theirs\n\n"]
    assert await db.fetchval(STATES) == ROWS + 1, "adopted before it was called complete"
    text = await db.fetchval("SELECT title || E'\\n\\n' || description FROM products WHERE id = 1")
    vector = await db.fetchval("SELECT embedding FROM products WHERE id = 1")
    assert (vector.to_numpy() == vector_for(text, DIMENSIONS)).all()


async def test_a_row_that_was_refused_and_is_embedded_now_is_not_recorded_any_more(
    world: World, db: Any, provider: Provider
) -> None:
    await db.execute("UPDATE products SET title = 'cursed' WHERE id IN (5, 6)")
    provider.control(poison=["cursed"])
    assert await complete(world.backfill()) == "CompletedWithFailures"
    provider.control(poison=[])
    await db.execute("UPDATE products SET title = 'blessed' WHERE id = 6")
    assert await complete(world.backfill().created_again()) == "CompletedWithFailures"
    assert [row[0] for row in await db.fetch("SELECT row_key FROM vectorops.failure")] == ["5"]
    assert await complete(world.backfill(runToken="again")) == "Succeeded"
    assert await db.fetchval("SELECT count(*) FROM vectorops.failure") == 0
