"""The process beside the embedded store's server: it starts the server, and ends it when nobody uses it.

`embedded.py` runs this file as a script (`python -I -S`: it starts in milliseconds and can import nothing
but the standard library), with the server's configuration on stdin, and imports its helpers.

    embedded_watchdog.py HOME BINARY SOCKET SERVER_LOCK_FD WATCHDOG_LOCK_FD

It prints `ready` once the server answers, and goes on in the background, or prints why it does not.
It has no owner: it ends when the server does, and it ends the server when the last user is gone, or when
its directory was deleted or moved away: nobody could find again what it would still take.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable
from time import monotonic

READY = b"ready"
START_LOCK, USERS_LOCK, LOG = "start.lock", "users.lock", "valkey.log"

SILENT_SECONDS = 5.0
"""How long a server may take to its first answer."""
LOADING_SECONDS = 60.0
"""How long a server may answer that it is still reading its data."""

_POLL_SECONDS = 0.5
_END_SECONDS = 3.0
_LOG_BYTES = 1 << 20
_PR_SET_PDEATHSIG = 1
"""prctl(2)."""


def try_lock(fd: int, *, shared: bool = False) -> bool:
    """Take the lock of an open file, if it is free. It lasts until the last copy of `fd` is closed."""
    import fcntl  # not on Windows, where embedded.py must still import to say so

    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(fd: int) -> None:
    """Give back the lock of an open file, for every copy of `fd`."""
    import fcntl

    fcntl.flock(fd, fcntl.LOCK_UN)


def lies_at(path: str, fd: int) -> bool:
    """Whether an open file is still what `path` names: not deleted, moved, or hidden by another mount."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except OSError:
        return False


def ask(address: str, command: bytes) -> bytes:
    """The server's first answer to a command without arguments; empty where nobody answers."""
    import socket  # takes 12 ms, in which the server already starts

    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            connection.connect(address)
            connection.sendall(command + b"\r\n")
            return connection.recv(512)
    except OSError:
        return b""


def wait_until_ready(address: str, ended: Callable[[float], bool]) -> bool:
    """Wait until the server answers; False when it ended, or stays silent, or loads for too long.

    Args:
        address: the path of its socket.
        ended: waits up to so many seconds, and says whether the server ended.
    """
    start = monotonic()
    while not ended(0.002):
        answer = ask(address, b"PING")
        loading = answer.startswith(b"-LOADING")
        if answer and not loading:
            return True
        if monotonic() - start > (LOADING_SECONDS if loading else SILENT_SECONDS):
            return False
    return False


def _main(home: str, binary: str, address: str, server_lock: int, watchdog_lock: int) -> None:
    if os.fork():
        os._exit(0)  # so that no user is our parent, who would have to wait for us
    os.chdir(home)
    os.umask(0o077)
    # The server inherits these from us, and we from whoever starts it.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # All opened now: the directory may be deleted while the server runs.
    start, users = (os.open(name, os.O_RDWR | os.O_CREAT, 0o600) for name in (START_LOCK, USERS_LOCK))
    log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    # The server keeps two files of ours open. Both close with it, however it ends: the pipe tells us,
    # the lock tells everybody. Our own lock must end with us.
    lifeline, held_by_server = os.pipe()
    os.set_inheritable(held_by_server, True)
    os.set_inheritable(watchdog_lock, False)

    def ended(seconds: float | None) -> bool:
        return bool(select.select([lifeline], [], [], seconds)[0])

    os.write(log, os.fsencode(f"starting {binary}\n"))  # a full disk is found out here, where it can be told
    server = _start(binary, log)
    os.close(held_by_server)
    try:
        os.ftruncate(server_lock, 0)
        os.write(server_lock, b"%d\n" % server)  # for people, and for messages to them
        os.close(server_lock)
        if not wait_until_ready(address, ended):
            sys.exit("it ended at once" if ended(0) else "it does not answer")
        _report_ready()
        _watch(ended, home, log, start, users)
    finally:
        # Its pid cannot have become another's: only we could have waited for it, and we never do.
        os.kill(server, signal.SIGTERM)
        if not ended(_END_SECONDS):
            os.kill(server, signal.SIGKILL)
            ended(None)


def _start(binary: str, log: int) -> int:
    """The server's process. On Linux it is told to end when ours does, be it killed; elsewhere the next user
    finds it alone and replaces it."""
    watchdog = os.getpid()
    server = os.fork()
    if server:
        return server
    told = os.dup(1)  # closed when the server is there
    try:
        if sys.platform == "linux":
            import ctypes

            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != watchdog:
                os._exit(1)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.execv(binary, [binary, "-"])
    except (ImportError, OSError) as error:
        os.write(told, os.fsencode(f"{error}: {binary}: "))
    os._exit(1)


def _report_ready() -> None:
    os.write(1, READY)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)


def _watch(ended: Callable[[float], bool], home: str, log: int, start: int, users: int) -> None:
    """Until the server ended, or its directory is gone, or nobody uses it and, as the start lock stays taken,
    nobody can begin to."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # users may still need the server for their last settlements
    while not ended(_POLL_SECONDS) and lies_at(os.path.join(home, USERS_LOCK), users):
        if os.fstat(log).st_size > _LOG_BYTES:
            os.ftruncate(log, 0)
        if try_lock(start):
            if try_lock(users):
                return
            unlock(start)


if __name__ == "__main__":
    try:
        _main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    except OSError as error:
        sys.exit(str(error))
