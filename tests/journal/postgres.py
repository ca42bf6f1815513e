"""A PostgreSQL server of the tests' own, which can be killed, paused and started again."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.sidecar.processes import free_port

_NOBODY = "nobody"
"""PostgreSQL does not run as root."""


def binaries() -> Path | None:
    """The folder with `initdb` and `postgres`, of Debian's package or on the path."""
    found = shutil.which("initdb")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    folders += [Path(found).resolve().parent] if found else []
    return next((folder for folder in reversed(folders) if (folder / "postgres").exists()), None)


class Postgres:
    """One server on loopback. It syncs nothing: a process that is killed loses nothing by that."""

    def __init__(self, folder: Path, data: Path) -> None:
        self._data = data
        self._postgres = folder / "postgres"
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._user = _NOBODY if os.geteuid() == 0 else None
        initdb = [folder / "initdb", "--no-sync", "--auth=trust", "--username=gov", "--encoding=UTF8"]
        if self._user:
            shutil.chown(data, _NOBODY, pwd.getpwnam(_NOBODY).pw_gid)
        subprocess.run(
            [*initdb, "--locale=C", "-D", data], check=True, capture_output=True, user=self._user, cwd=data
        )

    def url(self, schema: str) -> str:
        """Of tables of the caller's own."""
        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute(f'CREATE SCHEMA "{schema}"')
        return f"{self._server}?options=-csearch_path%3D{schema}"

    @property
    def _server(self) -> str:
        return f"postgresql://gov@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        """Again too: the killed one's last processes may still end, and so long it does not start."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            self._launch()
            while self._process is not None and self._process.poll() is None:
                try:
                    psycopg.connect(self._server, connect_timeout=2).close()
                    return
                except psycopg.OperationalError:
                    time.sleep(0.05)
        raise AssertionError((self._data / "log").read_text())

    def _launch(self) -> None:
        settings = [f"port={self._port}", f"unix_socket_directories={self._data}", "fsync=off"]
        flags = [part for setting in settings for part in ("-c", setting)]
        with (self._data / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._postgres, "-D", self._data, *flags],
                stdout=log,
                stderr=log,
                user=self._user,
                cwd=self._data,
            )

    def kill(self) -> None:
        """As a crash does: with all its processes, at once."""
        self.signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait(10)

    def pause(self) -> None:
        """It takes connections, and answers nothing."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def signal(self, number: signal.Signals) -> None:
        """To it and its children, each of which has a process group of its own."""
        assert self._process is not None
        pid = self._process.pid
        for each in [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]:
            os.kill(each, number)

    def connections(self) -> int:
        """Of others than who asks."""
        with psycopg.connect(self._server) as connection:
            query = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
            (found,) = connection.execute(query).fetchone() or (0,)
            return int(found) - 1

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.resume()
            self._process.send_signal(signal.SIGINT)
            self._process.wait(30)


@contextmanager
def running_postgres(folder: Path) -> Iterator[Postgres]:
    with tempfile.TemporaryDirectory(prefix="gov-postgres-", ignore_cleanup_errors=True) as data:
        server = Postgres(folder, Path(data))
        try:
            server.start()
            yield server
        finally:
            server.stop()
