"""Check 7, pooling: an average is a convolution, a maximum commutes with monotone maps, and what neither is invariant to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from harness.backend import BackendInfo
from harness.catalogue import Case
from harness.checks.base import Check, Problem, Run, kept
from harness.checks.forms import Side, affordable, agree, evaluate, form
from harness.checks.small import drawn
from harness.data import Operands
from harness.oracle.windows import outer
from harness.records import Verdict
from harness.spec import ConvSpec
from harness.spec.convspec import default_types
from harness.spec.geometry import conv_size
from harness.spec.host import numpy_dtype


def judge_convolution(problem: Problem, run: Run) -> Verdict:
    """An average pool is a depthwise convolution with ones, divided by how many elements a window counts.

    avg_pool(x) = conv(x; ones, a group a channel) / D, D the taps on data of each window, or all of its taps within the
    padded input under `count_include_pad`. The overhang of `ceil_mode` becomes high padding. Equal on integers where
    every D is a power of two; else both sides within their bounds. It holds for every average pool of a backend that
    takes both operations. A divisor that counts the wrong border breaks it.

    Examples
    --------
    >>> from harness.checks.worked import conv
    >>> conv([2, 4, 6, 8], (2,), op="avg_pool", stride=(2,))
    [3, 7]
    >>> [y // 2 for y in conv([2, 4, 6, 8], [1, 1], stride=(2,))]
    [3, 7]
    """
    spec = problem.spec
    ops = drawn(problem, "pool")
    (other,) = depthwise(spec)
    ones = np.ones(other.w_shape or (), numpy_dtype(spec.in_dtype))
    total = evaluate(problem, run, Operands(ops.x, ones), other)
    divisor = outer(spec.divisor_counts)
    slack = 0.0 if form(problem) == "exact" else 2.0**-52 * np.abs(total.value / divisor)
    return agree(
        evaluate(problem, run, ops),
        Side(total.value / divisor, total.tol / divisor + slack),
        "not the depthwise convolution with ones, divided",
    )


def judge_order(problem: Problem, run: Run) -> Verdict:
    """The average lies between minimum and maximum, and the minimum is the maximum turned over.

    -max_pool(-x) <= avg_pool(x) <= max_pool(x), window by window, on the same backend. Where `count_include_pad` makes the
    divisor larger than the number of elements, a zero counts among them. The average may leave the interval by its
    own tolerance (by nothing on integers with divisors that are powers of two); max_pool and negation are exact. It holds
    for every average pool. A divisor that is too small, or a maximum that reads another window, breaks it.

    Examples
    --------
    >>> from harness.checks.worked import conv
    >>> x = [1, -5, 3, 7]
    >>> conv(x, (2,), op="max_pool"), conv(x, (2,), op="avg_pool")
    ([1, 3, 7], [-2, -1, 5])
    >>> [-y for y in conv([-v for v in x], (2,), op="max_pool")]
    [-5, -5, 3]
    """
    spec = problem.spec
    ops = drawn(problem, "pool")
    (other,) = maxima(spec)
    most = run(ops, spec=other).astype(np.float64)
    turned = Operands(np.ascontiguousarray((-ops.x.astype(np.float64)).astype(ops.x.dtype)))
    least = -run(turned, spec=other).astype(np.float64)
    padded = outer(spec.divisor_counts) > outer(spec.tap_counts)
    most, least = (np.where(padded, bound(v, 0.0), v) for bound, v in ((np.maximum, most), (np.minimum, least)))
    average = evaluate(problem, run, ops)
    nearest = np.where(least <= most, np.clip(average.value, least, most), np.nan)
    nearest = np.where(np.isnan(average.value), 0.0, nearest)  # so that no NaN agrees with another
    return agree(average, Side(nearest, np.zeros(())), "the average is not between minimum and maximum")


def judge_monotone(problem: Problem, run: Run) -> Verdict:
    """A maximum commutes with every nondecreasing map: max_pool(f(x)) = f(max_pool(x)), exactly.

    f keeps order, so the largest element of a window stays the largest; f need not be linear. Here f is the cube, rounded to
    the type (rounding keeps order too), for integers the floor of a third. It holds for every maximum pool and no other
    pool: the average of cubes is not the cube of the average. A maximum that compares absolute values, or in a narrower
    type, breaks it.

    Examples
    --------
    >>> from harness.checks.worked import conv
    >>> x = [1, -5, 3, 2]
    >>> [y**3 for y in conv(x, (2,), op="max_pool")]
    [1, 27, 27]
    >>> conv([v**3 for v in x], (2,), op="max_pool")
    [1, 27, 27]
    """
    spec = problem.spec
    recipe = ("zero_mean",) if spec.in_type.is_float else problem.exact
    rhs = _increasing(problem.output(run, *recipe))
    lhs = run(Operands(_increasing(problem.data(*recipe)[0].x)))
    zero = np.zeros(())
    text = "max_pool(f(x)) is not f(max_pool(x)), f nondecreasing"
    return agree(Side(lhs.astype(np.float64), zero), Side(rhs.astype(np.float64), zero), text)


def judge_global(problem: Problem, run: Run) -> Verdict:
    """Pooling over the whole input is invariant to circular shifts of it.

    One window that holds every element: shifting around the end changes the elements' order alone, so the maximum is the
    same, and the average within twice its bound (equal on integers where the size is a power of two). No other pool
    is invariant to shifts. A pool of windows m at stride s is *equivariant*: in the interior, shifting x by s k shifts y
    by k. Its invariance to smaller shifts is approximate only: a maximum stays while its element stays in the window
    and no larger one enters, an average changes by (x_in - x_out) / m a step; bounded by the data, not by the theorem.
    The largest element is shifted to the first place and to the last: a reduction that drops its head or tail, or weighs
    elements by where they are, breaks it.

    Examples
    --------
    >>> from harness.checks.worked import conv
    >>> [conv(x, (4,), op="max_pool") for x in ([1, 9, 2, 4], [4, 1, 9, 2])]
    [[9], [9]]
    >>> [conv(x, (4,), op="avg_pool") for x in ([1, 9, 2, 4], [4, 1, 9, 2])]
    [[4], [4]]

    With windows of 2 at stride 2 a shift by one changes the output, by two it shifts it.

    >>> [conv(x, (2,), op="max_pool", stride=(2,)) for x in ([1, 9, 2, 4], [4, 1, 9, 2], [2, 4, 1, 9])]
    [[9, 4], [4, 9], [4, 9]]
    """
    spec = problem.spec
    (whole,) = over_all(spec)
    here = problem.on(whole)
    ops = drawn(here, "global")
    before = evaluate(here, run, ops, whole)
    largest = np.unravel_index(int(np.argmax(ops.x[0, 0])), spec.in_size)
    verdict = None
    for place in ((0,) * spec.rank, tuple(n - 1 for n in spec.in_size)):
        by = tuple(int(to - at) % n for to, at, n in zip(place, largest, spec.in_size, strict=True))
        moved = np.ascontiguousarray(np.roll(ops.x, by, tuple(range(2, 2 + spec.rank))))
        after = evaluate(here, run, Operands(moved), whole)
        verdict = agree(after, before, f"a circular shift by {list(by)} changes the pool of all")
        if verdict.mismatches:
            return verdict
    assert verdict is not None
    return verdict


@kept
def depthwise(spec: ConvSpec) -> tuple[ConvSpec, ...]:
    """The convolution whose outputs are an average pool's sums."""
    if spec.op != "avg_pool":
        return ()
    padding = tuple(
        (a.lo, a.hi if conv_size(a) == out else (out - 1) * a.s + a.extent - a.n - a.lo)
        for a, out in zip(spec.axes, spec.out_size, strict=True)
    )
    return (replace(spec, op="conv", padding=padding, groups=spec.in_channels, ceil_mode=False, count_include_pad=False),)


@kept
def maxima(spec: ConvSpec) -> tuple[ConvSpec, ...]:
    """The maximum pool over an average pool's windows."""
    if spec.op != "avg_pool":
        return ()
    types = default_types("max_pool", spec.in_dtype)
    return (replace(spec, op="max_pool", count_include_pad=False, acc_dtype=types[1], out_dtype=types[2]),)


@kept
def over_all(spec: ConvSpec) -> tuple[ConvSpec, ...]:
    """The pool with one window, the input."""
    if not spec.is_pool:
        return ()
    return (
        replace(spec, kernel_size=spec.in_size, stride=(), dilation=(), padding=(), ceil_mode=False, count_include_pad=False),
    )


def _increasing(a: np.ndarray) -> np.ndarray:
    """A nonlinear nondecreasing map of the type into itself."""
    if a.dtype.kind == "i":
        return np.ascontiguousarray(a // 3)
    return np.ascontiguousarray((a.astype(np.float64) ** 3).astype(a.dtype))


def _average(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    return affordable(case, spec, info) if spec.op == "avg_pool" else f"{spec.op} is no average"


def _maximum(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    return affordable(case, spec, info) if spec.op == "max_pool" else f"{spec.op} is no maximum"


def _pool(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    if not spec.is_pool:
        return f"{spec.op} is no pool"
    if all(n == 1 for n in spec.in_size):
        return "an input of one element cannot be shifted"
    return affordable(case, spec, info)


POOL_CONVOLUTION = Check(
    "pool_convolution", "averages like a convolution with ones", judge_convolution, _average, related=depthwise
)
POOL_ORDER = Check("pool_order", "averages between minimum and maximum", judge_order, _average, related=maxima)
MONOTONE = Check("monotone", "takes the same maximum of monotone images", judge_monotone, _maximum)
GLOBAL_POOL = Check("global_pool", "pools all of a shifted input alike", judge_global, _pool, related=over_all)
