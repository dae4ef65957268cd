"""A Kubernetes cluster for the demo and the tests, wherever it comes from.

`start_cluster` chooses, in this order: a kubeconfig that was named explicitly (the parameter, else
$VECTOROPS_STAND_KUBECONFIG; the current context of the person's own kubeconfig is never used by itself);
`kind`, when a Docker daemon answers and a node image is already there (nothing is pulled); else the control
plane's own binaries as local processes (`localcluster`, the usual case).

Every `Cluster` answers the same questions. What only our own processes can do (the audit log, freezing and
restarting the API server) is in `LocalCluster`; tests that need it call `start_local_cluster` and get just that.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from stand import binaries
from stand.binaries import Say, to_stderr

KUBECONFIG_VARIABLE: Final = "VECTOROPS_STAND_KUBECONFIG"
"""Names a kubeconfig whose cluster the stand may use, and fill."""

KUBECTL_TIMEOUT_SECONDS: Final = 120.0
"""Longer than any wait the stand asks of kubectl; it ends a call to an API server that hangs."""

TOKEN_DURATION: Final = "24h"
"""Outlives every run of the stand, so no test fails on an expired token."""


class KubectlFailed(RuntimeError):
    """kubectl ended with an error; the message is the command and what it said."""


class Cluster:
    """A running cluster and an administrator's access to it."""

    audit_log: Path | None = None
    """The API server's audit log (JSON lines), where there is one: only in a `LocalCluster`."""

    def __init__(self, kubeconfig: Path, *, kubectl: Path, directory: Path) -> None:
        """Take over `directory`, which `stop` removes; `kubeconfig` may be anywhere."""
        self.kubeconfig = kubeconfig
        self.directory = directory
        self._kubectl = kubectl

    @property
    def kubectl_path(self) -> Path:
        """The program itself, for who has none."""
        return self._kubectl

    def __enter__(self) -> Self:
        """`with start_cluster(...) as cluster:` stops it at the end, whatever happens."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    def kubectl(self, *args: str, input: str | None = None, check: bool = True) -> str:
        """Run kubectl as administrator; returns its standard output.

        With `check` an error raises KubectlFailed; without, what kubectl said on standard error follows its
        output. The person's own kubectl preferences and discovery cache are left out of it.
        """
        cache = f"--cache-dir={self.directory / 'kubectl-cache'}"
        argv = [str(self._kubectl), f"--kubeconfig={self.kubeconfig}", cache, *args]
        try:
            done = subprocess.run(
                argv,
                input=input,
                capture_output=True,
                text=True,
                check=False,
                env={**os.environ, "KUBECTL_KUBERC": "false"},
                timeout=KUBECTL_TIMEOUT_SECONDS,
            )
        except subprocess.TimeoutExpired as exc:
            raise KubectlFailed(f"kubectl {' '.join(args)}: no end within {KUBECTL_TIMEOUT_SECONDS:g} s") from exc
        if not check:
            return done.stdout + done.stderr
        if done.returncode != 0:
            raise KubectlFailed(f"kubectl {' '.join(args)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def kubeconfig_for_serviceaccount(self, namespace: str, name: str) -> Path:
        """A kubeconfig that is this ServiceAccount and nothing more, by TokenRequest; the file is private.

        The ServiceAccount must exist. Asking again returns the same path with a fresh token.
        """
        token = self.kubectl("create", "token", name, f"--namespace={namespace}", f"--duration={TOKEN_DURATION}")
        config: dict[str, Any] = json.loads(self.kubectl("config", "view", "--minify", "--flatten", "--raw", "-ojson"))
        cluster: Mapping[str, Any] = config["clusters"][0]["cluster"]
        path = self.directory / f"serviceaccount_{namespace}_{name}.kubeconfig"
        return write_kubeconfig(path, cluster, token.strip(), namespace=namespace)

    def stop(self) -> None:
        """Remove what the stand itself put on this machine; a cluster that is not ours goes on."""
        shutil.rmtree(self.directory, ignore_errors=True)


def write_kubeconfig(path: Path, cluster: Mapping[str, Any], token: str, *, namespace: str = "default") -> Path:
    """Write a kubeconfig (as JSON, which every reader of YAML reads) that only its owner may open.

    `cluster` is the kubeconfig's own `cluster` object. Replaced in one step: a reader never sees half a file.
    """
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "stand", "cluster": dict(cluster)}],
        "users": [{"name": "stand", "user": {"token": token}}],
        "contexts": [{"name": "stand", "context": {"cluster": "stand", "user": "stand", "namespace": namespace}}],
        "current-context": "stand",
    }
    descriptor, scratch = tempfile.mkstemp(dir=path.parent)  # created 0600
    with os.fdopen(descriptor, "w") as file:
        json.dump(config, file, indent=1)
    Path(scratch).rename(path)
    return path


def own_directory(parent: Path) -> Path:
    """A folder of the cluster's own under `parent`, which is made if it is not there."""
    parent.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="cluster-", dir=parent.absolute()))


@contextlib.contextmanager
def removed_on_failure(directory: Path, clean_up: Callable[[], object] | None = None) -> Iterator[None]:
    """Leave nothing behind when a start fails or is interrupted half-way."""
    try:
        yield
    except BaseException:
        try:
            if clean_up is not None:
                clean_up()
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        raise


def start_cluster(
    directory: Path, *, audit: bool = True, kubeconfig: Path | None = None, say: Say = to_stderr
) -> Cluster:
    """A cluster that answers, with `default`'s ServiceAccount in place; its files go under `directory`.

    `audit` and everything else of `LocalCluster` holds only where no other cluster was named or found.
    """
    from stand import kindcluster, localcluster  # they build on this module

    named = kubeconfig or (Path(value) if (value := os.environ.get(KUBECONFIG_VARIABLE)) else None)
    if named is not None:
        return _use_named(named, directory, say)
    image = kindcluster.local_node_image()
    if image is not None:
        return kindcluster.start_kind_cluster(directory, image=image, say=say)
    return localcluster.start_local_cluster(directory, audit=audit, say=say)


def _use_named(kubeconfig: Path, directory: Path, say: Say) -> Cluster:
    """A cluster someone named; fails here, with kubectl's own words, when it does not answer."""
    if not kubeconfig.is_file():
        raise FileNotFoundError(f"{kubeconfig}: named by {KUBECONFIG_VARIABLE} or as kubeconfig, but not a file")
    own = own_directory(directory)
    with removed_on_failure(own):
        cluster = Cluster(kubeconfig.absolute(), kubectl=any_kubectl(say), directory=own)
        server = cluster.kubectl("config", "view", "--minify", "-ojsonpath={.clusters[0].cluster.server}")
        say(f"stand: using the cluster at {server} ({kubeconfig})")
        cluster.kubectl("get", "--raw=/readyz")
        cluster.kubectl("get", "serviceaccount/default", "--namespace=default")
    return cluster


def any_kubectl(say: Say) -> Path:
    """kubectl for a cluster that is not of our binaries: ours if it is there, else the machine's, else built."""
    ready = binaries.find(say)
    if ready is None and (installed := shutil.which("kubectl")):
        return Path(installed)
    return (ready or binaries.find_or_build(say)).kubectl
