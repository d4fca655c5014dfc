"""The first oracle: float64 GEMM for 16- and 32-bit inputs, error-free splitting for float64.

16- and 32-bit products are exact in float64 (24 + 24 <= 53 bits), and a float64 sum errs by at most
K 2**-53 A, 2**-29 of the unit of the judged type. float64 inputs are split into slices so narrow
that every product of two slices and every sum of such products is exact (Ozaki, Ogita, Oishi & Rump,
"Error-free transformations of matrix multiplication by using fast routines of matrix multiplication",
Numer. Algorithms 59, 2012); the slices' products are added in double-double. That is right to 2**-100 of
A = |w| * |x| (and half the smallest subnormal number), whatever the range of the operands, while
A <= fmax/4 and no product that matters lies below 2**-2000 of the largest.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2, prod

import numpy as np

from harness.data import Operands
from harness.oracle import windows
from harness.spec import ConvSpec


@dataclass(frozen=True, eq=False)
class Reference:
    """The right output and the scale of its rounding errors.

    Attributes
    ----------
    hi, lo : ndarray of float64, `spec.out_shape`
        The output before its last rounding is hi + lo; lo is None where hi alone is accurate enough.
    scale : ndarray of float64, `spec.out_shape`
        A = |w| * |x|, without bias; the mean of |x| for avg_pool, |y| for max_pool.
    """

    hi: np.ndarray
    lo: np.ndarray | None
    scale: np.ndarray

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.hi.nbytes + self.scale.nbytes + (0 if self.lo is None else self.lo.nbytes)


def reference(spec: ConvSpec, ops: Operands) -> Reference:
    """The output that `spec` defines on `ops`.

    Parameters
    ----------
    spec : ConvSpec
    ops : Operands
        Finite values.

    Returns
    -------
    Reference
    """
    x = ops.x.astype(np.float64)
    if spec.op == "max_pool":
        y = windows.pool_max(spec, x)
        return Reference(y, None, np.abs(y))
    if spec.op == "avg_pool":
        return _average(spec, x)
    assert ops.w is not None
    w = ops.w.astype(np.float64)
    multiply = windows.transpose if spec.op == "conv_transpose" else windows.correlate
    scale = multiply(spec, np.abs(x), np.abs(w))
    b = None if ops.b is None else ops.b.astype(np.float64).reshape(1, -1, *(1,) * spec.rank)
    if spec.acc_dtype != "f64":
        y = multiply(spec, x, w)
        return Reference(y if b is None else y + b, None, scale)
    hi, lo = np.zeros(spec.out_shape), np.zeros(spec.out_shape)
    length = ceil(log2(max(spec.accumulation_length, 2)))
    bits = (53 - length) // 2
    x, up_x = _raised(x, 480)
    w, up_w = _raised(w, 1000 - length - max(_top(x), 480))
    w_slices = list(_slices(w, bits))
    for xs in _slices(x, bits):
        for ws in w_slices:
            hi, lo = _add(hi, lo, multiply(spec, xs, ws))
    hi, lo = _lowered(*_two_sum(hi, lo), up_x + up_w)
    if b is not None:
        hi, lo = _add(hi, lo, np.broadcast_to(b, hi.shape))
    return Reference(*_two_sum(hi, lo), scale)


def _average(spec: ConvSpec, x: np.ndarray) -> Reference:
    """Sum in double-double, divide with the remainder kept."""
    count = windows.outer(spec.divisor_counts).reshape(1, 1, *spec.out_size)
    hi, lo = np.zeros(spec.out_shape), np.zeros(spec.out_shape)
    size = np.zeros(spec.out_shape)
    for part in windows.taps(spec, x, 0.0):
        hi, lo = _add(hi, lo, part)
        size += np.abs(part)
    quotient = hi / count
    p, e = _two_product(quotient, count)
    rest = (((hi - p) - e) + lo) / count
    return Reference(*_two_sum(quotient, rest), size / count)


def _top(a: np.ndarray) -> int:
    """The least e such that every element is below 2**e; 0 where all are 0."""
    return int(np.frexp(np.max(np.abs(a), initial=0.0))[1])


def _raised(a: np.ndarray, top: int) -> tuple[np.ndarray, int]:
    """`a` times 2**e, at least itself, exact, with its largest element below 2**top; and e.

    Products of small numbers are raised far above the subnormal numbers, where they would not be exact.
    """
    e = max(0, top - _top(a))
    return np.ldexp(a, e), e


def _lowered(hi: np.ndarray, lo: np.ndarray, e: int) -> tuple[np.ndarray, np.ndarray]:
    """(hi, lo) / 2**e; what hi loses where it becomes subnormal goes to lo."""
    small = np.ldexp(hi, -e)
    return small, np.ldexp((hi - np.ldexp(small, e)) + lo, -e)


def _slices(a: np.ndarray, bits: int) -> list[np.ndarray]:
    """Split `a` into a sum of arrays whose elements are integers of at most `bits` bits times one power of two.

    Cut towards zero, so that no slice is larger than its element: none overflows.
    """
    slices = []
    rest = a
    while np.any(rest):
        unit = _top(rest) - bits
        part = np.ldexp(np.trunc(np.ldexp(rest, -unit)), unit)
        slices.append(part)
        rest = rest - part
    return slices


def _two_sum(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Knuth's error-free sum."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def _add(hi: np.ndarray, lo: np.ndarray, part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    s, e = _two_sum(hi, part)
    return s, lo + e


def _two_product(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Dekker's error-free product by Veltkamp's split; of the significands, so that the split overflows nowhere."""
    (a, i), (b, j) = np.frexp(a), np.frexp(b)
    p = a * b
    factor = 2.0**27 + 1.0
    ah = a * factor - (a * factor - a)
    bh = b * factor - (b * factor - b)
    al, bl = a - ah, b - bh
    return np.ldexp(p, i + j), np.ldexp(((ah * bh - p) + ah * bl + al * bh) + al * bl, i + j)


def work(spec: ConvSpec) -> int:
    """Multiply-adds that `reference` spends, an estimate for planning."""
    return 2 * spec.macs * (10 if spec.acc_dtype == "f64" else 2) + 20 * prod(spec.out_shape)
