"""A process that is timed, seen from the one that asks: start it, ask it, watch its time, bury it.

Workers (`harness.run.process`) are forked from a server, so that all share one memory layout, and their threads sleep
where they wait. Processes that are timed are started afresh instead: each has its own layout, over which a figure
can vary by several percent, and the waiting that its libraries choose.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.records import Status
from harness.run.arena import Arena
from harness.run.limits import THREAD_VARIABLES, Limits, usable_cores
from harness.run.messages import Trouble
from harness.run.process import WorkerGone
from harness.run.remains import kill_group
from harness.run.worker import HEADROOM

CHILD = Path(__file__).with_name("child.py")
_LOG_TAIL = 1500
#: Seconds between two looks whether a process that does not answer is there at all.
LOOK = 0.5


class Troubled(Exception):
    """The backend raised, or cannot be loaded there; `trouble` says what."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.message)
        self.trouble = trouble


class SideProblem(ValueError):
    """What was to be measured cannot be; the message says why and the way out."""


class SideUnavailable(SideProblem):
    """A side has no device or package here; the message says how to install it where that is known."""


@dataclass(frozen=True)
class Side:
    """What is measured: a backend of an installation.

    Attributes
    ----------
    label : str
        For people: a backend's name, a commit, an interpreter.
    reference : str
        As `Registry.reference` gives it.
    python : str
        The interpreter.
    path : tuple of str
        Where it looks for modules before its own places.
    digest : str
        Names the content: a commit's hash, or empty.
    root : str
        The checkout that the backend's file has to be in, so that it is this commit's; empty for no such thing.
    """

    label: str
    reference: str
    python: str = sys.executable
    path: tuple[str, ...] = field(default_factory=lambda: tuple(p for p in sys.path if p))
    digest: str = ""
    root: str = ""


def pinned_cores(threads: int) -> tuple[int, ...]:
    """The cores of a process of so many threads: the last ones, for the first serves most interrupts."""
    if not hasattr(os, "sched_getaffinity"):
        return ()
    return tuple(sorted(os.sched_getaffinity(0))[-threads:]) if threads <= usable_cores() else ()


def environment(side: Side, threads: int) -> dict[str, str]:
    """The variables of a process: thread counts fixed, hashes of text the same every time, the side's modules first."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP")}
    fixed = {**dict.fromkeys(THREAD_VARIABLES, str(threads)), "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    return {**kept, **fixed, "PYTHONPATH": os.pathsep.join(side.path)}


class TimedProcess:
    """One fresh process of a side; a context manager that ends it.

    Parameters
    ----------
    side : Side
    limits : Limits
        Its `threads` are fixed before anything is imported.
    cores : sequence of int
        On which it may run; wherever if empty.

    Raises
    ------
    WorkerGone
        If it cannot be started.
    """

    def __init__(self, side: Side, limits: Limits, cores: Sequence[int] = ()) -> None:
        self.side, self.limits, self.cores = side, limits, tuple(sorted(cores))
        self.arena = Arena()
        self._log = Arena().fd
        ours, theirs = os.pipe(), os.pipe()
        words = [side.python, "-P", str(CHILD), str(theirs[0]), str(ours[1]), str(self.arena.fd)]
        words += [str(limits.memory + HEADROOM), ",".join(map(str, cores))]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the side's own interpreter
                words,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env=environment(side, limits.threads),
                pass_fds=(theirs[0], ours[1], self.arena.fd),
                start_new_session=True,
            )
        except OSError as e:
            for fd in (*ours, *theirs):
                os.close(fd)
            raise WorkerGone(Status.ERROR, f"{side.python} cannot be started: {e.strerror}") from e
        os.close(theirs[0])
        os.close(ours[1])
        self._requests, self._replies, self._rest = theirs[1], ours[0], b""
        self._paused = False

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self._requests < 0

    def load(self) -> dict[str, Any]:
        """Import the backend there: its name, version, devices. Raises as `ask`."""
        return self.ask("load", self.limits.load_seconds, reference=self.side.reference)

    def ask(self, op: str, patience: float, /, **arguments: Any) -> dict[str, Any]:
        """Send a request and wait for the reply.

        Raises
        ------
        WorkerGone
            If the process dies or takes more than `patience` seconds.
        Troubled
            If the backend raises.
        """
        self.resume()
        try:
            os.write(self._requests, json.dumps({"op": op, **arguments}).encode() + b"\n")
        except OSError:
            raise self._death() from None
        deadline = time.monotonic() + patience
        while b"\n" not in self._rest:
            left = deadline - time.monotonic()
            if left <= 0:
                tail = self._tail()
                self.close()
                raise WorkerGone(Status.TIMEOUT, f"did not return within {patience:g} s", tail)
            if select.select([self._replies], [], [], min(left, LOOK))[0]:
                data = os.read(self._replies, 1 << 20)
                if not data:
                    raise self._death()
                self._rest += data
            elif self._process.poll() is not None:  # what it started may hold the pipe open
                raise self._death()
        line, _, self._rest = self._rest.partition(b"\n")
        try:
            reply: Mapping[str, Any] = json.loads(line)
            if "ok" in reply:
                return dict(reply["ok"])
            trouble = Trouble(str(reply["trouble"]), str(reply["message"]), str(reply["traceback"]))
        except (ValueError, KeyError, TypeError) as e:
            self.close()
            raise WorkerGone(Status.ERROR, f"its reply cannot be read, something else wrote to its pipe: {e}") from None
        raise Troubled(trouble)

    def pause(self) -> None:
        """Stop it where it is, until it is asked again: threads that wait for work spin for a while, on the other's cores."""
        if not self.closed and not self._paused:
            os.killpg(self._process.pid, signal.SIGSTOP)
            self._paused = True

    def resume(self) -> None:
        """Let it go on."""
        if self._paused and not self.closed:
            os.killpg(self._process.pid, signal.SIGCONT)
        self._paused = False

    def _death(self) -> WorkerGone:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        code, log = self._process.returncode, self._tail()
        self.close()
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                return WorkerGone(Status.CRASH, f"killed by {signal.Signals(-code).name}", log)
        last = log.rpartition("\n")[2]
        return WorkerGone(Status.CRASH, f"its process exited with code {code}{': ' + last if last else ''}", log)

    def _tail(self) -> str:
        size = os.fstat(self._log).st_size
        return os.pread(self._log, _LOG_TAIL, max(0, size - _LOG_TAIL)).decode(errors="replace").strip()

    def close(self) -> None:
        """End it, and free what is held."""
        if self._requests < 0:
            return
        kill_group(self._process.pid)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        for fd in (self._requests, self._replies, self._log):
            os.close(fd)
        self._requests = -1
        self.arena.close()

    def __enter__(self) -> TimedProcess:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
