"""Check 7, linearity: a convolution is linear in its input and in its weights."""

from __future__ import annotations

import numpy as np

from harness.backend import BackendInfo
from harness.catalogue import Case
from harness.checks.base import Check, Problem, Run
from harness.checks.forms import Side, affordable, agree, evaluate, form
from harness.checks.small import drawn
from harness.data import Operands
from harness.records import Verdict
from harness.spec import ConvSpec

#: How much larger than its parts the combination 2 p + q may be. (2 p - q would be p of a stale p, wherever it is used.)
TIMES = 3


def judge_input(problem: Problem, run: Run) -> Verdict:
    """Linear in the input: conv(a x1 + b x2; w) = a conv(x1; w) + b conv(x2; w).

    Without a bias, which would be added three times. Here a = 2 and b = 1, on integers so small (in real data: with so
    few bits) that 2 x1 + x2 is an input, exactly. Holds for convolutions, transposed ones and averages, in every
    padding mode; not for a maximum. A result that is clipped, saturated, flushed or kept from an earlier call breaks it.

    Examples
    --------
    >>> from harness.checks.worked import conv
    >>> conv([1, 2, 4], [1, -3]), conv([5, 0, 1], [1, -3])
    ([-5, -10], [5, -3])
    >>> conv([2 * 1 + 5, 2 * 2 + 0, 2 * 4 + 1], [1, -3])
    [-5, -23]
    """
    p, q = drawn(problem, "linear p", TIMES), drawn(problem, "linear q", TIMES)
    whole = Operands(_mix(p.x, q.x), p.w, p.b)
    parts = [evaluate(problem, run, Operands(x, p.w, p.b)) for x in (p.x, q.x)]
    together = evaluate(problem, run, whole, data="positive")
    return agree(together, _combined(problem, *parts), "conv(2 x1 + x2) is not 2 conv(x1) + conv(x2)")


def judge_weights(problem: Problem, run: Run) -> Verdict:
    """Linear in the weights: conv(x; a w1 + b w2) = a conv(x; w1) + b conv(x; w2).

    Without a bias, with a = 2 and b = 1, on integers (real data of few bits) for which 2 w1 + w2 are weights,
    exactly. Holds for convolutions and transposed ones, in every padding mode. Weights that are packed, quantised
    or kept from an earlier call by their shape break it.

    Examples
    --------
    >>> from harness.checks.worked import conv
    >>> conv([1, 2, 4], [1, -3]), conv([1, 2, 4], [0, 1])
    ([-5, -10], [2, 4])
    >>> conv([1, 2, 4], [2 * 1 + 0, 2 * -3 + 1])
    [-8, -16]
    """
    p, q = drawn(problem, "linear p", TIMES), drawn(problem, "linear q", TIMES)
    assert p.w is not None
    assert q.w is not None
    parts = [evaluate(problem, run, Operands(p.x, w, p.b)) for w in (p.w, q.w)]
    together = evaluate(problem, run, Operands(p.x, _mix(p.w, q.w), p.b), data="positive")
    return agree(together, _combined(problem, *parts), "conv(x; 2 w1 + w2) is not 2 conv(x; w1) + conv(x; w2)")


def _mix(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """2 p + q, in their own type: exact by how they were drawn."""
    return np.ascontiguousarray((2.0 * p.astype(np.float64) + q.astype(np.float64)).astype(p.dtype))


def _combined(problem: Problem, p: Side, q: Side) -> Side:
    """2 p + q of outputs, in float64, whose rounding counts unless the outputs are small integers."""
    value = 2.0 * p.value + q.value
    return Side(value, 2.0 * p.tol + q.tol + (0.0 if form(problem) == "exact" else 2.0**-53 * np.abs(value)))


def _linear(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    if spec.op == "max_pool":
        return "a maximum is not linear"
    return affordable(case, spec, info)


def _weighted(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    return "a pool has no weights" if spec.is_pool else affordable(case, spec, info)


LINEAR_INPUT = Check("linear_input", "is linear in its input", judge_input, _linear)
LINEAR_WEIGHTS = Check("linear_weights", "is linear in its weights", judge_weights, _weighted)
