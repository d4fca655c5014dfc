"""`convproof runs`: the runs that the store holds; what they said, joined, out to a file, or gone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.console import clean, make_console, print_table
from harness.cli.errors import UsageProblem
from harness.cli.settings import load_settings
from harness.records import BAD, Status
from harness.store.model import RunRow, default_path

if TYPE_CHECKING:
    from harness.store.database import Store

_HELP = """List, merge, export and prune the stored runs.

RUN is `last`, `last~1` (the one before), an id, or the beginning of one. The store is the file that
CONVPROOF_STORE names, else the setting `store`, else .convproof/runs.sqlite."""


@click.group("runs", help=_HELP, short_help="List, merge, export and prune the stored runs.")
def command() -> None:
    """List, merge, export and prune the stored runs."""


@command.command("list")
@click.option("-n", "--limit", type=click.IntRange(min=1), help="Only the newest so many.")
@click.option("--json", "as_json", is_flag=True, help="Print an array of objects.")
def list_runs(limit: int | None, as_json: bool) -> None:
    """List the runs, the newest first."""
    with _store() as store:
        found = store.runs()[:limit]
    if as_json:
        click.echo(json.dumps([facts(r) for r in found], indent=2))
        return
    columns = ("run", "started", "seconds", "exit", "jobs", "verdicts", "command")
    cells = [
        (
            r.id,
            r.info.started,
            f"{r.seconds:.1f}",
            _ending(r),
            f"{r.recorded}/{r.info.jobs_planned}",
            summary(r.counts),
            _line(r),
        )
        for r in found
    ]
    print_table(make_console(), columns, cells, right=("seconds", "jobs"))


@command.command("show")
@click.argument("run", default="last")
@click.option("-n", "--limit", type=click.IntRange(min=0), default=20, show_default=True, help="At most so many failures.")
@click.option("--json", "as_json", is_flag=True, help="Print an object.")
def show_run(run: str, limit: int, as_json: bool) -> None:
    """Show what one run did, and its first failures."""
    with _store() as store:
        row = store.info(run)
        bad = [
            {**asdict(r.job), "status": r.verdict.status.value, "message": r.verdict.message}
            for r in islice(store.iter_records(row.id, BAD), limit)
        ]
    if as_json:
        click.echo(json.dumps({**facts(row), "failures": bad}, indent=2))
        return
    console = make_console()
    shown = {**facts(row), "command": _line(row), "exit_code": _ending(row), "counts": summary(row.counts)}
    shown["selection"] = " ".join(row.info.selection)
    for name, value in shown.items():
        for key, text in value.items() if isinstance(value, Mapping) else [(name, value)]:
            console.print(clean(f"{key:<14}{text if isinstance(text, str | int | float) else json.dumps(text)}"))
    failed = sum(n for status, n in row.counts.items() if status in BAD)
    if bad:
        console.print()
        title = f"failures, {len(bad)} of {failed}" if failed > len(bad) else "failures"
        print_table(console, tuple(bad[0]), [tuple(b.values()) for b in bad], title=title)


@command.command("merge")
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="STORE..."
)
def merge_runs(files: tuple[Path, ...]) -> None:
    """Join the shards of a run.

    Each STORE is the file in which one machine's `verify --shard K/N` kept its run, the last in it. The whole
    becomes a run of this store, as if it had not been split.
    """
    from harness.cli.shards import merge
    from harness.store.database import Store

    with Store.open(default_path(load_settings().store)) as store:
        run_id = merge(files, store)
        row = store.info(run_id)
    click.echo(f"run {run_id}: {summary(row.counts)}, of {len(files)} shards; convproof report {run_id}")


@command.command("prune")
@click.option("--keep", type=click.IntRange(min=0), metavar="N", help="Keep the newest N.")
@click.option("--older-than", "days", type=click.FloatRange(min=0), metavar="DAYS", help="Keep what began in the last DAYS.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--json", "as_json", is_flag=True, help="Print an array of ids.")
def prune_runs(keep: int | None, days: float | None, dry_run: bool, as_json: bool) -> None:
    """Remove old runs.

    With both limits, a run goes only where both let it. An unfinished run of the last 24 hours stays:
    it may be running.
    """
    if keep is None and days is None:
        raise UsageProblem("say what stays: convproof runs prune --keep 20, or --older-than 30, or both")
    with _store() as store:
        gone = store.prune(keep, days, dry_run=dry_run)
        left = len(store.runs()) - (len(gone) if dry_run else 0)
    if as_json:
        click.echo(json.dumps(gone))
        return
    for run_id in gone:
        click.echo(run_id)
    would = "would be removed" if dry_run else "removed"
    click.echo(f"{len(gone)} {would}, {left} left in {clean(store.path)}", err=True)


@command.command("export")
@click.argument("run")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--table", type=click.Choice(["verdicts", "timings", "samples"]), default="verdicts", help="Which rows.")
def export_run(run: str, file: Path, table: str) -> None:
    """Write a run's verdicts, figures or raw samples to FILE, .parquet or .csv.

    RUN may itself be such a file of verdicts. `harness.load(FILE)` reads it.
    """
    from harness.store.frames import export, load

    try:
        loaded = load(run, default_path(load_settings().store))
        written = export(loaded, file, table)
    except ImportError as error:
        raise UsageProblem(str(error)) from error
    click.echo(f"{len(getattr(loaded, table))} rows of {clean(loaded.info['id'])} in {clean(written)}", err=True)


def facts(row: RunRow) -> dict[str, Any]:
    """A run in JSON's types."""
    counts = {status.value: n for status, n in row.counts.items()}
    return {"run": row.id, **asdict(row.info), "exit_code": row.exit_code, "seconds": row.seconds, "counts": counts}


def summary(counts: Mapping[Status, int]) -> str:
    """Statuses and how many rows each has, the bad ones first.

    Examples
    --------
    >>> summary({Status.PASS: 5, Status.FAIL: 1})
    '1 FAIL, 5 PASS'
    """
    return ", ".join(f"{n} {s.value}" for s, n in sorted(counts.items(), key=lambda item: item[0] not in BAD))


def _store() -> AbstractContextManager[Store]:
    from harness.store.database import Store

    return Store.open(default_path(load_settings().store), create=False)


def _ending(row: RunRow) -> str:
    return "unfinished" if row.exit_code is None else str(row.exit_code)


def _line(row: RunRow) -> str:
    import shlex

    return shlex.join(row.info.command)
