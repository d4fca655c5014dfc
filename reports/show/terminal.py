"""A page on a terminal: coloured cells and half-block pictures there, digits and a ramp of letters anywhere else."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import zip_longest

import numpy as np
from rich.style import Style
from rich.text import Text

from reports.show.model import HUES, Image, Page, Section, Table

#: Backgrounds of the taps, in an order in which neighbours differ; every one bears black digits.
PALETTE = (
    "#f4a261", "#8ecae6", "#95d5b2", "#ffb3c6", "#e9c46a", "#b8b8ff",
    "#cdb4db", "#a7c957", "#ffd6a5", "#90e0ef", "#d4a373", "#c8d5b9",
)  # fmt: skip
#: From dark to light, ten steps.
RAMP = " .:-=+*#%@"
#: Columns of a picture: as many as there is room for, between these.
NARROW, WIDE = 34, 96
_GAP = 3
_WRONG = Style(color="#ffffff", bgcolor="#c1121f", bold=True)
_MARK = (193, 18, 31)

Block = list[Text]


def render(page: Page, width: int, *, plain: bool) -> Iterator[Text]:
    """The page's lines.

    Parameters
    ----------
    page : Page
    width : int
        Columns of the terminal.
    plain : bool
        No colour, no character beyond ASCII but those of the case's own text.
    """
    for i, section in enumerate(page.sections):
        if i:
            yield Text()
        yield Text(section.title, style="" if plain else "bold")
        yield from (Text(line, style="" if plain else "dim") for line in section.lead)
        yield Text()
        yield from _beside(section, width, plain)
        yield from (Text(note) for note in section.notes)


def _beside(section: Section, width: int, plain: bool) -> Iterator[Text]:
    """The section's items, as many in a row as fit."""
    blocks = {i: _table(item, width, plain) for i, item in enumerate(section.items) if isinstance(item, Table)}
    beside = sum(max(t.cell_len for t in block) + _GAP for block in blocks.values())
    free = width - beside if width - beside >= 2 * (NARROW + _GAP) else width
    abreast = max(1, min(len(section.items) - len(blocks), free // (NARROW + _GAP)))
    room = max(NARROW, min(WIDE, free // abreast - _GAP))
    row: list[Block] = []
    used = 0
    for i, item in enumerate(section.items):
        block = _picture(item, room, plain) if isinstance(item, Image) else blocks[i]
        size = max(t.cell_len for t in block)
        if row and used + size > width:
            yield from _joined(row)
            row, used = [], 0
        row.append(block)
        used += size + _GAP
    yield from _joined(row)


def _joined(row: Sequence[Block]) -> Iterator[Text]:
    widths = [max(t.cell_len for t in block) for block in row]
    for lines in zip_longest(*row):
        out = Text()
        for line, width in zip(lines, widths, strict=True):
            part = line.copy() if line is not None else Text()
            part.append(" " * (width - part.cell_len + _GAP))
            out.append_text(part)
        out.rstrip()
        yield out
    if row:
        yield Text()


def _framed(item: Table | Image, body: Block, plain: bool) -> Block:
    """The title above and the verdict below, folded to the item's width."""
    size = max(24, *(t.cell_len for t in body))
    style = "" if plain or item.good is None else "green" if item.good else "bold red"
    title = [Text(line, style="" if plain else "bold") for line in textwrap.wrap(item.title, size)]
    return title + body + [Text(line, style=style) for line in textwrap.wrap(item.verdict, size)]


def _table(table: Table, width: int, plain: bool) -> Block:
    """A matrix; where it is wider than the terminal, a character a cell."""
    cell = max(len(c) for row in table.cells for c in row) + (1 if table.wrong.any() else 0)
    label, across = max((len(r) for r in table.rows), default=0), table.hue.shape[1]
    heading = max((len(c) for c in table.columns), default=0)
    if heading > cell and label + 1 + (heading + 1) * across <= min(width, 80):
        cell = heading
    if label + 1 + (cell + 1) * across > width and not plain:
        cell = 0
    body: Block = []
    if 0 < heading <= cell:
        body.append(Text(" " * (label + 1) + "".join(c.rjust(cell + 1) for c in table.columns), style="" if plain else "dim"))
    for r, row in enumerate(table.cells):
        line = Text().append((table.rows[r] if table.rows else "").rjust(label) + " ", "" if plain else "dim")
        for c, text in enumerate(row):
            line.append_text(_cell(table, r, c, text, cell, plain))
        body.append(line)
    return _framed(table, body, plain)


def _cell(table: Table, r: int, c: int, text: str, size: int, plain: bool) -> Text:
    wrong, faint, hue = bool(table.wrong[r, c]), bool(table.faint[r, c]), int(table.hue[r, c])
    if plain:
        return Text((text + "!" if wrong else "." if faint else text).rjust(size + 1))
    shown = "·" if faint and not wrong else text + "!" if wrong else text
    if size == 0:  # a character a cell: the structure, without the numbers
        shown = "·" if faint and not wrong else "!" if wrong else " "
    shown = shown.rjust(max(size, 1) + 1)
    if wrong:
        return Text(shown, style=_WRONG)
    if faint:
        return Text(shown, style="dim")
    return Text(shown, style=Style(color="#000000", bgcolor=PALETTE[hue % HUES])) if hue >= 0 else Text(shown)


def _picture(image: Image, room: int, plain: bool) -> Block:
    """Half blocks, two pixels a character; plain: a letter for a pixel's width and two pixels' height."""
    pixels, wrong = _fitted(image, room)
    height, width = pixels.shape
    lines: Block = []
    for top in range(0, height - height % 2, 2):
        line = Text()
        for c in range(width):
            upper, lower = int(pixels[top, c]), int(pixels[top + 1, c])
            bad = bool(wrong[top : top + 2, c].any())
            if plain:
                line.append("!" if bad else RAMP[(upper + lower) * len(RAMP) // 510])
                continue
            up = _MARK if wrong[top, c] else (upper,) * 3
            down = _MARK if wrong[top + 1, c] else (lower,) * 3
            line.append("▀", Style(color="#{:02x}{:02x}{:02x}".format(*up), bgcolor="#{:02x}{:02x}{:02x}".format(*down)))
        lines.append(line)
    return _framed(image, lines, plain)


def _fitted(image: Image, room: int) -> tuple[np.ndarray, np.ndarray]:
    """The picture no wider than `room`: each pixel the mean of what falls on it, wrong where anything there is."""
    pixels, wrong = image.pixels.astype(np.float64), image.wrong
    if pixels.shape[1] > room:
        factor = pixels.shape[1] / room
        rows, columns = (np.unique((np.arange(int(n / factor)) * factor).astype(int)) for n in pixels.shape)
        ones = np.add.reduceat(np.add.reduceat(np.ones(pixels.shape), rows, 0), columns, 1)
        pixels = np.add.reduceat(np.add.reduceat(pixels, rows, 0), columns, 1) / ones
        wrong = np.maximum.reduceat(np.maximum.reduceat(wrong, rows, 0), columns, 1)
    if pixels.shape[0] % 2:
        pixels, wrong = np.vstack([pixels, pixels[-1:]]), np.vstack([wrong, wrong[-1:]])
    return np.rint(pixels).astype(np.uint8), wrong
