"""Helm itself, as a library: the chart installed and uninstalled as a person would with the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
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

    def uninstall(self) -> str:
        """helm uninstall; returns what Helm says, with the chart's hooks run before."""
        return json.dumps(self._config.uninstall(self.release, timeout=SECONDS, wait="watcher"), default=str)
