"""Chart and Dockerfile are without a finding of their linters."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import helm_python

ROOT = Path(__file__).resolve().parents[2]
INFORMATION = 1  # Helm's severity of "icon is recommended"


def test_the_chart_is_lint_clean() -> None:
    report = helm_python.lint(ROOT / "charts" / "vectorops", strict=True)
    assert report["errors"] == []
    assert [m for m in report["messages"] if m["severity"] > INFORMATION] == []


def test_the_dockerfile_is_lint_clean() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
