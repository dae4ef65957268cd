"""The command line and the settings: exit codes mean something, wrong settings are named and never echoed back."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from vectorops import __version__
from vectorops.__main__ import app
from vectorops.settings import Settings


def run(*args: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(args), env=env)
    return result.exit_code, result.output


def test_the_version_is_told() -> None:
    assert run("version") == (0, f"{__version__}\n")


def test_manifests_are_written_once_and_then_in_order(tmp_path: Path) -> None:
    code, told = run("manifests", "--root", str(tmp_path))
    assert (code, "written: crds/vectorindexes.yaml" in told) == (0, True)
    assert run("manifests", "--root", str(tmp_path)) == (0, "")
    assert run("manifests", "--check", "--root", str(tmp_path)) == (0, "")


def test_a_check_that_finds_a_difference_names_it_writes_nothing_and_fails(tmp_path: Path) -> None:
    code, told = run("manifests", "--check", "--root", str(tmp_path))
    assert (code, "differs: crds/vectorindexes.yaml" in told) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_wrong_settings_are_named_by_their_variable_before_anything_starts() -> None:
    code, told = run("run", env={"VECTOROPS_HTTP_PORT": "99999", "VECTOROPS_LOG_FORMAT": "xml"})
    assert code == 2
    assert "VECTOROPS_HTTP_PORT: " in told
    assert "VECTOROPS_LOG_FORMAT: " in told


def test_wrong_service_addresses_end_the_command_like_any_other_setting() -> None:
    code, told = run("run", env={"VECTOROPS_SERVICE_ADDRESSES": "{not json"})
    assert (code, told) == (2, "VECTOROPS_SERVICE_ADDRESSES: no JSON: JSONDecodeError\n")


def test_namespaces_are_a_comma_list_each_once_and_none_means_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VECTOROPS_WATCH_NAMESPACES", raising=False)
    assert Settings().namespaces == ()
    monkeypatch.setenv("VECTOROPS_WATCH_NAMESPACES", " a, b,a,,")
    assert Settings().namespaces == ("a", "b")
    monkeypatch.setenv("VECTOROPS_WATCH_NAMESPACES", "a/b")
    with pytest.raises(ValidationError, match="no name of a namespace: a/b"):
        Settings()


def test_every_setting_is_documented() -> None:
    assert [name for name, info in Settings.model_fields.items() if not info.description] == []


def test_release_without_a_usable_kubeconfig_fails_and_says_what_to_set(tmp_path: Path) -> None:
    code, told = run("release", env={"KUBECONFIG": str(tmp_path / "nowhere"), "VECTOROPS_WATCH_NAMESPACES": "a"})
    assert code == 1
    assert "KubernetesUnavailable" in told
    assert "KUBECONFIG" in told


def test_release_with_a_wrong_setting_names_it() -> None:
    code, told = run("release", env={"VECTOROPS_WATCH_NAMESPACES": "a/b"})
    assert (code, "VECTOROPS_WATCH_NAMESPACES: " in told) == (2, True)
