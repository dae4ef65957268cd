"""A warm-up on a real Postgres and a service that answers, refuses, is slow, full or down."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

import pytest

from vectorops.clients.searchservice import SearchService
from vectorops.kinds.cachewarmup import sending, source, warming
from vectorops.kinds.cachewarmup.act import stop
from vectorops.kinds.cachewarmup.observe import run_of
from vectorops.kinds.cachewarmup.run import Run

from .driver import CachedSearch, World

if TYPE_CHECKING:
    from stand.postgres import Postgres

pytestmark = pytest.mark.real

LOG = {"table": "searches", "queryColumn": "query", "timeColumn": "at", "windowSeconds": 86400}
MAKE = """CREATE TABLE searches (query text, at timestamptz DEFAULT now() - interval '1 hour', times int);
CREATE TABLE products (id int PRIMARY KEY, embedding vector(3));"""


@pytest.fixture
def service() -> Iterator[CachedSearch]:
    one = CachedSearch()
    yield one
    one.stop()


@pytest.fixture
def sql(postgres: Postgres, database_url: str) -> Callable[[str], object]:
    name = database_url.rsplit("/", 1)[1].split("?", maxsplit=1)[0]

    def run(text: str) -> object:
        return postgres.sql(text, name)

    run(MAKE)
    return run


def zipf(sql: Callable[[str], object], distinct: int) -> None:
    """Query number i was searched about distinct / i times."""
    sql(f"INSERT INTO searches (query) SELECT 'query ' || i FROM generate_series(1, {distinct}) i, "
        f"generate_series(1, {distinct} / i)")  # fmt: skip


async def test_the_most_searched_are_warmed_first_and_the_gain_is_measured(
    sql: Any, database_url: str, service: CachedSearch
) -> None:
    zipf(sql, 100)
    sql("INSERT INTO searches (query) SELECT c FROM unnest(ARRAY['Query 1', ' QUERY  1 ', 'query 1']) c")
    sql("INSERT INTO searches (query, at) SELECT 'long ago', now() - interval '3 days' FROM generate_series(1, 999)")
    async with World(database_url, service.address) as world:
        warmup = world.warmup(queries={"fromTable": {**LOG, "top": 50}}, invalidate="All")
        verdict = await warmup.to_end()
        assert (verdict.reason, verdict.complete) == ("Succeeded", True)
        status = warmup.status
        assert status.queries is not None and status.before is not None and status.after is not None
        assert (status.queries.selected, status.queries.warmed, status.queries.failed) == (50, 50, 0)
        assert status.before.cache_hit_rate_percent == 0
        covered = status.queries.covered_percent
        assert covered is not None and abs((status.after.cache_hit_rate_percent or 0) - covered) < 16
        assert (status.after.source, status.after.sampled) == ("Answers", 100)
        assert 10 < (status.removed or 0) <= status.before.sampled  # the first sample itself was in the cache
        assert "query 1" in service.cache and "long ago" not in service.asked
        assert service.agents == {"vectorops"}
        assert (await warmup.one_pass()).complete  # and stays so
        assert status.completion_time is not None


async def test_the_order_is_by_use_and_spellings_are_one_query(
    sql: Any, database_url: str, service: CachedSearch
) -> None:
    sql("INSERT INTO searches (query) SELECT unnest(ARRAY['b','b','b','A','a','a','a ','A  x','a x'])")
    async with World(database_url, service.address) as world:
        warmup = world.warmup(queries={"fromTable": LOG}, concurrency=1, target={"cacheHitRatePercent": 0})
        await warmup.to_end()
        assert warmup.status.queries is not None
        assert warmup.status.queries.selected == 3
        assert service.order[service.order.index("a", len({"a", "b", "A  x"})) :][:3] == ["a", "b", "A  x"]
        exact = world.warmup("u-2", queries={"fromTable": {**LOG, "matching": "Exact"}})
        await exact.to_end()
        assert exact.status.queries is not None
        assert exact.status.queries.selected == 5


async def test_a_count_column_weighs_and_nonsense_counts_are_ignored(
    sql: Any, database_url: str, service: CachedSearch
) -> None:
    sql(
        "INSERT INTO searches (query, times) VALUES "
        "('rare', 1), ('often', 500), ('never', 0), ('odd', -3), ('null', NULL)"
    )
    async with World(database_url, service.address) as world:
        table = {"table": "searches", "queryColumn": "query", "countColumn": "times", "top": 1}
        warmup = world.warmup(queries={"fromTable": table})
        await warmup.to_end()
        queries = warmup.status.queries
        assert queries is not None
        assert (queries.selected, queries.ignored, queries.covered_percent) == (1, 3, 99)
        assert set(service.asked) <= {"often", "rare"}


async def test_ten_thousand_queries_half_of_them_garbage_are_bounded_and_counted(
    sql: Any, database_url: str, service: CachedSearch
) -> None:
    sql("INSERT INTO searches (query) SELECT 'query ' || i FROM generate_series(1, 5000) i")
    sql("INSERT INTO searches (query) SELECT '' FROM generate_series(1, 2000)")
    sql("INSERT INTO searches (query) SELECT repeat(md5(i::text), 32768) FROM generate_series(1, 50) i")
    sql(r"INSERT INTO searches (query) SELECT E'\x01\x02' || i FROM generate_series(1, 2000) i")
    sql("INSERT INTO searches (query) SELECT repeat('long ', 500) FROM generate_series(1, 949)")
    sql("INSERT INTO searches (query) VALUES (NULL)")
    async with World(database_url, service.address) as world:
        warmup = world.warmup(queries={"fromTable": {**LOG, "top": 5000}}, target={"cacheHitRatePercent": 0})
        tracemalloc.start()
        await warmup.until(lambda verdict: bool(warmup.status.queries and warmup.status.queries.selected))
        await warmup.until(lambda verdict: bool(warmup.status.queries and warmup.status.queries.warmed > 100))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        queries = warmup.status.queries
        assert queries is not None
        assert (queries.selected, queries.ignored) == (5000, 5000)
        assert max(map(len, service.asked)) < 20
        assert peak < 32 * 2**20, f"{peak / 2**20:.0f} MiB for a table of 50 MB"


@pytest.mark.parametrize(("share", "most"), [(20, 1), (40, 2), (100, 5)])
async def test_it_never_takes_more_than_its_share_of_a_pool_of_five(
    sql: Any, database_url: str, service: CachedSearch, share: int, most: int
) -> None:
    service.seconds = 0.02
    async with World(database_url, service.address) as world:
        warmup = world.warmup(
            queries={"inline": [f"q {i}" for i in range(60)]}, maxPoolSharePercent=share, concurrency=32
        )
        await warmup.to_end()
        assert warmup.status.queries is not None and warmup.status.queries.warmed == 60
        assert service.most_active == most  # the whole share, and never more


async def test_a_share_below_one_connection_is_a_share_of_the_time(
    sql: Any, database_url: str, service: CachedSearch
) -> None:
    service.seconds = 0.05
    async with World(database_url, service.address) as world:
        warmup = world.warmup(
            queries={"inline": [f"q {i}" for i in range(20)]}, maxPoolSharePercent=10, target={"cacheHitRatePercent": 0}
        )
        began = asyncio.get_running_loop().time()
        await warmup.to_end()
        took = asyncio.get_running_loop().time() - began
        assert service.most_active == 1
        assert service.busy_seconds / took <= 0.5  # a tenth of five connections is half of one


async def test_searches_that_it_has_given_up_still_count_as_its_share(
    sql: Any, database_url: str, service: CachedSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vectorops.kinds.cachewarmup.pace.FIRST_PAUSE", 0.01)
    monkeypatch.setattr(sending, "UNANSWERED_SECONDS", 1.2)
    monkeypatch.setitem(SearchService.call.__kwdefaults__, "timeout", 0.1)
    service.seconds = 0.8  # the service is still busy with a search when nobody waits for its answer any more
    async with World(database_url, service.address) as world:
        warmup = world.warmup(queries={"inline": [f"q {i}" for i in range(9)]}, concurrency=32, maxPoolSharePercent=40)
        await warmup.until(lambda _: sum(service.asked.values()) >= 6)
        assert service.most_active == 2
        assert "WaitingForService" in warmup.reasons


async def test_tries_again_come_no_faster_than_queries(
    sql: Any, database_url: str, service: CachedSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vectorops.kinds.cachewarmup.pace.FIRST_PAUSE", 0.01)
    service.pool, service.seconds, service.statuses = 8, 0.3, {"*": 503}
    async with World(database_url, service.address) as world:
        warmup = world.warmup(
            queries={"inline": [f"q {i}" for i in range(9)]},
            concurrency=8,
            maxPoolSharePercent=100,
            requestsPerSecond=20,
        )
        await warmup.until(lambda verdict: verdict.reason == "ServiceUnavailable")
        gaps = [later - former for former, later in pairwise(service.at)]
        # a busy machine hears one late and the next in time; eight that try again together come within an instant
        assert median(gaps) > 0.02, f"a twentieth of a second between two: {gaps}"


async def test_it_stops_while_the_pool_is_critical_and_goes_on_by_itself(
    sql: Any, database_url: str, service: CachedSearch
) -> None:
    service.others = 5
    async with World(database_url, service.address) as world:
        warmup = world.warmup(queries={"inline": ["a", "b"]})
        await warmup.until(lambda verdict: verdict.reason == "WaitingForPool")
        assert not service.asked
        service.others = 0
        assert (await warmup.to_end()).complete


async def test_a_query_that_is_refused_is_counted_and_the_others_are_warmed(
    sql: Any, database_url: str, service: CachedSearch
) -> None:
    service.statuses = {"bad": 400}
    async with World(database_url, service.address) as world:
        warmup = world.warmup(queries={"inline": ["bad", "good", "better"]})
        verdict = await warmup.to_end()
        assert (verdict.reason, verdict.complete) == ("CompletedWithFailures", True)
        assert [(one.reason, one.count) for one in warmup.status.failures] == [("HTTP 400", 1)]
        assert warmup.status.queries is not None and warmup.status.queries.warmed == 2


async def test_a_service_that_suffers_is_relieved_and_costs_no_query(
    sql: Any, database_url: str, service: CachedSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vectorops.kinds.cachewarmup.pace.FIRST_PAUSE", 0.01)
    service.statuses = {"*": 503}
    async with World(database_url, service.address) as world:
        warmup = world.warmup(queries={"inline": [f"q {i}" for i in range(30)]})
        verdict = await warmup.until(lambda verdict: verdict.reason == "ServiceUnavailable")
        assert not verdict.stalled
        sent = sum(service.asked.values())
        assert sent < 40  # not three tries for each of a hundred draws
        service.statuses = {}
        await asyncio.sleep(0.1)
        assert sum(service.asked.values()) == sent  # nothing while it rests
        run = run_of(world.ctx, warmup.subject)
        assert run is not None and run.ended_at is not None
        assert run.ledger.failed == 0


async def test_a_service_that_is_not_there_is_told_within_seconds_and_costs_no_query(
    sql: Any, database_url: str, service: CachedSearch
) -> None:
    async with World(database_url, "127.0.0.1:1") as world:
        warmup = world.warmup(queries={"inline": [f"q {i}" for i in range(30)]})
        verdict = await warmup.until(lambda verdict: verdict.reason == "ServiceUnavailable", 15)
        assert not verdict.stalled
        run = run_of(world.ctx, warmup.subject)
        assert run is not None and run.ledger.failed == 0
        assert warmup.reasons.count("WaitingForService") <= 1  # it does not turn with every try


async def test_a_surprise_in_one_request_leaves_no_query_behind(
    sql: Any, database_url: str, service: CachedSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def surprise(run: Any, number: int, *_: Any) -> None:
        raise KeyError("a query of somebody")

    async with World(database_url, service.address) as world:
        warmup = world.warmup(queries={"inline": ["a", "b", "c"]})
        monkeypatch.setattr(Run, "settle", surprise)
        verdict = await warmup.until(lambda verdict: verdict.reason == "InternalError", 10)
        assert "somebody" not in verdict.message
        monkeypatch.undo()
        warmup.spec["runToken"] = "again"
        assert (await warmup.to_end()).complete


@pytest.mark.parametrize("trouble", ["ServiceUnavailable", "LogNotFound"])
async def test_a_try_after_trouble_turns_no_condition_before_it_has_got_anywhere(
    sql: Any, database_url: str, service: CachedSearch, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    monkeypatch.setattr("vectorops.kinds.cachewarmup.pace.FIRST_PAUSE", 0.01)
    monkeypatch.setattr("vectorops.kinds.cachewarmup.plan.TRY_AGAIN", timedelta(seconds=0.1))
    down = trouble == "ServiceUnavailable"
    wanted = {"inline": ["a", "b"]} if down else {"fromTable": {**LOG, "table": "later"}}
    async with World(database_url, "127.0.0.1:1" if down else service.address) as world:
        warmup = world.warmup(queries=wanted)
        await warmup.until(lambda verdict: verdict.reason == trouble)
        warmup.reasons.clear()
        runs = set()
        for _ in range(60):
            await warmup.one_pass()
            runs.add(id(run_of(world.ctx, warmup.subject)))
            await asyncio.sleep(0.02)
        assert warmup.reasons == [trouble]
        assert len(runs) > 1  # though it was tried again
        if not down:
            sql("ALTER TABLE searches RENAME TO later")
            sql("INSERT INTO later (query) VALUES ('a')")
            assert (await warmup.to_end()).complete


async def test_a_wrong_path_and_a_wrong_token_stall_at_once(sql: Any, database_url: str, service: CachedSearch) -> None:
    async with World(database_url, service.address) as world:
        for status, reason in ((404, "EndpointUnsupported"), (401, "ServiceAuthenticationFailed")):
            service.statuses = {"*": status}
            warmup = world.warmup(f"u-{status}", queries={"inline": ["a", "b", "c"]})
            verdict = await warmup.until(lambda verdict: verdict.stalled)
            assert verdict.reason == reason
            assert sum(service.asked.values()) <= 4
            service.asked.clear()


async def test_after_a_kill_it_goes_on_from_the_bookmark(sql: Any, database_url: str, service: CachedSearch) -> None:
    zipf(sql, 60)
    service.seconds = 0.01
    wanted = {"queries": {"fromTable": {**LOG, "top": 60}}, "concurrency": 1, "invalidate": "All"}
    async with World(database_url, service.address) as world:
        killed = world.warmup(**wanted)
        await killed.until(lambda _: bool(killed.status.bookmark and 20 <= killed.status.bookmark.position < 50))
        before, bookmark = killed.status.before, killed.status.bookmark
    assert bookmark is not None
    sql("INSERT INTO searches (query, at) SELECT 'new', now() FROM generate_series(1, 999)")  # after the run began
    service.asked.clear()
    service.order.clear()
    async with World(database_url, service.address) as world:
        again = world.warmup(**wanted)
        again.status = killed.status
        assert (await again.to_end()).complete
        status = again.status
        assert status.before == before and "new" not in service.asked
        assert status.queries is not None and status.queries.warmed == 60
        assert service.order[0] == f"query {bookmark.position + 1}"  # nothing before it
        assert len(service.cache) >= 60  # and the cache was not cleared again


async def test_a_changed_list_begins_again(sql: Any, database_url: str, service: CachedSearch) -> None:
    async with World(database_url, service.address) as world:
        world.kubernetes.config_maps["popular"] = {"queries": "a\nb\n"}
        wanted = {"queries": {"configMapRef": {"name": "popular", "key": "queries"}}}
        first = world.warmup(**wanted)
        await first.to_end()
        world.kubernetes.config_maps["popular"] = {"queries": "b\na\nc\n\n" + "x" * 3000}
        again = world.warmup("u-2", **wanted)
        again.status = first.status.model_copy(update={"conditions": [], "before": first.status.before})
        await again.to_end()
        assert again.status.queries is not None
        assert (again.status.queries.warmed, again.status.queries.ignored) == (3, 1)


@pytest.mark.parametrize(
    ("wanted", "reason", "says"),
    [
        ({"fromTable": {**LOG, "table": "payroll"}}, "TableNotDeclared", 'no table "public"."payroll"; add it to its'),
        ({"fromTable": {**LOG, "schema": "other"}}, "TableNotDeclared", 'no table "other"."searches"'),
        ({"fromTable": {**LOG, "table": "nowhere"}}, "LogNotFound", 'no table "public"."nowhere"'),
        ({"fromTable": {**LOG, "queryColumn": "q"}}, "LogColumnNotFound", 'no column "q"'),
        ({"fromTable": {**LOG, "queryColumn": "times"}}, "LogColumnType", "must be text"),
        ({"fromTable": {**LOG, "timeColumn": "query"}}, "LogColumnType", "must be a date or a timestamp"),
        ({"fromTable": {**LOG, "table": None, "tableName": "users"}}, "TableNotDeclared", "it has: products"),
        ({"configMapRef": {"name": "none", "key": "k"}}, "ConfigMapNotFound", "no ConfigMap none"),
    ],
)
async def test_what_a_person_must_mend_is_named(
    sql: Any, database_url: str, service: CachedSearch, wanted: Any, reason: str, says: str
) -> None:
    async with World(database_url, service.address) as world:
        try:
            verdict = await world.warmup(queries=wanted).until(lambda verdict: verdict.stalled)
            found, message = str(verdict.reason), verdict.message
        except Exception as error:
            found, message = error.reason, error.message  # type: ignore[attr-defined]  # as the runtime shows it
        assert found == reason
        assert says in message
        assert not service.asked


async def test_an_unreadable_log_names_the_grant(
    sql: Any, database_url: str, service: CachedSearch, postgres: Postgres
) -> None:
    role = "warmer_" + database_url.rsplit("_", 1)[1][:8]
    sql(f"CREATE ROLE {role} LOGIN PASSWORD 'p'; GRANT {role} TO CURRENT_USER")
    url = database_url.replace(database_url.split("//")[1].split("@", maxsplit=1)[0], f"{role}:p")
    try:
        async with World(url, service.address) as world:
            warmup = world.warmup(queries={"fromTable": LOG})
            verdict = await warmup.until(lambda verdict: verdict.stalled)
            assert verdict.reason == "LogRightMissing"
            assert f'GRANT SELECT ON "public"."searches" TO "{role}";' in verdict.message
            sql(f"GRANT SELECT ON searches TO {role}; INSERT INTO searches (query) VALUES ('a')")
            warmup.spec["runToken"] = "again"
            assert (await warmup.to_end()).complete  # without any right to create or write
    finally:
        sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_a_log_that_takes_too_long_to_read_says_what_to_do(
    sql: Any, database_url: str, service: CachedSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql("CREATE VIEW endless AS SELECT 'q' || i AS query FROM generate_series(1, 1000000000) i")
    monkeypatch.setattr(source, "READ_SECONDS", 1)
    async with World(database_url, service.address) as world:
        warmup = world.warmup(queries={"fromTable": {"table": "endless", "queryColumn": "query"}})
        verdict = await warmup.until(lambda verdict: verdict.stalled, 20)
        assert (verdict.reason, "windowSeconds" in verdict.message) == ("LogTooLarge", True)


async def test_a_surprise_is_told_and_rested_from(
    sql: Any, database_url: str, service: CachedSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []

    async def surprise(run: Any) -> Any:
        begun.append(run)
        raise KeyError("a query of somebody")

    monkeypatch.setattr(warming, "choose", surprise)
    async with World(database_url, service.address) as world:
        warmup = world.warmup(queries={"inline": ["a"]})
        verdict = await warmup.until(lambda verdict: verdict.reason == "InternalError", 10)
        assert "somebody" not in verdict.message
        for _ in range(20):
            await warmup.one_pass()
        assert len(begun) == 1


async def test_an_empty_log_fails_and_an_unknown_hit_rate_does_too(
    sql: Any, database_url: str, service: CachedSearch
) -> None:
    async with World(database_url, service.address) as world:
        assert (await world.warmup(queries={"fromTable": LOG}).to_end()).reason == "NoQueries"
        service.tells = False
        warmup = world.warmup("u-2", queries={"inline": ["a", "b"]}, backoffLimit=0)
        verdict = await warmup.to_end()
        assert warmup.status.after is not None
        assert warmup.status.after.source == "Service"  # its own figure, where answers tell nothing
        assert verdict.complete == ((warmup.status.after.cache_hit_rate_percent or 0) >= 50)


async def test_suspending_stops_it_and_resuming_goes_on(sql: Any, database_url: str, service: CachedSearch) -> None:
    service.seconds = 0.01
    async with World(database_url, service.address) as world:
        warmup = world.warmup(queries={"inline": [f"q {i}" for i in range(200)]}, concurrency=1)
        await warmup.until(lambda _: bool(warmup.status.bookmark and warmup.status.bookmark.position > 10))
        warmup.spec["suspend"] = True
        await warmup.until(lambda verdict: verdict.suspended)
        run = run_of(world.ctx, warmup.subject)
        assert run is not None
        await asyncio.sleep(0.1)
        sent = sum(service.asked.values())
        await asyncio.sleep(0.2)
        assert sum(service.asked.values()) == sent
        warmup.spec["suspend"] = False
        assert (await warmup.to_end()).complete
        assert warmup.status.queries is not None and warmup.status.queries.warmed == 200
        drawn = sum(1 for query, times in service.asked.items() if times > 3)
        assert drawn == 0  # before, warmed, after


async def test_two_warmups_of_one_service_take_turns(sql: Any, database_url: str, service: CachedSearch) -> None:
    service.seconds = 0.005
    async with World(database_url, service.address) as world:
        first = world.warmup("u-1", queries={"inline": [f"q {i}" for i in range(40)]}, concurrency=1)
        second = world.warmup("u-2", queries={"inline": [f"p {i}" for i in range(40)]}, concurrency=1)
        await first.one_pass()
        assert (await second.one_pass()).reason == "WaitingForWarmup"
        assert (await first.to_end()).complete
        assert (await second.to_end()).complete
        assert service.most_active == 1


async def test_nothing_is_taken_into_the_cache_while_most_rows_are_yet_to_be_embedded(
    sql: Any, database_url: str, service: CachedSearch
) -> None:
    zipf(sql, 20)
    async with World(database_url, service.address) as world:
        backfill = {"spec": {"storeRef": {"name": "shop"}, "tableName": "products"}, "metadata": {"name": "missing"}}
        world.kubernetes.backfills = [backfill]
        warmup = world.warmup(queries={"fromTable": LOG})
        for coverage, told in (({}, "An unknown share"), ({"products": 49}, "49 %")):
            world.kubernetes.coverage = coverage
            verdict = await warmup.one_pass()
            assert (verdict.reason, verdict.reconciling, verdict.action) == ("WaitingForEmbeddings", True, None)
            assert f"{told} of products has an embedding, and EmbeddingBackfill missing has" in verdict.message
        assert not service.asked
        cleared = world.warmup("u-2", invalidate="All", target={"cacheHitRatePercent": 0})
        assert (await cleared.to_end()).complete, "clearing alone is right at any time"
        world.kubernetes.coverage = {"products": 50, "articles": 0}
        await warmup.until(lambda verdict: warmup.status.start_time is not None)
        world.kubernetes.coverage = {"products": 3}  # begun is begun
        assert (await warmup.to_end()).complete
        warmup.spec["runToken"] = "again"
        assert (await warmup.one_pass()).reason == "WaitingForEmbeddings"
        for idle in ([], [backfill | {"spec": backfill["spec"] | {"suspend": True}}]):
            world.kubernetes.backfills = idle
            uid = f"u-{3 + len(idle)}"
            assert (await world.warmup(uid, queries={"fromTable": LOG}).to_end()).complete, "nobody fills it"


async def test_clearing_alone_and_expiry_of_the_object(sql: Any, database_url: str, service: CachedSearch) -> None:
    service.cache = {"a", "b", "c"}
    async with World(database_url, service.address) as world:
        warmup = world.warmup(invalidate="All", ttlSecondsAfterFinished=0)
        verdict = await warmup.to_end()
        assert (verdict.complete, verdict.message) == (True, "3 entries removed from the cache.")
        assert not service.asked
        await warmup.one_pass()
        assert world.kubernetes.deleted == [f"cachewarmups/popular-2 {warmup.uid}"]


async def test_a_deleted_warmup_sends_nothing_more(sql: Any, database_url: str, service: CachedSearch) -> None:
    service.seconds = 0.01
    async with World(database_url, service.address) as world:
        warmup = world.warmup(queries={"inline": [f"q {i}" for i in range(500)]})
        await warmup.until(lambda verdict: verdict.reason == "Warming")
        await stop(world.ctx, warmup.subject)
        sent = sum(service.asked.values())
        await asyncio.sleep(0.2)
        assert sum(service.asked.values()) == sent


async def test_vector_indexes_are_read_into_memory_where_it_is_possible(
    sql: Any, database_url: str, service: CachedSearch
) -> None:
    sql("INSERT INTO products SELECT i, ARRAY[i, 1, 1]::vector FROM generate_series(1, 2000) i")
    sql("CREATE INDEX ON products USING hnsw (embedding vector_cosine_ops); ANALYZE products")
    async with World(database_url, service.address) as world:
        without = world.warmup("u-1", queries={"inline": ["a"]})
        await without.to_end()
        assert without.status.prewarmed is not None
        assert "pg_prewarm is not in this database" in (without.status.prewarmed.skipped or "")
        sql("CREATE EXTENSION pg_prewarm")
        warmup = world.warmup("u-2", queries={"inline": ["a"]})
        await warmup.to_end()
        prewarmed = warmup.status.prewarmed
        assert prewarmed is not None
        assert (prewarmed.relations, prewarmed.skipped) == (2, None)
        assert prewarmed.size_bytes > 100_000


async def test_the_whole_is_never_sent_faster_than_asked(sql: Any, database_url: str, service: CachedSearch) -> None:
    async with World(database_url, service.address) as world:
        warmup = world.warmup(queries={"inline": ["a", "b", "c"]}, requestsPerSecond=10)
        began = asyncio.get_running_loop().time()
        await warmup.to_end()
        took = asyncio.get_running_loop().time() - began
        assert sum(service.asked.values()) / took <= 11


async def test_what_people_searched_stands_in_no_status_message_or_log(
    sql: Any,
    database_url: str,
    service: CachedSearch,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vectorops.kinds.cachewarmup.pace.FIRST_PAUSE", 0.01)
    canary = "hunter2-of-somebody"
    caplog.set_level("DEBUG")
    service.statuses = {canary: 400, f"{canary} too": 503}
    sql(f"INSERT INTO searches (query) VALUES ('{canary}'), ('{canary} too'), ('fine')")
    async with World(database_url, service.address) as world:
        warmup = world.warmup(queries={"fromTable": LOG}, target={"cacheHitRatePercent": 0}, requestsPerSecond=50)
        verdict = await warmup.to_end()
        assert service.asked[canary] > 0
        assert canary not in verdict.message + warmup.status.model_dump_json()
        assert canary not in "".join(r.getMessage() for r in caplog.records if r.name.startswith("vectorops"))
