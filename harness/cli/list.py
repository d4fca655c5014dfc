"""`convproof list`: what there is to name on the command line of `verify`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

import click

from harness.cli.console import clean, make_console, print_table
from harness.cli.errors import UsageProblem
from harness.cli.settings import Settings, load_settings
from harness.cli.words import alternatives

#: Columns of prose on a wide terminal.
PROSE = 100
KINDS = ("backends", "devices", "cases", "suites", "checks")


@dataclass(frozen=True)
class Listing:
    """A table and the same as data.

    Attributes
    ----------
    columns : tuple of str
    rows : tuple of tuples
        Cells, an entry a column.
    data : list of dict
        What `--json` prints, an object a row.
    right : tuple of str
        Columns of numbers.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    data: list[dict[str, Any]]
    right: tuple[str, ...] = ()


@click.command("list", short_help="List backends, devices, cases, suites or checks.")
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("patterns", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print an array of objects.")
@click.option("--explain", metavar="NAME", help="With checks: print the whole theorem of one.")
@click.option("--coverage", is_flag=True, help="With cases: the pairs of options that they reach (of `full`, if no PATTERNS).")
def command(kind: str, patterns: tuple[str, ...], as_json: bool, explain: str | None, coverage: bool) -> None:
    """List backends, devices, cases, suites or checks.

    PATTERNS choose among them: suites, ids and globs for cases and suites; names, FILE.py:NAME or
    MODULE:NAME for backends and devices; globs for checks.
    """
    settings = load_settings()
    if explain is not None:
        if kind != "checks":
            raise UsageProblem(f"--explain belongs to checks, not to {kind}: convproof list checks --explain {explain}")
        console = make_console()
        console.print(explanation(explain, min(console.width, PROSE) if console.is_terminal else None))
        return
    if coverage:
        if kind != "cases":
            raise UsageProblem(f"--coverage belongs to cases, not to {kind}: convproof list cases --coverage")
        _coverage(settings, patterns, as_json)
        return
    listing = _LISTINGS[kind](settings, patterns)
    if as_json:
        click.echo(json.dumps(listing.data, indent=2))
    else:
        print_table(make_console(), listing.columns, listing.rows, right=listing.right)


def _coverage(settings: Settings, patterns: Sequence[str], as_json: bool) -> None:
    """Print how much of the parameter lattice the cases reach."""
    from harness.cli.lattice import show, summary
    from harness.cli.selection import project_catalogue

    data = summary(project_catalogue(settings), patterns)
    if as_json:
        click.echo(json.dumps(data, indent=2))
    else:
        show(data)


def list_cases(settings: Settings, patterns: Sequence[str]) -> Listing:
    """Cases that the patterns select; all of them where there are none."""
    from harness.cli.selection import project_catalogue

    catalogue = project_catalogue(settings)
    data = [
        {
            "id": c.id,
            "op": c.spec.op if c.spec else str(c.fields.get("op", "")),
            "shape": str(c.spec).partition(" ")[2] if c.spec else f"refused: {c.refused}",
            "flops": c.spec.flops if c.spec else 0,
            "suite": c.suites[0],
            "why": c.why,
            "suites": list(c.suites),
            "tags": list(c.tags),
            "source": c.source,
            "where": c.where,
        }
        for c in catalogue.select(patterns or ("*",))
    ]
    columns = ("id", "op", "shape", "flops", "suite", "why")
    return Listing(columns, tuple(tuple(d[c] for c in columns) for d in data), data, right=("flops",))


def list_suites(settings: Settings, patterns: Sequence[str]) -> Listing:
    """Suites, with how many cases each holds and what they cost."""
    from harness.catalogue import SUITES
    from harness.cli.selection import project_catalogue

    catalogue = project_catalogue(settings)
    cases = list(catalogue.select(patterns or ("*",)))
    data: list[dict[str, Any]] = []
    for suite in SUITES:
        held = [c for c in cases if suite in c.suites]
        flops = sum(c.spec.flops for c in held if c.spec)
        data.append({"suite": suite, "cases": len(held), "refused": sum(c.spec is None for c in held), "mflop": flops / 1e6})
    rows = tuple((d["suite"], d["cases"], d["refused"], f"{d['mflop']:.1f}") for d in data)
    return Listing(("suite", "cases", "refused", "MFLOP"), rows, data, right=("cases", "refused", "MFLOP"))


def list_checks(settings: Settings, patterns: Sequence[str]) -> Listing:
    """Checks, with the first line of the theorem of each."""
    from fnmatch import fnmatchcase

    from harness.checks import CHECKS

    chosen = [c for c in CHECKS if not patterns or any(fnmatchcase(c.name, p) for p in patterns)]
    if not chosen:
        raise UsageProblem(f"no check matches {' '.join(patterns)}: the checks are {', '.join(c.name for c in CHECKS)}")
    data = [{"name": c.name, "title": c.title, "theorem": c.theorem, "example": c.example} for c in chosen]
    return Listing(("check", "theorem"), tuple((d["name"], _first_line(d["theorem"])) for d in data), data)


def explanation(name: str, width: int | None = None) -> str:
    """Name, title, theorem and worked example of the check called `name`.

    Parameters
    ----------
    name : str
    width : int, optional
        Columns that prose is filled to; its lines are left as they are written if not given.
    """
    from harness.checks import CHECKS

    found = {c.name: c for c in CHECKS}
    if name not in found:
        raise UsageProblem(f"there is no check {name!r}: {alternatives(name, 'checks', found)}")
    check = found[name]
    parts = [_filled(f"{check.name}: {check.title}", width), _filled(check.theorem, width)]
    if check.example:
        parts += ["Worked example", worked(check.example, width)]
    return clean("\n\n".join(parts))


def worked(example: str, width: int | None = None) -> str:
    r"""A doctest for readers: each expression, and below it what it gives; imports are left out.

    Examples
    --------
    >>> print(worked("A sum.\n\n>>> from math import fsum\n>>> x = [1, 2]\n>>> fsum(x)\n3.0"))
    A sum.
    <BLANKLINE>
      x = [1, 2]
      fsum(x)
        -> 3.0
    """
    from doctest import DocTestParser, Example

    lines: list[str] = []
    for part in DocTestParser().parse(example):
        if isinstance(part, Example):
            if not part.source.startswith(("from ", "import ")):
                lines += [f"  {line}" for line in part.source.splitlines()]
                lines += [f"    {'->' if i == 0 else '  '} {line}" for i, line in enumerate(part.want.splitlines())]
        elif text := part.strip():
            lines += ["", *_filled(text, width).splitlines(), ""]
    return "\n".join(lines).strip("\n")


def _filled(text: str, width: int | None) -> str:
    """The paragraphs of prose filled to `width`."""
    if width is None:
        return text
    return "\n\n".join(fill(" ".join(paragraph.split()), width) for paragraph in text.split("\n\n"))


def list_backends(settings: Settings, patterns: Sequence[str]) -> Listing:
    """Backends, whether each runs by default or when it is named, and whether it can run here."""
    from harness.cli.probing import probe_backends, probe_libraries
    from harness.registry import Registry, split

    libraries = set(Registry.installed().libraries)
    usual = probe_backends(settings, patterns)
    data = [
        {
            "name": r.name,
            "run": "when named" if rest or (patterns and split(r.reference)[0] in libraries) else "by default",
            "reference": r.reference,
            "algorithm": r.info.classes if r.info else "",
            "summary": r.info.summary if r.info else "",
            "status": r.status,
            "devices": [d.name for d in r.devices],
            "message": r.message,
            "hint": r.hint,
        }
        for rest, reports in ((False, usual), (True, [] if patterns else probe_libraries(settings)))
        for r in reports
    ]
    rows = tuple((d["name"], d["run"], d["algorithm"], _availability(d), d["summary"], d["reference"]) for d in data)
    return Listing(("name", "run", "algorithm", "available", "summary", "reference"), rows, data)


def list_devices(settings: Settings, patterns: Sequence[str]) -> Listing:
    """Devices that the backends found."""
    from harness.cli.probing import probe_backends

    data = [
        {
            "backend": r.name,
            "device": d.name,
            "kind": d.kind,
            "denormals": d.denormals,
            "rounding": d.rounding,
            "properties": dict(d.properties),
        }
        for r in probe_backends(settings, patterns)
        for d in r.devices
    ]
    if not data:
        raise UsageProblem("no backend found a device: `convproof doctor` says why")
    rows = tuple((d["backend"], d["device"], d["kind"], _properties(d)) for d in data)
    return Listing(("backend", "device", "kind", "properties"), rows, data)


def _availability(backend: dict[str, Any]) -> str:
    if backend["devices"]:
        return ", ".join(backend["devices"])
    return ": ".join(t for t in (f"no ({backend['status']})", backend["message"], backend["hint"]) if t)


def _properties(device: dict[str, Any]) -> str:
    return ", ".join(f"{k} {v}" for k, v in device["properties"].items())


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


_LISTINGS = {
    "backends": list_backends,
    "devices": list_devices,
    "cases": list_cases,
    "suites": list_suites,
    "checks": list_checks,
}
