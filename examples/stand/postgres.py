"""A real PostgreSQL with pgvector, on this machine, for one stand or one test run.

One object is one cluster in one directory: made by initdb once, started on a free port of 127.0.0.1 with
password logins, stopped in each of Postgres' three ways, crashed, started again on the same port and data.
Durability against a power cut is switched off (fsync), against kill -9 it is not needed: the kernel keeps what
was written. Statements for the administrator go through psql, so every method here is synchronous and works
inside and outside an event loop.

Refused here: knowing any schema (see `shop`), replicas, and pooling connections.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self
from urllib.parse import quote

from stand.postgres_children import children_of, kill_and_wait
from stand.postgres_installation import Installation, find_installation
from stand.postgres_tls import Tls, TlsFront
from stand.process import Process, ProcessFailed, free_port

StopMode = Literal["smart", "fast", "immediate"]

STOP_SIGNALS: Final[Mapping[StopMode, signal.Signals]] = {
    "smart": signal.SIGTERM,  # waits for clients to leave
    "fast": signal.SIGINT,  # ends sessions, checkpoints
    "immediate": signal.SIGQUIT,  # ends sessions, recovery at the next start
}
"""From the manual's chapter on shutting down the server."""

START_SECONDS: Final = 60
"""Recovery after a crash with a few hundred MB of WAL ends well within this; a plain start takes 0.2 s."""

STOP_SECONDS: Final = 30
"""A fast stop checkpoints at most shared_buffers; what takes longer is killed."""

PORT_ATTEMPTS: Final = 3
"""A free port may be taken before the server binds it; three losses in a row are not chance."""

SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "fsync": "off",
    "full_page_writes": "off",
    "max_wal_size": "2GB",  # index builds are not interrupted by checkpoints
    "track_activity_query_size": "8192",  # a 384-dimension literal alone has 4 kB
    "track_io_timing": "on",
    "log_line_prefix": "%m [%p] %a %d ",
    "log_lock_waits": "on",
}
"""What every cluster of the stand gets; `settings=` adds to and overrides it."""


class Postgres:
    """One cluster: initdb'd at the first start, listening on `port` while it runs."""

    def __init__(
        self,
        directory: Path,
        *,
        tls: Tls = "off",
        settings: Mapping[str, str] | None = None,
        installation: Installation | None = None,
    ) -> None:
        """Describe the cluster that lives in `directory`; nothing starts yet.

        Where the account Postgres runs as cannot reach `directory` (root's private ones), the data goes to
        the system's temporary directory and is removed by close(). `tls` is described in `postgres_tls`.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.log = directory / "postgres.log"
        self.installation = installation or find_installation()
        self._settings = dict(SETTINGS) | dict(settings or {})
        self.password = _kept_password(directory / "superuser.password")
        self._home = _home(directory, self.installation.user)
        self._server_port = free_port()
        self._described: list[Process] = []
        self._process = self._describe()
        self._tls = TlsFront(directory, require=tls) if tls != "off" else None
        if self._home != directory:
            self._remove_home = weakref.finalize(self, _remove, self._home, self._described)

    def __enter__(self) -> Self:
        """Start, and close() at the end."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take everything down."""
        self.close()

    @property
    def port(self) -> int:
        """The port clients connect to; the same for the object's life once started."""
        return self._tls.port if self._tls else self._server_port

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        return self._process.pid

    @property
    def ca_file(self) -> Path | None:
        """The certificate authority clients verify the server with; None without TLS."""
        return self._tls.ca_file if self._tls else None

    @property
    def client_certificate(self) -> tuple[Path, Path] | None:
        """Certificate and key that tls="mutual" asks clients for; None without TLS."""
        return (self._tls.client_cert_file, self._tls.client_key_file) if self._tls else None

    def dsn(self, database: str = "postgres", user: str = "postgres", password: str | None = None) -> str:
        """A connection URL; `password` defaults to the superuser's."""
        secret = quote(self.password if password is None else password, safe="")
        return f"postgresql://{quote(user)}:{secret}@127.0.0.1:{self.port}/{quote(database, safe='')}"

    def alive(self) -> bool:
        """Whether the server process runs."""
        return self._process.alive()

    def start(self) -> None:
        """Make the cluster if there is none, start the server, return when it accepts connections."""
        if not (self.data / "PG_VERSION").exists():
            self._initdb()
        for attempt in range(PORT_ATTEMPTS):
            written = self.log.stat().st_size if self.log.exists() else 0
            self._process.start()
            try:
                self._process.wait_until(self._ready, "accepting connections", START_SECONDS)
                break
            except ProcessFailed:
                said = self.log.read_bytes()[written:]
                if b"could not bind" not in said or attempt == PORT_ATTEMPTS - 1:
                    raise
                self._server_port = free_port()
                self._process = self._describe()
        if self._tls:
            self._tls.serve(self._server_port)

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server in one of Postgres' three ways; returns when it has ended."""
        self._process.send_signal(STOP_SIGNALS[mode])
        self._process.terminate(grace=STOP_SECONDS)

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop and start again: same port, same data."""
        self.stop(mode)
        self.start()

    def crash(self) -> None:
        """kill -9 of the postmaster and every backend at the same moment, as an out-of-memory node does."""
        self._process.send_signal(signal.SIGSTOP)  # no backend is forked between listing and killing
        children = children_of(self.pid)
        self._process.kill()
        kill_and_wait(children)

    def close(self) -> None:
        """Take everything down; the data is removed only where it had to leave `directory`."""
        if self._process.alive():
            self.stop("fast")
        if self._tls:
            self._tls.stop()
        if self._home != self.directory:
            self._remove_home()

    @property
    def data(self) -> Path:
        """The cluster's data directory."""
        return self._home / "data"

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run statements as the superuser through psql; the rows as text, columns separated by |."""
        return self.run("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", statement, database=database)

    def run(self, program: str, *arguments: str, database: str = "postgres") -> str:
        """Run a Postgres program (pg_dump, pg_restore, pgbench) as the superuser; its output.

        Connects past the TLS front. Raises ProcessFailed with the program's own words.
        """
        environment = os.environ | {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self._server_port),
            "PGUSER": "postgres",
            "PGPASSWORD": self.password,
            "PGDATABASE": database,
        }
        argv = [self.installation.program(program), *arguments]
        done = subprocess.run(argv, env=environment, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise ProcessFailed(f"{program} ended with code {done.returncode}: {done.stderr.strip()}")
        return done.stdout.rstrip("\n")

    def create_database(self, name: str, template: str | None = None, owner: str | None = None) -> str:
        """CREATE DATABASE; its superuser URL. A template must have no open connections."""
        clauses = f" TEMPLATE {_identifier(template)}" if template else ""
        clauses += f" OWNER {_identifier(owner)}" if owner else ""
        self.sql(f"CREATE DATABASE {_identifier(name)}{clauses}")
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """DROP DATABASE, ending its sessions; nothing when there is none."""
        self.sql(f"DROP DATABASE IF EXISTS {_identifier(name)} WITH (FORCE)")

    def terminate_backend(self, pid: int) -> bool:
        """pg_terminate_backend: end one session; whether there was one."""
        return self.sql(f"SELECT pg_terminate_backend({int(pid)})") == "t"

    def _describe(self) -> Process:
        argv = [self.installation.program("postgres"), "-D", str(self.data), "-p", str(self._server_port)]
        process = Process("postgres", argv, log=self.log, cwd=self._home, user=self.installation.user)
        self._described.append(process)
        return process

    def _initdb(self) -> None:
        password_file = self._home / "initdb.password"
        password_file.write_text(self.password)
        _give(password_file, self.installation.user)
        argv = [self.installation.program("initdb"), "-D", str(self.data), "-U", "postgres", "--pwfile"]
        argv += [
            str(password_file),
            "-A",
            "scram-sha-256",
            "-E",
            "UTF8",
            "--no-locale",
            "--no-sync",
            "--no-instructions",
        ]
        initdb = Process("initdb", argv, log=self.directory / "initdb.log", cwd=self._home, user=self.installation.user)
        initdb.start()
        initdb.wait_until(lambda: initdb.exit_code is not None, "the new cluster", START_SECONDS)
        password_file.unlink()
        if initdb.exit_code != 0:
            raise ProcessFailed(f"initdb ended with code {initdb.exit_code}\n{initdb.log_tail()}")
        with (self.data / "postgresql.conf").open("a") as conf:
            conf.writelines(f"{name} = '{value}'\n" for name, value in self._all_settings().items())

    def _all_settings(self) -> dict[str, str]:
        if not self.installation.has_library("pg_stat_statements"):
            return self._settings
        preload = {"shared_preload_libraries": "pg_stat_statements", "pg_stat_statements.track": "all"}
        return preload | self._settings

    def _ready(self) -> bool:
        """What pg_ctl looks at: the pid file is this server's, and its last line says ready."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"


def _identifier(name: str) -> str:
    """An SQL identifier, quoted."""
    return '"' + name.replace('"', '""') + '"'


def _kept_password(file: Path) -> str:
    """The superuser's password: random, kept beside the data so that a later object can use both."""
    if not file.exists():
        with open(os.open(file, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "w") as opened:
            opened.write(secrets.token_urlsafe(24))
    return file.read_text()


def _home(directory: Path, user: str | None) -> Path:
    """Where the data can live: `directory`, or a temporary one when the account cannot reach it."""
    if user is not None and not all(parent.stat().st_mode & 0o001 for parent in directory.resolve().parents):
        directory = Path(tempfile.mkdtemp(prefix="vectorops-postgres-"))
    _give(directory, user)
    return directory


def _give(path: Path, user: str | None) -> None:
    """Hand a file or directory to the account Postgres runs as."""
    if user is not None:
        os.chown(path, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)


def _remove(home: Path, started: list[Process]) -> None:
    """Remove a temporary home; at the interpreter's exit its server may still run, and is ended first."""
    for process in started:
        process.kill()
    shutil.rmtree(home, ignore_errors=True)
