"""`convproof compare`: whether one side is slower, or less accurate, than the other."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from harness.cli.compare_sides import Named, named, sides_of, store_of
from harness.cli.compare_table import finding_data, record_of, show_changes, show_trust, write_changes
from harness.cli.console import clean, is_plain, make_console
from harness.cli.errors import UsageProblem
from harness.cli.request import Request, from_options
from harness.cli.running import check_json, oracle_threads, put_json, refuse_more_threads, run_info
from harness.cli.settings import Settings, load_settings
from harness.cli.units import Percent, Seconds
from harness.tuned import VARIABLE

if TYPE_CHECKING:
    from rich.console import Console

    from harness.catalogue import Case
    from harness.timing.compare import Comparison, Trial
    from harness.timing.rule import Change
    from harness.timing.trust import Trust

INTERRUPTED = 130


@click.command("compare", short_help="Say whether one side is slower or less accurate.")
@click.argument("words", nargs=-1, metavar="A [B] [SUITE|GLOB|FILE]...")
@click.option("--backend", "-b", "backends", multiple=True, metavar="NAME|FILE.py:OBJ", help="For commits and interpreters.")
@click.option("--device", metavar="D", help="Part of a device's name.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads of both sides.")
@click.option("--pairs", type=click.IntRange(2), default=5, show_default=True, help="Pairs of fresh processes.")
@click.option("--samples", type=click.IntRange(3), default=20, show_default=True, help="Turns of each side in a pair.")
@click.option("--time", "seconds", type=Seconds(), default=5.0, metavar="5s", help="Sampling a case, at most. [5s]")
@click.option("--least", type=Percent(), default=0.025, metavar="2.5%", help="The least change that matters. [2.5%]")
@click.option("--confidence", type=Percent(), default=0.99, metavar="99%", help="Of the interval. [99%]")
@click.option("--clock", type=click.Choice(["auto", "cpu", "wall", "device"]), default="auto", show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Times as many pairs where unclear.")
@click.option("--retest/--no-retest", default=True, help="Measure alarms again before they count.")
@click.option("--instructions", is_flag=True, help="Count instructions under valgrind instead of taking times.")
@click.option("--aa", is_flag=True, help="Compare equal sides: this machine's false alarms, and the least change it shows.")
@click.option("--repeats", type=click.IntRange(1), default=1, show_default=True, help="With --aa: comparisons of each case.")
@click.option("--planted", type=Percent(), default=0.0, metavar="5%", help="Make the second side slower by so much.")
@click.option("--seed", type=click.IntRange(0), help="Pin data and order; a fresh seed a run otherwise.")
@click.option("--strict", is_flag=True, help="INCONCLUSIVE is bad too.")
@click.option("--json", "json_file", metavar="F", help="Write the changes as JSON to a file, or to `-`.")
def command(words: tuple[str, ...], **options: Any) -> None:
    """Say whether one side is slower or less accurate.

    A and B are two commits (HEAD~1 HEAD), two interpreters with their packages, two backends, or two stored runs of
    `bench`; with one run, the newest earlier one of the same machine is what it is compared with. A word that could be
    several is written run:, backend:, commit: or python: and the word. Two sides take turns in pairs of fresh processes;
    what looks like a change is measured once more, and only what shows twice counts. Both sides' outputs are verified.

    Exit codes: 0 nothing is slower or less accurate; 1 something is, or is wrong; 2 usage; 3 nothing could be compared.
    """
    oracle_threads()
    settings = load_settings()
    check_json({**options, "list_only": False, "in_process": False})
    refuse_more_threads(options["threads"])
    signal.signal(signal.SIGTERM, _interrupted)  # checkouts are removed, as on Ctrl-C
    if options["instructions"] and options["clock"] != "auto":
        raise UsageProblem("--instructions takes no times: leave out --clock")
    if options["planted"] and options["instructions"]:
        raise UsageProblem("--planted spins by the clock, which --instructions does not have: leave one of them out")
    if options["aa"]:
        sys.exit(_examine(settings, words, options))
    first, second, selection = named(words, settings)
    if first.kind == "run":
        sys.exit(_stored(settings, first, second, selection, options))
    assert second is not None
    sys.exit(_live(settings, first, second, selection, options))


# --- two sides that run -------------------------------------------------------------------------------
def _trial(options: Mapping[str, Any]) -> Trial:
    from harness.timing.compare import Trial
    from harness.timing.rule import Rule

    return Trial(
        pairs=options["pairs"],
        samples=options["samples"],
        seconds=options["seconds"] / options["pairs"],
        clock=options["clock"],
        rule=Rule(confidence=options["confidence"], least=options["least"]),
        rounds=options["rounds"],
        retest=options["retest"],
        slower=options["planted"],
    )


def _cases(settings: Settings, selection: Sequence[str]) -> list[Case]:
    from harness.cli.selection import project_catalogue

    found = [
        c
        for c in project_catalogue(settings).select(selection or ("perf",))
        if c.spec is not None and 0 not in c.spec.out_shape
    ]
    if not found:
        raise UsageProblem("nothing that is selected computes an output: there is nothing to compare")
    return found


def _request(settings: Settings, selection: Sequence[str], options: Mapping[str, Any]) -> Request:
    words = {**options, "selection": tuple(selection) or ("perf",), "checks": (), "require": (), "shard": None}
    return from_options(settings, words)


def _live(settings: Settings, first: Named, second: Named, selection: Sequence[str], options: Mapping[str, Any]) -> int:
    from harness.cli.facts import blas, variables
    from harness.cli.probing import worker_limits
    from harness.records import exit_code
    from harness.timing.compare import Comparison
    from harness.timing.counts import counted_changes
    from harness.timing.machine import Load, environment, governor_warnings
    from harness.timing.process import SideUnavailable

    # an edited kernel has no results of tuning: a side that has some would win by them alone
    os.environ.setdefault(VARIABLE, "")
    request, cases = _request(settings, selection, options), _cases(settings, selection)
    console, notes = make_console(stderr=options["json_file"] == "-"), make_console(stderr=True)
    started, interrupted = time.monotonic(), False
    changes: list[Change] = []
    with sides_of(first, second, settings, options["backends"]) as sides, store_of(settings, create=True) as store:
        facts = environment()
        more = {
            "kind": "compare",
            "host_environment": facts,
            "blas": blas(),
            "variables": variables(),
            "sides": [[asdict(s) for s in pair] for pair in sides],
            "trial": {k: options[k] for k in ("pairs", "samples", "seconds", "least", "confidence", "clock", "planted")},
            "limits": {"timeout": settings.timeout, "memory": settings.memory, "threads": options["threads"]},
        }
        limits, trial = worker_limits(settings, threads=options["threads"]), _trial(options)
        comparisons = [Comparison(*pair, cases, limits, trial, seed=request.seed, device=options["device"]) for pair in sides]
        try:
            for comparison in comparisons:
                comparison.check()
        except SideUnavailable as problem:
            notes.print(clean(f"convproof: {problem}"))
            return 3
        run_id = store.begin(run_info(request, (), settings, len(cases) * len(sides), **more))
        notes.print(clean(f"run {run_id}  seed {request.seed}  {len(cases)} cases: {first.word} against {second.word}"))
        load = Load.start()
        try:
            for comparison in comparisons:
                made = counted_changes(comparison) if options["instructions"] else _watched(comparison, notes)
                changes += made
                store.write(run_id, [record_of(c, strict=options["strict"]) for c in made])
                for timing in () if options["instructions"] else comparison.timings():
                    store.write_timing(run_id, timing)
        except KeyboardInterrupt:
            interrupted = True
        noise = load.stop()
        warnings = governor_warnings({**facts, "load": noise})
        store.amend(run_id, {"changes": [finding_data(c) for c in changes], "noise": noise, "warnings": warnings})
        code = INTERRUPTED if interrupted else exit_code(store.info(run_id).counts)
        if not interrupted:
            store.finish(run_id, code, time.monotonic() - started)
    _end(console, changes, code, options, f"run {run_id}  seed {request.seed}  {time.monotonic() - started:.1f} s", warnings)
    return code


def _end(
    console: Console, changes: Sequence[Change], code: int, options: Mapping[str, Any], about: str, warnings: Sequence[str] = ()
) -> None:
    """Print what was found, and write it where that was asked."""
    show_changes(console, changes)
    for text in warnings:
        console.print(clean(f"note: {text}"), style="yellow")
    counts = Counter(c.finding.value for c in changes)
    word = {0: "PASS", 1: "FAIL", 3: "NOTHING COMPARED"}.get(code, "INTERRUPTED")
    found = ", ".join(f"{n} {f}" for f, n in counts.most_common())
    console.print(clean(f"{word}: {found}  {about}"), style="bold green" if code == 0 else "bold red")
    if options["json_file"]:
        write_changes(options["json_file"], changes, code, warnings)


def _watched(comparison: Comparison, notes: Console) -> list[Change]:
    """The changes, with a bar on a terminal and a line now and then elsewhere."""
    told = [time.monotonic()]

    def line(visit: int, of: int, case: str) -> None:
        if time.monotonic() - told[0] > 10:
            told[0] = time.monotonic()
            notes.print(f"visit {visit} of {of}")

    if is_plain(notes.file):
        return comparison.changes(line)
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    text = TextColumn("{task.description}", markup=False)
    with Progress(BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), text, console=notes, transient=True) as bar:
        task = bar.add_task("")
        return comparison.changes(lambda visit, of, case: bar.update(task, completed=visit, total=of, description=clean(case)))


# --- two runs that are stored -------------------------------------------------------------------------
def _stored(
    settings: Settings, first: Named, second: Named | None, selection: Sequence[str], options: Mapping[str, Any]
) -> int:
    from fnmatch import fnmatch

    from harness.records import Status, exit_code
    from harness.timing.stored import baseline_of, compared_runs

    console = make_console(stderr=options["json_file"] == "-")
    with store_of(settings) as store:
        if second is None:
            after = store.info(first.value)
            before = baseline_of(after, store.runs())
        else:
            before, after = store.info(first.value), store.info(second.value)
        ids = before.id, after.id
        timings, records = [store.timings(i) for i in ids], [store.records(i) for i in ids]
        changes = compared_runs((before, after), (timings[0], timings[1]), (records[0], records[1]))
    if selection:
        changes = [c for c in changes if any(fnmatch(c.case, s) for s in selection)]
    counts = Counter(record_of(c, strict=options["strict"]).verdict.status for c in changes)
    code = exit_code({s: counts[s] for s in Status})
    _end(console, changes, code, options, f"run {before.id} against {after.id}", [
        "these runs did not take turns: a drift of the machine between them looks like a change; `convproof compare` of two"
        " commits or backends says it with more power"
    ])  # fmt: skip
    if before.info.seed != after.info.seed:
        console.print("errors were not compared: the runs have different seeds (pin them with --seed)")
    return code


# --- equal sides --------------------------------------------------------------------------------------
def _examine(settings: Settings, words: Sequence[str], options: Mapping[str, Any]) -> int:
    """False alarms on equal sides and the smallest change found; exit code 1 where more than 1 % are alarms."""
    from harness.cli.probing import references, worker_limits
    from harness.registry import label
    from harness.timing.compare import Comparison
    from harness.timing.process import Side
    from harness.timing.trust import examine

    if not options["backends"]:
        raise UsageProblem("--aa compares a backend with itself: name it with --backend")
    request, cases = _request(settings, words, options), _cases(settings, words)
    console, notes = make_console(stderr=options["json_file"] == "-"), make_console(stderr=True)
    code = 0
    told: list[dict[str, Any]] = []
    for ref in references(settings, options["backends"]):
        name = label(ref)
        limits = worker_limits(settings, threads=options["threads"])
        sides = Side(f"{name}#1", ref), Side(f"{name}#2", ref)
        comparison = Comparison(*sides, cases, limits, _trial(options), seed=request.seed, device=options["device"])
        trust = examine(comparison, cases, options["repeats"], lambda t: _progress(notes, t))
        data = show_trust(console, name, trust, comparison.trial.rule)
        told.append(data)
        code = max(code, int(data["bad"]))
    if options["json_file"]:
        put_json(options["json_file"], told)
    return code


def _progress(notes: Console, trust: Trust) -> None:
    notes.print(f"{len(trust.first)} comparisons, {trust.seconds:.0f} s")


def _interrupted(number: int, frame: object) -> None:
    raise KeyboardInterrupt
