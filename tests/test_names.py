"""What a name may look like: the same in the CRD, in code and where it is used, and no field without a form."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from vectorops import names
from vectorops.clients.kubernetes_errors import Request, Resource
from vectorops.clients.service_addresses import Addresses
from vectorops.errors import Reason, Stalled
from vectorops.kinds import KINDS
from vectorops.runtime.schema import Schema, structural
from vectorops.runtime.store_spec import VectorStoreSpec

FREE = {
    "VectorStore.spec.tables[].textTemplate": "a person's sentence around columns; parsed, its parts are literals",
    "VectorStore.spec.tables[].documentPrefix": "words before a text; a literal",
    "VectorStore.spec.embeddings.queryPrefix": "words before a query; part of a JSON string",
    "CacheWarmup.spec.queries.inline[]": "what people search for; part of a JSON string, or encoded into a parameter",
    "EmbeddingBackfill.spec.ids[]": "values of a key; a parameter of the statement",
    "EmbeddingBackfill.spec.where[].value": "a value; a literal that the server reads",
    "EmbeddingBackfill.spec.where[].values[]": "values; literals that the server reads",
    "VectorIndex.spec.where[].value": "a value; a literal that the server reads",
    "VectorIndex.spec.where[].values[]": "values; literals that the server reads",
    "CacheWarmup.spec.runToken": "compared with the last one, nothing else",
    "EmbeddingBackfill.spec.runToken": "compared with the last one, and hashed",
    "SearchTuning.spec.runToken": "compared with the last one, nothing else",
    "VectorIndex.spec.runToken": "compared with the last one, nothing else",
}
"""Strings that are no name of anything: why whatever stands there leads nowhere else."""

ANYTHING = (names.TEXT, names.WORD)


def strings(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """Every string of a schema with its path."""
    if schema.get("type") == "string":
        yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from strings(field, f"{path}.{name}")
    if "items" in schema:
        yield from strings(schema["items"], f"{path}[]")


def every_string() -> dict[str, Schema]:
    """The string fields of the specs of all kinds."""
    found: dict[str, Schema] = {}
    for kind in KINDS:
        path = f"{kind.names.kind}.spec"
        found |= dict(strings(structural(kind.spec, path), path))
    return found


def test_every_string_of_a_spec_has_a_form_or_a_reason_for_having_none() -> None:
    without = {
        path for path, field in every_string().items()
        if "enum" not in field and field.get("pattern", names.TEXT) in ANYTHING
    }  # fmt: skip
    assert without == FREE.keys()


def test_even_free_text_holds_no_nul() -> None:
    assert not [path for path, field in every_string().items() if "enum" not in field and "pattern" not in field]


FORMS = {
    names.LABEL: (("a", "api-2", "0x"), ("", "-a", "a-", "A", "a.b", "a/b", "a?x=", "a:1", "a@b", "a#", "ä", "a\n")),
    names.SUBDOMAIN: (("a", "a.b-c.d"), ("", ".", "..", "a..b", "a.", ".a", "a/b", "A", "a\n", "%2e%2e")),
    names.DATA_KEY: (("url", "ca.crt", ".hidden", "_", "A-1", "a..b"), ("", ".", "..", "..data", "a/b", "a b", "a\n")),
    names.IDENTIFIER: (("t", 'say "hi"', "Größe", "a b", "*", "a.b"), ("", "a\0b", "a\nb", "\x7f")),
    names.MODEL: (("text-embedding-3-small", "BAAI/bge-m3", "nomic:v1.5"), ("", "/a", "a b", "a?b", "a\n", "ä")),
    names.URL_PATH: (("/", "/a", "/a/", "/a/b.c/~d"), ("", "a", "//", "//a", "/..", "/a/../b", "/.", "/a?b", "/a#")),
    names.TIME_ZONE: (("UTC", "Etc/GMT+5", "America/Argentina/Ushuaia"), ("", "/etc", "../UTC", "a//b", ".", "a/")),
    names.CRON: (("0 22 * * *", "*/5 0-3,9 L * MON#1"), ("", " 0", "0\n1", "$(x)")),
    names.WORD: (("", "2026-01-01 again", "ä"), ("a\n", "\0")),
    names.TEXT: (("", "{a}\n{b}"), ("\0",)),
}  # fmt: skip


@pytest.mark.parametrize("pattern", FORMS, ids=[name for name, p in vars(names).items() if p in list(FORMS)])
def test_a_form_takes_what_it_should_and_nothing_else(pattern: str) -> None:
    good, bad = FORMS[pattern]
    # `$` of Python also matches before a last newline; the API server's and pydantic's do not
    wrong = [text for text in good if not re.fullmatch(pattern, text)]
    wrong += [text for text in bad if re.fullmatch(pattern.removesuffix("$"), text)]
    assert not wrong


EVIL_SERVICES = (
    "127.0.0.1:18998/steal?x=", "10.0.0.1:8080/admin#", "x@169.254.169.254/y#", "evil.example", "..", ".", "a/b", "a\n",
    "[::1]", "api.other", "api:80", "%2e", "API",
)  # fmt: skip


@pytest.mark.parametrize("name", EVIL_SERVICES)
def test_a_service_is_never_an_address(name: str) -> None:
    database = {"connectionSecretRef": {"name": "a", "key": "b"}}
    with pytest.raises(ValidationError):
        VectorStoreSpec.model_validate({"database": database, "service": {"serviceRef": {"name": name, "port": 80}}})
    with pytest.raises(Stalled) as caught:  # a spec that was stored before the pattern, read by whatever way
        Addresses().of("tenant", name, 80)
    assert caught.value.reason == Reason.InvalidSpec


@pytest.mark.parametrize("name", [".", "..", "a/b", "a?watch=1", "a%2fb", "a\n"])
@pytest.mark.parametrize("plural", ["secrets", "vectorstores", "configmaps"])
def test_to_get_one_object_is_never_to_list_all(plural: str, name: str) -> None:
    with pytest.raises(Stalled) as caught:
        _ = Request("get", Resource("", "v1", plural), "tenant", name).path
    assert caught.value.reason == Reason.InvalidSpec


def test_a_namespace_is_no_path() -> None:
    with pytest.raises(Stalled):
        _ = Request("get", Resource("", "v1", "secrets"), "..", "a").path


@pytest.mark.parametrize(
    "merged",
    [
        {"database": {"connectionSecretRef": {"name": ".", "key": "url"}}},
        {"database": {"connectionSecretRef": {"name": "a/b", "key": "url"}}},
        {"database": {"connectionSecretRef": {"name": "a", "key": "../b"}}},
        {"embeddings": {"model": "m?x", "dimensions": 3}},
        {"search": {"role": "a\0b"}},
        {"tables": [{"name": "t", "table": "a\nb"}]},
        {"tables": [{"name": "t", "table": "t", "textTemplate": "a\0b"}]},
    ],
)
def test_a_stored_spec_that_is_older_than_the_patterns_is_refused(merged: dict[str, Any]) -> None:
    base = {"database": {"connectionSecretRef": {"name": "a", "key": "b"}}}
    VectorStoreSpec.model_validate(base)
    with pytest.raises(ValidationError):
        VectorStoreSpec.model_validate(base | merged)
