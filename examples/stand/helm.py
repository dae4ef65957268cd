"""Helm itself, as a library: the chart installed and uninstalled as a person would with the command line.

`python -m stand.helm install NAME CHART --namespace N --create-namespace --set KEY=VALUE` is for who has no helm
command; it takes these words of helm's, with KUBECONFIG, and no more.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from stand.cluster import Cluster

CHART: Final = Path(__file__).resolve().parents[2] / "charts" / "vectorops"
RELEASE: Final = "vectorops"
SECONDS: Final = 120


class Helm:
    """One release of the chart in one namespace."""

    def __init__(self, cluster: Cluster, namespace: str, release: str = RELEASE) -> None:
        """`namespace` is made when it is not there."""
        import helm_python  # a Go library of 60 MB, loaded where it is used

        self._config = helm_python.Config(kubeconfig_path=cluster.kubeconfig, namespace=namespace)
        self.release = release

    def install(self, values: Mapping[str, Any] | None = None, *, wait: bool = True) -> None:
        """helm install --create-namespace --wait."""
        how = "watcher" if wait else None
        self._config.install(CHART, self.release, dict(values or {}), create_namespace=True, timeout=SECONDS, wait=how)

    def upgrade(self, values: Mapping[str, Any] | None = None) -> None:
        """helm upgrade --wait."""
        self._config.upgrade(CHART, self.release, dict(values or {}), timeout=SECONDS, wait="watcher")

    def notes(self) -> str:
        """What the chart tells its user."""
        return str(self._config.status(self.release).get("notes", ""))

    def uninstall(self) -> str:
        """helm uninstall; returns what Helm says, with the chart's hooks run before."""
        return json.dumps(self._config.uninstall(self.release, timeout=SECONDS, wait="watcher"), default=str)


def main(argv: Sequence[str] | None = None) -> int:
    """install, upgrade or uninstall, and what Helm says of it."""
    import helm_python

    options = _parser().parse_args(argv)
    values: dict[str, Any] = {}
    for assignment in options.set:
        path, _, text = assignment.partition("=")
        *parents, last = path.split(".")
        at = values
        for parent in parents:
            at = at.setdefault(parent, {})
        at[last] = _typed(text)
    config = helm_python.Config(kubeconfig_path=os.environ.get("KUBECONFIG"), namespace=options.namespace)
    try:
        if options.command == "uninstall":
            config.uninstall(options.name, timeout=SECONDS, wait="watcher")
        elif options.command == "install":
            new = options.create_namespace
            config.install(options.chart, options.name, values, create_namespace=new, timeout=SECONDS, wait="watcher")
        else:
            config.upgrade(options.chart, options.name, values, timeout=SECONDS, wait="watcher")
    except helm_python.HelmError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    notes = "" if options.command == "uninstall" else config.status(options.name).get("notes", "")
    sys.stdout.write(f"{options.command} {options.name}: done\n{notes}")
    return 0


def _typed(text: str) -> str | int | bool | list[Any] | None:
    """As helm takes it: true, false, null and whole numbers are what they say, {a,b} is a list, the rest is text."""
    if text.startswith("{") and text.endswith("}"):
        return [_typed(item) for item in text[1:-1].split(",") if item]
    words: dict[str, bool | None] = {"true": True, "false": False, "null": None}
    if text in words:
        return words[text]
    return int(text) if text.isascii() and text.isdigit() else text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m stand.helm")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("install", "upgrade", "uninstall"):
        one = commands.add_parser(name)
        one.add_argument("name")
        one.add_argument("--namespace", "-n", default="default")
        if name != "uninstall":
            one.add_argument("chart", type=Path)
            one.add_argument("--set", action="append", default=[])
        if name == "install":
            one.add_argument("--create-namespace", action="store_true")
    parser.set_defaults(set=[], create_namespace=False)
    return parser


if __name__ == "__main__":
    sys.exit(main())
