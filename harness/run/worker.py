"""The entry point of a worker process.

This module is preloaded by the fork server together with numpy, so that a worker starts in
milliseconds; it imports no backend before it is told to.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import resource
import signal
import sys
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle

from harness.run.arena import Arena
from harness.run.messages import Trouble, packed
from harness.run.oclgrind import Findings
from harness.run.remains import lead_group, watch_over
from harness.run.serve import Server, describe
from harness.run.threads import fix_threads

_PR_SET_PDEATHSIG = 1
#: Bytes of private memory beyond the limit: thread stacks and allocators reserve without using.
HEADROOM = 256 << 20
#: Keeps the working directory off the fork server's import path; no affair of what a backend starts.
SAFE_PATH = "PYTHONSAFEPATH"


watch_over()


def main(conn: Connection, memory: int, threads: int) -> None:
    """Serve requests from `conn` until it closes.

    Parameters
    ----------
    conn : Connection
        A Unix socket; the arena's and the log's descriptors come first.
    memory : int
        The limit on resident memory, bytes; RLIMIT_DATA is `HEADROOM` more.
    threads : int
        Of its libraries.
    """
    _die_with_parent()
    lead_group()
    os.environ.pop(SAFE_PATH, None)
    fix_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        arena = Arena(recv_handle(conn))
        log = recv_handle(conn)
    except (EOFError, OSError):
        os._exit(0)  # the process that asked for this one was killed meanwhile
    _redirect(log)
    faulthandler.enable(file=log)
    with contextlib.suppress(ValueError, OSError):
        # Above the polled limit, so that what grows slowly is found by the poll and what asks for too much at once here.
        hard = memory + HEADROOM
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    server = Server(arena, findings=Findings.watched())
    while True:
        try:
            request = conn.recv()
        except (EOFError, OSError):
            os._exit(0)
        if request is None:
            with contextlib.suppress(BaseException):
                server.close()
            os._exit(0)  # no atexit handlers of foreign code
        reply = server.answer(request)
        try:
            conn.send_bytes(packed(reply))
        except (BrokenPipeError, ConnectionError):
            os._exit(0)
        except Exception as e:  # noqa: BLE001 - a reply built from foreign values may not pickle
            conn.send(Trouble("error", f"its reply cannot be sent: {describe(e)}"))


def _die_with_parent() -> None:
    """Be killed when the fork server goes, which goes when the main process does: no orphan after a kill."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The fork server goes when the last copy of its lifeline is closed, and multiprocessing leaves one in
    # every worker: a worker that hangs would hold the server up, and so itself.
    lifeline = getattr(getattr(forkserver, "_forkserver", None), "_forkserver_alive_fd", None)
    if isinstance(lifeline, int):
        with contextlib.suppress(OSError):
            os.close(lifeline)


def _redirect(log: int) -> None:
    """Send what foreign code prints to the log: the main process owns the terminal."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # the caller may have closed it
            stream.flush()
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.dup2(log, 1)
    os.dup2(log, 2)
