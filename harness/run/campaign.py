"""From cases and backend references to records: probe, plan, run, behind one object.

The command line, a test suite and a notebook all verify through this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.catalogue import Case
from harness.checks import CHECKS, Check
from harness.oracle.cache import OracleCache
from harness.records import Record
from harness.run.judges import Judge, There, how_many, make_judges
from harness.run.link import Link, LocalLink, WorkerLink
from harness.run.plan import Plan, asked, make_plan
from harness.run.probe import ProbeReport, probe_links
from harness.run.runner import Options, Runner
from harness.run.seats import Here, Seat


class Campaign:
    """Backends in their workers, asked about cases; a context manager that ends the workers.

    Parameters
    ----------
    cases : sequence of Case
    references : sequence of str
        Backends, as `Registry.reference` gives them.
    checks : sequence of Check, optional
        All of them if not given.
    options : Options, optional
    seed : int
        What the data are drawn from.
    oracle_directory : Path, optional
        Where oracle results of unseeded data are kept across runs.
    in_process : bool
        Whether backends run in this process and thread.

    Examples
    --------
    >>> from harness.catalogue import load_catalogue
    >>> with Campaign(load_catalogue().select(["lecture-*"]), []) as campaign:
    ...     len(campaign.reports)
    0
    """

    def __init__(
        self,
        cases: Sequence[Case],
        references: Sequence[str],
        checks: Sequence[Check] = CHECKS,
        options: Options | None = None,
        *,
        seed: int = 0,
        oracle_directory: Path | None = None,
        in_process: bool = False,
    ) -> None:
        self.cases, self.options, self.in_process = cases, options or Options(), in_process
        self.checks = [_without_workers(c) for c in checks] if in_process else checks
        self._link: Callable[[str], Link] = LocalLink if in_process else lambda r: WorkerLink(r, self.options.limits)
        self._links = [self._link(r) for r in references]
        self._oracle = OracleCache(seed, oracle_directory)
        self._runner: Runner | None = None
        self._judges: list[Judge] = []
        specs = asked(cases, self.checks)
        try:
            self.reports: list[ProbeReport] = probe_links(self._links, specs, self.options.limits)
        except BaseException:
            self.close()
            raise

    @property
    def oracle(self) -> OracleCache:
        """Data and references of the run."""
        return self._oracle

    @property
    def links(self) -> tuple[Link, ...]:
        """A link a backend, in the order of `reports`."""
        return tuple(self._links)

    def plan(self, *, device: str | None = None, refusals: bool = True) -> Plan:
        """The plan; see `make_plan`."""
        memory = self.options.limits.memory
        return make_plan(self.cases, self.reports, self.checks, device=device, memory=memory, refusals=refusals)

    def records(self, plan: Plan) -> Iterator[list[Record]]:
        """Carry out `plan`; see `Runner.records`."""
        number = 0 if self.in_process else how_many(self.options, self.checks, len(plan.batches))
        self._judges = make_judges(number, self.reports, self.options, self._oracle)
        if self._judges:
            for link in self._links:  # the judges start their own
                link.close()
            empty: list[list[Seat]] = [[] for _ in self.reports]
            self._runner = Runner(plan, empty, self.options, lambda _, home: There(self._judges[home], home), number)
            return self._runner.records()
        seats = [[self._here(i, link)] for i, link in enumerate(self._links)]
        more = None if self.in_process else lambda i, _: self._here(i, self._link(self.reports[i].reference))
        self._runner = Runner(plan, seats, self.options, more)
        return self._runner.run_here() if self.in_process else self._runner.records()

    def _here(self, lane: int, link: Link) -> Seat:
        return Here(link, self.reports[lane].info, self._oracle, self.options.limits, self.options.keep)

    def close(self) -> None:
        """End every worker; what they told stays."""
        if self._runner is not None:
            self._runner.close()
            self._oracle.trim()
        for judge in self._judges:
            judge.close()
        for link in self._links:
            link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _without_workers(check: Check) -> Check:
    """The check, left out of every plan if it needs a second worker."""
    if not check.workers:
        return check
    return replace(check, applies=lambda case, spec, info: "it needs a worker with another thread count: not --in-process")
