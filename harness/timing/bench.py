"""Many cases on many backends: rounds of fresh processes, in random order, every figure beside its verdict.

A round starts one process a backend and takes it through all cases. So the samples of a figure come from several
processes at different moments, and the backends take turns: what the machine does meanwhile meets all of them.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.backend import Device
from harness.catalogue import Case
from harness.checks import Problem
from harness.oracle.cache import OracleCache
from harness.records import Job, Record, Status, Verdict
from harness.run.limits import Limits
from harness.run.probe import ProbeReport
from harness.run.process import WorkerGone
from harness.samples import TIMED, Series, Timing
from harness.spec import ConvSpec
from harness.statistics import figure
from harness.timing.measure import Calls, Effort, Measured, measure
from harness.timing.process import Side, TimedProcess, Troubled, pinned_cores
from harness.timing.roof import Roof, refusal

#: Names of the checks that a case must pass on a backend before it is timed.
BEFORE = ("contract", "integers", "zero_mean")


@dataclass(frozen=True)
class Pair:
    """A case on a backend's device, found right."""

    case: Case
    report: ProbeReport
    device: Device

    @property
    def spec(self) -> ConvSpec:
        """The case's specification."""
        assert self.case.spec is not None
        return self.case.spec

    @property
    def job(self) -> Job:
        """Its key, with the name of the check on timed outputs."""
        return Job(self.case.id, self.report.name, self.device.name, TIMED)


@dataclass
class _Progress:
    """What is known of a pair so far."""

    series: list[Series] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    verdict: Verdict | None = None
    peak_bytes: int | None = None
    waits: float = 0.0
    seconds: float = 0.0


class Bench:
    """Times pairs.

    Parameters
    ----------
    pairs : sequence of Pair
    limits : Limits
        Of each process; its `threads` are fixed for all backends alike.
    effort : Effort
    processes : int
        Rounds, and so processes a figure rests on.
    roofs : mapping of str to Roof
        By the device's name; a device without one has no refusals and no shares.
    seed : int
        Of data and orders.
    budget : float, optional
        Seconds after which no further case is begun.
    anew : callable, optional
        Measures a device's roof once more, before a time is refused by one that may have been measured in a bad moment.
    oracle : OracleCache, optional
        Of the same seed, where the verification before has left its results.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        limits: Limits,
        effort: Effort,
        *,
        processes: int = 3,
        roofs: Mapping[str, Roof] | None = None,
        seed: int = 0,
        budget: float | None = None,
        anew: Callable[[Device], Roof | None] | None = None,
        oracle: OracleCache | None = None,
    ) -> None:
        self.pairs, self.limits, self.effort, self.processes = pairs, limits, effort, processes
        self.roofs, self.seed, self.budget, self._anew = dict(roofs or {}), seed, budget, anew
        self.cores = pinned_cores(limits.threads)
        self._oracle = oracle or OracleCache(seed)
        self._known: dict[Job, _Progress] = {p.job: _Progress() for p in pairs}
        for pair in pairs:
            if 0 in pair.spec.out_shape:
                self._known[pair.job].verdict = Verdict(Status.NOT_RUN, "its output is empty: there is nothing to time")
        self._started = time.monotonic()

    def results(self, watch: Callable[[Pair, int], None] | None = None) -> Iterator[tuple[Timing, Record]]:
        """Time; after each visit of a process to a case what is known of it, and its verdict.

        A later one replaces an earlier one of the same key. `watch` is told before each visit.
        """
        rng = random.Random(self.seed)  # noqa: S311 - an order, no secret
        for number in range(self.processes):
            lanes: dict[str, list[Pair]] = {}
            for pair in self.pairs:
                lanes.setdefault(pair.report.name, []).append(pair)
            order = list(lanes)
            rng.shuffle(order)
            for name in order:
                rng.shuffle(lanes[name])
                yield from self._visit(lanes[name], number, watch)

    def _visit(
        self, pairs: Sequence[Pair], number: int, watch: Callable[[Pair, int], None] | None
    ) -> Iterator[tuple[Timing, Record]]:
        """One process of a backend, through its cases; another takes over where it dies."""
        process: TimedProcess | None = None
        side = Side(pairs[0].report.name, pairs[0].report.reference)
        try:
            for pair in pairs:
                known = self._known[pair.job]
                if self._over or (known.verdict is not None and known.verdict.status is not Status.PASS):
                    continue
                if watch is not None:
                    watch(pair, number)
                start = time.perf_counter()
                try:
                    if process is None or process.closed:
                        process = TimedProcess(side, self.limits, self.cores)
                        process.load()
                    made = self._measured(process, pair, number)
                except (WorkerGone, Troubled) as e:
                    status = e.status if isinstance(e, WorkerGone) else Status.ERROR
                    made = Measured(verdict=Verdict(status, f"its timed process could not be loaded: {e}"))
                if made.verdict.status is not Status.PASS and process is not None:
                    process.close()  # what a failure leaves behind would be charged to the next case
                self._note(pair, made)
                known.seconds += time.perf_counter() - start
                yield self.timing(pair), self.record(pair)
        finally:
            if process is not None:
                process.close()

    @property
    def _over(self) -> bool:
        return self.budget is not None and time.monotonic() - self._started > self.budget

    def _measured(self, process: TimedProcess, pair: Pair, number: int) -> Measured:
        assert pair.report.info is not None
        problem = Problem(pair.case, pair.spec, pair.report.info, pair.device, self._oracle)
        return measure(Calls(process, pair.spec, pair.device.name, self.limits), problem, self.effort, number)

    def _note(self, pair: Pair, made: Measured) -> None:
        known = self._known[pair.job]
        known.series += made.series
        known.stopped += [made.stopped] if made.stopped else []
        known.verdict = made.verdict
        known.waits = max(known.waits, made.waits)
        known.peak_bytes = max((b for b in (known.peak_bytes, made.peak_bytes) if b is not None), default=None)
        if made.verdict.status is Status.PASS and (reason := self._beyond(pair)):
            known.verdict = Verdict(Status.FAIL, reason, compared=made.verdict.compared, mismatches=made.verdict.compared)

    def _beyond(self, pair: Pair) -> str | None:
        """Why the time is beyond what the device can do; None if it is not, or that is not known."""
        roof, info = self.roofs.get(pair.device.name), pair.report.info
        wall = figure(self._walls(pair))
        if roof is None or info is None or not wall.samples:
            return None
        spec = pair.spec

        def reason(roof: Roof) -> str | None:
            flops = 0 if spec.is_pool else spec.flops  # maxima need no multiplication, and neighbours share sums
            return refusal(wall.median, flops, spec.bytes, spec.in_dtype, info.algorithm_for(spec), spec.rank, roof)

        if reason(roof) and self._anew is not None and (second := self._anew(pair.device)) is not None:
            roof = self.roofs[pair.device.name] = roof.raised(second)
        return reason(roof)

    def _walls(self, pair: Pair) -> list[tuple[float, ...]]:
        return [s.seconds for s in self._known[pair.job].series if (s.metric, s.state) == ("wall", "warm")]

    def timing(self, pair: Pair) -> Timing:
        """What is known of a pair."""
        known, spec = self._known[pair.job], pair.spec
        verdict = known.verdict or Verdict(Status.NOT_RUN, "the budget was spent before it was reached")
        roof = self.roofs.get(pair.device.name)
        wall = figure(self._walls(pair))
        info = pair.report.info
        details: dict[str, Any] = {
            "algorithm": str(info.algorithm_for(spec)) if info else "",
            "dtype": spec.in_dtype,
            "spec": str(spec),
            "cores": list(self.cores),
            "stopped": known.stopped,
            "bench_seconds": known.seconds,
            "waits": known.waits,
        }
        return Timing(
            pair.case.id,
            pair.report.name,
            pair.device.name,
            tuple(known.series),
            refused="" if verdict.status is Status.PASS else f"{verdict.status}: {verdict.message}",
            threads=self.limits.threads,
            flops=spec.flops,
            bytes=spec.bytes,
            peak_bytes=known.peak_bytes,
            stopped=_joined(known.stopped),
            roof=None if roof is None or not wall.samples else share(roof, spec, wall.median),
            digest=pair.case.version,
            details=details,
        )

    def record(self, pair: Pair) -> Record:
        """The verdict on a pair's timed outputs."""
        known = self._known[pair.job]
        verdict = known.verdict or Verdict(Status.NOT_RUN, "the budget was spent before it was reached")
        calls = sum(map(sum, self._walls(pair)))
        return Record(pair.job, verdict, known.seconds, calls, digest=pair.case.version)

    def unreached(self) -> list[Pair]:
        """Pairs that no process came to, or ever will."""
        return [p for p in self.pairs if not self._known[p.job].series]


def share(roof: Roof, spec: ConvSpec, seconds: float) -> float | None:
    """The share of what the roofline allows: min(peak, intensity x bandwidth), by the specification's own operations.

    Where the peak of the type is not measured (f16, i8) the bandwidth alone. A class that needs fewer operations than
    the definition may exceed 1. Williams, Waterman, Patterson, CACM 52(4), 2009.
    """
    bandwidth = roof.triad(spec.bytes)
    peak = roof.peak(spec.in_dtype)
    least = max(spec.bytes / bandwidth, 0.0 if peak is None else spec.flops / peak)
    return least / seconds if seconds > 0 else None


def _joined(reasons: Sequence[str]) -> str:
    """Reasons, each with how often it was met where they differ."""
    found = {r: reasons.count(r) for r in dict.fromkeys(reasons)}
    return next(iter(found)) if len(found) == 1 else "; ".join(f"{n} x {r}" for r, n in found.items())
