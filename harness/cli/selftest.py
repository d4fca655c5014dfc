"""`convproof selftest`: the gate's power, measured by planted faults."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.console import make_console, print_table
from harness.cli.errors import UsageProblem

if TYPE_CHECKING:
    from harness.selftest import Outcome, PlantedFault

UNAVAILABLE = 3


@click.command("selftest", short_help="Plant faults and see which check kills each.")
@click.option("--class", "classes", multiple=True, metavar="C", help="A class of faults; repeatable.")
@click.option("--fault", "globs", multiple=True, metavar="GLOB", help="Names of faults; repeatable.")
@click.option(
    "--suite",
    type=click.Choice(("smoke", "gate", "full")),
    help="The last suite that survivors go through; full if not given, smoke with --ci.",
)
@click.option("--ci", is_flag=True, help="The fixed subset, each fault to its first kill.")
@click.option("--first", is_flag=True, help="Each fault to its first kill only: the rates in a tenth of the time, no matrix.")
@click.option("--diagnose", is_flag=True, help="Count the faults whose first failure is diagnosed rightly.")
@click.option("--jobs", "-j", type=click.IntRange(1), help="Processes at once; the cores, at most 4.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the outcomes as JSON.")
@click.option("--write", type=click.Path(path_type=Path, dir_okay=False), help="Write the matrix as Markdown.")
@click.option("--list", "list_only", is_flag=True, help="Name the faults and run nothing.")
def command(**options: Any) -> None:
    """Plant faults and see which check kills each.

    Every fault is a wrong backend. It is judged on smoke by every check; survivors go on to gate and full, up to
    their first kill. Exit code 1 if a fault survives, or if a mutant that is proved equivalent is killed.
    """
    from harness.selftest import Plan, examined
    from harness.selftest.summary import Summary

    faults = _faults(options)
    if options["list_only"]:
        rows = ((f.name, f.cls, f.kind, f.what) for f in faults)
        print_table(make_console(), ("fault", "class", "kind", "what is wrong"), rows)
        return
    suite = options["suite"] or ("smoke" if options["ci"] else "full")
    plan = Plan(last=suite, whole=not (options["ci"] or options["first"]), diagnose=options["diagnose"])
    console, outcomes = make_console(stderr=True), []
    for outcome in examined(faults, plan, _processes(options["jobs"], len(faults))):
        outcomes.append(outcome)
        console.print(f"[{len(outcomes)}/{len(faults)}] {outcome.name}: {_said(outcome)}")
    summary = Summary.of(faults, outcomes, plan)
    if options["json_file"]:
        _save(options["json_file"], json.dumps(_data(faults, outcomes), indent=1) + "\n")
    if options["write"]:
        _save(options["write"], summary.markdown())
    _show(summary)
    sys.exit(1 if summary.wrong else UNAVAILABLE if summary.unavailable else 0)


def _faults(options: dict[str, Any]) -> tuple[PlantedFault, ...]:
    from harness.selftest import load_faults, selected
    from harness.selftest.faults import NoFaults

    try:
        return selected(load_faults(), classes=options["classes"], globs=options["globs"], ci=options["ci"])
    except NoFaults as e:
        raise UsageProblem(str(e)) from None


def _processes(wanted: int | None, faults: int) -> int:
    import os

    return min(wanted or min(4, os.cpu_count() or 1), faults)


def _said(outcome: Outcome) -> str:
    if outcome.unavailable:
        return outcome.unavailable
    where = f"{outcome.suite}, {outcome.check}, {outcome.case}" if outcome.suite else "survived"
    return f"{where} ({outcome.seconds:.1f} s)"


def _data(faults: Sequence[PlantedFault], outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    by_name = {f.name: f for f in faults}
    return [
        {**asdict(o), "class": by_name[o.name].cls, "kind": by_name[o.name].kind, "reference": by_name[o.name].reference}
        for o in sorted(outcomes, key=lambda o: o.name)
    ]


def _show(summary: Any) -> None:
    console = make_console()
    for title, columns, rows in summary.tables():
        if rows:
            print_table(console, columns, rows, title=f"\n{title}", right=columns[1:])
    for line in summary.lines():
        console.print(line)


def _save(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as e:
        raise UsageProblem(f"{path}: {e.strerror}; name a file that can be written") from None
