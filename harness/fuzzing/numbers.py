"""The numbers of a failing case made few and small, so that the result can be checked by hand.

Any integers will do that show the fault: those of the failing call, or of the recipes that work with exact numbers.
From them on, elements are set to zero in ever smaller blocks and the rest made smaller, for as long as the backend's
output differs from the exact one. The judge is the check `literal`, so that what is printed fails as it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import product
from math import lcm, prod

import numpy as np

from harness.data import Operands, draw
from harness.data.recipes import exact_budget
from harness.fuzzing.bench import Bench, Clock, Judged
from harness.fuzzing.cases import with_numbers
from harness.oracle import reference
from harness.records import Status
from harness.spec import ConvSpec

#: Recipes whose numbers are integers, or become so by a power of two.
RECIPES = ("integers", "input_impulses", "tap_impulses", "identity_tap", "identity_input", "saturating", "zero_mean")
#: The significand bits beyond which a number is not written as an integer.
MOST_BITS = 53


def shrink_numbers(judged: Judged, bench: Bench, clock: Clock) -> Judged | None:
    """The case with the fewest and smallest numbers found that its backend gets wrong.

    Returns
    -------
    Judged or None
        Under the check `literal`; None where no exact numbers were found that show the fault.
    """
    spec = judged.case.spec
    assert spec is not None
    best: Judged | None = None

    def fails(ops: Operands) -> bool:
        nonlocal best
        case = with_numbers(spec, ops) if _exact(spec, ops) else None
        found = None if case is None else bench.judge(case, "literal")
        if found is None or found.verdict.status is not Status.FAIL:
            return False
        best = found
        return True

    for ops in _starts(spec, judged, bench.seed):
        if clock.over:
            return None
        if fails(ops):
            _simplify(ops, _unit(spec), fails, clock)
            return best
    return None


def _starts(spec: ConvSpec, judged: Judged, seed: int) -> Iterator[Operands]:
    """Operands of integers to begin with: the failing call's own first."""
    if judged.trial is not None and judged.trial.spec == spec:
        yield from _as_integers(spec, judged.trial.ops)
    for recipe in RECIPES:
        if spec.is_pool and recipe in ("tap_impulses", "identity_tap", "identity_input"):
            continue
        if recipe == "saturating" and (spec.in_dtype != "i8" or spec.is_pool):
            continue
        more = (0,) if recipe in ("tap_impulses", "identity_tap") else ()
        yield from _as_integers(spec, draw(recipe, spec, judged.case.id, seed, *more))


def _as_integers(spec: ConvSpec, ops: Operands) -> Iterator[Operands]:
    """The operands times powers of two that make integers of x and w; averages times what the divisors divide."""
    arrays = [None if a is None else a.astype(np.float64) for a in ops.arrays]
    if any(a is not None and not np.all(np.isfinite(a)) for a in arrays):
        return
    x, w, b = arrays
    assert x is not None
    kx, kw = _denominator(x), 1 if w is None else _denominator(w)
    if max(kx, kw) > 2**MOST_BITS:
        return
    unit = _unit(spec)
    whole = np.rint(x * kx / unit) * unit
    bias = None if b is None else np.rint(b)
    for scaled in (whole, x * kx * unit) if unit > 1 else (whole,):
        yield _typed(ops, (scaled, None if w is None else w * kw, bias))


def _denominator(a: np.ndarray) -> int:
    """The least power of two whose product with every element is an integer."""
    return max((Fraction(v).denominator for v in np.unique(a).tolist()), default=1)


def _unit(spec: ConvSpec) -> int:
    """What every number of an average's input is a multiple of, so that the means are integers."""
    if spec.op != "avg_pool":
        return 1
    return lcm(*(prod(c) for c in _divisors(spec)))


def _divisors(spec: ConvSpec) -> Iterator[tuple[int, ...]]:
    return product(*(sorted(set(axis)) for axis in spec.divisor_counts))


def _exact(spec: ConvSpec, ops: Operands) -> bool:
    """Whether the types hold the integers, and every partial sum is exact."""
    x, w = np.abs(ops.x.astype(np.float64)), None if ops.w is None else np.abs(ops.w.astype(np.float64))
    largest = max(float(x.max(initial=0)), 0.0 if w is None else float(w.max(initial=0)))
    if largest > (128 if spec.in_dtype == "i8" else 2.0 ** min(spec.in_type.precision, MOST_BITS)):
        return False
    if spec.op == "max_pool":
        return True
    if w is None:
        return float(x.max(initial=0)) * spec.accumulation_length <= exact_budget(spec)
    absolute = _typed(ops, (x, w, None if ops.b is None else np.abs(ops.b.astype(np.float64))))
    total = reference(spec, absolute).hi
    return float(total.max(initial=0)) <= exact_budget(spec)


def _simplify(ops: Operands, unit: int, fails: Callable[[Operands], bool], clock: Clock) -> None:
    """Zero blocks of ever smaller length, then halve and flatten what is left, for as long as `fails` holds."""
    arrays = [None if a is None else a.astype(np.float64) for a in ops.arrays]
    for name in (0, 1, 2, 0, 1):
        a = arrays[name]
        if a is None:
            continue
        for simpler in _simpler(a, unit if name == 0 else 1):
            if clock.over:
                break
            candidate = _typed(ops, [simpler if i == name else other for i, other in enumerate(arrays)])
            if fails(candidate):
                a[...] = simpler


def _simpler(a: np.ndarray, unit: int) -> Iterator[np.ndarray]:
    """Copies of an array, which may change meanwhile, in which a part of it is simpler than it is at that moment."""
    block = max(1, int(np.count_nonzero(a)) // 2)
    while block:
        at = np.flatnonzero(a)
        for start in range(0, len(at), block):
            yield _replaced(a, at[start : start + block], 0.0)
        block //= 2
    for i in np.flatnonzero(a):
        for value in _plainer(float(a.flat[i]), unit):
            if abs(value) < abs(a.flat[i]) or (abs(value) == abs(a.flat[i]) and a.flat[i] < 0 < value):
                yield _replaced(a, np.array([i]), value)


def _plainer(value: float, unit: int) -> Iterator[float]:
    """Numbers to try in place of one, the plainest first."""
    yield from (1.0 * unit, 2.0 * unit, -1.0 * unit, abs(value))
    power = unit * 2.0 ** int(np.log2(max(abs(value) / unit, 1)))
    yield from (power, -power, power + unit)


def _replaced(a: np.ndarray, at: np.ndarray, value: float) -> np.ndarray:
    changed = a.copy()
    changed.flat[at] = value
    return changed


def _typed(like: Operands, arrays: Sequence[np.ndarray | None]) -> Operands:
    """The arrays in the types of `like`, exactly."""
    x, w, b = (
        None if a is None or old is None else np.ascontiguousarray(a.astype(old.dtype))
        for a, old in zip(arrays, like.arrays, strict=True)
    )
    assert x is not None
    return Operands(x, w, b)
