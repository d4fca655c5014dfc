"""The two errors of the catalogue, and how they name the nearest right thing."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class CatalogueError(ValueError):
    """A file that is not a catalogue; `str()` is ``path:line: message``.

    Parameters
    ----------
    path : Path or str
        The file.
    line : int
        Line in it, from 1; 0 where the file as a whole is meant (absent, too large).
    message : str
        What was got, what was expected, how to fix it.

    Examples
    --------
    >>> print(CatalogueError("mine.yaml", 7, "unknown key 'strde': did you mean 'stride'?"))
    mine.yaml:7: unknown key 'strde': did you mean 'stride'?
    """

    def __init__(self, path: Path | str, line: int, message: str) -> None:
        super().__init__(path, line, message)
        self.path = Path(path)
        self.line = line
        self.message = message

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}" if self.line else str(self.path)
        return f"{where}: {self.message}"


class SelectionError(ValueError):
    """A selection that names nothing; the message holds the nearest names."""


def nearest(got: object, names: Iterable[str], *, count: int = 1) -> str:
    """``did you mean 'x'?``, or else the list of names where it is short, or else nothing.

    Examples
    --------
    >>> nearest("strde", ["stride", "padding"])
    "did you mean 'stride'?"
    >>> nearest("zzz", ["stride", "padding"])
    'it is one of stride, padding'
    """
    known = list(names)
    if close := get_close_matches(str(got)[:200], known, n=count, cutoff=0.6):
        return f"did you mean {' or '.join(repr(c) for c in close)}?"
    return f"it is one of {', '.join(known)}" if len(known) <= 40 else ""
