"""The second oracle: the definitions, written as gathers and summed without any rounding.

It shares nothing with the first (no padding in memory, no windows, no GEMM): each output collects
its (input, weight) pairs by index arithmetic. Slow, so it serves small cases, single elements, and as
the third opinion before a failure is reported.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from math import fsum

import numpy as np

from harness.data import Operands
from harness.spec import ConvSpec
from harness.spec.geometry import Axis

Pair = tuple[tuple[int, ...], tuple[int, ...]]


def exact_element(spec: ConvSpec, ops: Operands, index: tuple[int, ...]) -> Fraction:
    """The exact value of one output element, before output rounding.

    Parameters
    ----------
    spec : ConvSpec
    ops : Operands
        Finite values.
    index : tuple of int
        (batch, channel, spatial...).

    Examples
    --------
    >>> import numpy as np
    >>> s = ConvSpec("conv", (4,), (3,))
    >>> ops = Operands(np.array([[[1., 2, 3, 4]]], np.float32), np.array([[[1., 0, -1]]], np.float32))
    >>> exact_element(s, ops, (0, 0, 1))
    Fraction(-2, 1)
    """
    values = [Fraction(float(ops.x[i])) * (1 if ops.w is None else Fraction(float(ops.w[j]))) for i, j in pairs(spec, index)]
    if spec.op == "max_pool":
        return max(values)
    total = sum(values, Fraction(0))
    if spec.op == "avg_pool":
        return total / _divisor(spec, index)
    return total if ops.b is None else total + Fraction(float(ops.b[index[1]]))


def fsum_reference(spec: ConvSpec, ops: Operands) -> np.ndarray:
    """Every output by `math.fsum` of exact products, rounded once to float64.

    Products of 16- and 32-bit numbers are exact; those of float64 are split into product and error, exact
    where |xw| >= 2**-969 and |x|, |w| <= 2**996. Outputs with a product outside are summed as fractions.

    Returns
    -------
    ndarray of float64, `spec.out_shape`
    """
    x, w = ops.x.astype(np.float64), None if ops.w is None else ops.w.astype(np.float64)
    out = np.empty(spec.out_shape)
    for index in np.ndindex(*spec.out_shape):
        reads = list(pairs(spec, index))
        if spec.op == "max_pool":
            out[index] = max(x[i] for i, _ in reads)
            continue
        if w is None:
            out[index] = float(sum((Fraction(float(x[i])) for i, _ in reads), Fraction(0)) / _divisor(spec, index))
            continue
        factors = [(float(x[i]), float(w[j])) for i, j in reads]
        if spec.in_dtype == "f64" and not all(map(_splits, factors)):
            out[index] = float(exact_element(spec, ops, index))
            continue
        terms = [p for a, b in factors for p in _two_product(a, b, spec)]
        if ops.b is not None:
            terms.append(float(ops.b[index[1]]))
        out[index] = fsum(terms)
    return out


def pairs(spec: ConvSpec, index: tuple[int, ...]) -> Iterator[Pair]:
    """The (input index, weight index) pairs that the definition sums into output `index`."""
    n, m, *place = index
    if spec.is_pool:
        for reads in product(*(_reads(spec, a, o) for a, o in zip(spec.axes, place, strict=True))):
            yield (n, m, *(i for i, _ in reads)), ()
        return
    group = m // (spec.out_channels // spec.groups)
    first = group * (spec.in_channels // spec.groups)
    for c in range(spec.in_channels // spec.groups):
        for reads in product(*(_reads(spec, a, o) for a, o in zip(spec.axes, place, strict=True))):
            taps = tuple(a.m - 1 - k if spec.flip else k for (_, k), a in zip(reads, spec.axes, strict=True))
            source = (n, first + c, *(i for i, _ in reads))
            if spec.op == "conv_transpose":
                yield source, (first + c, m % (spec.out_channels // spec.groups), *taps)
            else:
                yield source, (m, c, *taps)


def _reads(spec: ConvSpec, a: Axis, o: int) -> list[tuple[int, int]]:
    """(input position, tap) pairs of one axis that reach output `o`."""
    if spec.op == "conv_transpose":
        steps = [(o + a.lo - k * a.d, k) for k in range(a.m)]
        return [(t // a.s, k) for t, k in steps if t % a.s == 0 and 0 <= t // a.s < a.n]
    found = []
    for k in range(a.m):
        i = o * a.s - a.lo + k * a.d
        if spec.padding_mode == "circular":
            i %= a.n
        elif spec.padding_mode == "reflect":
            i = abs(i) if i < a.n else 2 * (a.n - 1) - i
        elif spec.padding_mode == "replicate":
            i = min(max(i, 0), a.n - 1)
        if 0 <= i < a.n:
            found.append((i, k))
    return found


def _divisor(spec: ConvSpec, index: tuple[int, ...]) -> int:
    """An average's divisor, by enumeration."""
    total = 1
    for a, o in zip(spec.axes, index[2:], strict=True):
        at = [o * a.s - a.lo + k * a.d for k in range(a.m)]
        low, high = (-a.lo, a.n + a.hi) if spec.count_include_pad else (0, a.n)
        total *= sum(low <= i < high for i in at)
    return total


def _splits(factors: tuple[float, float]) -> bool:
    """Whether the product's error is itself a float64, so that the pair is the exact product."""
    a, b = map(abs, factors)
    return (a == 0 or b == 0 or a * b >= 2.0**-969) and max(a, b) <= 2.0**996 and a * b <= 2.0**1000


def _two_product(a: float, b: float, spec: ConvSpec) -> tuple[float, ...]:
    p = a * b
    if spec.in_dtype != "f64":
        return (p,)
    return p, float(Fraction(a) * Fraction(b) - Fraction(p))
