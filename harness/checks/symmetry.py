"""Check 7, symmetries of the grid: reversing an axis, exchanging two, turning by 90 degrees.

Each maps the problem to another one: its own padding, stride and dilation, its own kernel, moved alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np

from harness.backend import BackendInfo
from harness.catalogue import Case
from harness.checks.base import Check, Problem, Run, kept
from harness.checks.forms import affordable, agree, evaluate, straight
from harness.data import Operands
from harness.records import Verdict
from harness.spec import ConvSpec, SpecError

T = TypeVar("T")


def left_over(spec: ConvSpec, axis: int) -> int:
    """Padded elements after the last window of a convolution or pool; negative where `ceil_mode` lets it end beyond."""
    a = spec.axes[axis]
    return a.n + a.lo + a.hi - a.extent - (spec.out_size[axis] - 1) * a.s


@kept
def reversed_spec(spec: ConvSpec, axis: int) -> ConvSpec | None:
    """The problem seen in a mirror across `axis`; None where its windows do not lie on the mirrored grid.

    The first window becomes the last. Where the stride leaves r elements over, the mirrored grid begins r later:
    its low padding is hi - r, a crop where that is negative (zero padding alone can).
    """
    a = spec.axes[axis]
    if spec.op == "conv_transpose":
        lo, hi = a.hi - spec.output_padding[axis], a.lo
    else:
        lo, hi = a.hi - left_over(spec, axis), a.lo
        if lo > a.hi:  # the last window ends beyond the padding, where no first window can begin
            return None
    padding = tuple((lo, hi) if i == axis else p for i, p in enumerate(spec.padding))
    extra = tuple(0 if i == axis else p for i, p in enumerate(spec.output_padding))
    try:
        return replace(spec, padding=padding, output_padding=extra)
    except SpecError:  # a crop, where none is allowed or nothing would be left
        return None


@kept
def reversals(spec: ConvSpec) -> tuple[ConvSpec, ...]:
    """The mirrored problems that the check runs."""
    found = (reversed_spec(spec, axis) for axis in range(spec.rank))
    return tuple(s for s in found if s is not None)


def judge_reversal(problem: Problem, run: Run) -> Verdict:
    """In a mirror: reverse x and the kernel along an axis, exchange its paddings, and y comes out reversed.

    conv(J x; J w) = J conv(x; w), J the reversal of one axis. With a stride s whose last window leaves r elements over,
    the mirrored problem begins r later: its paddings are (hi - r, lo). Holds for convolutions, transposed ones
    (whose output padding is hi made smaller) and pools, in every padding mode; not where that padding would be negative outside
    zero padding. A kernel that is read backwards, or a border that is handled on one side only, breaks it.

    Examples
    --------
    >>> from harness.checks.worked import conv
    >>> conv([1, 2, 4, 8], [1, -3], padding=((1, 0),))
    [-3, -5, -10, -20]
    >>> conv([8, 4, 2, 1], [-3, 1], padding=((0, 1),))
    [-20, -10, -5, -3]
    """
    spec = problem.spec
    ops, before = straight(problem, run)
    verdict = None
    for axis in range(spec.rank):
        other = reversed_spec(spec, axis)
        if other is None:
            continue

        def mirror(a: np.ndarray, at: int = 2 + axis) -> np.ndarray:
            return np.flip(a, at)

        want = before.map(mirror)
        verdict = agree(evaluate(problem, run, _moved(ops, mirror), other, tol=want.tol), want, f"reversed along axis {axis}")
        if verdict.mismatches:
            return verdict
    assert verdict is not None
    return verdict


@kept
def exchanged_spec(spec: ConvSpec, axis: int, other: int) -> ConvSpec:
    """The problem with two spatial axes exchanged."""

    def moved(values: tuple[T, ...]) -> tuple[T, ...]:
        order = list(values)
        order[axis], order[other] = values[other], values[axis]
        return tuple(order)

    return replace(
        spec,
        in_size=moved(spec.in_size),
        kernel_size=moved(spec.kernel_size),
        stride=moved(spec.stride),
        padding=moved(spec.padding),
        dilation=moved(spec.dilation),
        output_padding=moved(spec.output_padding),
    )


@kept
def exchanges(spec: ConvSpec) -> tuple[ConvSpec, ...]:
    """The problems with two neighbouring axes exchanged; of these every order of the axes is made."""
    return tuple(exchanged_spec(spec, axis, axis + 1) for axis in range(spec.rank - 1))


def judge_transposition(problem: Problem, run: Run) -> Verdict:
    """No axis is special: exchange two axes of x and of the kernel, and y comes out with them exchanged.

    conv(x^T; w^T) = conv(x; w)^T, where the stride, the dilation and the paddings of the two axes are exchanged too.
    Holds for every operation and padding mode on two axes or more; in three dimensions each pair of neighbouring axes is
    exchanged. One axis' stride, padding or length that is used for another breaks it, also where the two agree.

    Examples
    --------
    >>> from harness.checks.worked import conv
    >>> conv([[1, 2, 3], [4, 5, 6]], [[1, 10]], stride=(1, 2), padding=((0, 0), (1, 0)))
    [[10, 32], [40, 65]]
    >>> conv([[1, 4], [2, 5], [3, 6]], [[1], [10]], stride=(2, 1), padding=((1, 0), (0, 0)))
    [[10, 40], [32, 65]]
    """
    ops, before = straight(problem, run)
    verdict = None
    for axis, other in enumerate(exchanges(problem.spec)):

        def exchange(a: np.ndarray, at: int = 2 + axis) -> np.ndarray:
            return np.swapaxes(a, at, at + 1)

        want = before.map(exchange)
        got = evaluate(problem, run, _moved(ops, exchange), other, tol=want.tol)
        verdict = agree(got, want, f"axes {axis} and {axis + 1} exchanged")
        if verdict.mismatches:
            return verdict
    assert verdict is not None
    return verdict


@kept
def rotated_spec(spec: ConvSpec) -> tuple[ConvSpec, int] | None:
    """The problem turned by 90 degrees in its last two axes and the direction as `numpy.rot90` counts it, 1 or -1.

    A quarter turn is a reversal followed by an exchange: of the last axis to one side, of the one before it to the other.
    None where the windows lie on neither mirrored grid.
    """
    for axis, direction in ((spec.rank - 1, 1), (spec.rank - 2, -1)):
        if (mirrored := reversed_spec(spec, axis)) is not None:
            return exchanged_spec(mirrored, spec.rank - 2, spec.rank - 1), direction
    return None


@kept
def rotation(spec: ConvSpec) -> tuple[ConvSpec, ...]:
    """The turned problem that the check runs."""
    turned = rotated_spec(spec) if spec.rank > 1 else None
    return () if turned is None else turned[:1]


def judge_rotation(problem: Problem, run: Run) -> Verdict:
    """Turn x and the kernel by 90 degrees, and y comes out turned.

    conv(R x; R w) = R conv(x; w), R the quarter turn of the last two axes: a reversal of one, then an exchange of both.
    The paddings, strides and dilations turn along, mirrored on the axis that is reversed as in `reversal`. With a
    reversal the turn generates all eight symmetries of the square, the dihedral group D4: a network whose kernels are
    averaged over it is equivariant to them all. Holds for every operation and padding mode where the windows lie on the
    mirrored grid. A kernel that is read transposed, or a border that is handled at one corner only, breaks it.

    Examples
    --------
    >>> from harness.checks.worked import conv
    >>> conv([[1, 2, 3], [4, 5, 6]], [[1, 10], [100, 0]])
    [[421, 532]]
    >>> conv([[3, 6], [2, 5], [1, 4]], [[10, 0], [1, 100]])  # both turned to the left, as `numpy.rot90` does
    [[532], [421]]
    """
    turned = rotated_spec(problem.spec)
    assert turned is not None
    other, direction = turned
    ops, before = straight(problem, run)
    plane = (problem.spec.rank, problem.spec.rank + 1)

    def turn(a: np.ndarray) -> np.ndarray:
        return np.rot90(a, direction, plane)

    want = before.map(turn)
    return agree(evaluate(problem, run, _moved(ops, turn), other, tol=want.tol), want, "turned by 90 degrees")


def _moved(ops: Operands, move: Callable[[np.ndarray], np.ndarray]) -> Operands:
    """X and w moved alike; the bias has no axis to move."""
    x, w = (None if a is None else np.ascontiguousarray(move(a)) for a in (ops.x, ops.w))
    assert x is not None
    return Operands(x, w, ops.b)


def _mirrored_somewhere(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    if reason := affordable(case, spec, info):
        return reason
    return None if reversals(spec) else "its windows do not lie on a mirrored grid"


def _has_two_axes(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    return affordable(case, spec, info) or (None if spec.rank > 1 else "it has one axis")


def _turns(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    if reason := _has_two_axes(case, spec, info):
        return reason
    return None if rotation(spec) else "its windows do not lie on a mirrored grid"


REVERSAL = Check("reversal", "is the same in a mirror", judge_reversal, _mirrored_somewhere, related=reversals)
TRANSPOSITION = Check(
    "transposition", "is the same with its axes exchanged", judge_transposition, _has_two_axes, related=exchanges
)
ROTATION = Check("rotation", "is the same turned by 90 degrees", judge_rotation, _turns, related=rotation)
