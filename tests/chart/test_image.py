"""The image: built from wheels alone, run as nobody in particular. Needs root, buildah, debootstrap and some minutes.

The base is made by debootstrap, once into a folder of the test's own; without VECTOROPS_TEST_IMAGE=1 it is left out,
for it fetches a distribution.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BASE, IMAGE = "localhost/vectorops-test-base:1", "localhost/vectorops-test:1"
MISSING = [tool for tool in ("buildah", "debootstrap") if shutil.which(tool) is None]

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="debootstrap needs root"),
    pytest.mark.skipif(os.environ.get("VECTOROPS_TEST_IMAGE") != "1", reason="minutes: set VECTOROPS_TEST_IMAGE=1"),
]


def run(*argv: str | Path, timeout: float = 300) -> str:
    env = {**os.environ, "STORAGE_DRIVER": "overlay"}
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=timeout, env=env)
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


def test_the_image_builds_without_a_network_and_runs_as_an_ordinary_user(tmp_path: Path) -> None:
    packages = "--include=python3,python3-venv,ca-certificates"
    run("debootstrap", "--variant=minbase", packages, "bookworm", tmp_path / "base")
    scratch = run("buildah", "from", "scratch")
    run("buildah", "add", "--quiet", scratch, tmp_path / "base", "/")
    run("buildah", "commit", "--quiet", scratch, BASE)
    made = [scratch]
    try:
        build = ("buildah", "bud", "--isolation", "chroot", "--build-arg", f"BASE={BASE}", "-t", IMAGE)
        run(*build, context(tmp_path / "context"))
        made.append(run("buildah", "from", IMAGE))
        inside = ("buildah", "run", "--isolation", "chroot", made[-1], "--")
        assert run(*inside, "vectorops", "version") == "0.1.0"
        assert run(*inside, "id", "-u") == "65532"
        assert "config" in run("buildah", "inspect", IMAGE).lower()
    finally:
        for container in made:
            run("buildah", "rm", container)
        run("buildah", "rmi", "--force", BASE, IMAGE)
