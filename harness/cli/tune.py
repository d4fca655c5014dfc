"""`convproof tune`: the fastest settings of a backend's kernels on a device, of those that are right."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.console import clean, make_console, print_table
from harness.cli.errors import UsageProblem
from harness.cli.running import (
    check_json,
    oracle_directory,
    oracle_threads,
    put_json,
    refuse_more_threads,
    refuse_unknown_device,
)
from harness.cli.settings import Settings, load_settings
from harness.cli.units import Percent, Seconds, format_seconds

if TYPE_CHECKING:
    from rich.console import Console

    from harness.backend import Device
    from harness.catalogue import Case
    from harness.run.probe import ProbeReport
    from harness.timing.tuning import Tuned
    from harness.tuned import Table

INTERRUPTED = 130
#: The suite where none is named.
SUITE = ("perf",)
#: Seconds between two lines of progress.
TOLD = 10.0


@click.command("tune", short_help="Choose a device's fastest settings among those that are right.")
@click.argument("selection", nargs=-1, metavar="[SUITE|GLOB|FILE]...")
@click.option("--backend", "-b", "backends", multiple=True, metavar="NAME|FILE.py:OBJ", help="A backend to tune; repeatable.")
@click.option("--device", metavar="D", help="Part of a device's name, or `all`.")
@click.option("--threads", type=click.IntRange(1), help="Threads of the backend; the setting `threads` otherwise.")
@click.option("--budget", type=Seconds(), metavar="60s", help="Time for all cases together; as long as it takes otherwise.")
@click.option("--least", type=Percent(), default=0.03, metavar="3%", help="The least gain that replaces a default. [3%]")
@click.option("--seed", type=click.IntRange(0), help="Pin data and order; a fresh seed a run otherwise.")
@click.option("--list", "list_only", is_flag=True, help="Show what is kept, and tune nothing.")
@click.option("--forget", is_flag=True, help="Remove what is kept, of --backend and --device if given.")
@click.option("--json", "json_file", metavar="F", help="Write what was found as JSON to a file, or to `-`.")
def command(**options: Any) -> None:
    """Choose a device's fastest settings among those that are right.

    Every candidate (tile, vector width, work-group, chunk, unrolling) is verified on some thirty sizes about its tile before
    it is timed; one that is wrong anywhere is thrown out and reported. The rest are timed by turns, and one replaces the
    default where it is faster by more than the noise in fresh processes. Results are kept in the user's cache by device,
    driver version and kernel digest, and are used whenever the same specification is prepared; CONVPROOF_TUNED names another
    folder, and where it is empty nothing kept is used.

    Exit codes: 0 all candidates are right; 1 one was thrown out; 2 usage; 3 nothing could be tuned.
    """
    from harness.tuned import VARIABLE, folder

    if folder() is None:
        raise UsageProblem(f"{VARIABLE} is empty, so that nothing is kept: unset it, or let it name a folder")
    if options["list_only"] or options["forget"]:
        sys.exit(_kept(options))
    oracle_threads()
    settings = load_settings()
    refuse_more_threads(options["threads"])
    check_json({**options, "in_process": False})
    sys.exit(_tune(settings, options))


# --- what is kept ---------------------------------------------------------------------------------------------
def _kept(options: Mapping[str, Any]) -> int:
    from harness.tuned import Table, tables

    if options["list_only"] and options["forget"]:
        raise UsageProblem("--list shows what --forget removes: leave one of them out")
    if options["selection"]:
        word = "--list" if options["list_only"] else "--forget"
        raise UsageProblem(
            f"{word} is about all cases: leave out {' '.join(options['selection'])}; --backend and --device narrow it"
        )
    console, notes = make_console(stderr=options["json_file"] == "-"), make_console(stderr=True)
    found: dict[Path, Table] = {}
    for path, table in tables().items():
        if not isinstance(table, Table):
            notes.print(clean(f"{path} is broken, nothing in it is used: {table}"), style="yellow")
            if options["forget"] and not (options["backends"] or options["device"]):
                path.unlink(missing_ok=True)
        elif _wanted(table, options):
            found[path] = table
    number = sum(len(t.entries) for t in found.values())
    if options["forget"]:
        for path in found:
            path.unlink(missing_ok=True)
        console.print(f"{_count(number, 'result')} removed")
        return 0
    rows = []
    for table in found.values():
        for e in sorted(table.entries.values(), key=lambda e: e.case):
            gain = f"{100 * (1 - e.seconds / e.default):.1f} %" if e.default > 0 else ""
            rows.append((table.backend, table.key.get("device", ""), e.case, gain, settings_text(e.settings), e.when))
    if rows:
        print_table(console, ("backend", "device", "case", "gain", "settings", "when"), rows, right={"gain"})
    for path, table in found.items():
        facts = "  ".join(f"{k} {v}" for k, v in table.key.items())
        console.print(clean(f"{path}: {facts}"))
    console.print(f"{_count(number, 'result')} kept")
    if options["json_file"]:
        put_json(options["json_file"], [{"file": str(p), **asdict(t)} for p, t in found.items()])
    return 0


def _wanted(table: Table, options: Mapping[str, Any]) -> bool:
    wanted = (options["device"] or "").lower()
    of_device = wanted in ("", "all") or wanted in table.key.get("device", "").lower()
    return of_device and (not options["backends"] or table.backend in options["backends"])


def settings_text(settings: Mapping[str, int]) -> str:
    """Settings in a cell.

    Examples
    --------
    >>> settings_text({"block": 8, "width": 16})
    'block=8 width=16'
    """
    return " ".join(f"{name}={value}" for name, value in settings.items())


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


# --- tuning ---------------------------------------------------------------------------------------------------
@dataclass
class _Session:
    """A backend on a device, with what was found so far."""

    report: ProbeReport
    device: Device
    found: list[Tuned] = field(default_factory=list)
    verified: int = 0
    clock: str = ""
    place: Path | None = None


def _tune(settings: Settings, options: Mapping[str, Any]) -> int:
    from harness.cli.probing import references, worker_limits
    from harness.records import Status
    from harness.run.plan import select_devices
    from harness.run.probe import probe_all

    cases = _cases(settings, options["selection"])
    console, notes = make_console(stderr=options["json_file"] == "-"), make_console(stderr=True)
    limits = worker_limits(settings, threads=options["threads"])
    named = bool(options["backends"])
    reports = probe_all(references(settings, options["backends"]), limits)
    refuse_unknown_device(reports, options["device"])
    absent = [r for r in reports if not r.devices] if named else []
    for r in absent:
        notes.print(clean(": ".join(t for t in (f"backend {r.name} is unavailable", r.message, r.hint) if t)))
    seed = secrets.randbits(32) if options["seed"] is None else options["seed"]
    sessions = [_Session(r, d) for r in reports for d in select_devices(r.devices, options["device"])]
    started, interrupted = time.monotonic(), False
    try:
        for number, session in enumerate(sessions):
            budget = options["budget"]
            if budget is not None:
                budget = (budget - (time.monotonic() - started)) / (len(sessions) - number)
            _tune_one(session, cases, limits, {**options, "seed": seed, "budget": budget}, notes, named)
    except KeyboardInterrupt:
        interrupted = True
    sessions = [s for s in sessions if s.found]
    tried = any(t.tried for s in sessions for t in s.found)
    thrown = sum(len(t.thrown) for s in sessions for t in s.found)
    bad = any(r.status is not Status.UNAVAILABLE for r in absent)
    code = INTERRUPTED if interrupted else 1 if thrown or bad else 3 if absent or not tried else 0
    _show(console, sessions)
    word = {0: "PASS", 1: "FAIL", 3: "NOTHING TUNED"}.get(code, "INTERRUPTED")
    better = sum(t.settings is not None for s in sessions for t in s.found)
    reached = sum(len(s.found) for s in sessions)
    elapsed = time.monotonic() - started
    console.print(
        f"{word}: {better} of {_count(reached, 'case')} faster than by default; {_count(thrown, 'candidate')} thrown out  "
        f"seed {seed}  {elapsed:.1f} s",
        style="bold green" if code == 0 else "bold red",
    )
    if options["json_file"]:
        put_json(
            options["json_file"], {"exit_code": code, "seed": seed, "results": [_data(s, t) for s in sessions for t in s.found]}
        )
    return code


def _cases(settings: Settings, selection: Sequence[str]) -> list[Case]:
    from harness.cli.selection import project_catalogue

    chosen = project_catalogue(settings).select(selection or SUITE)
    found = [c for c in chosen if c.spec is not None and 0 not in c.spec.out_shape]
    if not found:
        raise UsageProblem("nothing that is selected computes an output: there is nothing to tune")
    return found


def _tune_one(
    session: _Session, cases: Sequence[Case], limits: Any, options: Mapping[str, Any], notes: Console, named: bool
) -> None:
    """Tune a backend on a device, and keep each result as it is found."""
    from harness.oracle.cache import OracleCache
    from harness.run.process import WorkerGone
    from harness.timing.process import Troubled
    from harness.timing.tuning import Effort, Tuner

    info, told = session.report.info, time.monotonic()
    assert info is not None

    def watch(text: str) -> None:
        nonlocal told
        if time.monotonic() - told > TOLD:
            told = time.monotonic()
            notes.print(clean(f"{info.name} {text}"))

    effort, oracle = Effort(least=options["least"]), OracleCache(options["seed"], oracle_directory())
    device, seed = session.device, options["seed"]
    with Tuner(session.report.reference, info, device, limits, effort, seed=seed, oracle=oracle) as tuner:
        try:
            key = tuner.key()
        except (WorkerGone, Troubled) as error:
            raise UsageProblem(f"backend {info.name} cannot be asked whether it can be tuned: {error}") from None
        if key is None:
            if named:
                raise UsageProblem(f"backend {info.name} has no settings to choose among (see harness.backend.Tunable)")
            return
        session.clock = tuner.clock
        try:
            for made in tuner.results(cases, options["budget"], watch):
                session.found.append(made)
                session.place = _keep(info.name, key, made)
                for t in made.thrown:
                    what = f"{t.verdict.status} on {t.case} ({t.spec}): {t.verdict.message}"
                    notes.print(clean(f"thrown out: {info.name} {settings_text(t.settings)}: {what}"), style="red")
        finally:
            session.verified = tuner.verified


def _keep(backend: str, key: Mapping[str, str], made: Tuned) -> Path | None:
    """Write what was found; forget what was found before where the default is as fast by now."""
    from harness.tuned import Entry, keep, place

    if made.ratio is None:
        return place(backend, key)
    entry = None
    if made.settings is not None:
        day = datetime.now(UTC).date().isoformat()
        entry = Entry(str(made.spec), made.case.id, dict(made.settings), made.default, made.best, day)
    try:
        return keep(backend, key, made.spec, entry)
    except OSError as error:
        raise UsageProblem(f"what was found cannot be kept: {error}; CONVPROOF_TUNED names another folder") from None


def _show(console: Console, sessions: Sequence[_Session]) -> None:
    for s in sessions:
        rows = [_row(t) for t in s.found]
        title = f"{s.report.name} on {s.device.name}"
        print_table(
            console, ("case", "default", "best", "gain", "settings"), rows, title=title, right={"default", "best", "gain"}
        )
        most = max(t.candidates for t in s.found)
        tried = sum(t.tried for t in s.found)
        clock = "processor time" if s.clock == "cpu" else "wall clock"
        console.print(
            f"candidates a case: {most} at most, {tried} verified and timed in all; verdicts on tails: {s.verified}; "
            f"times: {clock}, medians"
        )
        if s.place is not None and s.place.exists():
            console.print(clean(f"kept in {s.place}"))


def _row(made: Tuned) -> tuple[str, str, str, str, str]:
    times = ["" if isnan(v) else format_seconds(v) for v in (made.default, made.best)]
    if made.settings is None:
        return made.case.id, times[0], "", "", f"default: {made.note}"
    return made.case.id, *times, f"{100 * (1 - made.best / made.default):.1f} %", settings_text(made.settings)  # type: ignore[return-value]


def _data(session: _Session, made: Tuned) -> dict[str, Any]:
    return {
        "case": made.case.id,
        "spec": str(made.spec),
        "backend": session.report.name,
        "device": session.device.name,
        "candidates": made.candidates,
        "tried": made.tried,
        "default": None if isnan(made.default) else made.default,
        "best": None if isnan(made.best) else made.best,
        "ratio": None if made.ratio is None else [made.ratio.value, made.ratio.low, made.ratio.high],
        "clock": session.clock,
        "settings": None if made.settings is None else dict(made.settings),
        "note": made.note,
        "thrown": [
            {
                "settings": dict(t.settings),
                "case": t.case,
                "spec": t.spec,
                "status": str(t.verdict.status),
                "message": t.verdict.message,
            }
            for t in made.thrown
        ],
    }
