"""The arithmetic of one spatial axis: sizes, `same` padding, how many taps reach an output.

Everything here is a pure function of small integers on one axis; `ConvSpec` applies it axis
by axis. Formulas: Dumoulin & Visin, "A guide to convolution arithmetic for deep learning"
(2016); the lecture's floor((n + 2p - m)/s) + 1 is the case d = 1, lo = hi = p.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from math import gcd

#: Axes whose tap counts are kept: a run comes back to those of the cases at hand.
KEPT = 4096


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


@lru_cache(KEPT)
def conv_tap_counts(a: Axis, out: int, *, low: int = 0, high: int | None = None) -> tuple[int, ...]:
    """How many taps of each output fall on positions in [low, high); default the input, [0, n)."""
    high = a.n if high is None else high
    return tuple(_conv_taps(a, o, low, high) for o in range(out))


@lru_cache(KEPT)
def transpose_tap_counts(a: Axis, out: int) -> tuple[int, ...]:
    """How many (input, tap) pairs reach each output of a transposed convolution."""
    taps = _transpose_taps(a)
    return tuple(taps(o) for o in range(out))


@lru_cache(KEPT)
def most_conv_taps(a: Axis, out: int) -> int:
    """The largest of `conv_tap_counts`, in closed form.

    An output has c taps on data if and only if c consecutive ones are: a pair (o, k) with k <= m - c and
    0 <= o s + k d - lo < n - (c-1)d.
    """
    return _largest(
        min(a.m, -(-a.n // a.d)),
        lambda c: conv_pairs(replace(a, m=a.m - c + 1, n=a.n - (c - 1) * a.d), out),
    )


@lru_cache(KEPT)
def most_transpose_taps(a: Axis, out: int) -> int:
    """The largest of `transpose_tap_counts`, in closed form.

    The pairs (i, k) of an output lie (d/g, -s/g) apart, g = gcd(s, d). An output has c of them if and only if
    it has a first, with room for c - 1 more: i < n - (c-1) d/g and k >= (c-1) s/g.
    """
    g = gcd(a.s, a.d)
    p, q = a.d // g, a.s // g
    return _largest(
        min(-(-a.m // q), -(-a.n // p)),
        lambda c: transpose_pairs(replace(a, m=a.m - (c - 1) * q, n=a.n - (c - 1) * p, lo=a.lo - (c - 1) * q * a.d), out),
    )


@lru_cache(KEPT)
def conv_pairs(a: Axis, out: int) -> int:
    """The sum of `conv_tap_counts`, in closed form: pairs (o, k) with 0 <= o s + k d - lo < n."""
    return _lattice_points(a.s, out, a.d, a.m, a.n + a.lo) - _lattice_points(a.s, out, a.d, a.m, a.lo)


@lru_cache(KEPT)
def transpose_pairs(a: Axis, out: int) -> int:
    """The sum of `transpose_tap_counts`, in closed form: pairs (i, k) with 0 <= i s + k d - lo < out."""
    return _lattice_points(a.s, a.n, a.d, a.m, out + a.lo) - _lattice_points(a.s, a.n, a.d, a.m, a.lo)


def first_empty_window(a: Axis, out: int) -> int | None:
    """The first output whose window has no tap in [0, n), or None; in closed form.

    A window is empty if it ends before the data, begins after them, or straddles them with taps
    further apart than they are long.
    """
    if a.extent <= a.lo:
        return 0
    found = []
    before = min(out, max(0, -(-a.lo // a.s)))
    if a.d > a.n and before:
        # the first tap at or after 0 stands at (o s - lo) mod d; it must not be in [0, n)
        o = _first_residue(a.s, a.d, (a.n + a.lo) % a.d, (a.d - 1 + a.lo) % a.d)
        found += [o] if o is not None and o < before else []
    after = max(0, -(-(a.n + a.lo) // a.s))
    found += [after] if after < out else []
    return min(found, default=None)


def _conv_taps(a: Axis, o: int, low: int, high: int) -> int:
    start = o * a.s - a.lo
    first = max(0, -(-(low - start) // a.d))
    last = min(a.m - 1, (high - 1 - start) // a.d)
    return max(0, last - first + 1)


def _transpose_taps(a: Axis) -> Callable[[int], int]:
    """A function of the output's position: taps k with k d = o + lo (mod s) that meet an input."""
    g = gcd(a.s, a.d)
    step = a.s // g
    inverse = pow(a.d // g, -1, step) if step > 1 else 0

    def count(o: int) -> int:
        t = o + a.lo
        if t % g:
            return 0
        least = max(0, (t - a.n * a.s) // a.d + 1)
        most = min(a.m - 1, t // a.d)
        k = least + (t // g * inverse - least) % step
        return (most - k) // step + 1 if k <= most else 0

    return count


def _largest(most: int, pairs: Callable[[int], int]) -> int:
    """The largest c in [0, most] with pairs(c) > 0, 0 if there is none; pairs falls as c grows."""
    least = 0
    while least < most:
        c = (least + most + 1) // 2
        least, most = (c, most) if pairs(c) > 0 else (least, c - 1)
    return least


def _lattice_points(s: int, p: int, d: int, m: int, t: int) -> int:
    """Pairs (i, k), 0 <= i < p and 0 <= k < m, with i s + k d < t."""
    full = min(m, max(0, -((-(t - (p - 1) * s)) // d)))  # for these k every i counts
    some = min(m, max(0, -(-t // d)))  # for those beyond, none
    # the rest, from the last backwards: the sum of ceil((t - k d)/s) = floor((t - k d + s - 1)/s)
    return full * p + _floor_sum(some - full, s, d, t - (some - 1) * d + s - 1)


def _floor_sum(n: int, m: int, a: int, b: int) -> int:
    """The sum of floor((a i + b)/m) for 0 <= i < n, by Euclid's algorithm (a, b >= 0)."""
    total = 0
    while n > 0:
        total += n * (n - 1) // 2 * (a // m) + n * (b // m)
        a, b = a % m, b % m
        top = a * n + b
        n, m, a, b = top // m, a, m, top % m
        if m == 0:
            break
    return total


def _first_residue(a: int, m: int, low: int, high: int) -> int | None:
    """The smallest x >= 0 with a x mod m in [low, high], cyclic where low > high; by Euclid's algorithm."""
    if low > high or low == 0:
        return 0
    a %= m
    if a == 0:
        return None
    x = -(-low // a)
    if x * a <= high:
        return x
    y = _first_residue(m % a, a, -high % a, -low % a)
    return None if y is None else -(-(low + m * y) // a)
