"""Random specifications through all checks, batch by batch, on workers that stay warm.

The specifications are fixed by the seed and the backends' limits; the time decides how many there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from types import TracebackType
from typing import Self

from harness.catalogue import Case
from harness.catalogue.coverage import Reach
from harness.checks import CHECKS, Check
from harness.fuzzing.bench import FAULTS, Clock, diagnoses, kind
from harness.fuzzing.cases import case_of, weak
from harness.fuzzing.draws import Bounds, Dice, draw_spec
from harness.oracle.cache import OracleCache
from harness.records import Record, Status
from harness.run.judges import Judge, There, how_many, make_judges
from harness.run.link import Link, WorkerLink
from harness.run.plan import Plan, asked, make_plan
from harness.run.probe import ProbeReport, probe_links
from harness.run.runner import Options, Runner
from harness.run.seats import Here, Seat
from harness.spec import ConvSpec

#: Cases a batch: enough to hide the question what the backends take, few enough to tell of failures soon.
BATCH = 200
#: Specifications drawn for a batch; a backend of narrow limits takes few of them.
POOL = 2000
#: Cases of one backend that can be judged a second, roughly: whether judges repay their start.
CASES_A_SECOND = 5
#: Draws in a row without a specification that any backend takes, after which drawing ends.
BARREN = 20 * POOL
#: Bits that remember what was drawn, four megabytes for good: after a million draws, a day's, one new one in 33 is left out.
SEEN_BITS = 1 << 25


@dataclass(frozen=True)
class Failure:
    """The failures of one backend that look like one fault.

    Attributes
    ----------
    backend, check : str
        The first check, in their order, that fails on the case.
    what : tuple of str
        See `harness.fuzzing.bench.kind`; with the first diagnosis, where one was made.
    cases : list of (Case, list of Record)
        Where, with the bad verdicts of the case; that of `check` first.
    """

    backend: str
    check: str
    what: tuple[str, str]
    cases: list[tuple[Case, list[Record]]] = field(default_factory=list)

    @property
    def smallest(self) -> tuple[Case, list[Record]]:
        """The case with the least work."""
        return min(self.cases, key=lambda found: (found[0].spec.flops if found[0].spec else 0, found[0].id))


class Fuzzer:
    """Draws, runs and groups; a context manager that ends the workers.

    Parameters
    ----------
    references : sequence of str
        Backends, as `Registry.reference` gives them.
    checks : sequence of Check
    options : Options
        Its `budget` is the whole time, the replay of `first` included.
    seed : int
        Fixes the specifications and their data.
    bounds : Bounds, optional
    first : sequence of Case
        Run before anything is drawn.
    max_cases : int, optional
        Specifications to draw; as many as the time allows if not given.
    device : str, optional
        As `make_plan` takes it.

    Attributes
    ----------
    drawn : int
        Specifications that were drawn so far.
    reach : Reach
        What those reach that were run, the replayed ones among them.
    failures : dict
        What went wrong, a fault an entry.
    """

    def __init__(
        self,
        references: Sequence[str],
        checks: Sequence[Check] = CHECKS,
        options: Options | None = None,
        *,
        seed: int = 0,
        bounds: Bounds | None = None,
        first: Sequence[Case] = (),
        max_cases: int | None = None,
        device: str | None = None,
    ) -> None:
        self.checks, self.options, self.seed = checks, options or Options(), seed
        self.bounds, self.max_cases, self.device = bounds or Bounds(), max_cases, device
        self.drawn = 0
        self.reach = Reach()
        self.failures: dict[tuple[str, str, tuple[str, str]], Failure] = {}
        self._first = first
        self._clock = Clock(self.options.budget or float("inf"))
        self._links: list[list[Link]] = [[WorkerLink(r, self.options.limits)] for r in references]
        self._judges: list[Judge] = []
        self._seats: list[list[Seat]] = [[] for _ in references]
        self._seen = bytearray(SEEN_BITS // 8)
        self._index = 0
        try:
            self.reports: list[ProbeReport] = self._probed(())
        except BaseException:
            self.close()
            raise
        ahead = min(max_cases or inf, (self.options.budget or inf) * CASES_A_SECOND) * len(references)
        self._judges = make_judges(how_many(self.options, checks, ahead), self.reports, self.options, OracleCache(seed))

    def batches(self) -> Iterator[Plan]:
        """The plans, one a batch, until the time or `max_cases` ends them; run each by `records` before the next."""
        if self._first:
            yield self._plan(self._first)
        while not self._clock.over and (cases := self._draw()):
            self.drawn += len(cases)
            yield self._plan(cases)

    def records(self, plan: Plan) -> Iterator[list[Record]]:
        """Carry out one plan; the records of each finished case, without those that the end of the time left over."""
        left = None if self.options.budget is None else max(0.0, self.options.budget - self._clock.spent)
        options, oracle = replace(self.options, budget=left), OracleCache(self.seed)

        def here(i: int, link: Link) -> Seat:
            return Here(link, self.reports[i].info, oracle, options.limits, options.keep)

        if self._judges:
            runner = Runner(plan, self._seats, options, self._there, len(self._judges))
        else:
            seats = [[here(i, link) for link in links] for i, links in enumerate(self._links)]
            runner = Runner(plan, seats, options, lambda i, _: here(i, self._another(i)))
        cases = {b.case.id: b.case for b in plan.batches}
        unseen = {id: case.spec for id, case in cases.items() if case.spec}
        for records in runner.records():
            if self._clock.over and all(r.verdict.status is Status.NOT_RUN for r in records):
                continue
            for id in {r.job.case for r in records} & unseen.keys():
                self.reach.add(unseen.pop(id))
            self._note(cases, records)
            yield records

    def _there(self, i: int, home: int) -> Seat:
        """A further seat of a backend at a judge, kept for the batches that follow."""
        self._seats[i].append(There(self._judges[home], home))
        return self._seats[i][-1]

    def _probed(self, specs: Sequence[ConvSpec]) -> list[ProbeReport]:
        return probe_links([links[0] for links in self._links], specs, self.options.limits)

    def _another(self, i: int) -> Link:
        """A further worker of a backend, kept for the batches that follow."""
        self._links[i].append(WorkerLink(self.reports[i].reference, self.options.limits))
        return self._links[i][-1]

    def _plan(self, cases: Sequence[Case]) -> Plan:
        """All checks of the cases on the backends that take them; what a backend does not take is left out."""
        self.reports = self._probed(asked(cases, self.checks))
        plan = make_plan(
            cases, self.reports, self.checks, device=self.device, memory=self.options.limits.memory, refusals=False
        )
        known = tuple(r for r in plan.known if r.verdict.status is not Status.UNSUPPORTED)
        return replace(plan, known=known)

    def _draw(self) -> list[Case]:
        """The next batch: of what was drawn, as many for each backend as for any other, where there are so many."""
        most = BATCH if self.max_cases is None else min(BATCH, self.max_cases - self.drawn)
        chosen: dict[ConvSpec, None] = {}
        start = self._index
        while len(chosen) < most and not (chosen and self._index > start) and self._index < start + BARREN:
            pool = self._pool()
            answers = [report.why_not for report in self._probed(pool) if report.why_not]
            lanes = [[s for s, reason in zip(pool, reasons, strict=True) if reason is None] for reasons in answers]
            share = -(-most // max(1, len(lanes)))
            for lane in lanes:
                chosen |= dict.fromkeys(lane[:share])
            if not answers:
                break
        return [case_of(spec) for spec in list(chosen)[: max(0, most)]]

    def _pool(self) -> list[ConvSpec]:
        """Specifications that were not drawn before."""
        found = []
        for _ in range(POOL):
            spec = draw_spec(Dice(self.seed, self._index), self.bounds)
            self._index += 1
            if spec is not None and not self._drawn_before(spec) and not weak(spec):
                found.append(spec)
        return found

    def _drawn_before(self, spec: ConvSpec) -> bool:
        """Whether it was asked of this specification before (or, rarely, of one whose bit is the same)."""
        byte, bit = divmod(int(spec.digest, 16) % SEEN_BITS, 8)
        before = self._seen[byte] >> bit & 1
        self._seen[byte] |= 1 << bit
        return bool(before)

    def _note(self, cases: dict[str, Case], records: Sequence[Record]) -> None:
        """Group what is bad: of each case and backend the first bad verdict."""
        bad = [r for r in records if r.verdict.status in FAULTS and r.job.case in cases]
        for at in dict.fromkeys((r.job.case, r.job.backend) for r in bad):
            alike = [r for r in bad if (r.job.case, r.job.backend) == at]
            status, text = kind(alike[0].verdict)
            found = next((d for r in alike for d in diagnoses(r.verdict)), text)
            key = alike[0].job.backend, alike[0].job.check, (status, found)
            self.failures.setdefault(key, Failure(*key)).cases.append((cases[at[0]], alike))

    def close(self) -> None:
        """End every worker."""
        for judge in self._judges:
            judge.close()
        for link in (link for links in self._links for link in links):
            link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
