"""The arithmetic of one spatial axis: sizes, `same` padding, how many taps reach an output.

Everything here is a pure function of small integers on one axis; `ConvSpec` applies it axis
by axis. Formulas: Dumoulin & Visin, "A guide to convolution arithmetic for deep learning"
(2016); the lecture's floor((n + 2p - m)/s) + 1 is the case d = 1, lo = hi = p.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """One spatial axis of a specification.

    Attributes
    ----------
    n, m : int
        Input size and kernel size, elements.
    s, d : int
        Stride and dilation (1 is dense).
    lo, hi : int
        Padding before and after; negative crops.
    op : int
        Output padding (transposed convolution only).
    """

    n: int
    m: int
    s: int = 1
    lo: int = 0
    hi: int = 0
    d: int = 1
    op: int = 0

    @property
    def extent(self) -> int:
        """Elements that the dilated kernel spans, d(m-1)+1."""
        return self.d * (self.m - 1) + 1


def same_padding(n: int, m: int, s: int, d: int, *, upper: bool) -> tuple[int, int]:
    """Padding (low, high) that makes ceil(n/s) outputs.

    Parameters
    ----------
    n, m, s, d : int
        Input size, kernel size, stride, dilation.
    upper : bool
        Where an odd total's extra element goes: after the data (``same_upper``, as TensorFlow
        and ONNX SAME_UPPER do) or before (``same_lower``).

    Examples
    --------
    >>> same_padding(5, 4, 1, 1, upper=True), same_padding(5, 4, 1, 1, upper=False)
    ((1, 2), (2, 1))
    """
    total = max(0, (-(-n // s) - 1) * s + d * (m - 1) + 1 - n)
    lo = total // 2 if upper else -(-total // 2)
    return lo, total - lo


def conv_size(a: Axis) -> int:
    """Output size floor((n + lo + hi - d(m-1) - 1)/s) + 1; 0 where the kernel does not fit.

    The fit is tested before the division: floor and C truncation differ on negatives.
    """
    span = a.n + a.lo + a.hi - a.extent
    return 0 if span < 0 else span // a.s + 1


def pool_size(a: Axis, *, ceil_mode: bool) -> int:
    """Output size of a pooling axis.

    Under `ceil_mode` a last, partial window is kept unless it would start beyond the input
    and its low padding (PyTorch's rule, ATen/native/Pool.h; ONNX's since opset 19).
    """
    span = a.n + a.lo + a.hi - a.extent
    if not ceil_mode:
        return 0 if span < 0 else span // a.s + 1
    out = -(-span // a.s) + 1
    if (out - 1) * a.s >= a.n + a.lo:
        out -= 1
    return max(out, 0)


def transpose_size(a: Axis) -> int:
    """Output size of a transposed convolution, (n-1)s - lo - hi + d(m-1) + 1 + op."""
    return (a.n - 1) * a.s - a.lo - a.hi + a.extent + a.op


def conv_tap_counts(a: Axis, out: int, *, low: int = 0, high: int | None = None) -> list[int]:
    """How many taps of each output fall on positions in [low, high); default the input, [0, n)."""
    high = a.n if high is None else high
    counts = []
    for o in range(out):
        start = o * a.s - a.lo
        first = max(0, -(-(low - start) // a.d))
        last = min(a.m - 1, (high - 1 - start) // a.d)
        counts.append(max(0, last - first + 1))
    return counts


def transpose_tap_counts(a: Axis, out: int) -> list[int]:
    """How many (input, tap) pairs reach each output of a transposed convolution."""
    counts = [0] * out
    for k in range(a.m):
        for i in range(a.n):
            o = i * a.s - a.lo + k * a.d
            if 0 <= o < out:
                counts[o] += 1
    return counts
