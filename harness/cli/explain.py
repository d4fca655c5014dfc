"""`convproof explain`: what is wrong with an output of a stored run, worked out once more with its numbers."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from harness.cli.console import clean, make_console, print_table
from harness.cli.errors import UsageProblem
from harness.cli.report import repeat_words
from harness.cli.request import Request, case_files
from harness.cli.settings import Settings, load_settings
from harness.cli.words import alternatives
from harness.records import Job, Record, Status

if TYPE_CHECKING:
    from rich.console import Console

    from harness.catalogue import Case
    from harness.checks import Trial
    from harness.diagnose.evidence import Evidence, Finding
    from harness.run.campaign import Campaign

#: Elements in the table of the worst, and the most rows and columns of the picture.
WORST, ROWS, COLUMNS = 8, 40, 100


@click.command("explain", short_help="Say what is wrong with an output, and where.")
@click.argument("run")
@click.argument("case")
@click.argument("backend")
@click.argument("check", required=False)
def command(run: str, case: str, backend: str, check: str | None) -> None:
    """Say what is wrong with an output, and where.

    RUN is `last`, `last~1` or an id. The failed checks of CASE on BACKEND (or the one called CHECK) are run again with
    the same data. Of each that fails again: every hypothesis that reproduces the output, the elements that are
    furthest off, a picture of the worst plane, and the line that repeats it.
    """
    from harness.checks import CHECKS
    from harness.store import Store, default_path

    settings = load_settings()
    with Store.open(default_path(settings.store), create=False) as store:
        row = store.info(run)
        bad = store.failures(row.id)
    jobs = [j for j in bad if j.case == case and j.backend == backend and check in (None, j.check)]
    if not jobs:
        raise UsageProblem(f"run {row.id}: {_nothing(bad, case, backend, check)}")
    environment = row.info.environment
    reference = environment.get("backends", {}).get(backend, {}).get("reference")
    stored = environment.get("request")
    if reference is None or not isinstance(stored, dict):
        raise UsageProblem(f"run {row.id} does not say what {backend} is: it cannot be repeated")
    request, files = Request.from_data(stored), case_files(environment)
    wanted = {j.check for j in jobs}
    checks = [c for c in CHECKS if c.name in wanted or c.name in ("contract", "integers")]
    explained = _explain(settings, request, reference, files.get(case), case, [c.name for c in checks])
    console = make_console()
    again = [(r, t) for r, t in explained.kept if r.job.check in wanted]
    if not again:
        raise UsageProblem(f"{case} did not fail again on {backend}: there is nothing to explain")
    for record, trial in again:
        _show(console, explained, record, trial)
        console.print(clean(f"repeat: {shlex.join(repeat_words(record.job, reference, request, files))}"))


def _nothing(bad: Sequence[Job], case: str, backend: str, check: str | None) -> str:
    """Why nothing bad is found by these names."""
    if not bad:
        return "nothing is bad"
    of_backend = [j for j in bad if j.backend == backend]
    if not of_backend:
        names = sorted({j.backend for j in bad})
        return f"nothing is bad of backend {backend!r}: {alternatives(backend, 'backends with something bad', names)}"
    of_case = [j for j in of_backend if j.case == case]
    if not of_case:
        names = list(dict.fromkeys(j.case for j in of_backend))
        near = alternatives(case, "cases that are bad", [*names[:10], *(["..."] if len(names) > 10 else [])])
        return f"case {case!r} is not bad on {backend}: {near}"
    failed = alternatives(check or "", "checks it fails", [j.check for j in of_case])
    return f"{case} does not fail {check} on {backend}: {failed}"


class _Explained:
    """The failures of a repeated case, with the trials that they were found on."""

    def __init__(self, case: Case, campaign: Campaign, seed: int) -> None:
        self.case, self.seed = case, seed
        self.reports = campaign.reports
        self.kept: list[tuple[Record, Trial]] = []

    def findings(self, record: Record, trial: Trial) -> tuple[Evidence | None, tuple[Finding, ...]]:
        """The evidence of a failure and all that it shows; more than its verdict carries."""
        from harness.checks import Problem
        from harness.diagnose.trials import evidence_of, findings
        from harness.oracle.cache import OracleCache

        (report,) = self.reports
        device = next(d for d in report.devices if d.name == record.job.device)
        assert self.case.spec is not None
        assert report.info is not None
        problem = Problem(self.case, self.case.spec, report.info, device, OracleCache(self.seed))
        found = findings(problem, trial, record.verdict, record.job.check)
        return evidence_of(problem, trial, record.verdict, record.job.check), found


def _explain(
    settings: Settings, request: Request, reference: str, file: str | None, case: str, checks: list[str]
) -> _Explained:
    """Run the checks of a case once more and keep what fails."""
    from harness.checks import CHECKS
    from harness.cli.probing import worker_limits
    from harness.cli.selection import project_catalogue
    from harness.run.campaign import Campaign
    from harness.run.runner import Options

    (found,) = project_catalogue(settings).select([f"{file}:{case}" if file else case])
    kept: list[tuple[Record, Trial]] = []
    options = Options(jobs=1, limits=worker_limits(settings), keep=lambda record, trial: kept.append((record, trial)))
    chosen = [c for c in CHECKS if c.name in checks]
    with Campaign([found], [reference], chosen, options, seed=request.seed) as campaign:
        for _ in campaign.records(campaign.plan(device=request.device, refusals=False)):
            pass
        explained = _Explained(found, campaign, request.seed)
    explained.kept = [(r, t) for r, t in kept if r.verdict.status is Status.FAIL]
    return explained


def _show(console: Console, explained: _Explained, record: Record, trial: Trial) -> None:
    job: Job = record.job
    console.print(clean(f"FAIL {job.case}  {job.backend}  {job.check}"), style="bold red")
    console.print(clean(f"  {record.verdict.message}"))
    console.print(clean(f"  {trial.spec}"))
    evidence, found = explained.findings(record, trial)
    texts = list(dict.fromkeys([*record.verdict.diagnosis, *(f.text for f in found)]))
    for text in texts:
        console.print(clean(f"  diagnosis: {text}"))
    if not texts:
        console.print("  no hypothesis reproduces it")
    if evidence is None or not evidence.wrong.any():
        console.print("  by the oracle this output is right: the check compares it with another")
        return
    console.print()
    _table(console, evidence)
    for line in picture(evidence):
        console.print(f"  {line}", highlight=False)


def _table(console: Console, e: Evidence) -> None:
    """The elements that are furthest off, in units of the tolerance where there is one."""
    import numpy as np

    with np.errstate(all="ignore"):
        error = np.abs(e.got - e.right)
        size = error if e.tol is None else error / np.broadcast_to(e.tol, error.shape)
    rank = np.where(e.wrong, np.nan_to_num(size, nan=np.inf, posinf=np.inf), -1.0)
    order = np.argsort(-rank.reshape(-1), kind="stable")[: min(WORST, int(np.count_nonzero(e.wrong)))]
    rows = []
    for flat in order:
        at = tuple(int(i) for i in np.unravel_index(int(flat), rank.shape))
        bound = "equality" if e.tol is None else f"{size[at]:.3g}"
        rows.append((str(list(at)), f"{e.got[at]:.9g}", f"{e.right[at]:.9g}", f"{error[at]:.3g}", bound))
    print_table(console, ("output", "got", "expected", "error", "error / bound"), rows, right={"got", "expected", "error"})


def picture(e: Evidence) -> list[str]:
    """The plane with the most wrong elements, a character a block of elements.

    `.` right, `#` wrong, `?` not a number. Of a 1-D output the rows are channels; of a 3-D one a slice is drawn.

    Examples
    --------
    >>> import numpy as np
    >>> from harness.data import Operands
    >>> from harness.diagnose import Evidence
    >>> from harness.spec import ConvSpec
    >>> spec = ConvSpec("conv", (4,), (1,))
    >>> ops = Operands(np.ones(spec.x_shape, np.float32), np.ones(spec.w_shape, np.float32))
    >>> picture(Evidence(spec, ops, np.array([[[1, 1, 0, 1]]], np.float32)))
    ['batch item 0, rows are channels, columns out_w', '..#.']
    """
    import numpy as np

    lead = 1 if e.spec.rank == 1 else e.spec.rank
    counts = np.count_nonzero(e.wrong, axis=tuple(range(lead, e.wrong.ndim)))
    at = tuple(int(i) for i in np.unravel_index(int(np.argmax(counts)), counts.shape))
    wrong, odd = e.wrong[at], np.isnan(e.got[at])
    height, width = -(-wrong.shape[0] // ROWS), -(-wrong.shape[1] // COLUMNS)
    names = ("batch item", "channel", "slice")
    where = ", ".join(f"{name} {i}" for name, i in zip(names, at, strict=False))
    axes = "rows are channels, columns out_w" if e.spec.rank == 1 else "rows are out_h, columns out_w"
    scale = f", a character is {height} x {width} outputs" if height * width > 1 else ""
    lines = [f"{where}, {axes}{scale}"]
    for r in range(0, wrong.shape[0], height):
        line = ""
        for c in range(0, wrong.shape[1], width):
            block = slice(r, r + height), slice(c, c + width)
            line += "." if not wrong[block].any() else "?" if odd[block].any() else "#"
        lines.append(line)
    return lines
