"""`convproof report`: reports of a run that was stored or exported."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.errors import UsageProblem
from harness.cli.outputs import STDOUT, Outputs, report_options
from harness.cli.settings import Settings, load_settings
from harness.records import Record, Status
from harness.text import clean

if TYPE_CHECKING:
    from harness.catalogue import Case
    from harness.samples import Timing
    from harness.store import RunRow
    from reports.changes import Change

_EXPORTED = (".parquet", ".csv")
_DATABASES = (".sqlite", ".sqlite3", ".db")


@click.command("report", short_help="Write a stored run as JUnit XML, Markdown or a page.")
@click.argument("run", default="last")
@report_options
@click.option("--samples", "sampled", metavar="CASE", help="Draw this case's raw samples on the page, not the noisiest one's.")
@click.option("--against", metavar="RUN", help="Show what changed since this benchmark, of the same machine.")
def command(run: str, sampled: str | None, against: str | None, **options: Any) -> None:
    """Write a stored run as JUnit XML, Markdown or a page.

    RUN is `last`, `last~1`, an id, or a file: one that `convproof runs export` wrote, or another store (its
    last run). Without an option Markdown goes to standard output. Pictures of errors need the arrays, which
    are not stored: `convproof verify --html` draws them. Timings are in a store alone: of an exported file only
    verdicts are shown.
    """
    if sampled is not None and not options["html_folder"]:
        raise UsageProblem("--samples is drawn on the page: name its folder with --html")
    if not any(options.values()):
        options["markdown_file"] = STDOUT
    settings = load_settings()
    outputs = Outputs(options)
    row, records, timings = _stored(run, settings)
    if sampled is not None:
        _check_sampled(sampled, row, timings)
    changes = _changes(settings, row, records, timings, against)
    cases = _cases(settings, row) if outputs.html else ()
    outputs.write(row, records, cases, timings=timings, changes=changes, sampled=sampled)


def _changes(
    settings: Settings, row: RunRow, records: Sequence[Record], timings: Sequence[Timing], against: str | None
) -> list[Change]:
    """What a comparison found, or what two benchmarks differ by."""
    from reports.changes import from_data

    if against is None:
        return [from_data(found) for found in row.info.environment.get("changes", ())]
    from harness.cli.compare_table import finding_data
    from harness.timing.stored import compared_runs

    earlier, old_records, old_timings = _stored(against, settings)
    return [from_data(finding_data(c)) for c in compared_runs((earlier, row), (old_timings, timings), (old_records, records))]


def _check_sampled(case: str, row: RunRow, timings: Sequence[Timing]) -> None:
    held = sorted({t.case for t in timings if not t.refused and t.of("wall")})
    if case not in held:
        near = get_close_matches(case, held, 3, 0.0)
        has = f"it has {', '.join(near)}" if near else "it has none"
        raise UsageProblem(f"--samples {clean(case)}: run {row.id} holds no samples of that case; {has}")


def _stored(run: str, settings: Settings) -> tuple[RunRow, list[Record], list[Timing]]:
    from harness.store import Store, default_path

    suffix = Path(run).suffix
    if suffix in _EXPORTED:
        return (*_exported(run), [])
    path = Path(run) if suffix in _DATABASES else default_path(settings.store)
    with Store.open(path, create=False) as store:
        row = store.info("last" if suffix in _DATABASES else run)
        return row, store.records(row.id), store.timings(row.id)


def _exported(file: str) -> tuple[RunRow, list[Record]]:
    """The run of a Parquet or CSV file; of the latter only the verdicts are known."""
    from harness.store import RunInfo, RunRow, load
    from harness.store.rows import FIGURES, to_counts, to_record

    try:
        loaded = load(file)
    except ImportError as error:
        raise UsageProblem(str(error)) from error
    # A data frame's missing value is NaN; a verdict's NaN is named in `nan_fields`.
    frame = loaded.verdicts.astype(dict.fromkeys((*FIGURES, "worst_index"), object))
    records = [to_record(row) for row in frame.where(frame.notna(), None).to_dict("records")]
    held = dict(loaded.info)
    known = {
        k: held[k] for k in ("command", "version", "selection", "jobs_planned", "environment", "started", "host") if k in held
    }
    known |= {k: tuple(known[k]) for k in ("command", "selection") if k in known}
    counts = to_counts((Status(s).value, n) for s, n in held.get("counts", {}).items())
    info = RunInfo(seed=int(held.get("seed", 0)), **known)
    return RunRow(str(held["id"]), info, counts, held.get("exit_code"), float(held.get("seconds", 0.0))), records


def _cases(settings: Settings, row: RunRow) -> tuple[Case, ...]:
    """The catalogue, and the files that the run named, where they are still there."""
    from harness.catalogue import load_catalogue, packaged_files
    from harness.cli.selection import case_files

    paths = [*packaged_files(), *case_files(settings.cases)]
    known = {p.resolve() for p in paths}
    named = {Path(f) for f in row.info.environment.get("files", {}).values()}
    return load_catalogue([*paths, *sorted(p for p in named if p.is_file() and p.resolve() not in known)]).cases
