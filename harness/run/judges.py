"""Judges seen from the main process: judging is Python, and one interpreter judges on one core.

Each is a process with workers of its own. What is run where, in which order and until when stays with the main process.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from harness.checks import CHECKS, Check
from harness.oracle.cache import OracleCache
from harness.records import Record, Status, Verdict
from harness.run.judge import Keep
from harness.run.judging import Brief, Judged, Task, stripped
from harness.run.limits import usable_cores
from harness.run.plan import Batch
from harness.run.probe import ProbeReport
from harness.run.process import no_interrupt
from harness.run.runner import Options
from harness.run.worker import SAFE_PATH

#: Batches that repay the start of judges and of their workers (measured: the 800 of `smoke` take a quarter less time).
WORTH_JUDGES = 400
#: Workers that one judge keeps at work: it judges the one's output while the other computes.
WORKERS_A_JUDGE = 2
#: Deaths of a judge that one batch may see before it is charged with them.
TRIES = 3
#: Seconds that a judge has to end its workers when it is told to.
PATIENCE = 3.0


def how_many(options: Options, checks: Sequence[Check], batches: float) -> int:
    """How many judges a run of so many batches is worth; 0 where the main process judges.

    That are `options.judges` if it is set, never more than workers; none for a check that a judge cannot look up by name.
    """
    if any(c not in CHECKS for c in checks):
        return 0
    if options.judges is not None:
        return min(options.judges, options.jobs)
    most = min(usable_cores(), options.jobs // WORKERS_A_JUDGE)
    return most if most > 1 and batches >= WORTH_JUDGES else 0


def make_judges(number: int, reports: Sequence[ProbeReport], options: Options, oracle: OracleCache) -> list[Judge]:
    """So many judges of what backends give that were probed; none is started yet."""
    references, infos = tuple(r.reference for r in reports), tuple(r.info for r in reports)
    share = oracle.limit // max(1, number)
    brief = Brief(references, infos, options.limits, oracle.seed, oracle.directory, share, keep=options.keep is not None)
    return [Judge(brief, options.keep) for _ in range(number)]


class JudgeGone(Exception):
    """A judge died before it answered."""


class Judge:
    """A judge's process, started when first asked and again after each death; safe to use from threads.

    Parameters
    ----------
    brief : Brief
    keep : callable, optional
        See `harness.run.judge.judge_batch`; called here.
    """

    def __init__(self, brief: Brief, keep: Keep | None = None) -> None:
        self.brief, self.keep = brief, keep
        self.abandoned = False
        self._serials = itertools.count()
        self._starting = threading.Lock()
        self._line: _Line | None = None

    @property
    def pid(self) -> int:
        """The process's id; 0 if there is none."""
        return 0 if self._line is None else self._line.process.pid

    def judge(self, link: int, batch: Batch, *, diagnose: bool) -> list[Record]:
        """The records of a batch, judged by the judge's own link of that number.

        Raises
        ------
        JudgeGone
            If the judge dies meanwhile.
        RuntimeError
            If judging fails by a defect of Convproof's.
        """
        serial = next(self._serials)
        reply = self._running().ask(stripped(serial, link, batch, diagnose=diagnose))
        if reply.defect:
            raise RuntimeError(f"judging failed, which is a defect of Convproof:\n{reply.defect}")
        if self.keep is not None:
            for record, trial in reply.kept:
                self.keep(record, trial)
        return list(reply.records)

    def abandon(self) -> None:
        """Kill it, from any thread: who waits gets `JudgeGone`; its workers end with it."""
        self.abandoned = True
        if (line := self._line) is not None:
            line.process.kill()

    def close(self) -> None:
        """Ask it to end its workers and leave; kill it if it will not."""
        self.abandoned = True
        if (line := self._line) is not None:
            line.close()

    def _running(self) -> _Line:
        with self._starting:
            if self.abandoned:
                raise JudgeGone("the run was cut short")
            if self._line is None or self._line.lost:
                if self._line is not None:
                    self._line.close()
                try:
                    self._line = _Line(self.brief)
                except OSError as e:  # no process, no descriptor left
                    self._line = None
                    raise JudgeGone(f"it could not be started: {e}") from e
            return self._line


def _started(fd: int) -> subprocess.Popen[bytes]:
    """A judge's process, which serves the connection of a descriptor; it imports from where this one does."""
    path = [str(Path.cwd()) if p == "" else p for p in sys.path]
    # The temporary folder is told too: who looks for one tries it by a file, which a kill at that moment leaves there.
    code = f"import sys, tempfile; sys.path[:] = {path!r}; tempfile.tempdir = {tempfile.gettempdir()!r}"
    code += f"; from harness.run.judging import main; main({fd})"
    with no_interrupt():
        return subprocess.Popen(  # noqa: S603 - this interpreter
            [sys.executable, "-c", code],
            pass_fds=[fd],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # the main process's, which may be writing JSON there
            env={**os.environ, SAFE_PATH: "1"},
        )


class _Line:
    """One process and the conversation with it."""

    def __init__(self, brief: Brief) -> None:
        here, there = socket.socketpair()
        with here, there:
            self.process = _started(there.fileno())
            self._conn = Connection(os.dup(here.fileno()))
        self._sending = threading.Lock()
        self._waiting: dict[int, queue.SimpleQueue[Judged | None]] = {}
        self.lost = False
        with contextlib.suppress(BrokenPipeError, ConnectionError):
            self._conn.send(brief)
        self._reader = threading.Thread(target=self._read, daemon=True, name="convproof-judge")
        self._reader.start()

    def ask(self, task: Task) -> Judged:
        box: queue.SimpleQueue[Judged | None] = queue.SimpleQueue()
        with self._sending:
            self._waiting[task.serial] = box
            if self.lost:
                box.put(None)
            else:
                with contextlib.suppress(OSError):  # the reader finds out
                    self._conn.send(task)
        if (reply := box.get()) is None:
            raise JudgeGone(self._death())
        return reply

    def close(self) -> None:
        with self._sending, contextlib.suppress(OSError, ValueError):
            self._conn.send(None)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join()
        self._conn.close()

    def _read(self) -> None:
        while True:
            try:
                reply: Judged = self._conn.recv()
            except Exception:  # noqa: BLE001 - the end, or an answer cut short by it
                break
            self._waiting.pop(reply.serial).put(reply)
        with self._sending:
            self.lost = True
            for box in self._waiting.values():
                box.put(None)

    def _death(self) -> str:
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return "it closed its connection"
        return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


_numbers = itertools.count()


@dataclass(eq=False)
class There:
    """A seat at a judge: one link of its."""

    judge_process: Judge
    home: int
    number: int = field(default_factory=lambda: next(_numbers))

    def judge(self, batch: Batch, *, diagnose: bool) -> list[Record]:
        """Judge a batch; again where the judge dies, which is no fault of a backend's, but not for ever."""
        why = ""
        for _ in range(TRIES):
            try:
                return self.judge_process.judge(self.number, batch, diagnose=diagnose)
            except JudgeGone as e:
                why = str(e)
                if self.judge_process.abandoned:
                    return [Record(j, Verdict(Status.NOT_RUN, why), digest=batch.case.version) for j in batch.jobs]
        text = f"it had no judge in {TRIES} tries ({why}): the machine is out of memory, or this is a defect of Convproof"
        return [Record(j, Verdict(Status.ERROR, text), digest=batch.case.version) for j in batch.jobs]

    def abandon(self) -> None:
        """Kill the judge; other seats' batches end too."""
        self.judge_process.abandon()

    def close(self) -> None:
        """Do nothing: the judge ends its links with itself."""
