"""Faults times checks: every fault on smoke, the survivors further, in processes that share their references."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from time import perf_counter

from harness.catalogue import Case, load_catalogue
from harness.checks import CHECKS
from harness.oracle.cache import OracleCache
from harness.records import Record, Status
from harness.run.campaign import Campaign
from harness.run.judge import judge_batch
from harness.run.limits import THREAD_VARIABLES, Limits
from harness.run.runner import Options
from harness.selftest.faults import PlantedFault, load_faults
from harness.selftest.kills import EQUIVALENT, SUITES, Outcome, kills

#: Bytes of references that a process keeps: those of the gate.
KEPT = 1 << 30
ORDER = {c.name: i for i, c in enumerate(CHECKS)}


@dataclass(frozen=True)
class Plan:
    """How far faults are followed.

    Attributes
    ----------
    last : str
        The suite after which a fault has survived.
    whole : bool
        Whether smoke is run to its end, for the matrix; else only to the first kill.
    diagnose : bool
        Whether the first failures are diagnosed.
    seed : int
        Of the data.
    """

    last: str = "full"
    whole: bool = True
    diagnose: bool = False
    seed: int = 20261122


class Bench:
    """A process's catalogue and references, on which it tries one fault after the other."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.oracle = OracleCache(plan.seed, limit=KEPT)
        catalogue = load_catalogue()
        self.cases: dict[str, list[Case]] = {}
        seen: set[str] = set()
        for suite in SUITES[: SUITES.index(plan.last) + 1]:
            self.cases[suite] = [c for c in catalogue.select([suite]) if c.id not in seen]
            seen.update(c.id for c in self.cases[suite])

    def outcome(self, fault: PlantedFault) -> Outcome:
        """Try a fault, suite by suite, until one kills it.

        Equal inputs give equal outcomes: each suite has a fresh backend.
        """
        started = perf_counter()
        for suite, cases in self.cases.items():
            killed: Counter[str] = Counter()
            first: Record | None = None
            diagnosis: tuple[str, ...] = ()
            for records in self._batches(fault, cases):
                if isinstance(records, str):
                    return Outcome(fault.name, unavailable=records)
                here = [r for r in records if kills(fault.kind, r.verdict)]
                killed.update(r.job.check for r in here)
                if here and first is None:
                    diagnosis = _diagnosis(records)
                if here and (first is None or ORDER[here[0].job.check] < ORDER[first.job.check]):
                    first = here[0]
                if first and not (self.plan.whole and suite == SUITES[0]):
                    break
            if first:
                counts = {name: killed[name] for name in sorted(killed, key=ORDER.__getitem__)}
                return Outcome(
                    fault.name,
                    suite,
                    first.job.check,
                    first.job.case,
                    counts if suite == SUITES[0] else {},
                    diagnosis,
                    seconds=perf_counter() - started,
                )
        return Outcome(fault.name, seconds=perf_counter() - started)

    def _batches(self, fault: PlantedFault, cases: Sequence[Case]) -> Iterator[list[Record] | str]:
        """The records of each case in turn; the reason where the fault cannot be tried at all."""
        limits = Limits()
        with Campaign(cases, [fault.reference], CHECKS, Options(jobs=1), in_process=not fault.worker) as campaign:
            (report,) = campaign.reports
            if report.status is not Status.PASS or report.info is None:
                yield f"{report.status}: {report.message}"
                return
            diagnose = self.plan.diagnose
            for batch in campaign.plan(refusals=False).batches:
                records = judge_batch(batch, report.info, campaign.links[0], self.oracle, limits, diagnose=diagnose)
                diagnose = diagnose and not any(kills(fault.kind, r.verdict) for r in records)
                yield records


def _diagnosis(records: Sequence[Record]) -> tuple[str, ...]:
    """The ids that the first of a batch's failures was diagnosed with."""
    for record in records:
        if named := record.verdict.details.get("diagnosis"):
            return tuple(str(d["id"]) for d in named)
    return ()


def examined(faults: Sequence[PlantedFault], plan: Plan, processes: int) -> Iterator[Outcome]:
    """Try faults in so many processes; outcomes as they come.

    A fault whose process dies with it, which one that is not marked `worker` must not, raises `BrokenProcessPool`.
    """
    if processes == 1:
        bench = Bench(plan)
        yield from map(bench.outcome, faults)
        return
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))  # inherited: the processes are what is parallel
    try:
        with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _begin, (plan,)) as pool:
            futures: list[Future[Outcome]] = [pool.submit(_outcome, f.name) for f in _slowest_first(faults)]
            try:
                yield from (f.result() for f in as_completed(futures))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _slowest_first(faults: Sequence[PlantedFault]) -> list[PlantedFault]:
    """Those that no suite kills go first, then those with workers, so that no process is left alone at the end."""
    return sorted(faults, key=lambda f: (f.kind != EQUIVALENT, not f.worker))


_held: dict[str, tuple[Bench, dict[str, PlantedFault]]] = {}


def _begin(plan: Plan) -> None:
    """Prepare a process of the pool."""
    _held["bench"] = Bench(plan), {f.name: f for f in load_faults()}


def _outcome(name: str) -> Outcome:
    """Try a fault in a process of the pool."""
    bench, faults = _held["bench"]
    return bench.outcome(faults[name])
