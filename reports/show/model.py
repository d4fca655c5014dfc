"""What a page is made of: plain frozen records, the same for a terminal and for HTML."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from harness.data import Operands
from harness.spec import ConvSpec

#: Colours that tell taps apart; a tap's is its number modulo this.
HUES = 12


@dataclass(frozen=True, eq=False)
class Subject:
    """What is shown.

    Attributes
    ----------
    name, why : str
        Of the case.
    spec : ConvSpec
        As it was computed: for a matrix one image without bias.
    operands : Operands
        The data shown.
    about : str
        Where the data come from, and what was left out of the case's specification.
    """

    name: str
    why: str
    spec: ConvSpec
    operands: Operands
    about: str = ""


@dataclass(frozen=True, eq=False)
class Party:
    """What the oracle or one backend made of the operands.

    Attributes
    ----------
    name : str
        `oracle`, or the backend and its device.
    outputs : tuple of ndarray, `spec.out_shape` each, float64
        One a run, in the order of the runs; empty where it did not get so far.
    wrong : tuple of ndarray of bool
        Where an output is neither equal to the oracle's nor within the bound of the declared class.
    verdict : str
        In words.
    good : bool or None
        None for the oracle, and where nothing was judged.
    """

    name: str
    outputs: tuple[np.ndarray, ...]
    wrong: tuple[np.ndarray, ...] = ()
    verdict: str = ""
    good: bool | None = None


@dataclass(frozen=True, eq=False)
class Table:
    """A matrix to be drawn.

    Attributes
    ----------
    title : str
    cells : list of rows of str
    hue : ndarray of int, the cells' shape
        A colour's number, or -1.
    faint : ndarray of bool
        Zeros that stand there by structure: dotted.
    wrong : ndarray of bool
    rows, columns : sequences of str
        Labels; empty for none.
    verdict : str
    good : bool, optional
    """

    title: str
    cells: list[list[str]]
    hue: np.ndarray
    faint: np.ndarray
    wrong: np.ndarray
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    verdict: str = ""
    good: bool | None = None


@dataclass(frozen=True, eq=False)
class Image:
    """A picture to be drawn: grey values, uint8; where `wrong`, it is marked."""

    title: str
    pixels: np.ndarray
    wrong: np.ndarray
    verdict: str = ""
    good: bool | None = None


@dataclass(frozen=True, eq=False)
class Section:
    """One case: what stands side by side, and the lines under it."""

    title: str
    lead: tuple[str, ...]
    items: tuple[Table | Image, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Page:
    """Everything that one command shows."""

    title: str
    sections: tuple[Section, ...]
    lead: tuple[str, ...] = field(default=())


def number(v: float) -> str:
    """A value in a cell: whole where it is, else in four digits.

    Examples
    --------
    >>> number(7.0), number(-0.0625), number(1 / 3), number(0.00390625)
    ('7', '-0.0625', '0.3333', '0.003906')
    """
    return f"{v:.0f}" if float(v).is_integer() and abs(v) < 1e7 else f"{v:.4g}"


def numbers(values: np.ndarray) -> list[list[str]]:
    """The cells of a 2-D array."""
    return [[number(float(v)) for v in row] for row in values]


def plain_table(title: str, values: np.ndarray, *, verdict: str = "", good: bool | None = None, **more: object) -> Table:
    """A table without colours; `more` are further fields of `Table`."""
    none = np.zeros(values.shape, bool)
    fields: dict[str, object] = {"hue": np.full(values.shape, -1), "faint": none, "wrong": none, **more}
    return Table(title, numbers(values), verdict=verdict, good=good, **fields)  # type: ignore[arg-type]
