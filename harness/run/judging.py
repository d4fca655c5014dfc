"""The inside of a judge: a process that drives workers of its own and judges what they give.

It is started by `harness.run.judges` and does for its batches what the main process does where there is no judge.
"""

from __future__ import annotations

import os
import signal
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from harness.backend import BackendInfo
from harness.checks import CHECKS, Trial
from harness.oracle.cache import OracleCache
from harness.records import Record
from harness.run.judge import judge_batch
from harness.run.limits import Limits
from harness.run.link import WorkerLink
from harness.run.plan import Batch
from harness.run.worker import SAFE_PATH

#: Batches judged at once, at most.
AT_ONCE = 64
_CHECKS = {c.name: c for c in CHECKS}


@dataclass(frozen=True)
class Brief:
    """What a judge is told once.

    Attributes
    ----------
    references : tuple of str
        Backends, in the order of the plan's lanes.
    infos : tuple of BackendInfo or None
    limits : Limits
    seed : int
    oracle_directory : Path, optional
    oracle_bytes : int
        Oracle results that it holds in memory.
    keep : bool
        Whether what a failure ran on is wanted back.
    """

    references: tuple[str, ...]
    infos: tuple[BackendInfo | None, ...]
    limits: Limits
    seed: int
    oracle_directory: Path | None
    oracle_bytes: int
    keep: bool


@dataclass(frozen=True)
class Task:
    """A batch to judge by a link, one of the judge's own that `link` numbers; its checks go by name."""

    serial: int
    link: int
    batch: Batch
    checks: tuple[str, ...]
    diagnose: bool


@dataclass(frozen=True)
class Judged:
    """The records of a task, in the order of its jobs, and what those that ended badly ran on; or a defect of Convproof's."""

    serial: int
    records: tuple[Record, ...] = ()
    kept: tuple[tuple[Record, Trial], ...] = ()
    defect: str = ""


@dataclass
class JudgeServer:
    """A judge at work."""

    conn: Connection
    brief: Brief
    links: dict[int, WorkerLink] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._oracle = OracleCache(self.brief.seed, self.brief.oracle_directory, self.brief.oracle_bytes)
        self._sending = threading.Lock()

    def serve(self) -> None:
        """Judge until told to end. Where the main process is gone, end at once, and the workers too."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while True:
                try:
                    task: Task | None = self.conn.recv()
                except (EOFError, OSError):
                    for link in list(self.links.values()):
                        link.abandon()
                    os._exit(1)
                if task is None:
                    break
                if task.link not in self.links:
                    self.links[task.link] = WorkerLink(self.brief.references[task.batch.backend], self.brief.limits)
                pool.submit(self._answer, task)
        for link in self.links.values():
            link.close()

    def _answer(self, task: Task) -> None:
        try:
            reply = self._judged(task)
        except BaseException:  # noqa: BLE001 - carried to the main process, which raises it
            reply = Judged(task.serial, defect=traceback.format_exc())
        with self._sending:
            try:
                self.conn.send(reply)
            except (BrokenPipeError, ConnectionError):
                os._exit(1)

    def _judged(self, task: Task) -> Judged:
        kept: list[tuple[Record, Trial]] = []
        batch, info = _whole(task), self.brief.infos[task.batch.backend]
        assert info is not None
        records = judge_batch(
            batch,
            info,
            self.links[task.link],
            self._oracle,
            self.brief.limits,
            (lambda record, trial: kept.append((record, trial))) if self.brief.keep else None,
            diagnose=task.diagnose,
        )
        return Judged(task.serial, tuple(records), tuple(kept))


def stripped(serial: int, link: int, batch: Batch, *, diagnose: bool) -> Task:
    """The task of a batch, as it is sent: checks hold functions, and go by name."""
    return Task(serial, link, batch.with_checks(()), tuple(c.name for c in batch.checks), diagnose)


def _whole(task: Task) -> Batch:
    return task.batch.with_checks(tuple(_CHECKS[name] for name in task.checks))


def main(fd: int) -> None:
    """Serve the connection of a descriptor.

    The terminal's interrupt is the main process's to answer.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.environ.pop(SAFE_PATH, None)
    conn = Connection(fd)
    JudgeServer(conn, conn.recv()).serve()
