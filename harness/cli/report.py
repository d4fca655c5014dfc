"""What `verify` prints: progress while it runs, a table and the failures when it is done."""

from __future__ import annotations

import math
import shlex
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.cli.classes import class_lines
from harness.cli.console import clean, is_plain, make_console, plain_table, print_table
from harness.records import BAD, Job, Record, Status
from harness.registry import split
from harness.samples import TIMED

if TYPE_CHECKING:
    from harness.cli.request import Request
    from harness.run.plan import Plan
    from harness.run.probe import ProbeReport

#: Failures of a backend printed whole; the rest are counted, and `convproof runs show` has them.
SHOWN = 4
#: Bad verdicts told while the run goes on, where there is no bar.
TOLD = 12
#: Reasons for what was not run.
REASONS = 12
_STYLE = {Status.PASS: "green", Status.UNSUPPORTED: "dim", Status.UNAVAILABLE: "yellow", Status.NOT_RUN: "yellow"}


class View:
    """The terminal's picture of a run.

    Parameters
    ----------
    plan, reports, request
        Of the run.
    run_id : str
    files : mapping of str to str
        Case id to file, of the cases that have to be named with their file.
    quiet : bool
        Whether standard output belongs to data: everything goes to standard error.
    bar : bool
        Whether a terminal gets a bar; a debugger needs the terminal for itself.
    """

    def __init__(
        self,
        plan: Plan,
        reports: Sequence[ProbeReport],
        request: Request,
        run_id: str,
        *,
        files: Mapping[str, str] | None = None,
        quiet: bool = False,
        bar: bool = True,
    ) -> None:
        self.plan, self.reports, self.request, self.run_id = plan, reports, request, run_id
        self.files, self._wants_bar = files or {}, bar
        self.console = make_console(stderr=quiet)
        self.notes = make_console(stderr=True)
        self.counts: Counter[Status] = Counter()
        self.table: dict[str, Counter[Status]] = defaultdict(Counter)
        self.worst: dict[str, tuple[float, str]] = {}
        self.bad: list[Record] = []
        self.reasons: Counter[tuple[str, Status, str]] = Counter()
        self.classes: dict[str, Counter[str]] = defaultdict(Counter)
        self.done = 0
        self._specs = {b.case.id: str(b.case.spec) for b in plan.batches}
        self._bar: Any = None
        self._told = time.monotonic()

    def skipped(self, jobs: int) -> None:
        """Count jobs that an earlier sitting finished."""
        self.done += jobs

    @contextmanager
    def progress(self) -> Iterator[None]:
        """A bar on a terminal; elsewhere a line now and then."""
        jobs = self.plan.jobs
        self.notes.print(
            f"run {self.run_id}  seed {self.request.seed}  {' '.join(self.request.selection)}: "
            f"{jobs} jobs on {', '.join(r.name for r in self.reports)}"
        )
        if not self._wants_bar or is_plain(self.notes.file):
            yield
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
        with Progress(*columns, console=self.notes, transient=True) as bar:
            self._bar = (bar, bar.add_task("", total=jobs, completed=self.done))
            yield
        self._bar = None

    def add(self, records: Sequence[Record]) -> None:
        """Count the records of a batch; tell of the bad ones at once where lines are plain."""
        for r in records:
            v = r.verdict
            self.done += 1
            self.counts[v.status] += 1
            self.table[r.job.backend][v.status] += 1
            if v.status is Status.PASS and v.error_bound is not None and math.isfinite(v.error_bound):
                if v.error_bound > self.worst.get(r.job.backend, (-1.0, ""))[0]:
                    self.worst[r.job.backend] = v.error_bound, r.job.case
            elif v.status in (Status.UNSUPPORTED, Status.UNAVAILABLE, Status.NOT_RUN):
                self.reasons[r.job.backend, v.status, v.message] += 1
            if r.job.check == "algorithm_class" and "measured" in v.details:
                self.classes[r.job.backend][v.details["measured"]] += 1
            if v.status in BAD:
                self.bad.append(r)
                if self._bar is None and len(self.bad) <= TOLD:
                    self.notes.print(clean(f"{v.status} {r.job.case} {r.job.backend} {r.job.check}: {_first_line(v.message)}"))
        if self._bar is not None:
            bar, task = self._bar
            bad = f"{len(self.bad)} bad, last {self.bad[-1].job.case}" if self.bad else records[0].job.case
            bar.update(task, completed=self.done, description=clean(bad))
        elif time.monotonic() - self._told > 10:
            self._told = time.monotonic()
            self.notes.print(f"{self.done} of {self.plan.jobs} jobs, {len(self.bad)} bad")

    def summary(self, counts: Mapping[Status, int], code: int, seconds: float, *, missing: Sequence[str]) -> None:
        """The table, the failures, the reasons and the verdict line."""
        self._failures()
        self._reasons()
        self._table()
        for line in class_lines({r.name: r.info for r in self.reports}, self.classes):
            self.console.print(clean(line))
        left_out = sum(self.plan.inapplicable.values())
        if left_out:
            self.console.print(f"{left_out} pairs of case and check were left out: their theorem does not hold there (--list)")
        for name in missing:
            self.console.print(clean(f"backend {name!r} was named and is not available: convproof doctor"))
        total = ", ".join(f"{n} {s}" for s, n in sorted(counts.items(), key=lambda i: list(Status).index(i[0])) if n)
        text = f"{_word(code)}: {total}  run {self.run_id}  seed {self.request.seed}  {seconds:.1f} s"
        self.console.print(text, style="bold green" if code == 0 else "bold red")

    def _table(self) -> None:
        seen = [s for s in Status if any(t[s] for t in self.table.values())]
        columns = ("backend", *seen, "error / bound", "largest at", "device")
        devices = {r.name: ", ".join(d.name for d in r.devices[:1]) for r in self.reports}
        rows = []
        for name, t in self.table.items():
            error, case = self.worst.get(name, (0.0, ""))
            worst = (f"{error:.2f}", case) if error > 0 else ("", "")
            rows.append((name, *(t[s] or "" for s in seen), *worst, devices.get(name, "")))
        right = {"error / bound", *map(str, seen)}
        text = [[clean(c) for c in row] for row in rows]
        if not self.console.is_terminal or max(map(len, plain_table(columns, text))) < self.console.width:
            print_table(self.console, columns, rows, right=right)
            return
        print_table(self.console, columns[:-2], [row[:-2] for row in rows], right=right)
        for name, *_, case, device in text:
            if device or case:
                self.console.print(f"{name} on {device}" + (f", largest error at {case}" if case else ""))
        self.console.print()

    def _failures(self) -> None:
        """For each backend the first failure of its first cases, those with one message together."""
        groups: dict[str, dict[tuple[Status, str], list[Record]]] = defaultdict(lambda: defaultdict(list))
        for r in self.bad:
            groups[r.job.backend][r.verdict.status, r.verdict.message].append(r)
        for backend, alike in groups.items():
            told: set[Job] = set()
            for (status, message), records in _one_a_case(alike)[:SHOWN]:
                r, more = records[0], len(records) - 1
                others = f"  and {more} more job{'s' * (more > 1)} with this message" if more else ""
                besides = [b for group in alike.values() for b in group if b.job.case == r.job.case and b not in records]
                told |= {b.job for b in (*records, *besides)}
                self.console.print()
                head = f"{status} {r.job.case}  {r.job.backend}  {r.job.check}{others}"
                self.console.print(clean(head), style="bold red")
                self.console.print(clean(f"  {message}"))
                if spec := self._specs.get(r.job.case):
                    self.console.print(clean(f"  {spec}"))
                if besides:
                    self.console.print(clean(f"  bad there too: {', '.join(b.job.check for b in besides)}"))
                for text in next((b.verdict.diagnosis for b in (r, *records, *besides) if b.verdict.diagnosis), ()):
                    self.console.print(clean(f"  diagnosis: {text}"))
                if place := _place(r):
                    self.console.print(clean(f"  {place}"))
                self.console.print(clean(f"  repeat: {repeat_command(r, self.request, self.reports, self.files)}"))
            if tally := _diagnoses(r for group in alike.values() for r in group):
                self.console.print(clean(f"\n{backend}: {tally}"))
            left = sum(r.job not in told for group in alike.values() for r in group)
            if left:
                self.console.print(f"\n... and {left} more bad verdicts of {clean(backend)}: convproof runs show {self.run_id}")
        if self.bad:
            self.console.print()

    def _reasons(self) -> None:
        for (backend, status, message), n in self.reasons.most_common(REASONS):
            style = _STYLE.get(status, "")
            self.console.print(clean(f"{status} {backend} ({n} jobs): {_first_line(message)}"), style=style)
        if len(self.reasons) > REASONS:
            self.console.print(f"... and {len(self.reasons) - REASONS} more reasons: convproof runs show {self.run_id}")


def _one_a_case(alike: Mapping[tuple[Status, str], list[Record]]) -> list[tuple[tuple[Status, str], list[Record]]]:
    """The groups whose first record is the first of its case."""
    cases: set[str] = set()
    first = []
    for key, records in alike.items():
        if records[0].job.case not in cases:
            first.append((key, records))
            cases |= {r.job.case for r in records}
    return first


def _diagnoses(records: Iterable[Record]) -> str:
    """How often which diagnosis was the first of a case, where several cases were diagnosed."""
    first: dict[str, str] = {}
    for r in records:
        if found := r.verdict.details.get("diagnosis"):
            first.setdefault(r.job.case, found[0]["id"])
    counts = Counter(first.values()).most_common(5)
    return f"diagnoses of {len(first)} cases: {', '.join(f'{name} {n}' for name, n in counts)}" if len(first) > 1 else ""


def _place(r: Record) -> str:
    """The innermost line of a traceback."""
    lines = str(r.verdict.details.get("traceback", "")).strip().splitlines()
    return next((line.strip() for line in reversed(lines) if line.startswith("  File")), "")


def repeat_command(
    record: Record, request: Request, reports: Sequence[ProbeReport], files: Mapping[str, str] | None = None
) -> str:
    """The one line that repeats a job."""
    found = next((r.reference for r in reports if r.name == record.job.backend), None)
    return shlex.join(repeat_words(record.job, found, request, files or {}))


def repeat_words(job: Job, reference: str | None, request: Request, files: Mapping[str, str]) -> list[str]:
    """The words of the line that repeats a job.

    Parameters
    ----------
    job : Job
    reference : str or None
        Of its backend; None where the job tries the specification.
    request : Request
        Of its run.
    files : mapping of str to str
        Case id to file, of the cases that have to be named with their file.
    """
    timed = job.check == TIMED
    command = "bench" if timed else "verify"
    words = ["convproof", command, f"{files[job.case]}:{job.case}" if job.case in files else job.case]
    if reference is not None:
        words += ["--backend", split(reference)[0] or reference]
        if job.device != "-" and request.device is not None:
            words += ["--device", job.device]
        words += [] if timed else ["--check", job.check]
    guard = [] if request.guard == "bands" else ["--guard", request.guard]
    return [*words, *guard, "--seed", str(request.seed)]


def show_plan(plan: Plan) -> None:
    """Print every job of a plan, what is known of it, and what was left out."""
    console = make_console()
    rows: list[tuple[Any, ...]] = [
        (b.case.id, b.jobs[0].backend, b.device.name, " ".join(c.name for c in b.checks), "") for b in plan.batches
    ]
    grouped: dict[tuple[str, str, str, str], list[str]] = defaultdict(list)
    for r in plan.known:
        j = r.job
        grouped[j.case, j.backend, j.device, f"{r.verdict.status}: {_first_line(r.verdict.message)}"].append(j.check)
    rows += [(case, backend, device, " ".join(checks), known) for (case, backend, device, known), checks in grouped.items()]
    print_table(console, ("case", "backend", "device", "checks", "known"), rows)
    for (check, reason), n in sorted(plan.inapplicable.items()):
        console.print(clean(f"left out: {check} on {n} cases: {reason}"))
    console.print(f"{plan.jobs} jobs, {len(plan.batches)} batches")


def record_data(r: Record) -> dict[str, Any]:
    """A record in JSON's types; infinities and NaN as text."""
    v = r.verdict

    def number(x: float | None) -> float | str | None:
        return x if x is None or math.isfinite(x) else str(x)

    return {
        "case": r.job.case,
        "backend": r.job.backend,
        "device": r.job.device,
        "check": r.job.check,
        "status": str(v.status),
        "message": v.message,
        "compared": v.compared,
        "mismatches": v.mismatches,
        "worst_index": None if v.worst_index is None else list(v.worst_index),
        "got": number(v.got),
        "expected": number(v.expected),
        "error_bound": number(v.error_bound),
        "error_units": number(v.error_units),
        "seconds": r.seconds,
        "run_seconds": r.run_seconds,
        "digest": r.digest,
        "details": dict(v.details),
    }


def _word(code: int) -> str:
    return {0: "PASS", 1: "FAIL", 3: "NOTHING VERIFIED"}.get(code, "INTERRUPTED")


def _first_line(text: str) -> str:
    return text.partition("\n")[0]
