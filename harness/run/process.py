"""A worker seen from the parent: start it, ask it, watch its time and memory, bury it.

Workers come from a fork server that has numpy and the worker's code loaded, but never a backend. Each worker
sets its own thread count first; the fork server's environment holds that of the first one.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import multiprocessing as mp
import os
import pickle
import re
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from multiprocessing import forkserver, resource_tracker, util
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import send_handle
from types import ModuleType
from typing import Any

from harness.records import Status
from harness.run.arena import Arena
from harness.run.limits import THREAD_VARIABLES, WAIT_VARIABLES, Limits
from harness.run.messages import Reply, Request, Trouble, unpacked
from harness.run.remains import NOT_OURS, SOCKET_FOLDER, kill_group
from harness.run.worker import SAFE_PATH
from harness.run.worker import main as worker_main

_PRELOAD = ["numpy", "harness.run.worker", "ctypes", "ml_dtypes"]
_POLL = 0.05
#: Seconds between attempts to start a worker where the fork server does not answer.
_PAUSES = (0.0, 0.05, 0.2, 1.0)
_LOG_TAIL = 1500
_LOG_LIMIT = 1 << 20
#: What a process holds that RLIMIT_DATA counts, and shared memory, which it does not.
_HELD = ("RssAnon", "RssShmem")
_FRAME = re.compile(r'File "([^"]+)", line (\d+) in (\S+)')
#: Packages whose types a reply may hold; the backend's own would have to be imported here to be read.
_PLAIN = frozenset({"harness", "numpy", "builtins", "collections", "copyreg"})
_starting = threading.Lock()
_types: dict[tuple[str, str], Any] = {}


class WorkerGone(Exception):
    """A worker died or was killed; `status` is CRASH, TIMEOUT or OOM, `log` the end of what it printed."""

    def __init__(self, status: Status, message: str, log: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.log = status, message, log


class WorkerProcess:
    """One worker process; serves one backend for life.

    Parameters
    ----------
    limits : Limits
        What it may use.

    Raises
    ------
    WorkerGone
        If the system starts no process.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._ending = threading.Lock()
        self.arena = Arena()
        self._log = Arena().fd
        fcntl.fcntl(self._log, fcntl.F_SETFL, os.O_APPEND)  # so that trimming it frees memory
        try:
            self._conn, self._process = _started(self.arena.fd, self._log, limits)
            self._poll = select.poll()  # one for life: making a selector costs more than a round trip
            self._fd = self._conn.fileno()
            self._poll.register(self._fd, select.POLLIN)
            self._poll.register(self._process.sentinel, select.POLLIN)
        except (OSError, EOFError) as e:
            self.arena.close()
            raise WorkerGone(Status.ERROR, f"no worker process could be started: {e}") from e

    def ask(self, request: Request, seconds: float) -> Reply:
        """Send `request` and wait for the reply.

        Raises
        ------
        WorkerGone
            If the worker dies, takes more than `seconds`, or holds more memory than its limit.
        """
        try:
            self._conn.send_bytes(pickle.dumps(request, pickle.HIGHEST_PROTOCOL))  # `send` makes a pickler of its own each time
        except (BrokenPipeError, ConnectionError):
            raise self._buried(self._death()) from None
        deadline = time.monotonic() + seconds
        pause = min(_POLL, seconds)
        while True:
            if ready := self._poll.poll(pause * 1e3):
                if self._fd in dict(ready):
                    with contextlib.suppress(EOFError, OSError):
                        reply = _read(self._conn.recv_bytes())
                        self._trim_log()
                        return reply
                raise self._buried(self._death())
            self._trim_log()  # one that prints without end must not fill the machine's memory
            if (held := self._resident()) > self.limits.memory:
                self.kill()
                raise WorkerGone(Status.OOM, f"held {held / 1e9:.2f} GB, the limit is {self.limits.memory / 1e9:.2f} GB")
            if time.monotonic() >= deadline:
                self.kill()
                raise WorkerGone(Status.TIMEOUT, f"did not return within {seconds:g} s", self._tail())

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process.pid is not None
        return self._process.pid

    def close(self) -> None:
        """Ask it to leave; kill it if it will not."""
        with contextlib.suppress(OSError, ValueError):
            self._conn.send(None)
        self._process.join(0.5)
        self.kill()

    def abandon(self) -> None:
        """Kill the process, and no more: whoever waits in `ask` finds it dead and frees what it held."""
        self._process.kill()

    def kill(self) -> None:
        """End the process and free what the parent holds, once, whichever thread comes first."""
        with self._ending:
            if self._conn.closed:
                return
            kill_group(self.pid)
            if self._process.is_alive():
                self._process.kill()
            self._process.join(5)
            self._conn.close()
            self.arena.close()

    def _death(self) -> WorkerGone:
        self._process.join(5)
        code, log = self._process.exitcode, self._tail()
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                return WorkerGone(Status.CRASH, f"killed by {signal.Signals(-code).name}{_place(log)}", log)
        if code is None:
            return WorkerGone(Status.CRASH, "it closed its connection to the harness", log)
        return WorkerGone(Status.CRASH, f"its process exited with code {code}", log)

    def _buried(self, gone: WorkerGone) -> WorkerGone:
        self.kill()
        return gone

    def _resident(self) -> int:
        """Bytes resident that no file backs, the arena aside; 0 where the system does not tell."""
        try:
            with open(f"/proc/{self._process.pid}/status") as f:  # noqa: PTH123 - a poll, twenty times a second
                held = {k: int(v.split()[0]) << 10 for k, _, v in (line.partition(":") for line in f) if k in _HELD}
            return held["RssAnon"] + max(0, held["RssShmem"] - os.fstat(self.arena.fd).st_size)
        except (OSError, KeyError, IndexError, ValueError):
            return 0

    def _tail(self) -> str:
        """The end of what it printed."""
        try:
            size = os.fstat(self._log).st_size
            return os.pread(self._log, _LOG_TAIL, max(0, size - _LOG_TAIL)).decode(errors="replace").strip()
        except OSError:
            return ""

    def _trim_log(self) -> None:
        if os.fstat(self._log).st_size > _LOG_LIMIT:
            os.ftruncate(self._log, 0)

    def __del__(self) -> None:
        if getattr(self, "_log", -1) >= 0:
            with contextlib.suppress(OSError):
                os.close(self._log)


def _started(arena: int, log: int, limits: Limits) -> tuple[Connection, BaseProcess]:
    """A new worker; a fork server that has been killed is replaced once the system has buried it."""
    for pause in _PAUSES:
        try:
            return _start(arena, log, limits)
        except (EOFError, ConnectionError):
            time.sleep(pause)
    return _start(arena, log, limits)


def _start(arena: int, log: int, limits: Limits) -> tuple[Connection, BaseProcess]:
    context = mp.get_context("forkserver")
    with _starting:
        context.set_forkserver_preload(_PRELOAD)
        # A folder `harness` or `numpy` in the working directory must not be what the fork server imports.
        waits = {k: v for k, v in WAIT_VARIABLES.items() if k not in os.environ}
        threads = {**dict.fromkeys(THREAD_VARIABLES, str(limits.threads)), **waits, SAFE_PATH: "1"}
        with _environment(threads):
            resource_tracker.ensure_running()  # by itself, because it unblocks the interrupt when it is done
        # A child of multiprocessing's shares the folder of its parent, which is not its own to clear away.
        folder = util.get_temp_dir() if mp.parent_process() is None else NOT_OURS
        with _environment({**threads, SOCKET_FOLDER: f"{os.getpid()}:{folder}"}), no_interrupt():
            forkserver.ensure_running()
        here, there = context.Pipe(duplex=True)
        process = context.Process(target=worker_main, args=(there, limits.memory, limits.threads), daemon=True)
        with _hidden_main():
            process.start()
        there.close()
    os.set_blocking(log, True)
    assert process.pid is not None
    send_handle(here, arena, process.pid)
    send_handle(here, log, process.pid)
    return here, process


class _Reader(pickle.Unpickler):
    """Reads what holds no type of a backend's own."""

    def find_class(self, module: str, name: str) -> Any:
        """Find a type of `_PLAIN`; refuse any other."""
        if (found := _types.get((module, name))) is None:
            if module.partition(".")[0] not in _PLAIN:
                raise pickle.UnpicklingError(f"holds a {module}.{name}")
            found = _types[module, name] = super().find_class(module, name)
        return found


def _read(data: bytes) -> Reply:
    """A reply of its bytes; Trouble where they hold what this process would have to import."""
    try:
        reply: Reply = unpacked(data) or _Reader(io.BytesIO(data)).load()
    except Exception as e:  # noqa: BLE001 - made of foreign values, which may fail in any way
        return Trouble("error", f"its reply {e}: only the contract's types and plain values can be sent")
    return reply


def _place(log: str) -> str:
    """The innermost Python line outside the standard library that faulthandler wrote before a death."""
    for file, line, name in _FRAME.findall(log):
        if not file.startswith(sys.base_prefix):
            return f" at {file}:{line} in {name}"
    return ""


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the fork server's start, which inherits them; the caller's own are put back."""
    before = {k: os.environ.get(k) for k in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for k, v in before.items():
            if v is None:
                os.environ.pop(k, None)
            else:
                os.environ[k] = v


@contextlib.contextmanager
def no_interrupt() -> Iterator[None]:
    """Block SIGINT, as the fork server inherits it: until it ignores the signal, a Ctrl-C would print its traceback."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _hidden_main() -> Iterator[None]:
    """Keep multiprocessing from importing the caller's main script again in every worker."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
