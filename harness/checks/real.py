"""Check 6: real numbers, judged by the derived bound."""

from __future__ import annotations

from dataclasses import replace
from math import ceil, log2, prod

import numpy as np

from harness.backend import BackendInfo
from harness.catalogue import Case
from harness.checks.base import Check, Problem, Run, has_output
from harness.checks.compare import compare
from harness.checks.weak import passing
from harness.oracle import Reference
from harness.records import Status, Verdict
from harness.spec import ConvSpec

#: The largest case that is run on subnormal numbers.
SUBNORMAL_FLOPS = 1_000_000


def judge_zero_mean(problem: Problem, run: Run) -> Verdict:
    """On zero-mean data the error stays within a small constant times u A, A = |w| * |x|.

    Operands are random signs times [1, 2) with every bit of the significand in use. The rounding errors of a
    right sum cancel like a random walk, in any order of summation: |y - y_ref| <= 8 u A (measured at most
    3.97), where the worst-case bound K u A would let TF32 and bfloat16 shortcuts through; over 256 outputs
    or more the root mean square of err/(u A) is at most 1.5 (measured at most 0.38). FFT and Winograd are held to
    their own, normwise bounds; max_pool to equality. Holds for floating-point types.

    Examples
    --------
    A product of two float32 numbers against the same in TF32, whose operands keep 11 bits, in
    units u |w x|. The bound is 8.

    >>> import numpy as np
    >>> u, x, w = 2.0**-24, np.float32(1.2345678), np.float32(1.7654321)
    >>> exact = float(x) * float(w)
    >>> tf32 = [np.rint(float(v) * 2**10) / 2**10 for v in (x, w)]
    >>> [round(abs(float(y) - exact) / (u * exact), 1) for y in (x * w, tf32[0] * tf32[1])]
    [0.5, 786.8]
    """
    rms = problem.is_direct and not problem.spec.is_pool and problem.spec.out_dtype == problem.spec.acc_dtype
    return bounded(problem, run, "zero_mean", "zero-mean", rms=rms and problem.device.rounding == "nearest")


def judge_positive(problem: Problem, run: Run) -> Verdict:
    """On positive data errors of one sign add up, like sqrt(K): |y - y_ref| <= max(8, 4 sqrt K) u A.

    Random and distinct values of [1, 2); where K u > 0.1 the ceiling K u A holds instead. Higham & Mary (2019).
    A partial sum kept in a narrower type, which random signs keep small, grows here and loses its low bits.

    Examples
    --------
    A sum kept in float16 stops growing where its numbers are 2 apart; in float32 it does not.

    >>> import numpy as np
    >>> total = np.float16(0)
    >>> for _ in range(3000):
    ...     total += np.float16(1)
    >>> int(total), int(np.ones(3000, np.float32).sum())
    (2048, 3000)
    """
    return bounded(problem, run, "positive", "positive")


def judge_graded(problem: Problem, run: Run) -> Verdict:
    """Large elements do not disturb the outputs that do not read them.

    x is larger by 2^12 (2^4 in f16) on the squares of one colour of a chessboard, and the kernel's taps of its centre's
    colour are 0, so that an output reads squares of one colour. A sum of products keeps terms apart,
    so |y - y_ref| <= 8 u A elementwise with A as small as the output's own terms; transforms mix neighbours, which their
    normwise bounds allow. Where padding copies elements to squares of the other colour (circular, replicate), an output
    may read one large element and many small: the bound is that of `wide_range`.

    Examples
    --------
    The output reads 1 and 5 beside 4096, whose weight is 0. A sum is not disturbed; F(2, 3) in float16, whose numbers from
    4096 on are 4 apart, adds 4096 and subtracts it again.

    >>> import numpy as np
    >>> d0, d1, d2 = np.float16([1, 4096, 5])
    >>> int(d0 * 1 + d1 * 0 + d2 * 1)
    6
    >>> int((d0 - d2) + (d1 + d2) + (d2 - d1))
    4
    """
    mixed = problem.spec.padding_mode in ("circular", "replicate")
    return bounded(problem, run, "graded", "positive" if mixed else "zero-mean")


def judge_wide_range(problem: Problem, run: Run) -> Verdict:
    """Tiny terms beside large ones: the bound holds with exponents spread over fifty binades.

    The bound is that of positive data, max(8, 4 sqrt K) u A: once a large term is in the sum every addition rounds in
    its size, however small what is added, so errors grow with sqrt K although signs are random (10.1 u A measured for
    a right kernel at K = 105, where zero-mean data give 2). An accumulator or an intermediate of narrower range
    (float16 transforms, a fixed point) leaves it.

    Examples
    --------
    The product of 2^-20 and 2^-6 is 0 in float16, whose smallest number is 2^-24; float32 keeps it.

    >>> import numpy as np
    >>> [float(t(2**-20) * t(2**-6)) * 2**26 for t in (np.float16, np.float32)]
    [0.0, 1.0]
    """
    return bounded(problem, run, "wide_range", "positive")


def judge_denormal(problem: Problem, run: Run) -> Verdict:
    """Subnormal inputs are numbers: x below the smallest normal number, w of order 1.

    Underflow is gradual: each product errs by at most half the smallest subnormal number eta, so the bound is
    8 u A + (K + 1) eta / 2. A device that reports or a backend that declares flushing is granted (K + 1) tiny, or
    what flushed inputs lose. Direct sums and pools only: no bound is known here for the underflow of transforms. Cases
    up to a million operations: processors compute with subnormal numbers a hundred times slower.

    Examples
    --------
    The smallest float32 is 2^-149; those below 2^-126 are subnormal, and flushing makes them 0.

    >>> import numpy as np
    >>> x = np.float32(3 * 2.0**-149)
    >>> float(x * np.float32(2)) * 2.0**149
    6.0
    >>> float(np.where(abs(x) < np.finfo(np.float32).tiny, 0, x) * np.float32(2))
    0.0
    """
    return bounded(problem, run, "denormal", "zero-mean")


def judge_near_overflow(problem: Problem, run: Run) -> Verdict:
    """Nothing overflows before the result does: A up to a quarter of the accumulator's largest number.

    x is scaled by a power of two so that every partial sum, in any order, and what a class's transforms hold in
    between, stays finite. Where the right result itself, with its tolerance, reaches the output's largest number,
    an infinity of its sign passes too.

    Examples
    --------
    The mean of two numbers of float16 near its largest, 65504: halved first it is finite, added first it is not.

    >>> import numpy as np
    >>> a, b = np.float16(40000), np.float16(40000)
    >>> with np.errstate(over="ignore"):
    ...     float(a / 2 + b / 2), float((a + b) / 2)
    (40000.0, inf)
    """
    return bounded(problem, run, "near_overflow", "zero-mean", headroom(problem))


def judge_identity(problem: Problem, run: Run) -> Verdict:
    """One tap of 1 returns x, one x of 1 returns w: bit for bit, for full significands, at any K.

    Every other product is an exact zero, so a direct sum returns the operand's bits (rounded once, where the output's
    type is narrower). A multiplication in TF32 or bfloat16 changes every output. Classes that round in between meet
    their bound. The second form holds where an output reads an element of x once: not where padding copies data.

    Examples
    --------
    TF32 keeps 11 bits of a float32's 24: the product with 1 is no longer x.

    >>> import numpy as np
    >>> x = np.float32(1 + 2**-20)
    >>> tf32 = np.rint(x * 2**10) / 2**10
    >>> bool(x * np.float32(1) == x), bool(tf32 * np.float32(1) == x)
    (True, False)
    """
    spec = problem.spec
    verdict = Verdict(Status.PASS)
    compared = 0
    recipes = (["identity_tap"] if not spec.is_pool else []) + (["identity_input"] if spec.padding_mode == "zeros" else [])
    for recipe in recipes:
        ops, ref = problem.data(recipe, 0)
        y = run(ops)
        equal = problem.is_direct and spec.op != "avg_pool"
        verdict = compare(spec, y, ops, ref, None if equal else problem.tolerance("zero-mean", ops, ref))
        if verdict.status is not Status.PASS:
            return replace(verdict, message=f"{recipe.replace('_', ' ')} of 1: {verdict.message}")
        compared += verdict.compared
    return replace(verdict, compared=compared)


def bounded(problem: Problem, run: Run, recipe: str, data: str, *more: object, rms: bool = False) -> Verdict:
    """Judge a recipe by the bound of the declared class, and score the decoys beside."""
    spec = problem.spec
    ops, ref = problem.data(recipe, *more)
    y = problem.output(run, recipe, *more)
    equal = spec.op == "max_pool" and problem.device.denormals == "gradual"
    tol = None if equal else problem.tolerance(data, ops, ref)
    y = _overflow_is_right(problem, y, ref, tol)
    verdict = compare(spec, y, ops, ref, tol, rms=rms)
    return replace(verdict, details={**verdict.details, "decoys": list(passing(spec, ops, ref, tol))})


def headroom(problem: Problem) -> int:
    """Bits that the class's transforms need beyond A: none, the transform's size, or a factor an axis."""
    spec, algorithm = problem.spec, problem.info.algorithm_for(problem.spec)
    if algorithm.kind == "direct":
        return 0
    if algorithm.kind == "fft":
        apart = [a.s if spec.op == "conv_transpose" else 1 for a in spec.axes]
        whole = prod(a.n * s + a.extent + abs(a.lo) + abs(a.hi) for a, s in zip(spec.axes, apart, strict=True))
        return ceil(log2(whole * (prod(spec.in_size) if spec.padding_mode == "zeros" else whole))) + 2
    return 8 * spec.rank


def _overflow_is_right(problem: Problem, y: np.ndarray, ref: Reference, tol: np.ndarray | None) -> np.ndarray:
    """`y` with infinities of the right sign replaced by the reference where that reaches the largest number.

    So is the largest number itself on a device that truncates: IEEE 754's roundTowardZero never overflows to Inf.
    """
    spec = problem.spec
    if not spec.out_type.is_float:
        return y
    wide = y.astype(np.float64)
    with np.errstate(over="ignore"):
        reach = np.abs(ref.hi) + (0.0 if tol is None else tol) >= spec.out_type.max
        beyond = np.abs(wide) >= (spec.out_type.max if problem.device.rounding == "truncate" else np.inf)
        fine = reach & beyond & (np.sign(wide) == np.sign(ref.hi))
        return np.where(fine, ref.hi, wide) if bool(np.any(fine)) else y


def is_float(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    """Applies to floating-point inputs."""
    return has_output(case, spec, info) or (None if spec.in_type.is_float else "integers have no rounding")


def _linear_float(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    if spec.op == "max_pool":
        return "a maximum copies its operand: integers and zero-mean data say it all"
    return is_float(case, spec, info)


def _direct_float(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    if info.algorithm_for(spec).kind != "direct":
        return "no bound is known for the underflow of transforms"
    if spec.flops > SUBNORMAL_FLOPS:
        return f"subnormal arithmetic is slow: cases up to {SUBNORMAL_FLOPS / 1e6:g} MFLOP"
    return is_float(case, spec, info)


ZERO_MEAN = Check(
    "zero_mean", "errs by at most a small multiple of u A on zero-mean data", judge_zero_mean, is_float, data=True
)
IDENTITY = Check("identity", "returns the operand of a one-tap kernel bit for bit", judge_identity, is_float)
POSITIVE = Check("positive", "errs by at most sqrt(K) u A on positive data", judge_positive, _linear_float, data=True)
GRADED = Check("graded", "keeps small outputs apart from large neighbours", judge_graded, _linear_float, data=True)
WIDE_RANGE = Check("wide_range", "keeps its bound over fifty binades", judge_wide_range, _linear_float, data=True)
DENORMAL = Check("denormal", "takes subnormal inputs for numbers", judge_denormal, _direct_float, data=True)
NEAR_OVERFLOW = Check("near_overflow", "overflows only where the result does", judge_near_overflow, is_float, data=True)
