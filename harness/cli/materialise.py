"""The views' numbers: every run by the oracle, and by each backend in its worker, judged element by element."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from harness.checks.base import Check, Problem, Run, always
from harness.checks.compare import error
from harness.checks.exact import needs_bound
from harness.cli.console import clean
from harness.cli.subjects import Shown
from harness.oracle import reference
from harness.records import Record, Status, Verdict
from harness.run.campaign import Campaign
from harness.run.runner import Options
from harness.spec.host import numpy_dtype

if TYPE_CHECKING:
    from reports.show import Party


def by_oracle(what: Shown) -> Party:
    """The exact results, rounded as the output's type rounds them."""
    from reports.show import Party

    put = numpy_dtype(what.spec.out_dtype)
    outputs = tuple(reference(what.spec, ops).hi.astype(put).astype(np.float64) for ops in what.runs())
    return Party("oracle", outputs)


def by_backends(
    items: Sequence[Shown], references: Sequence[str], options: Options, device: str | None = None
) -> tuple[list[list[Party]], Counter[Status]]:
    """For each item a party a backend, and how the jobs ended.

    A backend runs in its worker, under the limits of any run; what keeps it from giving an output becomes its
    party's verdict.
    """
    gathered = _Gathered(items, several=device is not None)
    cases = [replace(i.case, id=str(n), spec=i.spec, refused=None) for n, i in enumerate(items)]
    check = Check("show", "", gathered.judge, always)
    with Campaign(cases, references, [check], options) as campaign:
        records = [r for batch in campaign.records(campaign.plan(device=device, refusals=False)) for r in batch]
    parties: list[list[Party]] = [[] for _ in items]
    order = {report.name: i for i, report in enumerate(campaign.reports)}
    for record in sorted(records, key=lambda r: (int(r.job.case), order.get(r.job.backend, 0), r.job.device)):
        parties[int(record.job.case)].append(gathered.party(record))
    return parties, Counter(r.verdict.status for r in records)


class _Gathered:
    """Outputs of backends, kept by the check that judges them."""

    def __init__(self, items: Sequence[Shown], several: bool) -> None:
        self.items, self.several = items, several
        self._kept: dict[tuple[str, str, str], tuple[list[np.ndarray], list[np.ndarray]]] = {}
        self._lock = Lock()

    def judge(self, problem: Problem, run: Run) -> Verdict:
        """Run everything; equal to the oracle, or within the bound of the declared class."""
        what = self.items[int(problem.case.id)]
        outputs: list[np.ndarray] = []
        wrong: list[np.ndarray] = []
        key = (problem.case.id, problem.info.name, problem.device.name)
        with self._lock:
            self._kept[key] = (outputs, wrong)
        unequal, largest, size = 0, 0.0, 0
        for ops in what.runs():
            y = run(ops)
            ref = reference(what.spec, ops)
            away = error(y, ref, what.spec, equal=True)
            bounded = needs_bound(problem, shrunk=False)
            limit = problem.tolerance("positive", ops, ref) if bounded else np.zeros(())
            err = error(y, ref, what.spec, equal=False) if bounded else away
            outputs.append(y.astype(np.float64))
            wrong.append(~((err <= limit) | (away == 0)))
            unequal += int(np.count_nonzero(away != 0))
            size += y.size
            largest = max(largest, float(np.max(np.nan_to_num(away, nan=np.inf))))
        bad = sum(int(np.count_nonzero(m)) for m in wrong)
        if bad:
            return Verdict(Status.FAIL, f"differs from the oracle in {bad} of {size} elements", size, bad)
        if unequal:
            text = f"within the bound of its class ({problem.info.algorithm_for(what.spec)}), off by at most {largest:.2g}"
            return Verdict(Status.PASS, text, size)
        return Verdict(Status.PASS, f"equal to the oracle exactly ({size} elements)", size)

    def party(self, record: Record) -> Party:
        """What came of a job."""
        from reports.show import Party

        job, verdict = record.job, record.verdict
        outputs, wrong = self._kept.get((job.case, job.backend, job.device), ([], []))
        alone = job.device == "-" or not self.several
        name = clean(job.backend if alone else f"{job.backend} on {job.device}")
        if verdict.status in (Status.PASS, Status.FAIL) and len(wrong) == sum(1 for _ in self.items[int(job.case)].runs()):
            return Party(name, tuple(outputs), tuple(wrong), clean(verdict.message), verdict.status is Status.PASS)
        good = None if verdict.status in (Status.UNSUPPORTED, Status.UNAVAILABLE) else False
        return Party(name, (), (), clean(f"{verdict.status}: {verdict.message}"), good)
