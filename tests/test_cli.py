"""The command line and the settings: exit codes mean something, wrong settings are named and never echoed back."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

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


def test_wrong_allowed_hosts_end_the_command_like_any_other_setting() -> None:
    code, told = run("run", env={"VECTOROPS_ALLOWED_HOSTS": "10.0.0.0/33"})
    assert (code, told) == (2, 'VECTOROPS_ALLOWED_HOSTS: no name, no address, no network: "10.0.0.0/33"\n')


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


CURVE = """
kind: SearchTuning
metadata: {name: products}
spec: {storeRef: {name: shop}, indexRef: {name: products}}
status:
  chosen: {efSearch: 80, recallPercent: 97, lowerBoundPercent: 95, p95Milliseconds: 6, buffers: 900}
  curve:
  - {efSearch: 80, recallPercent: 97, lowerBoundPercent: 95, p95Milliseconds: 6, buffers: 900}
  - {efSearch: 40, recallPercent: 91, lowerBoundPercent: 89, p95Milliseconds: 4, buffers: 500}
  comparison:
  - {name: Current, size: 20 MB, efSearch: 80, recallPercent: 97, lowerBoundPercent: 95, p95Milliseconds: 6}
  - {name: Bit m=16 efConstruction=64, size: 2.0 MB, buildSeconds: 3, recallPercent: 71, p95Milliseconds: 3}
"""


def test_a_curve_is_drawn_in_the_terminal_and_as_a_picture(tmp_path: Path) -> None:
    file, picture = tmp_path / "tuning.yaml", tmp_path / "curve.svg"
    file.write_text(CURVE)
    code, told = run("plot", "-f", str(file), env={"COLUMNS": "100"})
    assert code == 0
    assert [line.split()[1] for line in told.splitlines() if "%" in line and "│" in line][:2] == ["40", "80"]
    assert "80 <-" in told
    assert "Bit m=16" in told
    assert run("plot", "-f", str(file), "--svg", str(picture)) == (0, f"written: {picture}\n")
    root = ElementTree.fromstring(picture.read_bytes())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    text = " ".join(part for part in root.itertext())
    assert all(words in text for words in ("recall", "surely at least", "target 95 %", "chosen 80", "p95, ms"))
    assert "<script" not in picture.read_text()  # a picture, opened by people in their browsers


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("kind: VectorIndex\nmetadata: {name: products}", "is no SearchTuning"),
        (
            "kind: SearchTuning\nmetadata: {name: products}\nspec: {storeRef: {name: s}, indexRef: {name: i}}",
            "nothing yet",
        ),
        ("kind: SearchTuning\nmetadata: {name: products}\nspec: {}", "another version"),
        ("[1]", "is no object"),
        ("a: [", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_what_cannot_be_drawn_is_told(tmp_path: Path, content: str | None, said: str) -> None:
    file = tmp_path / "tuning.yaml"
    if content is not None:
        file.write_text(content)
    code, told = run("plot", "-f", str(file))
    assert (code, said in told) == (1, True), told


def test_a_plot_needs_one_source_and_a_place_that_can_be_written(tmp_path: Path) -> None:
    assert run("plot")[0] == 2
    file = tmp_path / "tuning.yaml"
    file.write_text(CURVE)
    assert run("plot", "name", "-f", str(file))[0] == 2
    code, told = run("plot", "-f", str(file), "--svg", str(tmp_path / "nowhere" / "curve.svg"))
    assert (code, "No such file" in told) == (1, True)
