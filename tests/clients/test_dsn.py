"""Connection URLs out of Secrets: what is wrong is said without a character of the URL, nothing is read from files."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from vectorops.clients.dsn import Target, Tls, TlsMode, connect_arguments
from vectorops.clients.postgres import Databases
from vectorops.errors import OperatorError, Reason, Stalled

CANARY = "hunter2"

BAD = [
    "",
    CANARY,
    f"mysql://u:{CANARY}@h/d",
    f"postgresql://u:{CANARY}@h",
    f"postgresql://u:{CANARY}@/d",
    f"postgresql://{CANARY}/d",
    f"postgresql://u:{CANARY}@h:{CANARY}/d",
    f"postgresql://u:{CANARY}@h:99999999/d?sslmode={CANARY}",
    f"postgresql://u:{CANARY}@h/d?sslrootcert=/etc/passwd",
    f"postgresql://u:{CANARY}@h/d?service={CANARY}",
    f"postgresql://u:{CANARY}@h/d?options=-csearch_path%3Dpublic",
    f"postgresql://u:{CANARY}@h/d?{CANARY}",
    f"postgresql://u:{CANARY}@[::1/d",
    f"postgresql://u:{CANARY}@{'h' * 64}/d",
    f"postgresql://u:{CANARY}@h/d%00options%00-csearch_path%3Dpublic",
    f"postgresql://u%00options%00:{CANARY}@h/d",
    f"postgresql://u:{CANARY}@h/d?sslmode=verify-full&passfile=x",
    *(f"postgresql://u:{CANARY}@h:{port}/d" for port in ("99999", "65536", "-1", "0", "+1", "1_0", "\u0661")),
    f"postgresql://u:{CANARY}@/d?host=h&port=70000",
    f"postgresql://u:{CANARY}@/d?host=a%00b",
    f"postgresql://u:{CANARY}@h/d?application_name=a%00b",
    f"postgresql://u:{CANARY}@h:1/" + "d" * 5_000,
    f"postgresql://u:{CANARY}@{','.join('abcdefghi')}/d",
]


@pytest.mark.parametrize("url", BAD)
def test_a_bad_url_is_refused_without_echoing_it(url: str) -> None:
    with pytest.raises(Stalled) as caught:
        connect_arguments(Target(SecretStr(url)))
    assert caught.value.reason == Reason.SecretInvalid
    shown = f"{caught.value!r} {caught.value} {caught.value.__cause__!r}"
    assert CANARY not in shown
    assert "/etc/passwd" not in shown


HOSTS = st.sampled_from(["127.0.0.1", "[::1]", "127.0.0.1,[::1]", "a%00b", "", "127.0.0.1:", "[", "]", "%"])
PORTS = st.sampled_from(["", ":1", ":99999", ":-1", ":0", ":x", ":\u0661", ":1:1", ",", ":1,:2"])
WORDS = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(["%00", "%ff", "%", "a@b", "/", "?", "#"])
OPTIONS = st.dictionaries(
    st.sampled_from(["host", "port", "sslmode", "application_name", "connect_timeout", "options", "x"]),
    WORDS,
    max_size=3,
)


@st.composite
def urls(draw: st.DrawFn) -> str:
    credentials = draw(st.sampled_from(["u:p@", "u@", "", "@"])) or f"{draw(WORDS)}:{draw(WORDS)}@"
    options = "&".join(f"{name}={value}" for name, value in draw(OPTIONS).items())
    where = draw(HOSTS) + draw(PORTS)
    return f"postgresql://{credentials}{where}/{draw(WORDS)}" + (f"?{options}" if options else "")


@given(st.text(st.characters(codec="utf-8"), max_size=60) | urls())
def test_whatever_the_url_is_what_comes_out_are_arguments_or_our_error(url: str) -> None:
    target = Target(SecretStr(url))
    assert target.place
    try:
        arguments = connect_arguments(target)
    except Stalled as error:
        assert error.reason == Reason.SecretInvalid
        return
    assert all(0 < port < 65_536 for port in arguments["port"])
    assert "\0" not in "".join([*arguments["host"], arguments["user"], arguments["password"], arguments["database"]])


@given(urls())
@settings(max_examples=150, deadline=None)
def test_whatever_the_url_is_to_connect_ends_with_our_error(url: str) -> None:
    target = Target(SecretStr(url), Tls(mode=TlsMode.DISABLE))
    try:
        hosts = connect_arguments(target)["host"]
    except Stalled:
        return
    assume(set(hosts) <= {"127.0.0.1", "::1"})  # nothing is looked up, and nobody listens there

    async def connect() -> None:
        database = Databases().open(target)
        with pytest.raises(OperatorError) as caught:
            await database.fetchval("SELECT 1")
        assert caught.value.reason == Reason.DatabaseUnavailable

    asyncio.run(connect())


def test_a_url_gives_hosts_user_password_and_database() -> None:
    url = "postgres://us%40er:p%2Fw@one:6000,[::1],two/my%20db?sslmode=disable&connect_timeout=3"
    assert connect_arguments(Target(SecretStr(url))) == {
        "host": ["one", "::1", "two"],
        "port": [6000, 5432, 5432],
        "user": "us@er",
        "password": "p/w",
        "database": "my db",
        "ssl": False,
    }


def test_a_url_without_password_does_not_look_for_one_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", CANARY)
    assert connect_arguments(Target(SecretStr("postgresql://u@h/d")))["password"] == ""


def test_tls_of_the_spec_wins_over_the_url() -> None:
    url = SecretStr("postgresql://u:p@h/d?sslmode=disable")
    assert connect_arguments(Target(url, Tls(mode=TlsMode.PREFER)))["ssl"] == "prefer"
    assert connect_arguments(Target(url))["ssl"] is False


@pytest.mark.parametrize("tls", [Tls(TlsMode.VERIFY_CA, ca_pem="no"), Tls(TlsMode.REQUIRE, cert_pem=CANARY)])
def test_what_is_no_certificate_is_refused_without_echoing_it(tls: Tls) -> None:
    with pytest.raises(Stalled) as caught:
        connect_arguments(Target(SecretStr("postgresql://u:p@h/d"), tls))
    assert caught.value.reason == Reason.SecretInvalid
    assert CANARY not in str(caught.value)


def test_a_key_is_stable_differs_with_every_part_and_tells_nothing() -> None:
    url = SecretStr(f"postgresql://u:{CANARY}@h/d")
    targets = [
        Target(url),
        Target(SecretStr("postgresql://u:other@h/d")),
        Target(url, Tls(TlsMode.REQUIRE)),
        Target(url, Tls(TlsMode.REQUIRE, cert_pem="c", key_pem=SecretStr("k"))),
        Target(url, max_connections=5),
    ]
    assert len({target.key for target in targets}) == len(targets)
    assert Target(url).key == Target(url).key
    assert CANARY not in f"{Target(url).key} {Target(url)!r}"


@pytest.mark.parametrize("ca", ["no certificate", "kein Zertifikät", "-----BEGIN CERTIFICATE-----\nAA\n"])
def test_a_ca_that_is_none_is_an_invalid_secret(ca: str) -> None:
    url = SecretStr("postgresql://u:p@h/d")
    with pytest.raises(Stalled, match=r"spec\.database\.tls\.caSecretRef is no PEM") as caught:
        connect_arguments(Target(url, Tls(TlsMode.VERIFY_FULL, ca_pem=ca)))
    assert caught.value.reason == Reason.SecretInvalid


def test_a_place_is_known_in_another_process_and_a_key_is_not() -> None:
    """An approval that is kept speaks of the place; a restart must not make another one of it."""
    told = "from pydantic import SecretStr; from vectorops.clients.dsn import Target, Tls; "
    told += "t = Target(SecretStr('postgresql://me:pw@host/shop'), Tls()); print(t.place, t.key)"
    seen = [subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True) for _ in range(2)]
    (place, key), (same, other) = (one.stdout.split() for one in seen)
    assert place == same and key != other
