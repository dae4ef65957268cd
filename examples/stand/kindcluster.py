"""A kind cluster, for machines with Docker: real nodes and images, at the price of a minute's start.

Taken only when everything is there already. Nothing is pulled or installed behind the person's back, and a
cluster that exists is never touched: each stand makes one with a name of its own and deletes that one.
"""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Final

from stand.binaries import Say, to_stderr
from stand.cluster import Cluster, any_kubectl, own_directory, removed_on_failure

PROBE_TIMEOUT_SECONDS: Final = 10.0
"""A Docker daemon that does not answer in this time is no daemon."""

START_TIMEOUT_SECONDS: Final = 300.0
"""kind's own --wait plus the time kubeadm takes on a slow machine."""


class KindFailed(RuntimeError):
    """kind could not start or delete the cluster; the message holds what it said."""


class KindCluster(Cluster):
    """A kind cluster that the stand made."""

    def __init__(self, kubeconfig: Path, *, kubectl: Path, directory: Path, name: str) -> None:
        """Own the kind cluster `name`."""
        super().__init__(kubeconfig, kubectl=kubectl, directory=directory)
        self._name = name
        self._owner = os.getpid()
        atexit.register(self._at_exit)

    def stop(self) -> None:
        """Delete exactly this kind cluster."""
        atexit.unregister(self._at_exit)
        _delete(self._name, self.kubeconfig)
        super().stop()

    def _at_exit(self) -> None:
        if os.getpid() == self._owner:  # not in a forked child
            self.stop()


def local_node_image() -> str | None:
    """A kind node image that is on this machine, if kind, a Docker daemon and the image all are."""
    if shutil.which("kind") is None or shutil.which("docker") is None:
        return None
    if _ask("docker", "info") is None:
        return None
    images = _ask("docker", "image", "ls", "--format={{.Repository}}:{{.Tag}}", "kindest/node") or ""
    tagged = [line for line in images.split() if not line.endswith(":<none>")]
    return tagged[0] if tagged else None  # docker lists the newest first


def start_kind_cluster(directory: Path, *, image: str, say: Say = to_stderr) -> KindCluster:
    """Make a kind cluster of `image`, which must be local; its kubeconfig is written apart from the person's."""
    own = own_directory(directory)
    name = f"vectorops-stand-{secrets.token_hex(4)}"
    kubeconfig = own / "kubeconfig"
    say(f"stand: starting kind cluster {name} from {image}")
    with removed_on_failure(own, lambda: _delete(name, kubeconfig)):
        kubectl = any_kubectl(say)
        _kind("create", "cluster", f"--name={name}", f"--image={image}", f"--kubeconfig={kubeconfig}", "--wait=180s")
        kubeconfig.chmod(0o600)
        cluster = KindCluster(kubeconfig, kubectl=kubectl, directory=own, name=name)
        cluster.kubectl("wait", "--for=create", "serviceaccount/default", "--namespace=default", "--timeout=60s")
    return cluster


def _delete(name: str, kubeconfig: Path) -> None:
    """kind also takes the cluster's entries out of a kubeconfig: let that be our file, never the person's."""
    _kind("delete", "cluster", f"--name={name}", f"--kubeconfig={kubeconfig}")


def _kind(*args: str) -> None:
    done = subprocess.run(
        ["kind", *args],
        capture_output=True,
        text=True,
        check=False,
        timeout=START_TIMEOUT_SECONDS,
        start_new_session=True,
    )
    if done.returncode != 0:
        raise KindFailed(f"kind {' '.join(args)}: {done.stderr.strip()[-3000:]}")


def _ask(*argv: str) -> str | None:
    """What a command says, None when it fails or hangs."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=PROBE_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        return None
    return done.stdout if done.returncode == 0 else None
