"""`convproof repro`: repeat what went wrong in a stored run."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.console import clean, make_console
from harness.cli.errors import UsageProblem
from harness.cli.report import repeat_words
from harness.cli.request import Request, case_files
from harness.cli.settings import load_settings
from harness.cli.shrunk import SHRINK_TIME
from harness.cli.units import Seconds

if TYPE_CHECKING:
    from harness.records import Job


@click.command("repro", short_help="Repeat one job and show what it computed.")
@click.argument("run", default="last")
@click.argument("case", required=False)
@click.argument("backend", required=False)
@click.argument("check", required=False)
@click.option("--print", "print_only", is_flag=True, help="Print the command line and run nothing.")
@click.option("--save-arrays", metavar="DIR", help="Keep the operands and the output.")
@click.option("--in-process", is_flag=True, help="Run the backend in this process: for a debugger.")
@click.option("--shrink", "small", is_flag=True, help="Shrink the failure to the smallest case, and print it.")
@click.option("--shrink-time", type=Seconds(), default=SHRINK_TIME, metavar="10s", help="Seconds for that.")
@click.option("--yaml", type=click.Path(path_type=Path, dir_okay=False), help="Write the small case as a catalogue file.")
@click.option("--script", type=click.Path(path_type=Path, dir_okay=False), help="Write it as a stand-alone NumPy script.")
def command(
    run: str,
    case: str | None,
    backend: str | None,
    check: str | None,
    print_only: bool,
    save_arrays: str | None,
    in_process: bool,
    small: bool,
    shrink_time: float,
    yaml: Path | None,
    script: Path | None,
) -> None:
    """Repeat one job and show what it computed.

    RUN is `last`, `last~1` or an id. With RUN alone the command lines of its failures are printed, one
    each. With a CASE, and a BACKEND and a CHECK where several fit, that job is repeated: same data, same
    seed, same backend and device. With --shrink its first failure is made small instead, to be read, added to
    the catalogue (--yaml) or sent to someone who has no Convproof (--script).
    """
    from harness.store import Store, default_path

    with Store.open(default_path(load_settings().store), create=False) as store:
        row = store.info(run)
        stored = row.info.environment.get("request")
        if not isinstance(stored, dict):
            raise UsageProblem(f"run {row.id} does not say what it was asked for: it cannot be repeated")
        request = Request.from_data(stored)
        backends: dict[str, Any] = row.info.environment.get("backends", {})
        files = case_files(row.info.environment)
        failed = store.failures(row.id)
        jobs = failed if case is None or small else [r.job for r in store.iter_records(row.id)]
    wanted = [(name, text) for name, text in (("case", case), ("backend", backend), ("check", check)) if text is not None]
    fits = [j for j in jobs if all(getattr(j, name) == text for name, text in wanted)]
    if not fits:
        if case is None:
            make_console().print(f"nothing was bad in run {row.id}")
            return
        named = " ".join(text for _, text in wanted)
        raise UsageProblem(f"run {row.id} holds no job {named}: convproof runs show {row.id}")
    lines = [repeat_words(j, backends.get(j.backend, {}).get("reference"), request, files) for j in fits]
    if case is None or print_only:
        for line in lines:
            click.echo(clean(shlex.join(line)))
        return
    several = sorted({j.backend for j in fits})
    if len(several) > 1:
        raise UsageProblem(f"{case} ran on {', '.join(several)}: name one, convproof repro {row.id} {case} BACKEND")
    if small or yaml or script:
        _shrink(fits, backends[several[0]]["reference"], request, files, shrink_time, yaml, script)
        return
    words = lines[0][1:] if len(fits) == 1 else _without_checks(lines[0][1:])
    words += ["--save-arrays", save_arrays] if save_arrays else []
    words += ["--in-process"] if in_process else []
    click.echo(clean(shlex.join(["convproof", *words])), err=True)
    from harness.cli.verify import command as verify

    sys.argv = ["convproof", *words]  # stored with the run as what was asked for
    verify.main(words[1:], prog_name="convproof verify", standalone_mode=False)


def _shrink(
    jobs: Sequence[Job],
    reference: str,
    request: Request,
    files: Mapping[str, str],
    seconds: float,
    yaml: Path | None,
    script: Path | None,
) -> None:
    """Shrink the failure that the jobs, all of one case and backend, tell of."""
    from harness.checks import CHECKS
    from harness.cli.probing import worker_limits
    from harness.cli.selection import project_catalogue
    from harness.cli.shrunk import show_shrunk, shrink_jobs, write_shrunk

    order = {c.name: i for i, c in enumerate(CHECKS)}
    jobs = sorted(jobs, key=lambda j: order.get(j.check, len(order)))
    job = jobs[0]
    settings = load_settings()
    pattern = f"{files[job.case]}:{job.case}" if job.case in files else job.case
    (case,) = project_catalogue(settings).select([pattern])
    shrunk = shrink_jobs(case, jobs, reference, request.seed, worker_limits(settings), seconds, request.device)
    if shrunk is None:
        raise UsageProblem(f"{job.case} did not fail again: there is nothing to shrink")
    show_shrunk(make_console(), shrunk, job.backend, reference, request.seed, str(yaml) if yaml else None)
    write_shrunk(shrunk, job.backend, reference, request.seed, yaml=yaml, script=script)


def _without_checks(words: list[str]) -> list[str]:
    at = words.index("--check") if "--check" in words else len(words)
    return words[:at] + words[at + 2 :]
