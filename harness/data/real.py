"""Recipes of real numbers: which errors each makes visible.

All are S-fill (random sign x [1, 2), every bit of the significand in use) scaled by powers of two, so that
the scaling itself is exact.
"""

from __future__ import annotations

from math import floor, gcd, log2, prod

import numpy as np

from harness.data.operands import Operands
from harness.data.raw import s_fill, words
from harness.spec import ConvSpec
from harness.spec.geometry import Axis
from harness.spec.host import numpy_dtype

#: Every second input element is larger by this power of two in `graded`.
GRADE = 12
#: Exponents of `wide_range` lie in [-RANGE, RANGE].
RANGE = 20


def filled(spec: ConvSpec, key: tuple[object, ...]) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """S-fill of x, w and b, float64; |b| in [1, 4)."""
    x = s_fill(words(prod(spec.x_shape), *key, "x"), spec.in_type).astype(np.float64).reshape(spec.x_shape)
    w = None
    if spec.w_shape is not None:
        w = s_fill(words(prod(spec.w_shape), *key, "w"), spec.in_type).astype(np.float64).reshape(spec.w_shape)
    b = None
    if spec.bias:
        wb = words(spec.out_channels, *key, "b")
        b = s_fill(wb, spec.acc_type).astype(np.float64) * np.where(wb & np.uint64(2), 1.0, 2.0)
    return x, w, b


def zero_mean(spec: ConvSpec, key: tuple[object, ...]) -> Operands:
    """Random signs: sums of sqrt(K), errors of a small constant times u A."""
    return typed(spec, *filled(spec, key))


def positive(spec: ConvSpec, key: tuple[object, ...]) -> Operands:
    """No cancellation: partial sums grow, errors of one sign add up like sqrt(K); all values different."""
    x, w, b = filled(spec, key)
    return typed(spec, np.abs(x), None if w is None else np.abs(w), None if b is None else np.abs(b))


def graded(spec: ConvSpec, key: tuple[object, ...]) -> Operands:
    """X large (2**12) and small like a chessboard under a kernel without the taps of its centre's colour.

    Half of the outputs, in two axes too, then read small elements alone, whose large neighbours a transform mixes in
    and a sum keeps apart. (With the centre tap alone 0, the diagonals of a 3x3 kernel are as large as the centre: an
    FFT erred by 2.5 u A, unseen; like this by 3000 to 7900.)
    """
    x, w, b = filled(spec, key)
    steps = [_alternation(spec, a) for a in spec.axes]
    centre = sum(-a.lo // a.d + a.m // 2 for a in spec.axes)
    at = sum(np.ix_(*(np.arange(a.n) // step for a, (step, _) in zip(spec.axes, steps, strict=True))))
    x = np.ldexp(x, np.where((at - centre) % 2 == 0, grade(spec), 0))
    if w is not None:
        taps = sum(
            np.ix_(*((np.arange(a.m) // step - a.m // 2 // step) for a, (_, step) in zip(spec.axes, steps, strict=True)))
        )
        if np.any(keep := taps % 2 != 0):
            w = w * keep
    return typed(spec, x, w, b)


def _alternation(spec: ConvSpec, a: Axis) -> tuple[int, int]:
    """How many inputs and how many taps on from one that an output reads is the next that it reads."""
    if spec.op != "conv_transpose":
        return a.d, 1
    g = gcd(a.s, a.d)
    return a.d // g, a.s // g


def grade(spec: ConvSpec) -> int:
    """The exponent of the large elements: 12, less where the output is f16 and would overflow."""
    return GRADE if "f16" not in (spec.in_dtype, spec.acc_dtype, spec.out_dtype) else 4


def wide_range(spec: ConvSpec, key: tuple[object, ...]) -> Operands:
    """Exponents of x and w spread over forty binades (eight for 16-bit floats): tiny terms beside large ones."""
    x, w, b = filled(spec, key)
    span = RANGE if "f16" not in (spec.in_dtype, spec.acc_dtype, spec.out_dtype) else 4
    x = np.ldexp(x, _exponents(words(x.size, *key, "ex"), span).reshape(x.shape))
    if w is not None:
        w = np.ldexp(w, _exponents(words(w.size, *key, "ew"), span // 4).reshape(w.shape))
    return typed(spec, x, w, b)


def denormal(spec: ConvSpec, key: tuple[object, ...]) -> Operands:
    """X subnormal, w of order 1, no bias: flushing to zero loses everything."""
    x, w, _ = filled(spec, key)
    t = spec.in_type
    x = np.rint(np.ldexp(x, t.precision - 4)) * t.eta  # integers below 2**(p-2) times the smallest subnormal
    return typed(spec, x, w, np.zeros(spec.out_channels) if spec.bias else None)


def near_overflow(spec: ConvSpec, key: tuple[object, ...]) -> Operands:
    """X scaled so that A reaches fmax/16 to fmax/4 of the accumulator, and x at most fmax/4 of its own type.

    `key` ends with the bits of headroom that a class's transforms need beyond A.
    """
    x, w, b = filled(spec, key)
    products = max(spec.accumulation_length, 1) if spec.op != "max_pool" else 1
    room = min(spec.acc_type.max / (16.0 * products) / 2.0 ** int(str(key[-1])), spec.in_type.max / 8)
    return typed(spec, np.ldexp(x, floor(log2(room))), w, b)


def identity_input(spec: ConvSpec, key: tuple[object, ...]) -> Operands:
    """One x of 1 an image, full significands in w, no bias: the output is the kernel, bit for bit."""
    _, w, _ = filled(spec, key)
    x = np.zeros(spec.x_shape)
    place = words(spec.batch * (spec.rank + 1) + 1, *key, "place")
    for n in range(spec.batch):
        at = place[n * (spec.rank + 1) : (n + 1) * (spec.rank + 1)]
        c = int(at[0] % np.uint64(spec.in_channels))
        x[n, c][tuple(int(v % np.uint64(s)) for v, s in zip(at[1:], spec.in_size, strict=True))] = 1.0
    return typed(spec, x, w, np.zeros(spec.out_channels) if spec.bias else None)


def scaled(spec: ConvSpec, ops: Operands, x_by: int = 0, *, negate: bool = False) -> Operands:
    """The operands with x times 2**x_by, or negated; exact by construction. Bias as it is."""
    x = np.ldexp(ops.x.astype(np.float64), x_by)
    return Operands(np.ascontiguousarray((-x if negate else x).astype(ops.x.dtype)), ops.w, ops.b)


def without_bias(spec: ConvSpec, ops: Operands) -> Operands:
    """The operands with a bias of zeros, where there is one."""
    return ops if ops.b is None else Operands(ops.x, ops.w, np.zeros_like(ops.b))


def typed(spec: ConvSpec, x: np.ndarray, w: np.ndarray | None, b: np.ndarray | None) -> Operands:
    """Cast, exactly for values that the types hold, to the specification's types and shapes."""
    put = numpy_dtype(spec.in_dtype)
    return Operands(
        np.ascontiguousarray(x.reshape(spec.x_shape).astype(put, copy=False)),
        None if w is None else np.ascontiguousarray(w.reshape(spec.w_shape or ()).astype(put, copy=False)),
        None if b is None else np.ascontiguousarray(b.astype(numpy_dtype(spec.acc_dtype), copy=False)),
    )


def _exponents(w: np.ndarray, span: int) -> np.ndarray:
    """Integers of [-span, span]."""
    return (w % np.uint64(2 * span + 1)).astype(np.int64) - span
