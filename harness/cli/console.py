"""Where commands print: colours and boxes on a terminal, aligned plain lines anywhere else.

Consoles are made with markup, emoji and highlighting off: text from case files, backends and
drivers is printed as it is, and style is given apart (`style=`, `rich.text.Text`). What such text
must not do is talk to the terminal, so `harness.text.clean` strips escape sequences and control characters.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from harness.text import clean

#: `clean` is for the commands, which print through this module.
__all__ = ["clean", "is_plain", "make_console", "plain_table", "print_table"]

if TYPE_CHECKING:
    from rich.console import Console


def is_plain(stream: Any = None) -> bool:
    """Whether `stream` (default standard output) gets plain lines: CI is set, or it is no terminal."""
    if os.environ.get("CI", "").lower() not in ("", "0", "false"):
        return True
    stream = sys.stdout if stream is None else stream
    return not (hasattr(stream, "isatty") and stream.isatty())


def make_console(*, stderr: bool = False) -> Console:
    """Make the console of a command.

    Colours appear on a terminal alone, and not where NO_COLOR is set. A plain console never wraps
    a line, so that what is printed can be searched and cut.

    Parameters
    ----------
    stderr : bool
        Whether it writes to standard error: progress and notes, so that standard output stays data.
    """
    from rich.console import Console

    class _Console(Console):
        def on_broken_pipe(self) -> NoReturn:
            """Leave the closed pipe to `harness.cli.errors.guarded` (rich would exit with 1)."""
            raise BrokenPipeError

    stream = sys.stderr if stderr else sys.stdout
    plain = is_plain(stream)
    return _Console(
        file=stream,
        markup=False,
        emoji=False,
        highlight=False,
        soft_wrap=plain,
        force_terminal=False if plain else None,
        no_color=True if plain else None,
    )


def print_table(
    console: Console,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str = "",
    right: Collection[str] = (),
) -> None:
    """Print a table: boxed on a terminal, aligned columns elsewhere.

    Parameters
    ----------
    console : Console
        Of `make_console`.
    columns : sequence of str
        Headings.
    rows : iterable of sequences
        Cells, an entry a column; None is an empty cell. Text is cleaned here.
    title : str
        A line above the table.
    right : collection of str
        Columns that are aligned to the right: numbers.
    """
    cells = [["" if c is None else clean(c) for c in row] for row in rows]
    if console.is_terminal:
        _print_rich(console, columns, cells, title, right)
    else:
        for line in ([title] if title else []) + plain_table(columns, cells, right=right):
            console.print(line)


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[str] = ()) -> list[str]:
    """The lines of a table of aligned columns, two spaces apart.

    Examples
    --------
    >>> plain_table(["case", "K"], [["conv-a", "9"], ["b", "144"]], right={"K"})
    ['case      K', 'conv-a    9', 'b       144']
    """
    grid = [[" ".join(c.split("\n")) for c in row] for row in [columns, *rows]]
    widths = [max(len(row[i]) for row in grid) for i in range(len(columns))]
    lines = []
    for row in grid:
        parts = [c.rjust(w) if n in right else c.ljust(w) for c, w, n in zip(row, widths, columns, strict=True)]
        lines.append("  ".join(parts).rstrip())
    return lines


def _print_rich(console: Console, columns: Sequence[str], cells: list[list[str]], title: str, right: Collection[str]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(title) if title else None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True
    )
    for name in columns:
        table.add_column(Text(name), justify="right" if name in right else "left", overflow="fold")
    for row in cells:
        table.add_row(*(Text(c) for c in row))
    console.print(table)
