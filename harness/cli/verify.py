"""`convproof verify`: run cases through backends and judge every output."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.console import clean
from harness.cli.errors import UsageProblem
from harness.cli.outputs import Outputs, report_options
from harness.cli.request import Request, from_options, last_failed, resumed
from harness.cli.running import (
    check_json,
    checks_named,
    files_of,
    missing_backends,
    oracle_directory,
    oracle_threads,
    refuse_equal_names,
    refuse_unknown_device,
    run_info,
    write_json,
)
from harness.cli.settings import Settings, load_settings
from harness.cli.shards import Shard, part
from harness.cli.units import Seconds

if TYPE_CHECKING:
    from harness.checks import Trial
    from harness.cli.report import View
    from harness.records import Record
    from harness.run.campaign import Campaign
    from harness.run.plan import Plan
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
    oracle_threads()
    settings = load_settings()
    if options["resume"] and options["last_failed"]:
        raise UsageProblem("--resume and --last-failed exclude each other")
    check_json(options)
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
    checks = checks_named(request.checks)
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
        oracle_directory=oracle_directory(),
        in_process=options["in_process"],
    )
    try:
        refuse_equal_names(campaign.reports)
        refuse_unknown_device(campaign.reports, request.device)
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
        run_id = store.begin(run_info(request, campaign.reports, settings, plan.jobs, files=files_of(campaign.cases, request)))
    view = View(
        plan,
        campaign.reports,
        request,
        run_id,
        files=files_of(campaign.cases, request),
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
    missing = missing_backends(campaign.reports, request, settings)
    code = INTERRUPTED if interrupted else exit_code(counts, strict=options["strict"], missing=bool(missing))
    elapsed = time.monotonic() - started
    if not interrupted:
        store.finish(run_id, code, elapsed)
    view.summary(counts, code, elapsed, missing=missing)
    if options["shrink_first"] and not interrupted:
        _shrink_first(campaign, view, request, settings)
    if options["json_file"]:
        write_json(options["json_file"], store, run_id, request, code)
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


@contextmanager
def _store(settings: Settings, *, dry: bool) -> Iterator[Store | None]:
    from harness.store import Store, default_path

    if dry:
        yield None
        return
    with Store.open(default_path(settings.store)) as store:
        yield store


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
