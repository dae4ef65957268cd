"""Whatever a spec may hold, it leads where its field says and nowhere else: hosts, paths, Secrets, statements.

Every string field of every kind is drawn as the API server takes it, with the nastiest of what it takes, and what is
reached is read where it leaves the process: the name that the resolver is asked for, the path in the request, the
names in the statement. A field that has no place here is named by a test.
"""

from __future__ import annotations

import asyncio
import re
import socket
import zoneinfo
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError
from tests.kinds.vectorindex.given import spec as index_spec
from tests.test_names import FREE, every_string

from vectorops.clients.kubernetes import Kubernetes
from vectorops.clients.predicate import Compared, predicate_sql
from vectorops.clients.searchservice import SearchService
from vectorops.clients.secrets import Purpose, Secrets
from vectorops.clients.service_addresses import Addresses
from vectorops.clients.texttemplate import parse_template, text_sql
from vectorops.errors import OperatorError
from vectorops.kinds.cachewarmup import sending
from vectorops.kinds.cachewarmup.log_sql import Log, drawn_sql, popular_sql
from vectorops.kinds.cachewarmup.resource import RequestSpec
from vectorops.kinds.cachewarmup.source import CONFIG_MAPS
from vectorops.kinds.vectorindex.sql import create_index_sql

NASTY = (
    "127.0.0.1:18998/steal?x=", "evil.example", "x@evil.example", "a#b", "a?b", ".", "..", "../../secrets/x",
    "%2e%2e", "a%2fb", "//evil.example/x", "/..", "/a/../../b", "/a?x=1", "/a#x", "/%2e%2e/", "a\nb",
    "a\r\nHost: evil", "a\0b", 'a"b', '"; DROP TABLE t; --', "a'b", "' OR '1'='1", "\\' OR 1=1 --", "$1", "$$", "{a}",
    "{", "}}", "é" * 31, "\u202eevil", "a b", "a.b", "a:b", "-", "_", "*", "pg_catalog", "PUBLIC", "a" * 63, "a" * 253,
    "/etc/passwd", "0 22 * * *", "${HOME}", "a&b=c", "a=b", "a\x7f", "\uff41", "",
)  # fmt: skip
"""What has led somewhere else in some program; each is drawn where the API server takes it for the field."""

FIELDS = {path: field for path, field in every_string().items() if "enum" not in field}
QUICK = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def takes(field: dict[str, Any], text: str) -> bool:
    """Whether the API server takes the text; its `$` is the very end, unlike Python's."""
    long_enough = field.get("minLength", 0) <= len(text) <= field["maxLength"]
    return (
        long_enough
        and re.search(field["pattern"].replace("$", r"\Z") if "$" in field["pattern"] else "", text) is not None
    )


def values(path: str) -> st.SearchStrategy[str]:
    field = FIELDS[path]
    nasty = [text for text in NASTY if takes(field, text)]
    drawn = st.from_regex(re.compile(field["pattern"])).filter(lambda text: takes(field, text))
    return st.one_of(st.sampled_from(nasty), drawn) if nasty else drawn


# -- a Service is asked for by its name in the cluster's DNS ---------------------------------------------------------


async def hosts_asked(names: list[str]) -> list[str]:
    """What the resolver is asked for when each of the Services is called."""
    asked: list[str] = []

    async def getaddrinfo(host: Any, port: Any, **_: Any) -> Any:
        asked.append(host.decode() if isinstance(host, bytes) else host)
        raise socket.gaierror(socket.EAI_NONAME, "nobody")

    asyncio.get_running_loop().getaddrinfo = getaddrinfo  # type: ignore[method-assign]
    for name in names:
        service = SearchService("shop", name, 80, token=SecretStr("t"))
        with pytest.raises(OperatorError):
            await service.call("GET", "/api")
        await service.close()
    return asked


@QUICK
@given(st.lists(values("VectorStore.spec.service.serviceRef.name"), min_size=1, max_size=8))
def test_a_service_is_looked_up_in_its_namespace(names: list[str]) -> None:
    assert asyncio.run(hosts_asked(names)) == [f"{name}.shop.svc" for name in names]


# -- what HTTP requests ask for --------------------------------------------------------------------------------------


class Recorder:
    """A server that notes request lines."""

    def __init__(self, answer: bytes) -> None:
        self.lines: list[str] = []
        self._answer = answer

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.lines.append(head.split(b"\r\n", 1)[0].decode())
        writer.write(self._answer)
        await writer.drain()
        writer.close()


def recorded(answer: bytes, ask: Callable[[str], Coroutine[Any, Any, None]]) -> list[str]:
    """The request lines of what `ask` does with the server's address."""

    async def run() -> list[str]:
        recorder = Recorder(answer)
        server = await asyncio.start_server(recorder.take, "127.0.0.1", 0)
        async with server:
            await ask(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        return recorder.lines

    return asyncio.run(run())


@QUICK
@given(
    st.lists(
        st.tuples(
            values("CacheWarmup.spec.request.path"),
            values("CacheWarmup.spec.request.queryField"),
            values("CacheWarmup.spec.queries.inline[]"),
        ),
        min_size=1, max_size=6,
    )
)  # fmt: skip
def test_a_warm_up_asks_for_its_path_with_its_field(drawn: list[tuple[str, str, str]]) -> None:
    async def ask(address: str) -> None:
        service = SearchService("shop", "api", 80, addresses=Addresses(f'{{"shop/api:80": ["{address}"]}}'))
        for path, field, query in drawn:
            request = RequestSpec(method="GET", path=path, queryField=field)  # type: ignore[arg-type, call-arg]
            await sending._send(SimpleNamespace(request=request, service=service), query)  # type: ignore[arg-type]
        await service.close()

    lines = recorded(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}", ask)
    reached = []
    for line in lines:
        method, target, _ = line.split(" ")
        assert method == "GET" and target.startswith("/") and "#" not in target
        parts = urlsplit(f"http://h{target}")
        reached.append((parts.path, dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True))))
    assert reached == [(path, {field: query, "limit": "10"}) if field != "limit" else (path, {"limit": "10"})
                       for path, field, query in drawn]  # fmt: skip


OBJECTS = {path: "vectorstores" for path in FIELDS if path.endswith("storeRef.name")} | {
    "SearchTuning.spec.indexRef.name": "vectorindexes",
}
NOT_FOUND = (
    b"HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"
)


def asked_of_the_api_server(tmp_path: Any, ask: Callable[[Kubernetes], Coroutine[Any, Any, None]]) -> list[str]:
    """The paths that the client asks the API server for."""

    async def with_client(address: str) -> None:
        config = tmp_path / "kubeconfig"
        config.write_text(
            f"apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: c, cluster: {{server: 'http://{address}'}}}}]\n"
            "users: [{name: u, user: {token: t}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n"
        )
        client = Kubernetes(str(config))
        await ask(client)
        await client.close()

    return [line.split(" ")[1] for line in recorded(NOT_FOUND, with_client)]


@pytest.mark.parametrize("path", OBJECTS)
@QUICK
@given(data=st.data())
def test_one_object_is_asked_for_by_its_name(path: str, data: st.DataObject, tmp_path: Any) -> None:
    names = data.draw(st.lists(values(path), min_size=1, max_size=8))

    async def ask(client: Kubernetes) -> None:
        for name in names:
            assert await client.get(OBJECTS[path], "shop", name) is None

    prefix = f"/apis/vectorops.dev/v1alpha1/namespaces/shop/{OBJECTS[path]}"
    assert asked_of_the_api_server(tmp_path, ask) == [f"{prefix}/{name}" for name in names]


SECRET_NAMES = [path for path in FIELDS if path.endswith("SecretRef.name")]
SECRET_KEYS = [path for path in FIELDS if path.endswith("SecretRef.key")]


@QUICK
@given(data=st.data())
def test_one_secret_is_asked_for_by_its_name(data: st.DataObject, tmp_path: Any) -> None:
    names = [data.draw(values(path)) for path in SECRET_NAMES]
    keys = [data.draw(values(path)) for path in SECRET_KEYS]

    async def ask(client: Kubernetes) -> None:
        for name, key in zip(names, keys, strict=True):
            with pytest.raises(OperatorError, match="SecretNotFound"):
                await Secrets(client).value("shop", name, key, Purpose.SERVICE)

    assert asked_of_the_api_server(tmp_path, ask) == [f"/api/v1/namespaces/shop/secrets/{name}" for name in names]


@QUICK
@given(names=st.lists(values("CacheWarmup.spec.queries.configMapRef.name"), min_size=1, max_size=8))
def test_one_config_map_is_asked_for_by_its_name(names: list[str], tmp_path: Any) -> None:
    async def ask(client: Kubernetes) -> None:
        for name in names:
            assert await client.read(CONFIG_MAPS, "shop", name) is None

    assert asked_of_the_api_server(tmp_path, ask) == [f"/api/v1/namespaces/shop/configmaps/{name}" for name in names]


# -- what statements name --------------------------------------------------------------------------------------------

TOKEN = re.compile(
    r"""(?P<name>"(?:[^"]|"")*")|(?P<escaped>E'(?:\\.|''|[^'\\])*')|(?P<text>'(?:''|[^'])*')""", re.DOTALL
)


def read(sql: str) -> tuple[str, list[str]]:
    """A statement as the server's lexer sees it: what is left without names and texts, and what these mean."""
    meant: list[str] = []

    def take(found: re.Match[str]) -> str:
        inner = found[0].removeprefix("E")[1:-1]
        if found["name"] is not None:
            meant.append(inner.replace('""', '"'))
            return "<name>"
        plain = re.sub(r"\\(.)", r"\1", inner, flags=re.DOTALL) if found["escaped"] is not None else inner
        meant.append(plain.replace("''", "'"))
        return "<text>"

    return TOKEN.sub(take, sql), meant


def means_only(build: Callable[[str], str], value: str, plain: str = "plain") -> None:
    """The statement for `value` is that for `plain`, but for the one name or text: no other word came of it."""
    try:
        sql = build(value)
    except (OperatorError, ValidationError):
        return  # refused: too many bytes, a template that is none
    shape, meant = read(sql)
    known_shape, known = read(build(plain))
    assert shape == known_shape
    assert meant == [value if word == plain else word for word in known]


def log_sql(**names: str) -> str:
    log = Log(**({"schema": "s", "table": "t", "query": "q", "count": "n", "time": "at"} | names))
    return popular_sql(log) + drawn_sql(log)


def index_sql(**fields: Any) -> str:
    spec = index_spec(**fields)
    return create_index_sql(spec.index_name or "i", spec, "public", 3, "vector", 1)


STATEMENTS: dict[str, Callable[[str], str]] = {
    "CacheWarmup.spec.queries.fromTable.schema": lambda name: log_sql(schema=name),
    "CacheWarmup.spec.queries.fromTable.table": lambda name: log_sql(table=name),
    "CacheWarmup.spec.queries.fromTable.queryColumn": lambda name: log_sql(query=name),
    "CacheWarmup.spec.queries.fromTable.countColumn": lambda name: log_sql(count=name),
    "CacheWarmup.spec.queries.fromTable.timeColumn": lambda name: log_sql(time=name),
    "VectorIndex.spec.schema": lambda name: index_sql(schema=name, indexName="i"),
    "VectorIndex.spec.table": lambda name: index_sql(table=name, indexName="i"),
    "VectorIndex.spec.column": lambda name: index_sql(column=name, indexName="i"),
    "VectorIndex.spec.indexName": lambda name: index_sql(indexName=name),
    "VectorIndex.spec.where[].column": lambda name: predicate_sql([Compared(name, "Equal", ("v",))]),
    "VectorIndex.spec.where[].value": lambda text: predicate_sql([Compared("c", "Equal", (text,))]),
    "VectorIndex.spec.where[].values[]": lambda text: predicate_sql([Compared("c", "In", (text, "v"))]),
    "EmbeddingBackfill.spec.where[].column": lambda name: predicate_sql([Compared(name, "Less", ("v",))], "t"),
    "EmbeddingBackfill.spec.where[].value": lambda text: predicate_sql([Compared("c", "Less", (text,))], "t"),
    "EmbeddingBackfill.spec.where[].values[]": lambda text: predicate_sql([Compared("c", "In", (text,))], "t"),
    "VectorStore.spec.tables[].documentPrefix": lambda text: text_sql(parse_template("{a}", f"p{text}"), "t").text,
}  # fmt: skip


@pytest.mark.parametrize("path", STATEMENTS)
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_statement_names_what_the_field_says_and_no_word_more(path: str, data: st.DataObject) -> None:
    value = data.draw(values(path))
    if path.endswith("documentPrefix"):
        build = STATEMENTS[path]
        assert read(build(value))[0] == read(build("plain"))[0]
        return
    means_only(STATEMENTS[path], value)


@settings(max_examples=50, deadline=None)
@given(values("EmbeddingBackfill.spec.window.timeZone"))
def test_a_time_zone_is_looked_for_nowhere_but_among_zones(zone: str) -> None:
    assert not zone.startswith("/") and ".." not in zone and "." not in zone
    try:
        found = zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return
    assert found.key == zone


# -- every field has its place ---------------------------------------------------------------------------------------

QUOTED = {
    # by the one quoting function, which is compared with the server's own; these statements need a table to be made
    "SearchTuning.spec.queries.fromTable.schema", "SearchTuning.spec.queries.fromTable.table",
    "SearchTuning.spec.queries.fromTable.queryColumn", "SearchTuning.spec.queries.fromTable.embeddingColumn",
    "SearchTuning.spec.role", "VectorStore.spec.search.role", "VectorStore.spec.tables[].schema",
    "VectorStore.spec.tables[].table", "VectorStore.spec.tables[].keyColumns[]",
    "VectorStore.spec.tables[].embeddingColumn", "VectorStore.spec.tables[].updatedAtColumn",
}  # fmt: skip
COMPARED = {
    # with names of the same spec, of a watched store, or with what is in hand; never sent anywhere
    "CacheWarmup.spec.queries.fromTable.tableName", "EmbeddingBackfill.spec.tableName",
    "VectorStore.spec.tables[].name",
    "VectorStore.spec.watchedTables[].schema", "VectorStore.spec.watchedTables[].table",
    "EmbeddingBackfill.spec.approvedPlan", "VectorIndex.spec.approvedPlan",
    "VectorStore.spec.service.deploymentRef.name", "VectorStore.spec.service.deploymentRef.container",
    "CacheWarmup.spec.queries.configMapRef.key",
}  # fmt: skip
COUNTED = {
    # read as a number, or as times of a clock
    "EmbeddingBackfill.spec.budget.maxCostUSD", "VectorStore.spec.embeddings.priceUSDPerMillionTokens",
    "VectorIndex.spec.build.maintenanceMemory", "VectorIndex.spec.probe.maxBytes",
    "EmbeddingBackfill.spec.window.schedule",
}  # fmt: skip
IN_JSON = {"VectorStore.spec.embeddings.model", "VectorStore.spec.embeddings.queryModel"}
ASKED = {
    "VectorStore.spec.service.serviceRef.name", "CacheWarmup.spec.request.path", "CacheWarmup.spec.request.queryField",
    "CacheWarmup.spec.queries.configMapRef.name", "EmbeddingBackfill.spec.window.timeZone", *OBJECTS, *SECRET_NAMES,
    *SECRET_KEYS,
}  # fmt: skip


def test_no_string_field_is_without_its_place() -> None:
    placed = ASKED | STATEMENTS.keys() | QUOTED | COMPARED | COUNTED | IN_JSON | FREE.keys()
    assert set(FIELDS) == placed


def test_something_nasty_is_taken_for_each_kind_of_text() -> None:
    """The property has teeth only where what is drawn bites."""
    assert {'"; DROP TABLE t; --', "' OR '1'='1"} <= {n for n in NASTY if takes(FIELDS["VectorIndex.spec.table"], n)}
    assert not [n for n in NASTY if takes(FIELDS["VectorStore.spec.service.serviceRef.name"], n) and not n.isalnum()]
