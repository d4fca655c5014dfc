"""`Case`: one entry of the catalogue after expansion, ready to be run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.spec import ConvSpec

#: Nested suites, smallest first; `perf` stands apart.
NESTED = ("smoke", "gate", "full")
SUITES = (*NESTED, "perf")

Numbers = tuple[Any, ...]  # nested tuples of int and float


def suites_from(smallest: str) -> tuple[str, ...]:
    """Every suite that holds a case whose smallest suite is `smallest`.

    Examples
    --------
    >>> suites_from("gate"), suites_from("perf")
    (('gate', 'full'), ('perf',))
    """
    return NESTED[NESTED.index(smallest) :] if smallest in NESTED else (smallest,)


@dataclass(frozen=True)
class Literal:
    """Worked numbers, exact: integers and dyadic fractions in nested tuples.

    Attributes
    ----------
    x, w, b, y : nested tuples
        Of the specification's `x_shape`, `w_shape` (None for a pool), `b_shape` (None without a
        bias) and `out_shape`.
    """

    x: Numbers
    w: Numbers | None
    b: Numbers | None
    y: Numbers


@dataclass(frozen=True)
class Matrix:
    """The convolution with one operand's numbers fixed, written out as a matrix.

    Attributes
    ----------
    view : {'filter', 'data'}
        `filter` is the matrix T of y = T x, made from the literal w: a row an output, a column an input,
        both in memory order. `data` is the matrix X of y^T = h^T X, made from the literal x: a column an
        output; its first row is what the window's last position reads, so that it is diagonal-constant.
    rows : nested tuples
        Exact: integers and dyadic fractions.

    References
    ----------
    CPEN 400D, lecture 4.1, slides 'Matrix Multiplication View I' and 'II'.
    """

    view: str
    rows: Numbers


@dataclass(frozen=True)
class Photo:
    """A picture as the input, and the taps that go over it.

    Attributes
    ----------
    file : str
        A binary PGM beside the catalogue file.
    x, w : nested tuples
        Of the specification's `x_shape` (grey values 0 to 255) and `w_shape`, exact.
    """

    file: str
    x: Numbers = field(repr=False)
    w: Numbers


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes
    ----------
    id, family : str
        The id begins with the family.
    spec : ConvSpec or None
        None only for a case that must be refused.
    why, source : str
        The fact that makes it worth its time, and where it comes from.
    tags : tuple of str
    suites : tuple of str
        Every suite that holds it.
    file, line : str, int
        Where its entry begins.
    refused : str or None
        A fragment that the `SpecError` of ``ConvSpec(**fields)`` contains.
    fields : mapping
        `ConvSpec`'s fields as written.
    literal : Literal or None
        Worked numbers.
    matrix : Matrix or None
        What the literal's w or x makes of the convolution.
    photo : Photo or None
        A picture and its filter.
    crop_of : str or None
        Id of the case with the original spatial size.
    """

    id: str
    family: str
    spec: ConvSpec | None
    why: str
    source: str
    tags: tuple[str, ...] = ()
    suites: tuple[str, ...] = ("gate", "full")
    file: str = ""
    line: int = 0
    refused: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    literal: Literal | None = field(default=None, repr=False)
    matrix: Matrix | None = field(default=None, repr=False)
    photo: Photo | None = field(default=None, repr=False)
    crop_of: str | None = None

    @property
    def version(self) -> str:
        """The specification's digest: an edited case under the same id differs. Empty where refused."""
        return self.spec.digest if self.spec else ""

    @property
    def where(self) -> str:
        """``file:line``."""
        return f"{self.file}:{self.line}"
