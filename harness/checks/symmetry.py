"""Check 7, symmetries of the grid: reversing an axis, exchanging two, turning by 90 degrees.

Each maps the problem to another one: its own padding, stride and dilation, its own kernel, moved alike.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from harness.backend import BackendInfo
from harness.catalogue import Case
from harness.checks.base import Check, Problem, Run
from harness.checks.forms import affordable, agree, evaluate, operands
from harness.data import Operands
from harness.records import Verdict
from harness.spec import ConvSpec


def reversed_spec(spec: ConvSpec, axis: int) -> ConvSpec | None:
    """The problem seen in a mirror across `axis`; None where its windows do not lie on the mirrored grid.

    The first window becomes the last. Where the stride leaves r elements over, the mirrored grid begins r later:
    its low padding is hi - r, a crop where that is negative (zero padding alone can).
    """
    a, out = spec.axes[axis], spec.out_size[axis]
    if spec.op == "conv_transpose":
        lo, hi = a.hi - spec.output_padding[axis], a.lo
    else:
        if spec.ceil_mode and (out - 1) * a.s + a.extent > a.n + a.lo + a.hi:
            return None
        lo, hi = a.hi - (a.n + a.lo + a.hi - a.extent) % a.s, a.lo
    if lo < 0 and (spec.padding_mode != "zeros" or spec.op != "conv"):
        return None
    padding = tuple((lo, hi) if i == axis else p for i, p in enumerate(spec.padding))
    extra = tuple(0 if i == axis else p for i, p in enumerate(spec.output_padding))
    return replace(spec, padding=padding, output_padding=extra)


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
    spec, ops = problem.spec, operands(problem)
    straight = evaluate(problem, run, ops)
    verdict = None
    for axis in range(spec.rank):
        other = reversed_spec(spec, axis)
        if other is None:
            continue

        def mirror(a: np.ndarray, at: int = 2 + axis) -> np.ndarray:
            return np.flip(a, at)

        x, w = (None if a is None else np.ascontiguousarray(mirror(a)) for a in (ops.x, ops.w))
        assert x is not None
        moved = Operands(x, w, ops.b)
        verdict = agree(evaluate(problem, run, moved, other).map(mirror), straight, f"reversed along axis {axis}")
        if verdict.mismatches:
            return verdict
    assert verdict is not None
    return verdict


def _mirrored_somewhere(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    if reason := affordable(case, spec, info):
        return reason
    return None if reversals(spec) else "its windows do not lie on a mirrored grid"


REVERSAL = Check("reversal", "is the same in a mirror", judge_reversal, _mirrored_somewhere, related=reversals)
