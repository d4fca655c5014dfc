"""Check 6: real numbers, judged by the derived bound."""

from __future__ import annotations

from dataclasses import replace

from harness.catalogue import Case
from harness.checks.base import Check, Problem, Run, has_output
from harness.checks.compare import compare
from harness.checks.weak import passing
from harness.records import Verdict
from harness.spec import ConvSpec


def judge_zero_mean(problem: Problem, run: Run) -> Verdict:
    """On zero-mean data the error stays within a small constant times u A, A = |w| * |x|.

    Operands are random signs times [1, 2) with every bit of the significand in use. The rounding errors of a
    right sum cancel like a random walk, in any order of summation: |y - y_ref| <= 8 u A (measured at most
    3.97), where the worst-case bound K u A would let TF32 and bfloat16 shortcuts through; over 256 outputs
    or more the root mean square of err/(u A) is at most 1.5 (measured at most 0.38). FFT is held to its own,
    normwise bound; max_pool to equality. Holds for floating-point types.
    """
    ops, ref = problem.data("zero_mean")
    y = problem.output(run, "zero_mean")
    tol = None if problem.spec.op == "max_pool" else problem.tolerance("zero-mean", ops, ref)
    rms = problem.is_exact and not problem.spec.is_pool and problem.spec.out_dtype == problem.spec.acc_dtype
    verdict = compare(problem.spec, y, ops, ref, tol, rms=rms and problem.device.rounding == "nearest")
    return replace(verdict, details={**verdict.details, "decoys": list(passing(problem.spec, ops, ref, tol))})


def _is_float(case: Case, spec: ConvSpec) -> str | None:
    return has_output(case, spec) or (None if spec.in_type.is_float else "integers have no rounding")


ZERO_MEAN = Check(
    "zero_mean", "errs by at most a small multiple of u A on zero-mean data", judge_zero_mean, _is_float, data=True
)
