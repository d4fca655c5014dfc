"""Carrying out a plan: batches to workers, verdicts to whoever listens, nothing lost.

Threads of this process each drive one worker at a time and judge what it gives; the caller's thread
receives every batch's records, in the order in which they are finished, and is the only one to write.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from harness.oracle.cache import OracleCache
from harness.records import BAD, Job, Record, Status, Verdict
from harness.run.judge import Keep, judge_batch
from harness.run.limits import Limits
from harness.run.link import Link
from harness.run.plan import Batch, Plan
from harness.run.probe import ProbeReport

_FATAL = frozenset({Status.CRASH, Status.TIMEOUT, Status.OOM})


@dataclass(frozen=True)
class Options:
    """How to carry out a plan.

    Attributes
    ----------
    jobs : int
        Workers at once.
    limits : Limits
    budget : float, optional
        Seconds after which no further batch is started.
    fail_fast : bool
        Whether the first bad verdict ends the run.
    give_up_after : int
        Batches in a row that kill or hang a backend's worker before the backend is given up.
    skip : frozenset of Job
        Jobs that are done already (`--resume`).
    keep : callable, optional
        See `judge_batch`.
    """

    jobs: int = 2
    limits: Limits = field(default_factory=Limits)
    budget: float | None = None
    fail_fast: bool = False
    give_up_after: int = 3
    skip: frozenset[Job] = frozenset()
    keep: Keep | None = None


class Runner:
    """Carries out one plan.

    Parameters
    ----------
    plan : Plan
    reports : sequence of ProbeReport
    links : sequence of Link
        One a report, open; further workers of a backend are made by `more`.
    oracle : OracleCache
    options : Options
    more : callable, optional
        Makes another link to the backend of a report's index, for more workers than backends.
    """

    def __init__(
        self,
        plan: Plan,
        reports: Sequence[ProbeReport],
        links: Sequence[Link],
        oracle: OracleCache,
        options: Options,
        more: Callable[[int], Link] | None = None,
    ) -> None:
        self.plan, self.reports, self.oracle, self.options = plan, reports, oracle, options
        self._free: dict[int, list[Link]] = {i: [link] for i, link in enumerate(links)}
        self._more = more
        self._spare = dict.fromkeys(self._free, self._spare_workers(len(links)) if more else 0)
        self._waiting = list(self._todo())
        self._lock = threading.Lock()
        self._fatal: Counter[int] = Counter()
        self._stop = ""
        self._open: list[Link] = list(links)
        self._started = time.monotonic()

    def records(self) -> Iterator[list[Record]]:
        """Run; yield the records of each finished batch, those known beforehand first.

        Every planned job is yielded exactly once (those in `options.skip` aside), as NOT_RUN where the run
        was cut short: by the budget, by `fail_fast`, by an interrupt (which is raised again at the end).
        """
        known = [r for r in self.plan.known if r.job not in self.options.skip]
        if known:
            yield known
            self._note(known)
        interrupted = False
        done: queue.Queue[list[Record] | BaseException | None] = queue.Queue()
        threads = [
            threading.Thread(target=self._drive, args=(done,), daemon=True, name=f"convproof-{i}")
            for i in range(min(self.options.jobs, max(1, len(self._waiting))))
        ]
        for t in threads:
            t.start()
        alive = len(threads)
        while alive:
            try:
                item = done.get()
            except KeyboardInterrupt:
                interrupted = True
                self._stop = self._stop or "interrupted"
                continue
            if item is None:
                alive -= 1
            elif isinstance(item, BaseException):
                self._stop = "the harness failed"
                raise item
            else:
                self._note(item)
                yield item
        rest = self._rest()
        if rest:
            yield rest
        if interrupted:
            raise KeyboardInterrupt

    def run_here(self) -> Iterator[list[Record]]:
        """The same in the calling thread, for links in this process: a debugger's breakpoint works."""
        known = [r for r in self.plan.known if r.job not in self.options.skip]
        if known:
            yield known
            self._note(known)
        while (taken := self._take()) is not None:
            batch, link = taken
            records = self._judge(batch, link)
            self._return(batch, link, records)
            self._note(records)
            yield records
        rest = self._rest()
        if rest:
            yield rest

    def close(self) -> None:
        """End every worker."""
        for link in self._open:
            link.close()
        self.oracle.trim()

    def _todo(self) -> Iterator[Batch]:
        """Batches with a job that is not done; whole, since the checks of a case depend on each other."""
        return (b for b in self.plan.batches if not self.options.skip.issuperset(b.jobs))

    def _spare_workers(self, backends: int) -> int:
        """Workers beyond the first that each backend may have."""
        return max(0, -(-self.options.jobs // max(1, backends)) - 1)

    def _drive(self, done: queue.Queue[list[Record] | BaseException | None]) -> None:
        try:
            while True:
                taken = self._take()
                if taken is not None:
                    batch, link = taken
                    records = self._judge(batch, link)
                    self._return(batch, link, records)
                    done.put(records)
                elif self._stop or not self._waiting:
                    return
                else:
                    time.sleep(0.002)  # every worker that the next batches need is busy
        except BaseException as e:  # noqa: BLE001 - carried to the caller's thread, which raises it
            done.put(e)
        finally:
            done.put(None)

    def _take(self) -> tuple[Batch, Link] | None:
        """The first waiting batch whose backend has a free worker."""
        with self._lock:
            if self.options.budget is not None and time.monotonic() - self._started > self.options.budget:
                self._stop = self._stop or f"the budget of {self.options.budget:g} s was spent"
            if self._stop:
                return None
            for i, batch in enumerate(self._waiting):
                lane = batch.backend
                if self._fatal[lane] >= self.options.give_up_after:
                    continue
                if not self._free[lane] and self._spare[lane] and self._more is not None:
                    self._spare[lane] -= 1
                    link = self._more(lane)
                    self._open.append(link)
                    self._free[lane].append(link)
                if self._free[lane]:
                    del self._waiting[i]
                    return batch, self._free[lane].pop()
                if i > 64 * len(self._free):
                    break
            if self._waiting and all(self._fatal[b.backend] >= self.options.give_up_after for b in self._waiting):
                self._stop = "given up"
        return None

    def _judge(self, batch: Batch, link: Link) -> list[Record]:
        info = self.reports[batch.backend].info
        assert info is not None
        return judge_batch(batch, info, link, self.oracle, self.options.limits, self.options.keep)

    def _return(self, batch: Batch, link: Link, records: Sequence[Record]) -> None:
        with self._lock:
            fatal = any(r.verdict.status in _FATAL for r in records)
            self._fatal[batch.backend] = self._fatal[batch.backend] + 1 if fatal else 0
            self._free[batch.backend].append(link)

    def _note(self, records: Sequence[Record]) -> None:
        if self.options.fail_fast and any(r.verdict.status in BAD for r in records):
            self._stop = self._stop or "an earlier verdict was bad and -x was given"

    def _rest(self) -> list[Record]:
        rest = []
        for batch in self._waiting:
            lane = batch.backend
            if self._fatal[lane] >= self.options.give_up_after:
                why = f"given up after {self._fatal[lane]} cases in a row killed or hung its worker (give_up_after)"
            else:
                why = self._stop or "not reached"
            rest += [Record(j, Verdict(Status.NOT_RUN, why), digest=batch.case.version) for j in batch.jobs]
        self._waiting = []
        return rest
