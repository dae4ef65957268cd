"""The image: built from wheels alone, run as nobody in particular, where root, buildah and debootstrap are there.

The base is made by debootstrap, so no image registry is asked; where its mirror cannot be reached the test is left out.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BASE, IMAGE = "localhost/vectorops-test-base:1", "localhost/vectorops-test:1"
PACKAGED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
ENV = {**os.environ, "STORAGE_DRIVER": "overlay"}
MISSING = [tool for tool in ("buildah", "debootstrap") if shutil.which(tool) is None]


def needs_a_builder(test: Callable[..., None]) -> Callable[..., None]:
    """Marks what builds an image."""
    for mark in (
        pytest.mark.real,
        pytest.mark.timeout(900),
        pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
        pytest.mark.skipif(os.geteuid() != 0, reason="debootstrap needs root"),
    ):
        test = mark(test)
    return test


def run(*argv: str | Path, timeout: float = 300) -> str:
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=timeout, env=ENV)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def context(folder: Path) -> Path:
    """The build context as docs/install.md makes it."""
    (folder / "requirements").mkdir(parents=True)
    shutil.copy(ROOT / "Dockerfile", folder)
    shutil.copy(ROOT / "requirements/runtime.txt", folder / "requirements")
    wheel = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder / "wheels")
    run(*wheel, "-r", ROOT / "requirements/runtime.txt")
    run(*wheel, ROOT)
    return folder


def base(folder: Path) -> None:
    """A small Debian with Python, as a local image."""
    packages = "--include=python3,python3-venv,ca-certificates"
    try:
        run("debootstrap", "--variant=minbase", packages, "bookworm", folder)
    except AssertionError as error:
        pytest.skip(f"no base could be had: {str(error)[-200:]}")
    scratch = run("buildah", "from", "scratch")
    run("buildah", "add", "--quiet", scratch, folder, "/")
    run("buildah", "commit", "--rm", "--quiet", scratch, BASE)


def test_the_image_s_labels_say_what_the_package_says() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    labels = dict(re.findall(r'org\.opencontainers\.image\.([a-z.]+)="([^"]*)"', (ROOT / "Dockerfile").read_text()))
    assert labels == {
        "title": project["name"],
        "description": project["description"],
        "licenses": project["license"],
        "version": "${VERSION}",
        "revision": "${REVISION}",
        "base.name": "${BASE}",
    }


@needs_a_builder
def test_the_image_builds_without_a_network_and_runs_as_an_ordinary_user(tmp_path: Path) -> None:
    base(tmp_path / "base")
    made = []
    try:
        began = time.monotonic()
        build = ("buildah", "bud", "--isolation", "chroot", "--build-arg", f"BASE={BASE}", "-t", IMAGE)
        build += ("--build-arg", f"VERSION={PACKAGED}")
        run(*build, context(tmp_path / "context"))
        built = time.monotonic() - began
        made.append(run("buildah", "from", IMAGE))
        inside = ("buildah", "run", "--isolation", "chroot", made[-1], "--")
        began = time.monotonic()
        assert run(*inside, "vectorops", "version") == PACKAGED
        started = time.monotonic() - began
        assert run(*inside, "id", "-u") == "65532"
        refused = subprocess.run([*inside, "sh", "-c", "touch /opt/vectorops/x /x"], capture_output=True, env=ENV)
        assert refused.returncode != 0  # nothing of the image is the user's own
        config = json.loads(run("buildah", "inspect", "--type", "image", IMAGE))["OCIv1"]["config"]
        assert config["Labels"]["org.opencontainers.image.version"] == PACKAGED
        assert config["Labels"]["org.opencontainers.image.base.name"] == BASE
        assert (config["User"], config["Entrypoint"], config["Cmd"]) == ("65532:65532", ["vectorops"], ["run"])
        told = run(*inside, "sh", "-c", "vectorops release --dry-run 2>&1; echo $?")
        assert told.endswith("\n1")  # no kubeconfig, no ServiceAccount: it says so and ends
        assert "KUBECONFIG" in told
        sizes = [run("buildah", "images", "--format", "{{.Size}}", name) for name in (IMAGE, BASE)]
        whole, bare = (float(size.removesuffix(" MB")) for size in sizes)
        assert whole - bare < 300, "megabytes, most of them the Kubernetes client and numpy"
        print(f"image {sizes[0]} on a base of {sizes[1]}, built in {built:.0f} s, `version` in {started:.2f} s")
    finally:
        for container in made:
            run("buildah", "rm", container)
        for image in run("buildah", "images", "--quiet", "--filter", "reference=localhost/vectorops-test*").split():
            run("buildah", "rmi", "--force", image)
