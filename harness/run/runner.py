"""Carrying out a plan: batches to workers, verdicts to whoever listens, nothing lost.

Threads of this process each take one batch at a time to a seat, where it is run and judged; the caller's thread
receives every batch's records, in the order in which they are finished, and is the only one to write.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from harness.records import BAD, Job, Record, Status, Verdict
from harness.run.diagnosing import A_BACKEND
from harness.run.judge import Keep
from harness.run.limits import Limits
from harness.run.plan import Batch, Plan
from harness.run.seats import Seat

_FATAL = frozenset({Status.CRASH, Status.TIMEOUT, Status.OOM})
#: Seconds that the cases at hand have to finish after an interrupt; a second interrupt ends them at once.
GRACE = 1.0
#: Seconds that a thread has to notice that its worker was killed, at the end.
PATIENCE = 10.0
#: Cases that must wait for a backend for another worker to be started for it.
WORTH_A_WORKER = 4


@dataclass(frozen=True)
class Options:
    """How to carry out a plan.

    Attributes
    ----------
    jobs : int
        Workers at once.
    judges : int, optional
        Processes that judge what the workers give; 0 for this one. By default as many as repay their start.
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
    diagnose : int
        Batches of a backend whose failures are diagnosed.
    waive : callable
        Turns a record into what known failures make of it (`harness.catalogue.waivers`).
    """

    jobs: int = 2
    judges: int | None = None
    limits: Limits = field(default_factory=Limits)
    budget: float | None = None
    fail_fast: bool = False
    give_up_after: int = 3
    skip: frozenset[Job] = frozenset()
    keep: Keep | None = None
    diagnose: int = A_BACKEND
    waive: Callable[[Record], Record] = lambda record: record


class Runner:
    """Carries out one plan.

    Parameters
    ----------
    plan : Plan
    seats : sequence of sequence of Seat
        Those of each backend that there are; more are made by `more`.
    options : Options
    more : callable, optional
        Makes another seat for the backend of an index at the home of a number.
    homes : int
        How many processes judge; at most `options.jobs` of them are used.
    """

    def __init__(
        self,
        plan: Plan,
        seats: Sequence[Sequence[Seat]],
        options: Options,
        more: Callable[[int, int], Seat] | None = None,
        homes: int = 1,
    ) -> None:
        self.plan, self.options = plan, options
        self._free: dict[int, list[Seat]] = {i: list(own) for i, own in enumerate(seats)}
        self._more, self._homes = more, homes
        self._seats: Counter[tuple[int, int]] = Counter((i, seat.home) for i, own in self._free.items() for seat in own)
        self._home_of: dict[str, int] = {}
        self._lived: set[int] = set()
        self._died: set[int] = set()
        self._lanes: dict[int, deque[tuple[int, Batch]]] = {i: deque() for i in self._free}
        for place, batch in enumerate(self._todo()):
            self._lanes[batch.backend].append((place, batch))
        self._busy: list[Seat] = []
        self._cut = False
        self._lock = threading.Lock()
        self._fatal: Counter[int] = Counter()
        self._diagnosed: Counter[int] = Counter()
        self._stop = ""
        self._open: list[Seat] = [seat for own in self._free.values() for seat in own]
        self._threads: list[threading.Thread] = []
        self._started = time.monotonic()

    def records(self) -> Iterator[list[Record]]:
        """Run; yield the records of each finished batch, those known beforehand first.

        Every planned job is yielded exactly once (those in `options.skip` aside), as NOT_RUN where the run
        was cut short: by the budget, by `fail_fast`, by an interrupt (which is raised again at the end).
        """
        known = [self.options.waive(r) for r in self.plan.known if r.job not in self.options.skip]
        if known:
            yield known
            self._note(known)
        interrupted: float | None = None
        done: queue.Queue[list[Record] | BaseException | None] = queue.Queue()
        threads = [
            threading.Thread(target=self._drive, args=(done, i % self._homes), daemon=True, name=f"convproof-{i}")
            for i in range(min(self.options.jobs, max(1, sum(map(len, self._lanes.values())))))
        ]
        self._threads = threads
        for t in threads:
            t.start()
        alive = len(threads)
        while alive:
            patience = None if interrupted is None or self._cut else max(0.0, interrupted + GRACE - time.monotonic())
            try:
                item = done.get(timeout=patience)
            except queue.Empty:
                self._abandon()
                continue
            except KeyboardInterrupt:
                if interrupted is not None:
                    self._abandon()
                interrupted = time.monotonic()
                self._stop = self._stop or "interrupted"
                continue
            if item is None:
                alive -= 1
            elif isinstance(item, BaseException):
                self._stop = "the harness failed"
                raise item
            else:
                yield item
        rest = self._rest()
        if rest:
            yield rest
        if interrupted is not None:
            raise KeyboardInterrupt

    def run_here(self) -> Iterator[list[Record]]:
        """The same in the calling thread, for links in this process: a debugger's breakpoint works."""
        known = [self.options.waive(r) for r in self.plan.known if r.job not in self.options.skip]
        if known:
            yield known
            self._note(known)
        interrupted = False
        while not interrupted and (taken := self._take(0)) is not None:
            place, batch, seat = taken
            try:
                records = self._judge(batch, seat)
            except KeyboardInterrupt:
                interrupted, self._stop = True, "interrupted"
                self._lanes[batch.backend].appendleft((place, batch))
                continue
            self._return(batch, seat, records)
            self._note(records)
            yield records
        rest = self._rest()
        if rest:
            yield rest
        if interrupted:
            raise KeyboardInterrupt

    def close(self) -> None:
        """End every worker; one that another thread waits for is killed."""
        self._stop = self._stop or "the run was cut short"
        self._abandon()
        for thread in self._threads:  # a descriptor that one closes may be another's by the time a second closes it
            thread.join(PATIENCE)
        for seat in self._open:
            if seat not in self._busy:
                seat.close()

    def _abandon(self) -> None:
        """Kill the workers at work; what they were asked goes back to the jobs that are not run."""
        with self._lock:
            self._cut = True
            for seat in self._busy:
                seat.abandon()

    def _todo(self) -> Iterator[Batch]:
        """Batches with a job that is not done; whole, since the checks of a case depend on each other."""
        return (b for b in self.plan.batches if not self.options.skip.issuperset(b.jobs))

    def _may_start(self, lane: int, home: int) -> bool:
        """Whether a backend may have another worker.

        Each home one of its own, and where fewer backends wait than may work they share the rest: towards the end of a run
        that is the slowest one. For a few cases no worker is worth its start.
        """
        if self._more is None or (at_work := self._at_work(lane)) == 0:
            return self._more is not None
        waiting = sum(bool(batches) and not self._given_up(i) for i, batches in self._lanes.items())
        share = -(-self.options.jobs // max(1, waiting))
        worth = lane in self._lived and len(self._lanes[lane]) >= WORTH_A_WORKER
        return worth and (self._seats[lane, home] == 0 or at_work < share)

    def _ready(self, lane: int, home: int) -> bool:
        """Whether a backend can take a batch now, at a home.

        One whose worker has died takes one at a time from then on, and none has two before a first batch went well: which
        cases are reached before a backend is given up must not depend on how many are at work.
        """
        if (lane in self._died or lane not in self._lived) and len(self._free[lane]) < self._at_work(lane):
            return False
        return any(seat.home == home for seat in self._free[lane]) or self._may_start(lane, home)

    def _at_work(self, lane: int) -> int:
        """Seats of a backend, free or not."""
        return sum(n for (i, _), n in self._seats.items() if i == lane)

    def _drive(self, done: queue.Queue[list[Record] | BaseException | None], home: int) -> None:
        try:
            while True:
                taken = self._take(home)
                if taken is not None:
                    place, batch, seat = taken
                    records = self._judge(batch, seat)
                    if self._cut:
                        self._lanes[batch.backend].appendleft((place, batch))
                    else:
                        self._note(records)
                        done.put(records)
                    self._return(batch, seat, records)
                elif self._stop or not self._pending():
                    return
                else:
                    time.sleep(0.002)  # every worker that the next batches need is busy
        except BaseException as e:  # noqa: BLE001 - carried to the caller's thread, which raises it
            done.put(e)
        finally:
            done.put(None)

    def _pending(self) -> bool:
        """Whether a batch waits whose backend has not been given up."""
        return any(lane and not self._given_up(i) for i, lane in self._lanes.items())

    def _given_up(self, lane: int) -> bool:
        return self._fatal[lane] >= self.options.give_up_after

    def _take(self, home: int) -> tuple[int, Batch, Seat] | None:
        """The first waiting batch whose backend has a free worker at this home, with its place in the plan.

        Of cases that another home has begun only where there is no other: who has a case's data and bounds uses them again.
        """
        with self._lock:
            if self.options.budget is not None and time.monotonic() - self._started > self.options.budget:
                self._stop = self._stop or f"the budget of {self.options.budget:g} s was spent"
            if self._stop:
                return None
            ready = [
                (self._home_of.get(lane[0][1].case.id, home) != home, lane[0][0], i)
                for i, lane in self._lanes.items()
                if lane and not self._given_up(i) and self._ready(i, home)
            ]
            if not ready:
                return None
            i = min(ready)[-1]
            place, batch = self._lanes[i].popleft()
            self._home_of.setdefault(batch.case.id, home)
            seat = next((s for s in self._free[i] if s.home == home), None)
            if seat is None:
                assert self._more is not None
                seat = self._more(i, home)
                self._seats[i, home] += 1
                self._open.append(seat)
            else:
                self._free[i].remove(seat)
            self._busy.append(seat)
            return place, batch, seat

    def _judge(self, batch: Batch, seat: Seat) -> list[Record]:
        records = seat.judge(batch, diagnose=self._diagnosed[batch.backend] < self.options.diagnose)
        self._diagnosed[batch.backend] += any(r.verdict.status is Status.FAIL for r in records)
        return [self.options.waive(r) for r in records]

    def _return(self, batch: Batch, seat: Seat, records: Sequence[Record]) -> None:
        with self._lock:
            fatal = any(r.verdict.status in _FATAL for r in records)
            self._fatal[batch.backend] = self._fatal[batch.backend] + 1 if fatal else 0
            (self._died if fatal else self._lived).add(batch.backend)
            self._busy.remove(seat)
            self._free[batch.backend].append(seat)

    def _note(self, records: Sequence[Record]) -> None:
        if self.options.fail_fast and any(r.verdict.status in BAD for r in records):
            self._stop = self._stop or "an earlier verdict was bad and -x was given"

    def _rest(self) -> list[Record]:
        rest = []
        for _, batch in sorted((entry for lane in self._lanes.values() for entry in lane), key=lambda entry: entry[0]):
            lane = batch.backend
            if self._given_up(lane):
                why = f"given up after {self._fatal[lane]} cases in a row killed or hung its worker (give_up_after)"
            else:
                why = self._stop or "not reached"
            version = batch.case.version
            rest += [Record(j, Verdict(Status.NOT_RUN, why), digest=version) for j in batch.jobs]
        for waiting in self._lanes.values():
            waiting.clear()
        return rest
