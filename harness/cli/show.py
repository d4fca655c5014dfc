"""`convproof show`: a convolution as the lecture draws it, by the oracle and by any backend."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.console import clean, make_console
from harness.cli.errors import UsageProblem
from harness.cli.settings import Settings, load_settings

if TYPE_CHECKING:
    from harness.catalogue import Case
    from harness.cli.subjects import Shown
    from reports.show import Page

VIEWS = ("toeplitz", "im2col", "circulant", "shift", "output")
#: Cases of one page.
MOST = 40


@click.command("show", short_help="Draw a case as a matrix or a picture.")
@click.argument("selection", metavar="CASE...", nargs=-1, required=True)
@click.option("--as", "view", type=click.Choice(VIEWS), help="What to draw; by default what suits the case.")
@click.option("--backend", "backends", multiple=True, metavar="NAME", help="Draw what it computes, too; `all` for every one.")
@click.option("--device", metavar="PART", help="Part of a device's name.")
@click.option("--size", metavar="8x7", help="Another input size: the data are cut, or drawn.")
@click.option("--html", "html_file", metavar="FILE", help="Write a page instead; `-` for standard output.")
def command(selection: tuple[str, ...], **options: Any) -> None:
    """Draw a case as a matrix or a picture.

    CASE is an id, a glob, a suite or a YAML file. `toeplitz` is the filter's matrix T of y = T x, `im2col` the
    data's matrix X of y^T = h^T X, `circulant` adds the eigenvalues, `shift` shows what commutes with a shift,
    and `output` input, kernel and output side by side. The oracle draws; each --backend is run on unit
    impulses, and where it differs its matrix is drawn beside, the entries marked by `!`. Pictures are drawn by
    every installed backend if none is named.
    """
    settings = load_settings()
    items = _items(settings, selection, options)
    references = _references(settings, options["backends"], items)
    page, code = _page(settings, items, references, options)
    if options["html_file"] is None:
        _print(page)
    else:
        _write(page, options["html_file"])
    sys.exit(code)


def _items(settings: Settings, selection: Sequence[str], options: dict[str, Any]) -> list[Shown]:
    """What is to be shown; of several cases those that can be."""
    from harness.cli.selection import project_catalogue
    from harness.cli.subjects import default_view, shown

    size = _size(options["size"])
    cases: tuple[Case, ...] = project_catalogue(settings).select(selection)
    if len(cases) == 1:
        return [shown(cases[0], options["view"] or default_view(cases[0]), size)]
    items, reasons = [], []
    for case in cases:
        try:
            items.append(shown(case, options["view"] or default_view(case), size))
        except UsageProblem as e:
            reasons.append(e.format_message())
    if not items:
        raise UsageProblem(f"none of the {len(cases)} cases can be shown so; the first: {reasons[0]}")
    if len(items) > MOST:
        raise UsageProblem(f"{len(items)} cases are too many for one page, {MOST} at most: name fewer")
    if reasons:
        click.echo(f"convproof: {len(reasons)} of {len(cases)} cases are left out; the first: {clean(reasons[0])}", err=True)
    return items


def _size(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    if not re.fullmatch(r"[1-9][0-9]{0,5}(?:[x,][1-9][0-9]{0,5}){0,2}", text):
        raise UsageProblem(f"--size takes a length an axis, such as 8 or 8x7: got {text!r}")
    return tuple(int(n) for n in re.split("[x,]", text))


def _references(settings: Settings, names: Sequence[str], items: Sequence[Shown]) -> list[str]:
    """The backends that are named; for pictures every one, if none is."""
    from harness.cli.probing import references

    pictures = not names and any(i.view == "output" and i.case.photo is not None for i in items)
    if pictures or "all" in names:
        return references(settings)
    return references(settings, names) if names else []


def _page(settings: Settings, items: Sequence[Shown], references: Sequence[str], options: dict[str, Any]) -> tuple[Page, int]:
    """The page and the exit code."""
    from harness.cli.materialise import by_backends, by_oracle
    from harness.cli.probing import worker_limits
    from harness.records import Status, exit_code
    from harness.run.runner import Options
    from reports.show import VIEWS, Page

    parties = [[by_oracle(i)] for i in items]
    code = 0
    if references:
        run_options = Options(jobs=settings.workers, limits=worker_limits(settings))
        found, counts = by_backends(items, references, run_options, options["device"])
        parties = [mine + theirs for mine, theirs in zip(parties, found, strict=True)]
        named = bool(options["backends"]) and "all" not in options["backends"]
        code = exit_code(counts, missing=named and counts[Status.UNAVAILABLE] > 0)
    sections = tuple(VIEWS[i.view](i.subject(), p) for i, p in zip(items, parties, strict=True))
    title = sections[0].title if len(sections) == 1 else f"{len(sections)} cases"
    lead = () if not any(i.case.photo for i in items) else ("The photograph: U.S. Navy, public domain; cases/photo.md.",)
    return Page(f"Convproof: {title}", sections, lead), code


def _print(page: Page) -> None:
    from rich.text import Text

    from reports.show.terminal import render

    console = make_console()
    for line in render(page, console.width, plain=not console.is_terminal or console.no_color):
        console.print(line if isinstance(line, Text) else Text(line), soft_wrap=not console.is_terminal)


def _write(page: Page, target: str) -> None:
    from reports.show.html import render

    text = render(page)
    if target == "-":
        click.echo(text, nl=False)
        return
    try:
        Path(target).write_text(text, encoding="utf-8")
    except OSError as e:
        raise UsageProblem(f"--html {target}: cannot be written: {e.strerror}") from None
    click.echo(f"{target}: {len(page.sections)} cases, {len(text) / 1000:.0f} kB", err=True)
