"""The control plane's binaries are found in the order promised, and built once, whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stand import binaries, kindcluster
from stand.process import ProcessFailed

NAMES = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")

FAKE_GO = """#!/bin/sh
[ "$1" = version ] && exit 0
echo "$CGO_ENABLED $GOWORK $*" >> {calls}
case "$*" in *{broken}*) echo "undefined: wheel" >&2; exit 1;; esac
while [ "$1" != -o ]; do shift; done
echo built > "$2"
"""


def executables(folder: Path, *names: str, text: str = "#!/bin/sh\n") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no binaries from elsewhere."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    return tmp_path / "cache" / "vectorops" / "controlplane"


def fake_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, broken: str = "nothing") -> Path:
    """Put a `go` first in the path that writes what it was asked to build; returns its list of calls."""
    calls = tmp_path / "calls"
    folder = executables(tmp_path / "path", "go", text=FAKE_GO.format(calls=calls, broken=broken))
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return calls


def test_kubebuilder_assets_come_first_when_they_are_complete(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assets = executables(tmp_path / "assets", *NAMES)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    found = binaries.find()
    assert found is not None
    assert (found.etcd, found.apiserver, found.controller_manager, found.kubectl) == tuple(assets / n for n in NAMES)


def test_incomplete_kubebuilder_assets_are_named_and_passed_over(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(executables(tmp_path / "assets", "etcd", "kube-apiserver", "kubectl")))
    said: list[str] = []
    assert binaries.find(said.append) is None
    assert "has no kube-controller-manager" in said[0]


def test_a_build_fills_the_cache_once(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, said = fake_go(tmp_path, monkeypatch), list[str]()
    built = binaries.find_or_build(said.append)
    assert sorted(path.name for path in built.folder.iterdir()) == sorted(NAMES)
    assert binaries.find_or_build(said.append) == built
    assert len(calls.read_text().splitlines()) == len(NAMES)
    assert all(line.startswith("0 off build -mod=readonly") for line in calls.read_text().splitlines())
    assert "about 7 minutes on 2 idle cores, once" in said[0]


def test_a_build_that_fails_shows_the_compilers_words_and_leaves_nothing(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_go(tmp_path, monkeypatch, broken="cmd/kubectl")
    with pytest.raises(ProcessFailed, match=r"(?s)go build kubectl ended with code 1.*undefined: wheel"):
        binaries.find_or_build(lambda line: None)
    assert [path.suffix for path in cache.iterdir()] == [".lock"]
    assert binaries.find() is None


def test_two_processes_build_once(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_go(tmp_path, monkeypatch)
    environment = {**os.environ, "PYTHONPATH": str(Path(binaries.__file__).parents[1])}
    argv = [sys.executable, "-c", "from stand.binaries import find_or_build; print(find_or_build().folder)"]
    both = [subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    folders = {one.communicate(timeout=60)[0] for one in both}
    assert [one.returncode for one in both] == [0, 0]
    assert len(folders) == 1
    assert len(calls.read_text().splitlines()) == len(NAMES)


@pytest.mark.parametrize(
    ("docker", "chosen"),
    [
        ("exit 1", None),
        ("[ $1 = info ] || exit 0", None),
        ("[ $1 = info ] || echo 'kindest/node:<none>'", None),
        ("[ $1 = info ] || printf 'kindest/node:v1.37.0\\nkindest/node:v1.36.0\\n'", "kindest/node:v1.37.0"),
    ],
    ids=["no daemon", "no image", "no tag", "all there"],
)
def test_kind_is_chosen_only_when_everything_is_there(
    docker: str, chosen: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executables(tmp_path, "kind")
    monkeypatch.setenv("PATH", str(executables(tmp_path, "docker", text=f"#!/bin/sh\n{docker}\n")))
    assert kindcluster.local_node_image() == chosen
