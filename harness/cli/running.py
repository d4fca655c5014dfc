"""What the commands that run backends share: checks and devices by name, refusals before anything runs, a run's facts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness import __version__
from harness.cli.errors import UsageProblem
from harness.cli.request import Request
from harness.cli.settings import Settings
from harness.cli.words import alternatives

if TYPE_CHECKING:
    from harness.catalogue import Case
    from harness.checks import Check
    from harness.run.probe import ProbeReport
    from harness.store import RunInfo, Store


def oracle_threads() -> None:
    """One BLAS thread for the oracle, whose callers run in parallel; set before numpy is imported."""
    from harness.run.limits import THREAD_VARIABLES

    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, "1")


def oracle_directory() -> Path:
    """Where oracle results are kept across runs."""
    from platformdirs import user_cache_path

    return user_cache_path("convproof") / "oracle"


def checks_named(names: Sequence[str]) -> tuple[Check, ...]:
    """The checks of these names in their order, all where there are none; raises `UsageProblem` for one that is unknown."""
    from harness.checks import CHECKS

    table = {c.name: c for c in CHECKS}
    for name in names:
        if name not in table:
            raise UsageProblem(f"there is no check {name!r}: {alternatives(name, 'checks', table)}")
    return tuple(c for c in CHECKS if not names or c.name in names)


def refuse_equal_names(reports: Sequence[ProbeReport]) -> None:
    """Raise `UsageProblem` where two backends bear one name, or one that is taken."""
    from harness.run.plan import SPECIFICATION

    for name, count in Counter(r.name for r in reports).items():
        if name == SPECIFICATION:
            raise UsageProblem(f"a backend is called {name!r}, the name under which refused cases are reported: rename it")
        if count > 1:
            same = ", ".join(r.reference for r in reports if r.name == name)
            raise UsageProblem(f"{count} backends are called {name!r} ({same}): verdicts could not be told apart")


def refuse_unknown_device(reports: Sequence[ProbeReport], wanted: str | None) -> None:
    """Raise `UsageProblem` where no device matches what was named."""
    from harness.run.plan import select_devices

    devices = [d for r in reports for d in r.devices]
    if wanted is not None and devices and not select_devices(devices, wanted):
        names = ", ".join(dict.fromkeys(d.name for d in devices))
        hint = "; the simulator comes with: pip install 'convproof[oclgrind]'" if wanted.lower() == "oclgrind" else ""
        raise UsageProblem(f"no device matches {wanted!r}: the devices are {names}{hint}")


def refuse_more_threads(threads: int | None) -> None:
    """Raise `UsageProblem` where more threads are asked for than may run at once: their times would be those of waiting."""
    from harness.run.limits import usable_cores

    if threads is not None and threads > usable_cores():
        raise UsageProblem(f"--threads {threads}: this process may use {usable_cores()} cores")


def missing_backends(reports: Sequence[ProbeReport], request: Request, settings: Settings) -> list[str]:
    """Backends that were named, by the command line or the settings, and are unavailable."""
    from harness.cli.probing import references
    from harness.records import Status

    named = (*request.backends, *request.require)
    wanted = references(settings, named) if named else []
    return [r.name for r in reports if r.status is Status.UNAVAILABLE and r.reference in wanted]


def files_of(cases: Sequence[Case], request: Request) -> dict[str, str]:
    """Case id to its file, of the cases that only a file named by the request holds."""
    given = {Path(s if s.endswith((".yaml", ".yml")) else s.rpartition(":")[0]).resolve() for s in request.selection}
    return {c.id: str(Path(c.file).resolve()) for c in cases if Path(c.file).resolve() in given}


def check_json(options: dict[str, Any]) -> None:
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


def write_json(target: str, store: Store, run_id: str, request: Request, code: int) -> None:
    """Write a run's verdicts as JSON to a file, or to `-`."""
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
    put_json(target, data)


def put_json(target: str, data: Any) -> None:
    """Write data as JSON to a file, or to standard output for `-`.

    Raises
    ------
    UsageProblem
        If the file cannot be written.
    """
    text = json.dumps(data, indent=1, allow_nan=False)
    if target == "-":
        click.echo(text)
        return
    try:
        Path(target).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageProblem(f"--json {target}: {error.strerror}; name a file that can be written, or -") from None


def run_info(request: Request, reports: Sequence[ProbeReport], settings: Settings, jobs: int = 0, **more: Any) -> RunInfo:
    """The facts of a run that begins; `more` joins its environment."""
    from harness.cli import facts
    from harness.store import RunInfo
    from harness.timing.machine import fingerprint

    machine = facts.machine()
    environment = {
        "request": request.as_data(),
        "machine": machine,
        "packages": facts.packages(),
        "git": git_state(Path.cwd()),
        "backends": {
            r.name: {
                "reference": r.reference,
                "version": r.info.version if r.info else "",
                "algorithm": r.info.classes if r.info else "",
                "devices": [{"name": d.name, **d.properties} for d in r.devices],
            }
            for r in reports
        },
        "limits": {"timeout": settings.timeout, "memory": settings.memory, "threads": settings.threads},
        **more,
    }
    return RunInfo(
        seed=request.seed,
        command=("convproof", *sys.argv[1:]),
        version=__version__,
        selection=request.selection,
        jobs_planned=jobs,
        environment=environment,
        host=fingerprint(),
    )


def git_state(folder: Path) -> dict[str, Any]:
    """Commit, its date (milliseconds since 1970), branch, and whether the tree differs from it; empty outside a repository.

    Examples
    --------
    >>> git_state(Path("/"))
    {}
    """

    def git(*words: str) -> str:
        found = subprocess.run(  # noqa: S603 - fixed words
            ["git", "-C", str(folder), *words],  # noqa: S607 - whichever git the user has
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        return found.stdout.strip()

    try:
        commit, seconds = git("log", "-1", "--format=%H %ct").split()
        dirty = bool(git("status", "--porcelain", "--untracked-files=no"))
        return {"commit": commit, "date": int(seconds) * 1000, "branch": git("branch", "--show-current"), "dirty": dirty}
    except (OSError, ValueError, subprocess.SubprocessError):
        return {}
