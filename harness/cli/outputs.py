"""`--junit`, `--markdown`, `--html`: targets found writable before anything runs, written after it.

Also keeps, for the pages, the arrays of the first failures of each backend: their errors are drawn when the
page is written.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import click

from harness.cli.errors import UsageProblem
from harness.records import Job, Record, Status
from harness.samples import COMPARED

if TYPE_CHECKING:
    from harness.catalogue import Case
    from harness.checks import Trial
    from harness.run.probe import ProbeReport
    from harness.samples import Timing
    from harness.store import RunRow
    from reports.changes import Change

#: Pictures a backend; each of another case.
PICTURES = 5
STDOUT = "-"
PAGE = "index.html"
#: GitHub names here the file that a step's commands append to.
STEP_SUMMARY = "GITHUB_STEP_SUMMARY"


def report_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of this module."""
    for option in (
        click.option("--html", "html_folder", metavar="DIR", help="Write a page to DIR/index.html."),
        click.option("--markdown", "markdown_file", metavar="F", help="Write Markdown for a job summary to a file, or to `-`."),
        click.option("--junit", "junit_file", metavar="F", help="Write JUnit XML to a file, or to `-`."),
    ):
        function = option(function)
    return function


class Outputs:
    """The reports that a command line asks for.

    Parameters
    ----------
    options : mapping
        The command's, of `report_options`; `json_file` of `verify` shares standard output with them.

    Raises
    ------
    UsageProblem
        If a target can't be written, or two want standard output.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.junit, self.markdown, self.html = (options[n] for n in ("junit_file", "markdown_file", "html_folder"))
        named = {"--json": options.get("json_file"), "--junit": self.junit, "--markdown": self.markdown}
        self.to_stdout = [name for name, target in named.items() if target == STDOUT]
        if len(self.to_stdout) > 1:
            raise UsageProblem(f"{' and '.join(self.to_stdout)} both want standard output: name a file for one of them")
        asked = [n for n, target in (("--junit", self.junit), ("--markdown", self.markdown), ("--html", self.html)) if target]
        if asked and options.get("list_only"):
            raise UsageProblem(f"{asked[0]} writes verdicts, --list makes none: leave one of them out")
        if options.get("in_process") and any(n != "--json" for n in self.to_stdout):
            text = f"{self.to_stdout[0]} - and --in-process exclude each other"
            raise UsageProblem(f"{text}: backends print to standard output too; name a file")
        for name, target in (("--junit", self.junit), ("--markdown", self.markdown)):
            if target not in (None, STDOUT):
                _check_file(name, Path(target))
        if self.html is not None:
            _need_jinja()
            _check_folder(Path(self.html))
        self._kept: dict[str, dict[str, tuple[Record, Trial]]] = defaultdict(dict)
        self._lock = Lock()

    @property
    def wanted(self) -> bool:
        """Whether there is anything to write."""
        return any(target is not None for target in (self.junit, self.markdown, self.html))

    def keep(self, record: Record, trial: Trial) -> None:
        """Remember the arrays of a failure; called by the runner, from any of its threads."""
        if self.html is None or trial.out is None or record.verdict.status is not Status.FAIL:
            return
        with self._lock:
            held = self._kept[record.job.backend]
            if record.job.case not in held and len(held) < PICTURES:
                held[record.job.case] = record, trial

    def write(
        self,
        run: RunRow,
        records: Sequence[Record],
        cases: Iterable[Case],
        reports: Sequence[ProbeReport] = (),
        timings: Sequence[Timing] = (),
        *,
        changes: Sequence[Change] = (),
        sampled: str | None = None,
    ) -> None:
        """Write what was asked for.

        Parameters
        ----------
        run : RunRow
        records : sequence of Record
        cases : iterable of Case
            The catalogue's.
        reports : sequence of ProbeReport
            Of the backends whose arrays were kept.
        timings : sequence of Timing
            What a benchmark measured in this run.
        changes : sequence of Change
            What a comparison with another run found.
        sampled : str, optional
            Case whose raw samples the page draws; without it the one whose figure is known worst.
        """
        repeat, bench = repeater(run), None
        if timings or changes:
            from reports.benchmark import benchmark

            bench = benchmark(run, records, timings, changes)
        again = f"run {run.id} is stored: `convproof report {run.id}` writes it elsewhere"
        if self.junit is not None:
            from reports.junit import junit

            _write("--junit", self.junit, junit(run, records, repeat, bench=bench), again)
        if self.markdown is not None:
            from reports.markdown import markdown

            _write("--markdown", self.markdown, markdown(run, records, repeat, bench=bench), again)
        if self.html is not None:
            from reports.page import page

            by_id = {c.id: c for c in cases}
            try:
                text = page(run, records, by_id, repeat, self._pictures(by_id, reports), bench, sampled)
            except ImportError as error:
                raise UsageProblem(f"--html: {error}") from error
            _write("--html", str(Path(self.html, PAGE)), text, again)

    def _pictures(self, cases: Mapping[str, Case], reports: Sequence[ProbeReport]) -> dict[Job, Any]:
        if not self._kept:
            return {}
        from reports.picture import picture

        by_name = {r.name: r for r in reports}
        drawn: dict[Job, Any] = {}
        for backend, held in self._kept.items():
            report = by_name[backend]
            for record, trial in held.values():
                device = next((d for d in report.devices if d.name == record.job.device), None)
                if trial.out is None or report.info is None or device is None:
                    continue
                made = picture(trial.spec, report.info.algorithm_for(trial.spec), device, record.verdict, trial.ops, trial.out)
                if made is not None:
                    drawn[record.job] = made
        return drawn


def repeater(run: RunRow) -> Callable[[Job], str | None]:
    """Job of a stored run -> the line that repeats it, or None where the run doesn't say what it was asked."""
    from harness.cli.report import repeat_words
    from harness.cli.request import Request

    environment = run.info.environment
    stored = environment.get("request")
    if not isinstance(stored, Mapping):
        return lambda job: None
    request = Request.from_data(stored)
    backends: Mapping[str, Any] = environment.get("backends", {})
    files: Mapping[str, str] = environment.get("files", {})

    def repeat(job: Job) -> str:
        if job.check.startswith(COMPARED):  # two sides: the run's own words
            return shlex.join(run.info.command)
        return shlex.join(repeat_words(job, backends.get(job.backend, {}).get("reference"), request, files))

    return repeat


def _need_jinja() -> None:
    if find_spec("jinja2") is None:
        raise UsageProblem("--html needs jinja2: pip install 'convproof[reports]'")


def _check_file(option: str, path: Path) -> None:
    """Find out whether `path` can be written, and leave nothing new there but its folder."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        existed = path.exists()
        with path.open("a", encoding="utf-8"):
            pass
        if not existed:
            path.unlink()
    except OSError as error:
        raise UsageProblem(f"{option} {path}: {error.strerror}; name a file that can be written, or -") from None


def _check_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        page = folder / PAGE
        if page.exists():
            with page.open("a", encoding="utf-8"):
                pass
        else:
            with tempfile.NamedTemporaryFile(dir=folder):
                pass
    except OSError as error:
        raise UsageProblem(f"--html {folder}: {error.strerror}; name a folder that can be written") from None


def _write(option: str, target: str, text: str, again: str) -> None:
    if target == STDOUT:
        click.echo(text, nl=False)
        return
    path = Path(target)
    # GitHub's file holds what every command of a step has to say; any other is this run's alone.
    mode = "a" if option == "--markdown" and target == os.environ.get(STEP_SUMMARY) else "w"
    try:
        with contextlib.suppress(FileExistsError):
            path.parent.mkdir(parents=True, exist_ok=True)
        with path.open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageProblem(f"{option} {path}: {error.strerror}; {again}") from None
