"""What foreign code may leave behind, and who clears it away: child processes, and the fork server's socket.

Each worker leads a group of its own; whoever ends a worker kills the group. If the main process is killed the fork server
finds out, since the pipe between them closes, and clears away the rest.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

#: Says `PID:FOLDER`, the main process (which may be gone when this is read) and the folder of the fork server's socket. Its
#: owner is the main process, which removes it unless it is killed.
SOCKET_FOLDER = "CONVPROOF_SOCKET_FOLDER"
#: Stands for a folder that another process owns.
NOT_OURS = "-"
#: Seconds in which a process that has closed its pipes is gone.
LINGER = 0.5


def lead_group() -> None:
    """In a worker: what it starts belongs to it."""
    with contextlib.suppress(OSError):
        os.setsid()


def kill_group(pid: int) -> None:
    """Kill a worker and what it started (unless that left for a session of its own)."""
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)


def watch_over() -> None:
    """In the fork server, as it starts: clear everything away when it ends because the main process has."""
    if told := os.environ.pop(SOCKET_FOLDER, None):
        main, _, folder = told.partition(":")
        atexit.register(_clear_away, folder, os.getpid(), int(main))


def _clear_away(folder: str, server: int, main: int) -> None:
    """Kill what the workers left and remove the socket's folder, in the fork server alone, once the main process is gone.

    One that lives keeps the folder, where the next fork server will listen. One that was killed closes its pipes a moment
    before its children get another parent.
    """
    if os.getpid() != server:  # a worker's own end
        return
    deadline = time.monotonic() + LINGER
    while os.getppid() == main:
        if time.monotonic() > deadline:
            return
        time.sleep(0.005)
    if folder != NOT_OURS:
        shutil.rmtree(folder, ignore_errors=True)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == server:
                kill_group(int(stat.parent.name))
