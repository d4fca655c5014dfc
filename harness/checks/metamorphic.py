"""Check 5: relations between a backend's own outputs; no oracle takes part.

Each compares two runs bit for bit (by value: +0 and -0 are equal), because the operations that turn one run's
operands into the other's are exact and commute with every rounding.
"""

from __future__ import annotations

import numpy as np

from harness.backend import BackendInfo
from harness.catalogue import Case
from harness.checks.base import Check, Problem, Run, has_output
from harness.data.real import scaled, without_bias
from harness.records import Status, Verdict
from harness.spec import ConvSpec

#: Powers of two of the scaling check; those of an f16 problem stay within its range.
SCALES = (-40, 13)
SCALES_F16 = (-3, 3)


def judge_repeat(problem: Problem, run: Run) -> Verdict:
    """The same call gives the same bits.

    Same prepared object, operands, threads and alignment; the output's memory held another pattern before.
    A backend that declares `deterministic: false` (atomic additions, say) is held to twice the tolerance.

    Examples
    --------
    Additions in another order give other bits: a sum whose order changes between calls is caught.

    >>> import numpy as np
    >>> a, b, c = np.float32([1, 1e8, -1e8])
    >>> float(a + b + c), float(b + c + a)
    (0.0, 1.0)
    """
    ops, ref = problem.data(_real(problem.spec))
    before = problem.output(run, _real(problem.spec))
    after = run(ops, poison=1)
    tol = None if problem.info.deterministic else 2.0 * problem.tolerance("zero-mean", ops, ref)
    return same(after, before, "the same call again gives another output", tol)


def judge_zero_input(problem: Problem, run: Run) -> Verdict:
    """conv(0) is the bias: zeros in, the bias (or zeros) out, exactly, in every class.

    Every product and transform of zeros is zero. For a pool of zeros, zeros. A device that truncates may deliver the
    bias one unit in the last place smaller where the output's type is narrower.

    Examples
    --------
    >>> from harness.checks.worked import conv
    >>> conv([0, 0, 0, 0], [5, 6])
    [0, 0, 0]
    """
    ops = problem.data(_real(problem.spec))[0]
    zero = type(ops)(np.zeros_like(ops.x), ops.w, ops.b)
    y = run(zero)
    want = np.zeros_like(y)
    if ops.b is not None:
        with np.errstate(over="ignore"):
            want = want + ops.b.reshape(1, -1, *(1,) * problem.spec.rank).astype(y.dtype)
    want = want.astype(y.dtype)
    tol = 2.0 * problem.spec.out_type.unit_roundoff * np.abs(want.astype(np.float64)) if problem.cuts_output else None
    return same(y, want, "an input of zeros does not give the bias alone", tol)


def judge_negation(problem: Problem, run: Run) -> Verdict:
    """conv(-x) = -conv(x), bit for bit, without bias.

    Rounding to nearest is symmetric, so every operation of a linear algorithm on -x gives the negative of what it
    gave on x. Not for max_pool, whose negative is min_pool.

    Examples
    --------
    >>> from harness.checks.worked import conv
    >>> conv([1, 2, 4], [1, -3]), conv([-1, -2, -4], [1, -3])
    ([-5, -10], [5, 10])

    A maximum has no such law: it would need the minimum.

    >>> conv([1, 2, 4], (2,), op="max_pool"), conv([-1, -2, -4], (2,), op="max_pool")
    ([2, 4], [-1, -2])
    """
    ops = without_bias(problem.spec, problem.data(_real(problem.spec))[0])
    y = run(ops) if problem.spec.bias else problem.output(run, _real(problem.spec))
    flipped = run(scaled(problem.spec, ops, negate=True))
    with np.errstate(over="ignore"):
        return same(flipped, (-y.astype(_wide(y))).astype(y.dtype), "conv(-x) is not -conv(x)", _slack(problem))


def judge_scaling(problem: Problem, run: Run) -> Verdict:
    """conv(2^k x) = 2^k conv(x), bit for bit, without bias.

    Multiplying by a power of two changes exponents alone, so that every rounding scales with it while nothing leaves
    the range of normal numbers: k is -40 and 13 (in f16 -3 and 3) on numbers of order 1. Outputs of which either value
    is subnormal (or was rounded to 0: F(4, 3) leaves 3e-8 where terms cancel, less than an f16 holds) are left out, as
    long as both are. Holds for floating-point types, for every linear class and for max_pool.

    Examples
    --------
    The sum is rounded, and eight times the operands give eight times the rounded sum; with three times they do not.

    >>> import numpy as np
    >>> f = np.float32
    >>> x = f([1, 2**-24 * 1.5])
    >>> [bool((x * f(k)).sum() == x.sum() * f(k)) for k in (8, 3)]
    [True, False]
    """
    spec = problem.spec
    ops = without_bias(spec, problem.data("zero_mean")[0])
    y = run(ops) if spec.bias else problem.output(run, "zero_mean")
    half = "f16" in spec.dtypes
    verdict = Verdict(Status.PASS)
    compared = 0
    for k in SCALES_F16 if half else SCALES:
        after = run(scaled(spec, ops, k))
        got, want = after.astype(np.float64), np.ldexp(y.astype(np.float64), k)
        small = 2.0 * spec.out_type.tiny * max(1.0, 2.0**k)
        normal = ~((np.abs(want) < small) & (np.abs(got) < small))
        got = np.where(normal, got, 0.0)
        verdict = same(got, np.where(normal, want, 0.0), f"conv(2^{k} x) is not 2^{k} conv(x)", _slack(problem, 2.0**k))
        if verdict.status is not Status.PASS:
            return verdict
        compared += int(np.count_nonzero(normal))
    return Verdict(Status.PASS, compared=compared) if compared else Verdict(Status.PASS, compared=int(y.size))


def same(after: np.ndarray, before: np.ndarray, text: str, tol: np.ndarray | None = None) -> Verdict:
    """PASS where the arrays are equal by value (or within `tol`); FAIL names the worst element."""
    lhs, rhs = after.astype(np.float64), before.astype(np.float64)
    with np.errstate(invalid="ignore"):
        err = np.where((lhs == rhs) | (np.isnan(lhs) & np.isnan(rhs)), 0.0, np.abs(lhs - rhs))
        ok = err <= (0.0 if tol is None else tol)
    bad = int(ok.size - np.count_nonzero(ok))
    if not bad:
        return Verdict(Status.PASS, compared=int(ok.size))
    rank = np.where(ok, -1.0, np.nan_to_num(err, nan=np.inf, posinf=np.inf))
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(rank)), ok.shape))
    return Verdict(
        Status.FAIL,
        f"{text}: {bad} of {ok.size} outputs differ, worst at {list(index)}: {lhs[index]:.9g} against {rhs[index]:.9g}",
        compared=int(ok.size),
        mismatches=bad,
        worst_index=index,
        got=float(lhs[index]),
        expected=float(rhs[index]),
    )


def _slack(problem: Problem, factor: float = 1.0) -> np.ndarray | None:
    """None, equality; twice the tolerance where the backend does not repeat itself."""
    if problem.info.deterministic:
        return None
    recipe = _real(problem.spec)
    ops, ref = problem.data(recipe)
    return 2.0 * factor * problem.tolerance("zero-mean", ops, ref)


def _real(spec: ConvSpec) -> str:
    return "zero_mean" if spec.in_type.is_float else "integers"


def _wide(y: np.ndarray) -> np.dtype:
    return np.dtype(np.int64) if y.dtype.kind == "i" else np.dtype(np.float64)


def _linear(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    if spec.op == "max_pool":
        return "a maximum is not linear"
    return has_output(case, spec, info)


def _floats(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    return has_output(case, spec, info) or (None if spec.in_type.is_float else "integers have no exponents to scale")


REPEAT = Check("repeat", "gives the same bits when called again", judge_repeat, has_output)
ZERO_INPUT = Check("zero_input", "gives the bias alone for an input of zeros", judge_zero_input, has_output)
NEGATION = Check("negation", "gives the negative for the negative input", judge_negation, _linear)
SCALING = Check("scaling", "scales its output with a power of two in the input", judge_scaling, _floats)
