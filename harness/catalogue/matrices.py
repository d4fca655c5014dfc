"""The lecture's two matrix views, from the definition, exactly: the filter as a matrix and the data as one.

Beside `literals`: the same formula, with one operand left open.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import prod
from typing import Any

from harness.catalogue.case import Literal, Matrix
from harness.catalogue.literals import MAX_NUMBERS, frozen, pick, terms
from harness.spec import ConvSpec

Rows = list[list[Fraction]]


def matrix(view: str, rows: Any, literal: Literal | None, spec: ConvSpec) -> Matrix:
    """Check a written matrix against the specification's shapes.

    Raises
    ------
    ValueError
        The message begins with the field's name.
    """
    if literal is None:
        raise ValueError("view needs literal numbers: the matrix is made from their w or x")
    if (reason := why_no_matrix(view, spec)) is not None:
        raise ValueError(f"view {view}: {reason}")
    shape = matrix_shape(view, spec)
    if prod(shape) > MAX_NUMBERS:
        raise ValueError(f"rows: a matrix of {shape[0]} x {shape[1]} is too large to be written out")
    got = (len(rows), len(rows[0]))
    if got != shape:
        raise ValueError(f"rows: the matrix is {got[0]} x {got[1]}, the {view} matrix of the case {shape[0]} x {shape[1]}")
    return Matrix(view, frozen("rows", rows, shape))


def why_no_matrix(view: str, spec: ConvSpec) -> str | None:
    """Why the specification has no matrix of this view, or None."""
    if spec.is_pool:
        return f"{spec.op} has no weights: a matrix is of a convolution"
    if spec.bias:
        return "a bias makes the map affine: leave it out"
    if spec.batch != 1:
        return f"the batch is {spec.batch}: the matrix is of one image"
    if view == "data" and (spec.out_channels > 1 or spec.op != "conv"):
        return f"the data matrix is of a conv with one output channel, not of {spec}"
    return None


def matrix_shape(view: str, spec: ConvSpec) -> tuple[int, int]:
    """Rows and columns."""
    if view == "filter":
        return prod(spec.out_shape), prod(spec.x_shape)
    assert spec.w_shape is not None
    return prod(spec.w_shape), prod(spec.out_shape)


def filter_matrix(literal: Literal, spec: ConvSpec) -> Rows:
    """T of y = T x: entry (output, input) is the sum of the taps that join them."""
    rows, columns = matrix_shape("filter", spec)
    out = [[Fraction(0)] * columns for _ in range(rows)]
    for row, o in enumerate(product(*map(range, spec.out_shape))):
        for x_at, w_at in terms(spec, o):
            out[row][flat(x_at, spec.x_shape)] += Fraction(pick(literal.w, w_at))
    return out


def data_matrix(literal: Literal, spec: ConvSpec) -> Rows:
    """X of y^T = h^T X: entry (tap, output) is the input that the tap meets there, or 0 for padding.

    Examples
    --------
    >>> s = ConvSpec("conv", (4,), (3,), padding=((1, 1),))
    >>> lit = Literal((((1, 2, 3, 4),),), (((5, 6, 7),),), None, ())
    >>> [[int(v) for v in row] for row in data_matrix(lit, s)]
    [[2, 3, 4, 0], [1, 2, 3, 4], [0, 1, 2, 3]]
    """
    rows, columns = matrix_shape("data", spec)
    out = [[Fraction(0)] * columns for _ in range(rows)]
    for column, o in enumerate(product(*map(range, spec.out_shape))):
        for x_at, w_at in terms(spec, o):
            out[tap_row(spec, w_at)][column] = Fraction(pick(literal.x, x_at))
    return out


def tap_row(spec: ConvSpec, w_at: tuple[int, ...]) -> int:
    """The row of the data matrix that belongs to a stored tap.

    The window's last position stands first: [h_m ... h_1] on the slide, [h_1 ... h_m] where the taps are flipped.
    """
    assert spec.w_shape is not None
    window = tuple(m - 1 - k for k, m in zip(w_at[2:], spec.kernel_size, strict=True)) if spec.flip else w_at[2:]
    return prod(spec.w_shape) - 1 - flat((*w_at[:2], *window), spec.w_shape)


def flat(index: tuple[int, ...], shape: tuple[int, ...]) -> int:
    """Position of `index` in memory order.

    Examples
    --------
    >>> flat((1, 2), (3, 4))
    6
    """
    at = 0
    for i, n in zip(index, shape, strict=True):
        at = at * n + i
    return at


def unflat(at: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The index at a position in memory order.

    Examples
    --------
    >>> unflat(6, (3, 4))
    (1, 2)
    """
    index = []
    for n in reversed(shape):
        at, i = divmod(at, n)
        index.append(i)
    return tuple(reversed(index))


def defined(matrix: Matrix, literal: Literal, spec: ConvSpec) -> Rows:
    """What the definition gives in place of the written rows."""
    return filter_matrix(literal, spec) if matrix.view == "filter" else data_matrix(literal, spec)
