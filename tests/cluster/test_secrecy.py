"""No secret and no row's text is ever shown: not in status, events, logs, metrics or our own tables.

Every secret and every text carries a word that stands nowhere else. Each way to fail that has such a word in its
neighbour's message is walked, with the operator's log at DEBUG, and then everything that can be read is searched.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from tests.cluster.stage import Parrot, Stage, rows_table, staged

from stand.scene import NotSeen
from stand.shop import clone_shop
from vectorops.clients.bookkeeping import TABLES

if TYPE_CHECKING:
    from stand.cluster import Cluster
    from stand.postgres import Postgres
    from stand.shop import Shop

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

PASSWORD, WRONG, DSN = "Quagga1:pass/word", "Okapi2@wrong", "Numbat3"
KEY, BASE_URL, PEM = "sk-Axolotl4", "Tapir5", "Dugong6"
TITLE, BODY, ROW_KEY = "Kakapo7 title", "poison Echidna8 text", "Wombat9"
CANARIES = ("Quagga1", "Okapi2", "Numbat3", "Axolotl4", "Tapir5", "Dugong6", "Kakapo7", "Echidna8", "Wombat9")
"""The word of each of them, in the same order."""

BAD_URLS = {
    "no-url": DSN,
    "port": f"postgresql://u:{DSN}@127.0.0.1:{DSN}/db",
    "bracket": f"postgresql://u:{DSN}@[::1/db",
    "option": f"postgresql://u:{DSN}@127.0.0.1/db?sslrootcert={DSN}",
    "sslmode": f"postgresql://u:{DSN}@127.0.0.1/db?sslmode={DSN}",
    "nul": f"postgresql://u:{DSN}%00@127.0.0.1/{DSN}%00",
    "long-host": f"postgresql://u:{DSN}@{DSN * 40}/db",
}
UNREACHED = {
    "control": f"postgresql://u:{DSN}\x01@127.0.0.1/d\tb",
    "half": f"postgresql://u:{DSN}%ff@127.0.0.1:1/{DSN}%ff",
    "spaced": f"postgresql://u:{DSN} @127.0.0.1 :1/{DSN}",
    "host": f"postgresql://{DSN}:{DSN}@{DSN}.invalid/{DSN}",
    "refused": f"postgresql://{DSN}:{DSN}@127.0.0.1:9/{DSN}",
}
BAD_BASE_URLS = {
    "scheme": f"ftp://{BASE_URL}",
    "query": f"http://127.0.0.1:9/v1?key={BASE_URL}",
    "port-out": f"http://127.0.0.1:99999999/{BASE_URL}",
    "bare-word": BASE_URL,
}
BAD_KEYS = {"not-ascii": f"{KEY}é", "newline": f"{KEY}\nX-Header: {KEY}", "control": f"{KEY}\x01"}

TRIGGERS = {
    "raises": "RAISE EXCEPTION 'no: %', NEW.title USING DETAIL = NEW.body, HINT = NEW.id",
    "duplicate": "NEW.twin := NEW.title",
    "check": "NEW.twin := NULL",
    "cast": "PERFORM NEW.title::int",
}
TABLE = """CREATE TABLE "{0}" (id text PRIMARY KEY, title text, body text, twin text, embedding vector(384));
INSERT INTO "{0}" VALUES ('{1} 1', '{2}', '{3}', 'a'), ('{1} 2', '{2}', '{3}!', 'b'), ('{1} 3', '{2}', 'good', 'c');"""


@dataclass
class Told:
    """The stage after every way was walked, and where the secrets and texts stand."""

    stage: Stage
    shop: Shop
    parrot: Parrot


@pytest.fixture(scope="module")
def told(
    cluster: Cluster, postgres: Postgres, _shop_template: Shop, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Told]:
    """All ways to fail at once."""
    shop = asyncio.run(clone_shop(postgres, _shop_template, "secrecy"))
    directory: Path = tmp_path_factory.mktemp("secrecy")
    env = {"VECTOROPS_LOG_LEVEL": "DEBUG"}
    with Parrot() as parrot, staged(cluster, directory, postgres, **env) as stage:
        told = Told(stage, shop, parrot)
        postgres.sql(f"CREATE ROLE secretive LOGIN SUPERUSER PASSWORD '{PASSWORD}'")
        for way in (bad_secrets, bad_providers, bad_databases):
            way(told)
        stage.play()
        yield told


def sound_url(told: Told, name: str, password: str = PASSWORD) -> str:
    """A URL of its own for each store: those that share one share its few connections."""
    url = told.stage.postgres.dsn(told.shop.database, "secretive", password)
    return f"{url}?application_name={name}"


def bad_secrets(told: Told) -> None:
    """What stands in a Secret is wrong."""
    stage = told.stage
    for name, url in {**BAD_URLS, **UNREACHED, "wrong": sound_url(told, "wrong", WRONG)}.items():
        stage.add_store(f"dsn-{name}", url)
    pem = {"name": "pem", "key": "certificate"}  # a key that tells of no neighbour: labelled for any
    stage.add_secret("pem", certificate=f"-----BEGIN CERTIFICATE-----\n{PEM}\n-----END CERTIFICATE-----")
    for name, tls in {
        "ca": {"mode": "VerifyFull", "caSecretRef": pem},
        "pair": {"mode": "Require", "clientCertSecretRef": pem, "clientKeySecretRef": pem},
    }.items():
        database = {"connectionSecretRef": {"name": f"tls-{name}-db", "key": "url"}, "tls": tls}
        stage.add_store(f"tls-{name}", sound_url(told, name), database=database)
    believed = {"model": "e5-passage", "dimensions": 384, "baseURLSecretRef": {"name": "believed", "key": "baseURL"}}
    stage.add_secret("believed", baseURL="https://127.0.0.1:1/v1")
    backfill(told, "url-of-ca", told.parrot.url("good"), KEY, embeddings={**believed, "caSecretRef": pem})
    for name, value in BAD_BASE_URLS.items():
        backfill(told, f"url-{name}", value, KEY)
    for name, value in BAD_KEYS.items():
        backfill(told, f"key-{name}", told.parrot.url("good"), value)


def bad_providers(told: Told) -> None:
    """The provider repeats what it was sent."""
    for mode in ("401", "400", "403", "404", "402", "422", "429", "500", "307", "html", "json", "nan", "poison"):
        backfill(told, f"parrot-{mode}", told.parrot.url(mode), KEY)
    userinfo = told.parrot.url("401", f"{BASE_URL}:{BASE_URL}@")
    backfill(told, "parrot-userinfo", userinfo, None)
    backfill(told, "url-and-key", userinfo, KEY)


def bad_databases(told: Told) -> None:
    """The database's messages hold rows."""
    told.stage.postgres.sql("CREATE EXTENSION IF NOT EXISTS plpgsql", told.shop.database)
    for name, statement in TRIGGERS.items():
        told.stage.postgres.sql(
            f"CREATE FUNCTION {name}_row() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN {statement}; RETURN NEW; END $$",
            told.shop.database,
        )
        for table in (f"row-{name}", f"table-{name}"):  # a few rows are to blame themselves, many are not
            backfill(told, table, told.parrot.url("good"), KEY)
            told.stage.postgres.sql(
                f'CREATE TRIGGER spoil BEFORE UPDATE ON "{table}" FOR EACH ROW EXECUTE FUNCTION {name}_row(); '
                f'CREATE UNIQUE INDEX ON "{table}" (twin); ALTER TABLE "{table}" ADD CHECK (twin IS NOT NULL)',
                told.shop.database,
            )
        told.stage.postgres.sql(
            f"""INSERT INTO "table-{name}"
                SELECT '{ROW_KEY} ' || n, '{TITLE}', '{BODY} ' || n, n FROM generate_series(4, 40) n""",
            told.shop.database,
        )
    told.stage.postgres.sql(
        "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF current_query() LIKE '%CONCURRENTLY%' THEN "  # those of our own tables are made
        f"RAISE EXCEPTION 'no: {TITLE}' USING DETAIL = '{BODY}'; END IF; END $$; "
        "CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION refuse()",
        told.shop.database,
    )
    told.stage.add_index("refused", "row-raises", "row-raises")


def backfill(told: Told, name: str, base_url: str, key: str | None, **spec: Any) -> str:
    """A table of its own with a store (with that in its spec) and a backfill; the table's name."""
    told.stage.postgres.sql(TABLE.format(name, ROW_KEY, TITLE, BODY), told.shop.database)
    tables = rows_table(name, textTemplate="{title} {body}")
    told.stage.add_store(name, sound_url(told, name), (base_url, key), tables=tables, **spec)
    told.stage.add_backfill(name, name)
    return name


EXPECTED = (
    {f"vst/dsn-{name}": "SecretInvalid" for name in BAD_URLS}
    | {f"vst/dsn-{name}": "DatabaseUnavailable" for name in UNREACHED}
    | {"vst/dsn-wrong": "AuthenticationFailed", "vst/tls-ca": "SecretInvalid", "vst/tls-pair": "SecretInvalid"}
    | {f"vfill/url-{name}": "SecretInvalid" for name in BAD_BASE_URLS}
    | {f"vfill/key-{name}": "SecretInvalid" for name in BAD_KEYS}
    | {"vfill/url-and-key": "SecretInvalid", "vfill/url-of-ca": "SecretInvalid"}
    | {f"vfill/parrot-{way}": "ProviderAuthenticationFailed" for way in (401, 403, "userinfo")}
    | {f"vfill/parrot-{status}": "ProviderRejected" for status in (307, 400, 404, 422)}
    | {"vfill/parrot-402": "QuotaExhausted", "vfill/parrot-429": "RateLimited"}
    | {"vfill/parrot-500": "ProviderUnavailable", "vfill/parrot-html": "InvalidAnswer"}
    | {"vfill/parrot-json": "InvalidAnswer", "vfill/parrot-nan": "CompletedWithFailures"}
    | {"vfill/parrot-poison": "CompletedWithFailures", "vidx/refused": "BuildFailed"}
    | {f"vfill/row-{name}": "CompletedWithFailures" for name in TRIGGERS}
    | {f"vfill/table-{name}": "DatabaseError" for name in TRIGGERS}
    | {"vfill/table-duplicate": "CompletedWithFailures"}  # it takes one of them
)


def everything_shown(told: Told) -> dict[str, str]:
    """All that a person or a machine can read of the operator without reading Secrets and tables."""
    stage = told.stage
    rows = "; ".join(f"TABLE vectorops.{name}" for name in TABLES)
    return {
        "objects": stage.kubectl("get", "vst,vidx,vfill", "-oyaml", "--show-managed-fields"),
        "events": stage.kubectl("get", "events.events.k8s.io", "-oyaml"),
        "log": stage.logs(),
        "metrics": stage.operators[0].get("/metrics")[1],
        "own tables": stage.postgres.sql(rows, told.shop.database).replace(ROW_KEY, "the row's key"),
    }


def leaks(texts: dict[str, str]) -> list[str]:
    """Which canary stands where: as it is, in any case, quoted for a URL, in base64 or in hex."""
    found = []
    for where, text in texts.items():
        lowered = text.lower()
        for word in CANARIES:
            hidden = [base64.b64encode(b"." * shift + word.encode()).decode()[4:-4] for shift in (1, 2, 3)]
            if word.lower() in lowered or word.encode().hex() in lowered or any(one in text for one in hidden):
                at = lowered.find(word.lower())
                found.append(f"{word} in {where}: ...{text[max(0, at - 200) : at + 100]}...")
    return found


@pytest.fixture(scope="module")
def reasons(told: Told) -> dict[str, str]:
    """What every object says in the end, or after two minutes."""
    seen: dict[str, str] = {}

    def all_walked() -> bool:
        for (resource, type_), (_, reason) in told.stage.conditions().items():
            if type_ == "Ready" and seen.get(resource) != EXPECTED.get(resource):
                seen[resource] = reason  # one that was seen stays: some are tried again
        return EXPECTED.items() <= seen.items()

    with suppress(NotSeen):
        told.stage.wait("every way to fail", all_walked, timeout=120)
    return {resource: seen.get(resource, "nothing") for resource in EXPECTED}


def test_every_way_to_fail_was_walked(reasons: dict[str, str]) -> None:
    assert not {resource: found for resource, found in reasons.items() if found != EXPECTED[resource]}


def test_the_secrets_and_texts_were_there_to_be_told(told: Told) -> None:
    secrets = json.loads(told.stage.kubectl("get", "secrets", "-ojson"))["items"]
    values = " ".join(base64.b64decode(v).decode() for one in secrets for v in one.get("data", {}).values())
    assert all(word in values for word in ("Quagga1", "Okapi2", "Numbat3", "Axolotl4", "Tapir5", "Dugong6"))
    table = told.stage.postgres.sql('TABLE "parrot-401"', told.shop.database)
    assert all(word in table for word in ("Kakapo7", "Echidna8", "Wombat9"))
    heard = " ".join(told.parrot.heard)
    assert all(word in heard for word in (KEY, "Kakapo7", "Echidna8")), "and the provider had them to repeat"


@pytest.mark.parametrize("disguise", ["plain", "upper", "url", "base64", "hex"])
def test_a_planted_word_is_found(disguise: str) -> None:
    for word, value in zip(CANARIES, (PASSWORD, WRONG, DSN, KEY, BASE_URL, PEM, TITLE, BODY, ROW_KEY), strict=True):
        planted = {
            "plain": value,
            "upper": value.upper(),
            "url": quote(value, safe=""),
            "base64": base64.b64encode(f"postgresql://user:{value}@host".encode()).decode(),
            "hex": value.encode().hex(),
        }[disguise]
        assert leaks({"a log": f"a line\nwith {planted} in it\n"}), word
    assert not leaks({"a log": "a line without"})


def test_no_secret_and_no_text_is_shown_anywhere(told: Told, reasons: dict[str, str]) -> None:
    assert len(reasons) == len(EXPECTED)
    texts = everything_shown(told)
    assert all(texts.values()), "each of them has something in it"
    assert not leaks(texts)


def test_none_of_it_was_unforeseen(told: Told, reasons: dict[str, str]) -> None:
    assert "InternalError" not in reasons.values()
    log = told.stage.logs()
    assert "DEBUG" in log.upper()
    for word in ("unforeseen", "Traceback", "never retrieved"):
        assert word not in log, "\n".join(line for line in log.splitlines() if word in line)
