"""`convproof verify`: run cases through backends and judge every output."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness import __version__
from harness.cli.console import clean
from harness.cli.errors import UsageProblem
from harness.cli.outputs import Outputs, report_options
from harness.cli.request import Request, from_options, last_failed, resumed
from harness.cli.settings import Settings, load_settings
from harness.cli.shards import Shard, part
from harness.cli.units import Seconds
from harness.cli.words import alternatives

if TYPE_CHECKING:
    from harness.catalogue import Case
    from harness.checks import Check, Trial
    from harness.cli.report import View
    from harness.records import Record
    from harness.run.campaign import Campaign
    from harness.run.plan import Plan
    from harness.run.probe import ProbeReport
    from harness.store import Store

INTERRUPTED = 130


@click.command("verify", short_help="Run cases through backends and judge every output.")
@click.argument("selection", nargs=-1, metavar="[SUITE|GLOB|FILE]...")
@click.option("--backend", "-b", "backends", multiple=True, metavar="NAME|FILE.py:OBJ", help="A backend to run; repeatable.")
@click.option("--require", multiple=True, metavar="NAME", help="A backend that must be available; repeatable.")
@click.option("--device", metavar="D", help="Part of a device's name, or `all`.")
@click.option("--check", "checks", multiple=True, metavar="NAME", help="A check to run; repeatable.")
@click.option("--seed", type=click.IntRange(0), help="Pin the data; a fresh seed a run otherwise.")
@click.option("--shard", type=Shard(), metavar="K/N", help="Only the K-th of N parts of the cases; `runs merge` joins them.")
@click.option("--jobs", "-j", type=click.IntRange(1), help="Workers at once.")
@click.option("--budget", type=Seconds(), metavar="60s", help="Start nothing after so long.")
@click.option("-x", "--fail-fast", is_flag=True, help="Stop at the first bad verdict.")
@click.option("--last-failed", is_flag=True, help="Only what was bad in the last run.")
@click.option("--in-process", is_flag=True, help="Run backends in this process: for a debugger, without limits.")
@click.option("--guard", type=click.Choice(["bands", "pages"]), help="What lies around the arrays; pages find every access.")
@click.option("--save-arrays", type=click.Path(path_type=Path, file_okay=False), help="Keep the arrays of what ends badly.")
@click.option("--strict", is_flag=True, help="NOT_RUN is bad too.")
@click.option("--resume", is_flag=True, help="Finish the last run that was cut short.")
@click.option("--list", "list_only", is_flag=True, help="Print the plan and run nothing.")
@click.option("--shrink", "shrink_first", is_flag=True, help="Shrink each backend's first failure to the smallest case.")
@click.option("--json", "json_file", metavar="F", help="Write verdicts as JSON to a file, or to `-`.")
@report_options
def command(**options: Any) -> None:
    """Run cases through backends and judge every output.

    Without arguments the project's suite (the gate suite) runs on every installed backend.
    """
    _oracle_threads()
    settings = load_settings()
    if options["resume"] and options["last_failed"]:
        raise UsageProblem("--resume and --last-failed exclude each other")
    _check_json(options)
    options["outputs"] = Outputs(options)
    sys.exit(_verify(settings, options))


def _verify(settings: Settings, options: dict[str, Any]) -> int:
    from harness.cli.report import show_plan

    with _store(settings, dry=options["list_only"] and not options["last_failed"]) as store:
        run_id, only = "", None
        if options["resume"]:
            assert store is not None
            run_id, request = resumed(store, options)
            only = frozenset(store.failures(request.failures_of)) if request.failures_of else None
        else:
            request = from_options(settings, options)
        if options["last_failed"]:
            assert store is not None
            request, only = last_failed(store, request, options)
        with _campaign(settings, request, options, run_id, store) as campaign:
            plan = campaign.plan(device=request.device, refusals=not request.checks)
            plan = plan if only is None else plan.narrowed(only)
            _refuse_stale_waivers(settings, campaign, plan, request)
            if options["list_only"]:
                show_plan(plan)
                return 0
            assert store is not None
            return _carry_out(campaign, plan, request, store, run_id, settings, options)


def _campaign(settings: Settings, request: Request, options: dict[str, Any], run_id: str, store: Store | None) -> Campaign:
    """The campaign that `request` describes, probed and found possible."""
    from harness.cli.probing import references, worker_limits
    from harness.cli.selection import project_catalogue
    from harness.run.campaign import Campaign
    from harness.run.runner import Options

    cases = part(project_catalogue(settings).select(request.selection), request.shard)
    checks = _checks(request.checks)
    refs = references(settings, request.backends)
    refs += [r for r in (references(settings, request.require) if request.require else []) if r not in refs]
    run_options = Options(
        jobs=1 if options["in_process"] else options["jobs"] or settings.workers,
        judges=settings.judges,
        limits=worker_limits(settings, request.guard),
        budget=options["budget"],
        fail_fast=options["fail_fast"],
        give_up_after=settings.give_up_after,
        skip=frozenset(store.done(run_id)) if store is not None and run_id else frozenset(),
        keep=_keeper(options["save_arrays"], options["outputs"]),
        waive=_waiver(settings),
    )
    campaign = Campaign(
        cases,
        refs,
        checks,
        run_options,
        seed=request.seed,
        oracle_directory=_oracle_directory(),
        in_process=options["in_process"],
    )
    try:
        _distinct_names(campaign.reports)
        _device_exists(campaign.reports, request.device)
    except UsageProblem:
        campaign.close()
        raise
    return campaign


def _carry_out(
    campaign: Campaign, plan: Plan, request: Request, store: Store, run_id: str, settings: Settings, options: dict[str, Any]
) -> int:
    """Run, store and show a plan; the exit code."""
    from harness.cli.report import View
    from harness.records import exit_code

    started = time.monotonic()
    if plan.jobs == 0 and request.failures_of:
        raise UsageProblem(f"nothing of what was bad in run {request.failures_of} is in the selection, or it applies no longer")
    if plan.jobs == 0:
        raise UsageProblem(
            f"no check that was asked for applies to the {len(campaign.cases)} selected cases on "
            f"{len(campaign.reports)} backends: `convproof verify --list` shows why"
        )
    if run_id:
        store.update_planned(run_id, plan.jobs)
    else:
        run_id = store.begin(_run_info(request, plan, campaign, settings))
    view = View(
        plan,
        campaign.reports,
        request,
        run_id,
        files=_files(campaign.cases, request),
        quiet=bool(options["outputs"].to_stdout),
        bar=not options["in_process"],
    )
    view.skipped(len(campaign.options.skip))
    interrupted = False
    try:
        with view.progress():
            for records in campaign.records(plan):
                store.write(run_id, records)
                view.add(records)
    except KeyboardInterrupt:
        interrupted = True
    counts = store.info(run_id).counts
    missing = _missing(campaign.reports, request, settings)
    code = INTERRUPTED if interrupted else exit_code(counts, strict=options["strict"], missing=bool(missing))
    elapsed = time.monotonic() - started
    if not interrupted:
        store.finish(run_id, code, elapsed)
    view.summary(counts, code, elapsed, missing=missing)
    if options["shrink_first"] and not interrupted:
        _shrink_first(campaign, view, request, settings)
    if options["json_file"]:
        _write_json(options["json_file"], store, run_id, request, code)
    if options["outputs"].wanted:
        options["outputs"].write(store.info(run_id), store.records(run_id), campaign.cases, campaign.reports)
    return code


def _shrink_first(campaign: Campaign, view: View, request: Request, settings: Settings) -> None:
    """The first failure of each backend, made as small as it gets and printed."""
    from harness.cli.probing import worker_limits
    from harness.cli.shrunk import show_shrunk, shrink_jobs
    from harness.fuzzing.bench import FAULTS

    cases, references = {c.id: c for c in campaign.cases}, {r.name: r.reference for r in campaign.reports}
    told: set[str] = set()
    for r in view.bad:
        name = r.job.backend
        if r.verdict.status not in FAULTS or name in told or name not in references:
            continue
        told.add(name)
        jobs = [b.job for b in view.bad if (b.job.case, b.job.backend) == (r.job.case, name) and b.verdict.status in FAULTS]
        shrunk = shrink_jobs(
            cases[r.job.case], jobs, references[name], request.seed, worker_limits(settings), device=request.device
        )
        view.console.print()
        view.console.print(clean(f"{r.verdict.status} {r.job.case}  {name}  {r.job.check}"), style="bold red")
        if shrunk is None:
            view.console.print("it did not fail again when it was repeated alone")
        else:
            show_shrunk(view.console, shrunk, name, references[name], request.seed)


def _waiver(settings: Settings) -> Callable[[Record], Record]:
    """What the settings' known failures make of a record."""
    from datetime import UTC, datetime

    from harness.catalogue.waivers import load_waivers, waive

    if settings.waivers is None:
        return lambda record: record
    waivers, today = load_waivers(settings.waivers), datetime.now(UTC).date()
    return lambda record: waive(waivers, record, today)


def _refuse_stale_waivers(settings: Settings, campaign: Campaign, plan: Plan, request: Request) -> None:
    """Refuse known failures that can match nothing; where the plan is only a part, it cannot tell which checks apply."""
    from harness.catalogue.waivers import load_waivers, refuse_stale
    from harness.checks import CHECKS
    from harness.cli.selection import project_catalogue

    if settings.waivers is None:
        return
    part = bool(request.checks or request.failures_of)
    jobs = [] if part else [j for b in plan.batches for j in b.jobs] + [r.job for r in plan.known]
    refuse_stale(
        load_waivers(settings.waivers),
        jobs,
        cases=[c.id for c in (*project_catalogue(settings).cases, *campaign.cases)],
        checks=[c.name for c in CHECKS],
        ran=[c.id for c in campaign.cases],
    )


def _oracle_threads() -> None:
    """One BLAS thread for the oracle, whose callers run in parallel; set before numpy is imported."""
    from harness.run.limits import THREAD_VARIABLES

    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, "1")


@contextmanager
def _store(settings: Settings, *, dry: bool) -> Iterator[Store | None]:
    from harness.store import Store, default_path

    if dry:
        yield None
        return
    with Store.open(default_path(settings.store)) as store:
        yield store


def _checks(names: Sequence[str]) -> tuple[Check, ...]:
    from harness.checks import CHECKS

    table = {c.name: c for c in CHECKS}
    for name in names:
        if name not in table:
            raise UsageProblem(f"there is no check {name!r}: {alternatives(name, 'checks', table)}")
    return tuple(c for c in CHECKS if not names or c.name in names)


def _distinct_names(reports: Sequence[ProbeReport]) -> None:
    from harness.run.plan import SPECIFICATION

    for name, count in Counter(r.name for r in reports).items():
        if name == SPECIFICATION:
            raise UsageProblem(f"a backend is called {name!r}, the name under which refused cases are reported: rename it")
        if count > 1:
            same = ", ".join(r.reference for r in reports if r.name == name)
            raise UsageProblem(f"{count} backends are called {name!r} ({same}): verdicts could not be told apart")


def _device_exists(reports: Sequence[ProbeReport], wanted: str | None) -> None:
    from harness.run.plan import select_devices

    devices = [d for r in reports for d in r.devices]
    if wanted is not None and devices and not select_devices(devices, wanted):
        names = ", ".join(dict.fromkeys(d.name for d in devices))
        hint = "; the simulator comes with: pip install 'convproof[oclgrind]'" if wanted.lower() == "oclgrind" else ""
        raise UsageProblem(f"no device matches {wanted!r}: the devices are {names}{hint}")


def _missing(reports: Sequence[ProbeReport], request: Request, settings: Settings) -> list[str]:
    """Backends that were named, by the command line or the settings, and are unavailable."""
    from harness.cli.probing import references
    from harness.records import Status

    named = (*request.backends, *request.require)
    wanted = references(settings, named) if named else []
    return [r.name for r in reports if r.status is Status.UNAVAILABLE and r.reference in wanted]


def _files(cases: Sequence[Case], request: Request) -> dict[str, str]:
    """Case id to its file, of the cases that only a file named by the request holds."""
    given = {Path(s if s.endswith((".yaml", ".yml")) else s.rpartition(":")[0]).resolve() for s in request.selection}
    return {c.id: str(Path(c.file).resolve()) for c in cases if Path(c.file).resolve() in given}


def _check_json(options: dict[str, Any]) -> None:
    """Find out before the run what would spoil its JSON."""
    target = options["json_file"]
    if target is None:
        return
    if options["list_only"]:
        raise UsageProblem("--json writes verdicts, --list makes none: leave one of them out")
    if target == "-":
        if options["in_process"]:
            raise UsageProblem(
                "--json - and --in-process exclude each other: backends print to standard output too; name a file"
            )
        return
    try:
        with Path(target).open("a", encoding="utf-8"):
            pass
    except OSError as error:
        raise UsageProblem(f"--json {target}: {error.strerror}; name a file that can be written, or -") from None


def _run_info(request: Request, plan: Plan, campaign: Campaign, settings: Settings) -> Any:
    from harness.cli import facts
    from harness.store import RunInfo

    machine = facts.machine()
    environment = {
        "request": request.as_data(),
        "files": _files(campaign.cases, request),
        "machine": machine,
        "packages": facts.packages(),
        "backends": {
            r.name: {
                "reference": r.reference,
                "version": r.info.version if r.info else "",
                "algorithm": str(r.info.algorithm) if r.info else "",
                "devices": [{"name": d.name, **d.properties} for d in r.devices],
            }
            for r in campaign.reports
        },
        "limits": {"timeout": settings.timeout, "memory": settings.memory, "threads": settings.threads},
    }
    return RunInfo(
        seed=request.seed,
        command=("convproof", *sys.argv[1:]),
        version=__version__,
        selection=request.selection,
        jobs_planned=plan.jobs,
        environment=environment,
        host=f"{machine.get('processor', '')} x {machine.get('cores', '')}",
    )


def _oracle_directory() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("convproof") / "oracle"


def _keeper(directory: Path | None, outputs: Outputs) -> Any:
    """What is called with the arrays of a failure: the page keeps some, --save-arrays writes all."""
    if directory is None:
        return outputs.keep
    from harness.cli.arrays import keeper

    save = keeper(directory)

    def keep(record: Record, trial: Trial) -> None:
        outputs.keep(record, trial)
        save(record, trial)

    return keep


def _write_json(target: str, store: Store, run_id: str, request: Request, code: int) -> None:
    from harness.cli.report import record_data

    row = store.info(run_id)
    data = {
        "run": run_id,
        "version": __version__,
        "seed": request.seed,
        "exit_code": code,
        "counts": {str(k): v for k, v in row.counts.items()},
        "request": request.as_data(),
        "records": [record_data(r) for r in store.records(run_id)],
    }
    text = json.dumps(data, indent=1, allow_nan=False)
    if target == "-":
        click.echo(text)
        return
    try:
        Path(target).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageProblem(f"--json {target}: {error.strerror}; name a file that can be written, or -") from None
