"""`convproof doctor`: what this machine can run, and what to do about the rest.

Each part of the report is gathered by a function of its own; whatever is wrong becomes a `Problem`,
which cannot be made without a way out.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli import facts
from harness.cli.console import clean, make_console, print_table
from harness.cli.settings import Settings, load_settings
from harness.cli.units import format_bytes

if TYPE_CHECKING:
    from harness.run.probe import ProbeReport

#: Free disk space below which a run of the full suite may not be stored.
LITTLE_SPACE = 100 * 2**20


@dataclass(frozen=True)
class Problem:
    """Something that is wrong here.

    Attributes
    ----------
    what : str
    way_out : str
        What to do about it.
    broken : bool
        Whether it makes `doctor` exit with 1; a note does not.
    """

    what: str
    way_out: str
    broken: bool = True


@click.command("doctor", short_help="Report what this machine can run, and what to do about the rest.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as one object.")
def command(as_json: bool) -> None:
    """Report what this machine can run, and what to do about the rest.

    Exits with 0 when at least one backend can run and nothing is broken, else with 1.
    """
    from harness.cli.probing import probe_backends, probe_libraries

    settings = load_settings()
    reports, libraries = probe_backends(settings, ()), probe_libraries(settings)
    found = [*platform_problems(settings), *backend_problems(reports, settings), *library_problems(libraries)]
    broken = any(p.broken for p in found)
    if as_json:
        click.echo(json.dumps(as_data(settings, reports, libraries, found), indent=2))
    else:
        _show(settings, reports, libraries, found)
    sys.exit(1 if broken else 0)


def environment(settings: Settings) -> dict[str, str]:
    """Facts of the machine, the packages and the places: names to text."""
    store = store_path(settings)
    held = facts.machine()
    held["memory"] = format_bytes(facts.memory_bytes())
    held["shared memory"] = _shared_memory()
    held |= facts.packages()
    held["BLAS"] = facts.blas()
    held["ld"] = facts.linker() or "not found"
    held["valgrind"] = facts.valgrind() or "not found: `compare --instructions` needs it (apt-get install valgrind)"
    held["settings"] = str(settings.source or "defaults: no convproof.toml, no [tool.convproof]")
    held["store"] = f"{store} ({format_bytes(store.stat().st_size)})" if store.is_file() else f"{store} (not made yet)"
    held["workers"] = f"{settings.workers} of {settings.threads} threads, {format_bytes(settings.memory)} each"
    held["tuned settings"] = _tuned()
    for name, folder in facts.caches().items():
        held[f"cache of {name}"] = f"{folder} ({format_bytes(facts.folder_bytes(folder))})"
    return held | facts.variables()


def platform_problems(settings: Settings) -> Iterator[Problem]:
    """What is wrong with the machine, the store or the settings."""
    if reason := facts.memfd():
        yield Problem(
            f"arrays cannot be shared with the workers: {reason}", "run on Linux 3.17 or later, without a filter on it"
        )
    if facts.linker() is None:
        yield Problem("there is no ld: OpenCL kernels on PoCL cannot be linked", "apt-get install binutils", broken=False)
    store = store_path(settings)
    if reason := facts.writable(store):
        yield Problem(f"the store {store} cannot be written: {reason}", "set CONVPROOF_STORE, or `store` in convproof.toml")
    elif (free := shutil.disk_usage(_existing(store)).free) < LITTLE_SPACE:
        yield Problem(f"{format_bytes(free)} are free where the store is", "free some, or `convproof runs prune`", broken=False)
    for name, folder in facts.caches().items():
        if reason := facts.writable(folder / "probe"):
            way = "set XDG_CACHE_HOME to a folder that can be written"
            yield Problem(f"the cache of {name} cannot be written ({reason}): every run compiles anew", way, broken=False)
    memory = facts.memory_bytes()
    if 0 < memory < settings.workers * settings.memory:
        what = (
            f"{settings.workers} workers may hold {format_bytes(settings.memory)} each, the machine has {format_bytes(memory)}"
        )
        yield Problem(what, "lower `memory` or `jobs` in convproof.toml", broken=False)


def backend_problems(reports: list[ProbeReport], settings: Settings) -> Iterator[Problem]:
    """What keeps backends from running: broken where one fails, is required, or none is left."""
    from harness.records import Status

    for r in reports:
        if r.devices:
            continue
        unavailable = r.status == Status.UNAVAILABLE
        again = f"convproof list backends {r.reference.partition('=')[0]}"
        way = r.hint or (f"see its documentation, then {again}" if unavailable else f"mend its module, then {again}")
        required = bool({r.name, r.reference} & set(settings.require))
        yield Problem(f"backend {r.name}: {r.message or r.status}", way, broken=required or not unavailable)
    if not any(r.devices for r in reports):
        yield Problem("no backend can run", "pip install 'convproof[naive,opencl]'")
    yield from _unnamed_driver(reports)


def _unnamed_driver(reports: list[ProbeReport]) -> Iterator[Problem]:
    """Intel's OpenCL driver is installed, and OpenCL was not told of it: it lists drivers by the .icd files that it finds."""
    platforms = {d.properties.get("platform", "") for r in reports for d in r.devices}
    driver = facts.intel_driver()
    if driver is None or any("Intel" in name for name in platforms):
        return
    folder = driver.parent.parent / "icd"
    way = f"mkdir -p {folder}; echo {driver} > {folder}/intel.icd; export OCL_ICD_VENDORS={folder}"
    yield Problem(f"Intel's OpenCL driver {driver} is installed, and no .icd file names it", way, broken=False)


def library_problems(reports: list[ProbeReport]) -> Iterator[Problem]:
    """Outside libraries that are there and fail; one that is not installed is no problem, for none runs by default."""
    from harness.records import Status

    for r in reports:
        if not r.devices and r.status != Status.UNAVAILABLE:
            again = f"convproof list backends {r.reference.partition('=')[0]}"
            yield Problem(
                f"library {r.name}: {r.message or r.status}", r.hint or f"mend its module, then {again}", broken=False
            )


def store_path(settings: Settings) -> Path:
    """Where runs are stored."""
    from harness.store import default_path

    return default_path(settings.store)


def as_data(
    settings: Settings, reports: list[ProbeReport], libraries: list[ProbeReport], found: list[Problem]
) -> dict[str, Any]:
    """The report in JSON's types."""
    told = {
        name: [
            {
                "name": r.name,
                "reference": r.reference,
                "status": str(r.status),
                "devices": [d.name for d in r.devices],
                "message": r.message,
                "hint": r.hint,
            }
            for r in held
        ]
        for name, held in (("backends", reports), ("libraries", libraries))
    }
    problems = [asdict(p) for p in found]
    return {"ok": not any(p.broken for p in found), "environment": environment(settings), **told, "problems": problems}


def _show(settings: Settings, reports: list[ProbeReport], libraries: list[ProbeReport], found: list[Problem]) -> None:
    console = make_console()
    print_table(console, ("environment", ""), list(environment(settings).items()))
    console.print()
    rows = [(r.name, ", ".join(d.name for d in r.devices) or f"no: {r.message or r.status}") for r in reports]
    print_table(console, ("backend", "runs on"), rows)
    console.print()
    if libraries:
        rows = [(r.name, ", ".join(d.name for d in r.devices) or f"no: {r.hint or r.message or r.status}") for r in libraries]
        print_table(console, ("library", "run when named, on"), rows)
        console.print()
    for p in found:
        console.print(clean(f"{'problem' if p.broken else 'note'}: {p.what}: {p.way_out}"))
    count = sum(p.broken for p in found)
    usable = sum(bool(r.devices) for r in reports)
    verdict = f"{count} problem{'s' * (count != 1)}" if count else "nothing is broken"
    console.print(f"{usable} of {len(reports)} backends can run; {verdict}")


def _shared_memory() -> str:
    memfd = facts.memfd() or "memfd works"
    shm = Path("/dev/shm")  # noqa: S108 - reported, not written
    return (
        f"{memfd}; /dev/shm has {format_bytes(shutil.disk_usage(shm).free)} free" if shm.is_dir() else f"{memfd}; no /dev/shm"
    )


def _tuned() -> str:
    from harness.tuned import VARIABLE, Table, folder, tables

    found = tables()
    number = sum(len(t.entries) for t in found.values() if isinstance(t, Table))
    broken = sum(not isinstance(t, Table) for t in found.values())
    return (
        f"{folder()} ({number} kept{f', {broken} broken files' if broken else ''})" if folder() else f"off: {VARIABLE} is empty"
    )


def _existing(path: Path) -> Path:
    return next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
