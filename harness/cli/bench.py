"""`convproof bench`: verify cases, then time them, and show each figure beside its verdict."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from harness.cli.bench_table import show_timings, write_timings
from harness.cli.console import clean, is_plain, make_console
from harness.cli.errors import UsageProblem
from harness.cli.outputs import Outputs, report_options
from harness.cli.request import Request, from_options
from harness.cli.running import (
    check_json,
    checks_named,
    files_of,
    missing_backends,
    oracle_directory,
    oracle_threads,
    refuse_equal_names,
    refuse_more_threads,
    refuse_unknown_device,
    run_info,
)
from harness.cli.settings import Settings, load_settings
from harness.cli.units import Percent, Seconds
from harness.cli.words import alternatives
from harness.timing.ratios import BEST

if TYPE_CHECKING:
    from rich.console import Console

    from harness.backend import Device
    from harness.records import Record
    from harness.run.campaign import Campaign
    from harness.run.probe import ProbeReport
    from harness.store import Store
    from harness.timing.bench import Bench, Pair
    from harness.timing.roof import Roof

INTERRUPTED = 130
#: The suite where none is named.
SUITE = ("perf",)


@click.command("bench", short_help="Verify cases, then time them.")
@click.argument("selection", nargs=-1, metavar="[SUITE|GLOB|FILE]...")
@click.option("--backend", "-b", "backends", multiple=True, metavar="NAME|FILE.py:OBJ", help="A backend to time; repeatable.")
@click.option("--require", multiple=True, metavar="NAME", help="A backend that must be available; repeatable.")
@click.option("--device", metavar="D", help="Part of a device's name, or `all`.")
@click.option(
    "--baseline", metavar="NAME", help="Show every time as a ratio to this backend's, timed too; `best`: the fastest's."
)
@click.option("--seed", type=click.IntRange(0), help="Pin data and order; a fresh seed a run otherwise.")
@click.option("--threads", type=click.IntRange(1), help="Threads of every backend alike; the setting `threads` otherwise.")
@click.option("--processes", type=click.IntRange(1), default=3, show_default=True, help="Fresh processes a figure rests on.")
@click.option("--precision", type=Percent(), default=0.01, metavar="1%", help="Stop at this half-width of the interval. [1%]")
@click.option("--time", "seconds", type=Seconds(), default=1.0, metavar="1s", help="Sampling a case and process, at most. [1s]")
@click.option("--budget", type=Seconds(), metavar="10m", help="Time nothing further after so long.")
@click.option("--cold/--no-cold", default=True, help="Time calls with cold caches too.")
@click.option("--roof/--no-roof", default=True, help="Measure what the devices can do, and refuse what is beyond.")
@click.option("--profile", metavar="COMMAND", help="Run the one case under a profiler: 'perf record -g --'.")
@click.option("--json", "json_file", metavar="F", help="Write figures as JSON to a file, or to `-`.")
@report_options
def command(**options: Any) -> None:
    """Verify cases, then time them.

    Each backend passes the contract, exact integers and real numbers first, in this run; the output of the call timed last
    is judged again. A time is the median of calls in fresh processes at different moments, with its 95 % interval; it holds
    all that a call does, from plain operands to plain output, so packing and transfers are inside; phases that a backend
    tells stand beside it. Raw samples go to the store: `harness.load("last").samples`.
    """
    oracle_threads()
    settings = load_settings()
    refuse_more_threads(options["threads"])
    plain = {**options, "list_only": False, "in_process": False}
    check_json(plain)
    outputs = Outputs(plain)
    sys.exit(_bench(settings, options, outputs))


def _bench(settings: Settings, options: dict[str, Any], outputs: Outputs) -> int:
    from harness.store import Store, default_path

    request = _request(settings, options)
    started = time.monotonic()
    with _campaign(settings, request, options) as campaign:
        options = {**options, "baseline": _baseline(options["baseline"], campaign.reports)}
        if options["profile"] is not None:
            return _profile(campaign, request, options)
        with Store.open(default_path(settings.store)) as store:
            code, run_id = _carry_out(campaign, request, settings, options, store, started, bool(outputs.to_stdout))
            if outputs.wanted:
                outputs.write(
                    store.info(run_id), store.records(run_id), campaign.cases, campaign.reports, store.timings(run_id)
                )
            return code


def _request(settings: Settings, options: Mapping[str, Any]) -> Request:
    from harness.registry import split
    from harness.timing.bench import BEFORE

    words = {**options, "selection": options["selection"] or SUITE, "checks": BEFORE, "shard": None}
    request = from_options(settings, words)
    if (reference := _known(options["baseline"])) is None or reference in _references(settings, request):
        return request
    return replace(request, require=(*request.require, next(filter(None, split(reference)))))


def _known(name: str | None) -> str | None:
    """The reference that a baseline's name stands for; None if it is the name of a backend that a file holds, or of none."""
    from harness.registry import Registry, UnknownBackend

    try:
        return None if name in (None, BEST) else Registry.installed().reference(name)
    except UnknownBackend:
        return None


def _baseline(name: str | None, reports: Sequence[ProbeReport]) -> str | None:
    """The baseline's own name among the backends that are timed; None for the best."""
    names = [r.name for r in reports]
    if name is None or name in names:
        return name
    reference = _known(name)
    if found := [r.name for r in reports if r.reference == reference]:
        return found[0]
    if name == BEST:
        return None
    from harness.registry import Registry

    known = dict.fromkeys([*names, *Registry.installed().known])
    raise UsageProblem(
        f"--baseline {name!r} is not among the backends that are timed ({', '.join(names)}), nor one that can be named: "
        f"{alternatives(name, 'backends', known)}"
    )


def _references(settings: Settings, request: Request) -> list[str]:
    """Of all backends that a request is about."""
    from harness.cli.probing import references

    required = references(settings, request.require) if request.require else []
    return list(dict.fromkeys(references(settings, request.backends) + required))


def _campaign(settings: Settings, request: Request, options: Mapping[str, Any]) -> Campaign:
    from harness.cli.probing import worker_limits
    from harness.cli.selection import project_catalogue
    from harness.run.campaign import Campaign
    from harness.run.runner import Options

    limits = worker_limits(settings, threads=options["threads"])
    campaign = Campaign(
        [c for c in project_catalogue(settings).select(request.selection) if c.spec is not None],
        _references(settings, request),
        checks_named(request.checks),
        Options(jobs=settings.workers, judges=settings.judges, limits=limits, give_up_after=settings.give_up_after),
        seed=request.seed,
        oracle_directory=oracle_directory(),
    )
    try:
        refuse_equal_names(campaign.reports)
        refuse_unknown_device(campaign.reports, request.device)
        if not campaign.cases:
            raise UsageProblem("only cases that must be refused are selected: there is nothing to time")
    except UsageProblem:
        campaign.close()
        raise
    return campaign


def _carry_out(
    campaign: Campaign,
    request: Request,
    settings: Settings,
    options: Mapping[str, Any],
    store: Store,
    started: float,
    quiet: bool,
) -> tuple[int, str]:
    """Verify, time, store, show: exit code and run."""
    from harness.cli.facts import blas, variables
    from harness.records import Status, exit_code
    from harness.timing.machine import Load, environment, governor_warnings

    console, notes = make_console(stderr=quiet or options["json_file"] == "-"), make_console(stderr=True)
    plan = campaign.plan(device=request.device, refusals=False)
    roofs, unmeasured = _roofs(campaign, request, options)
    facts = environment()
    more = {
        "kind": "bench",
        "limits": {"timeout": settings.timeout, "memory": settings.memory, "threads": campaign.options.limits.threads},
        "files": files_of(campaign.cases, request),
        "host_environment": facts,
        "blas": blas(),
        "variables": variables(),
        "baseline": options["baseline"],
        "roofs": {name: roof.as_data() for name, roof in roofs.items()},
        "unmeasured": unmeasured,
        "effort": {k: options[k] for k in ("precision", "seconds", "processes", "cold")},
    }
    run_id = store.begin(run_info(request, campaign.reports, settings, plan.jobs, **more))
    notes.print(
        f"run {run_id}  seed {request.seed}  {' '.join(request.selection)}: {len(plan.batches)} pairs of case and backend"
    )
    missing = missing_backends(campaign.reports, request, settings)
    for r in campaign.reports:
        if r.name in missing:
            notes.print(clean(": ".join(t for t in (f"backend {r.name} is unavailable", r.message, r.hint) if t)))
    interrupted, bench, load = False, None, Load.start()
    try:
        verdicts = _verified(campaign, plan, store, run_id, notes)
        campaign.close()  # nothing else shall run while a clock does
        load = Load.start()
        bench = _make_bench(campaign, plan, verdicts, roofs, request, options)
        store.update_planned(run_id, plan.jobs + len(bench.pairs))
        for timing, record in _watched(bench, notes):
            store.write(run_id, [record])
            store.write_timing(run_id, timing)
    except KeyboardInterrupt:
        interrupted = True
    for pair in [] if bench is None else bench.unreached():
        store.write(run_id, [bench.record(pair)])  # type: ignore[union-attr]
        store.write_timing(run_id, bench.timing(pair))  # type: ignore[union-attr]
    noise = load.stop()
    warnings = governor_warnings({**facts, "load": noise})
    measured = {name: roof.as_data() for name, roof in (roofs if bench is None else bench.roofs).items()}
    store.amend(run_id, {"noise": noise, "warnings": warnings, "roofs": measured})
    counts = store.info(run_id).counts
    code = INTERRUPTED if interrupted else exit_code(counts, missing=bool(missing))
    timings = store.timings(run_id)
    if code == 0 and not any(t.series and not t.refused for t in timings):
        code = 3
    elapsed = time.monotonic() - started
    if not interrupted:
        store.finish(run_id, code, elapsed)
    show_timings(console, timings, run_id, options["baseline"])
    for text in (*unmeasured.values(), *warnings):
        console.print(clean(f"note: {text}"), style="yellow")
    word = {0: "PASS", 1: "FAIL", 3: "NOTHING TIMED"}.get(code, "INTERRUPTED")
    figures = sum(bool(t.series) and not t.refused for t in timings)
    refused = sum(bool(t.refused) for t in timings)
    bad = {s: n for s, n in counts.items() if s is not Status.PASS}
    beside = "".join(f", {n} {s}" for s, n in bad.items())
    style = "bold green" if code == 0 else "bold red"
    console.print(
        f"{word}: {figures} figures, {refused} refused; {counts.get(Status.PASS, 0)} PASS{beside}  run {run_id}  "
        f"seed {request.seed}  {elapsed:.1f} s",
        style=style,
    )
    if options["json_file"]:
        write_timings(options["json_file"], timings, run_id, code, noise, warnings, options["baseline"])
    return code, run_id


def _roofs(campaign: Campaign, request: Request, options: Mapping[str, Any]) -> tuple[dict[str, Roof], dict[str, str]]:
    """The roof of every device that is used, and why one could not be measured."""
    from harness.run.plan import select_devices

    found: dict[str, Roof] = {}
    unmeasured: dict[str, str] = {}
    devices = {d.name: d for r in campaign.reports for d in select_devices(r.devices, request.device)}
    for name, device in devices.items() if options["roof"] else ():
        roof, why = _roof(device, campaign.options.limits.threads)
        if roof is not None:
            found[name] = roof
        else:
            unmeasured[name] = f"the roof of {name} is not known, so that nothing is refused there: {why}"
    return found, unmeasured


def _roof(device: Device, threads: int) -> tuple[Roof | None, str]:
    """The roof of a device on the cores that are timed, or why there is none."""
    from harness.timing.process import pinned_cores
    from harness.timing.roof import RoofError, measure_roof

    try:
        return measure_roof(device, threads, pinned_cores(threads)), ""
    except RoofError as error:
        return None, str(error)


def _verified(campaign: Campaign, plan: Any, store: Store, run_id: str, notes: Console) -> dict[tuple[str, str, str], Record]:
    """Verify; for every pair the first verdict that is not a PASS, else its last."""
    from harness.records import BAD, Status

    told = time.monotonic()
    found: dict[tuple[str, str, str], Record] = {}
    for records in campaign.records(plan):
        store.write(run_id, records)
        for r in records:
            key = r.job.case, r.job.backend, r.job.device
            if key not in found or found[key].verdict.status is Status.PASS:
                found[key] = r
            if r.verdict.status in BAD:
                notes.print(clean(f"{r.verdict.status} {r.job.case} {r.job.backend} {r.job.check}: {r.verdict.message}"))
        if time.monotonic() - told > 10:
            told = time.monotonic()
            notes.print(f"verified {len(found)} pairs of case and backend")
    return found


def _make_bench(
    campaign: Campaign,
    plan: Any,
    verdicts: Mapping[tuple[str, str, str], Record],
    roofs: Mapping[str, Roof],
    request: Request,
    options: Mapping[str, Any],
) -> Bench:
    """The bench of the pairs that were found right."""
    from harness.records import Status
    from harness.timing.bench import Bench, Pair
    from harness.timing.measure import Effort

    pairs = []
    for batch in plan.batches:
        report = campaign.reports[batch.backend]
        record = verdicts.get((batch.case.id, report.name, batch.device.name))
        if record is not None and record.verdict.status is Status.PASS:
            pairs.append(Pair(batch.case, report, batch.device))
    return Bench(
        pairs,
        campaign.options.limits,
        Effort(options["precision"], options["seconds"], options["cold"]),
        processes=options["processes"],
        roofs=roofs,
        seed=request.seed,
        budget=options["budget"],
        anew=lambda device: _roof(device, campaign.options.limits.threads)[0],
        oracle=campaign.oracle,
    )


def _watched(bench: Bench, notes: Console) -> Any:
    """The bench's results, with a bar on a terminal and a line now and then elsewhere."""
    visits = len(bench.pairs) * bench.processes
    if is_plain(notes.file):
        told = time.monotonic()
        for done, result in enumerate(bench.results(), 1):
            yield result
            if time.monotonic() - told > 10:
                told = time.monotonic()
                notes.print(f"timed {done} of {visits}")
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    text = TextColumn("{task.description}", markup=False)
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), text)
    with Progress(*columns, console=notes, transient=True, refresh_per_second=1) as bar:
        task = bar.add_task("", total=visits)

        def watch(pair: Pair, number: int) -> None:
            bar.update(task, description=clean(f"{pair.report.name} {pair.case.id} ({number + 1})"))

        for result in bench.results(watch):
            yield result
            bar.advance(task)


def _profile(campaign: Campaign, request: Request, options: Mapping[str, Any]) -> int:
    """Run the one case on the one backend under the user's profiler."""
    from harness.timing.alone import profile

    plan = campaign.plan(device=request.device, refusals=False)
    campaign.close()
    if len(plan.batches) != 1:
        raise UsageProblem(f"--profile takes one case on one backend and device, this is {len(plan.batches)}: name both")
    batch = plan.batches[0]
    report = campaign.reports[batch.backend]
    try:
        words = shlex.split(options["profile"])
    except ValueError as error:
        raise UsageProblem(f"--profile {options['profile']}: {error}") from None
    if not words:
        raise UsageProblem("--profile is empty: name a command, as 'perf record -g --'")
    return profile(words, batch.case, report.reference, batch.device, campaign.options.limits, request.seed, options["seconds"])
