"""Integers for the identities: so small that an output, or a sum of some, is exact in a narrow output type too.

The integers of `Problem.exact` fill the accumulator; an output of f16 or bf16 rounds them. Here the output's own type
holds every result, so that both sides of an identity are equal whatever the types.
"""

from __future__ import annotations

import numpy as np

from harness.checks.base import Problem
from harness.checks.forms import form
from harness.data import Operands, draw
from harness.data.real import without_bias
from harness.data.recipes import exact_budget
from harness.spec import ConvSpec


def room(problem: Problem, spec: ConvSpec | None = None) -> int:
    """The largest sum |w||x| that the class computes exactly and the output's type holds."""
    spec = spec or problem.spec
    return exact_budget(spec) // _factor(problem, spec)


def small_integers(problem: Problem, tag: str, times: int = 1) -> Operands:
    """Nonzero integers, without a bias, of which `times` over are inputs, and whose results `times` over are outputs.

    Parameters
    ----------
    problem : Problem
    tag : str
        Names the draw: other tags, other integers.
    times : int
        What they and their outputs will be multiplied by, at most.
    """
    spec = problem.spec
    ops = draw("integers", spec, problem.case.id, 0, _factor(problem, spec) * times, tag)
    top = spec.in_type.exact_limit // times
    return without_bias(spec, Operands(_at_most(ops.x, top), None if ops.w is None else _at_most(ops.w, top), ops.b))


def few_bits(problem: Problem, tag: str, drop: int) -> Operands:
    """Zero-mean S-fill whose last `drop` bits are 0, without a bias: sums of a few are exact in the input's type."""
    spec = problem.spec
    ops = draw("zero_mean", spec, problem.case.id, problem.oracle.seed, tag)
    ulp = 2.0 ** (drop + 1 - spec.in_type.precision)

    def cut(a: np.ndarray) -> np.ndarray:
        return (np.trunc(a.astype(np.float64) / ulp) * ulp).astype(a.dtype)

    return without_bias(spec, Operands(cut(ops.x), None if ops.w is None else cut(ops.w), ops.b))


def drawn(problem: Problem, tag: str, times: int = 1) -> Operands:
    """Data in the problem's `form` of which `times` over (a power of two, less one, say) are exact inputs."""
    if form(problem) == "exact":
        return small_integers(problem, tag, times)
    return few_bits(problem, tag, times.bit_length())


def _factor(problem: Problem, spec: ConvSpec) -> int:
    """By how much integers that fill the accumulator are too large: for the class's transforms, for the output."""
    transforms = int(str(problem.exact[1])) if len(problem.exact) > 1 else 1
    return max(transforms, -(-exact_budget(spec) // spec.out_type.exact_limit))


def _at_most(a: np.ndarray, top: int) -> np.ndarray:
    """The integers folded into [-top, top]; 0 stays 0."""
    v = a.astype(np.float64)
    return np.ascontiguousarray((np.sign(v) * np.where(v == 0, 0, 1 + (np.abs(v) - 1) % top)).astype(a.dtype))
