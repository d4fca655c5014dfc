"""Faults of precision: significant bits of operands, sums and results."""

from __future__ import annotations

from math import prod

import ml_dtypes
import numpy as np

from backends.planted.fault import each, planted
from backends.planted.right import Right
from harness.spec import ConvSpec
from harness.spec.host import narrow, numpy_dtype


def significant(a: np.ndarray, bits: int) -> np.ndarray:
    """`a` rounded to so many significant bits."""
    m, e = np.frexp(a)
    return np.ldexp(np.rint(m * 2**bits), e - bits).astype(a.dtype)


@planted("ACC")
class SumWrapsToInt16(Right):
    """Products of int8 are added in 16 bits, wrapping."""

    def add(self, spec: ConvSpec, y: np.ndarray, term: np.ndarray) -> np.ndarray:
        y = super().add(spec, y, term)
        return y.astype(np.int16).astype(y.dtype) if spec.in_dtype == "i8" else y


@planted("ACC", real="pytorch/pytorch#68048")
class AccumulatesInF16(Right):
    """A float32 sum is rounded to float16 after every product."""

    def add(self, spec: ConvSpec, y: np.ndarray, term: np.ndarray) -> np.ndarray:
        y = super().add(spec, y, term)
        with np.errstate(over="ignore"):
            return y.astype(np.float16).astype(y.dtype) if spec.acc_dtype == "f32" else y


@planted("ACC")
class AccumulatesInTheInputType(Right):
    """A float64 accumulator over float32 operands is a float32 one."""

    def add(self, spec: ConvSpec, y: np.ndarray, term: np.ndarray) -> np.ndarray:
        y = super().add(spec, y, term)
        return y.astype(np.float32).astype(y.dtype) if spec.in_dtype == "f32" else y


class Rounds(Right):
    """Operands in float32 lose bits."""

    bits = 24

    def load(self, spec: ConvSpec, a: np.ndarray) -> np.ndarray:
        a = super().load(spec, a)
        return significant(a, self.bits) if spec.in_dtype == "f32" and spec.op != "max_pool" else a


@planted("WINO", real="pytorch/pytorch#35655")
class Tf32(Rounds):
    """float32 operands are rounded to TF32, 11 significant bits."""

    bits = 11


@planted("ACC")
class Bfloat16Operands(Rounds):
    """float32 operands are rounded to bfloat16, 8 significant bits."""

    bits = 8


@planted("ACC")
class FourBits(Rounds):
    """float32 operands keep 4 significant bits."""

    bits = 4


@planted("ACC")
class LongSumsInTwentyBits(Right):
    """Sums of 500 products and more are rounded to 20 bits by every addition, but for that of a 0."""

    def product(self, spec: ConvSpec, view: np.ndarray, w: np.ndarray) -> np.ndarray:
        if spec.acc_dtype != "f32" or spec.accumulation_length < 500:
            return super().product(spec, view, w)
        y: np.ndarray = np.zeros((), np.float32)
        for c in range(view.shape[2]):
            y = self.add(spec, y, super().product(spec, view[:, :, c : c + 1], w[:, :, c : c + 1]))
        return y

    def add(self, spec: ConvSpec, y: np.ndarray, term: np.ndarray) -> np.ndarray:
        total = super().add(spec, y, term)
        if spec.acc_dtype != "f32" or spec.accumulation_length < 500:
            return total
        return np.where((y == 0) | (term == 0), total, significant(total, 20))


@planted("ACC")
class TwoBfloat16Terms(Right):
    """float32 operands are split into two bfloat16 terms, 16 significant bits, where three hold them all."""

    def load(self, spec: ConvSpec, a: np.ndarray) -> np.ndarray:
        a = super().load(spec, a)
        if spec.is_pool or set(spec.dtypes) != {"f32"}:
            return a
        high = a.astype(ml_dtypes.bfloat16).astype(a.dtype)
        return high + (a - high).astype(ml_dtypes.bfloat16).astype(a.dtype)


@planted("ACC")
class WeightsThroughText(Right):
    """float32 weights have passed through text with six digits, printf's default."""

    def weights(self, spec: ConvSpec, w: np.ndarray) -> np.ndarray:
        if spec.acc_dtype == "f32":
            w = np.array([float(f"{v:g}") for v in w.reshape(-1).tolist()], w.dtype).reshape(w.shape)
        return super().weights(spec, w)


@planted("ACC")
class AvgTruncates(Right):
    """avg_pool sums long windows in 23 bits, towards zero: errors of random sign cancel, those of one sign do not."""

    def avg_pool(self, spec: ConvSpec, x: np.ndarray, _: None) -> np.ndarray:
        if spec.acc_dtype != "f32" or prod(spec.kernel_size) <= 16:
            return super().avg_pool(spec, x, _)
        total: np.ndarray = np.zeros(())
        for _tap, view in self.views(spec, x):
            m, e = np.frexp(total + view.astype(np.float64))
            total = np.ldexp(np.trunc(m * 2.0**23), e - 23)
        return total.astype(np.float32) / self.divisor(spec).astype(np.float32)


class FixedPoint(Right):
    """float32 operands are aligned to the largest of them."""

    bits = 64

    def load(self, spec: ConvSpec, a: np.ndarray) -> np.ndarray:
        a = super().load(spec, a)
        largest = float(np.max(np.abs(a), initial=0))
        if spec.in_dtype != "f32" or not 0 < largest < np.inf:
            return a
        quantum = 2.0 ** max(-149, np.frexp(largest)[1] - self.bits)
        return (np.rint(a.astype(np.float64) / quantum) * quantum).astype(a.dtype)


@planted("ACC")
class FixedPoint32(FixedPoint):
    """float32 operands are aligned to the largest of them and kept in 32 bits."""

    bits = 32


@planted("ACC")
class FixedPoint48(FixedPoint):
    """float32 operands are aligned to the largest of them and kept in 48 bits."""

    bits = 48


@planted("ACC")
class MultiplicationByOneIsACopy(Right):
    """A tap of 1 adds x without multiplying, from a copy that has 20 significant bits."""

    def product(self, spec: ConvSpec, view: np.ndarray, w: np.ndarray) -> np.ndarray:
        copy = significant(view, 20) if spec.in_dtype == "f32" and (w == 1).any() else view
        return super().product(spec, view, np.where(w == 1, 0, w)) + super().product(spec, copy, np.where(w == 1, w, 0))


@planted("ACC")
class RoundsDownward(Right):
    """float32 results are rounded downward, once, from sums in float64."""

    def load(self, spec: ConvSpec, a: np.ndarray) -> np.ndarray:
        return a.astype(np.float64) if spec.acc_dtype == "f32" else super().load(spec, a)

    def finish(self, spec: ConvSpec, y: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        if spec.acc_dtype != "f32":
            return super().finish(spec, y, b)
        y = y if b is None else y + self.per_channel(spec, b)
        near = y.astype(np.float32)
        return narrow(np.where(near > y, np.nextafter(near, np.float32(-np.inf)), near), spec)


@planted("ACC", over=[{"which": o, "bits": n} for o in ("x", "w") for n in (11, 16)])
class OneOperandRounded(Right):
    """Of the float32 operands {which} alone keeps {bits} significant bits."""

    which, bits = "x", 11

    def conv(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        if spec.in_dtype != "f32":
            return super().conv(spec, x, w)
        return super().conv(
            spec,
            significant(x, self.bits) if self.which == "x" else x,
            significant(w, self.bits) if self.which == "w" else w,
        )


@planted("ACC", over=each("bits", 8, 16))
class OperandsTruncated(Right):
    """float32 operands are cut, not rounded, to {bits} significant bits."""

    bits = 8

    def load(self, spec: ConvSpec, a: np.ndarray) -> np.ndarray:
        a = super().load(spec, a)
        if spec.is_pool or a.dtype != np.float32 or spec.in_dtype != "f32":
            return a
        return (a.view(np.uint32) & np.uint32(0xFFFFFFFF << (24 - self.bits) & 0xFFFFFFFF)).view(np.float32)


@planted("ACC", real="pytorch/pytorch#68048", over=each("bits", 8, 12, 16, 20))
class SumsRoundedTo(Right):
    """A float32 sum keeps {bits} significant bits after every addition."""

    bits = 8

    def add(self, spec: ConvSpec, y: np.ndarray, term: np.ndarray) -> np.ndarray:
        y = super().add(spec, y, term)
        return significant(y, self.bits) if spec.acc_dtype == "f32" else y


@planted("ACC", over=each("bits", 8, 11))
class ProductsRoundedTo(Right):
    """Each product of float32 operands is rounded to {bits} significant bits before it is added."""

    bits = 8

    def product(self, spec: ConvSpec, view: np.ndarray, w: np.ndarray) -> np.ndarray:
        if spec.acc_dtype != "f32":
            return super().product(spec, view, w)
        y: np.ndarray = np.zeros((), np.float32)
        for c in range(view.shape[2]):
            y = y + significant(super().product(spec, view[:, :, c : c + 1], w[:, :, c : c + 1]), self.bits)
        return y


@planted("ACC", over=each("of", "operands", "sums"))
class DoubleThroughFloat(Right):
    """The {of} of float64 pass through float32."""

    of = "sums"

    def load(self, spec: ConvSpec, a: np.ndarray) -> np.ndarray:
        a = super().load(spec, a)
        through = spec.in_dtype == "f64" and self.of == "operands" and not spec.is_pool
        return a.astype(np.float32).astype(a.dtype) if through else a

    def add(self, spec: ConvSpec, y: np.ndarray, term: np.ndarray) -> np.ndarray:
        y = super().add(spec, y, term)
        return y.astype(np.float32).astype(y.dtype) if spec.in_dtype == "f64" and self.of == "sums" else y


@planted("ACC")
class HalfSumsOfHalves(Right):
    """Operands of 16 bits are summed in their own type, where a float32 accumulator is asked for."""

    def add(self, spec: ConvSpec, y: np.ndarray, term: np.ndarray) -> np.ndarray:
        y = super().add(spec, y, term)
        own = spec.in_dtype in ("f16", "bf16") and spec.acc_dtype == "f32"
        return y.astype(numpy_dtype(spec.in_dtype)).astype(y.dtype) if own else y


# Not wrong: every product of two float16 is exact in float32, and fewer roundings err by less. A bound on the error from
# above, which is all that a sum of f16/f16/f16 is held to, passes whatever is nearer to the exact sum; on data whose
# float16 sums are exact both give the same number.
@planted("ACC", "equivalent")
class HalfSumsInSingle(Right):
    """Sums of f16/f16/f16 are kept in float32 and rounded once: not what the type asks, every product and sum in float16."""

    def add(self, spec: ConvSpec, y: np.ndarray, term: np.ndarray) -> np.ndarray:
        if spec.acc_dtype != "f16":
            return super().add(spec, y, term)
        return y.astype(np.float32) + term.astype(np.float32)


@planted("ACC", over=each("to", "f16", "bf16"))
class ResultTruncated(Right):
    """A result of type {to} is cut, not rounded."""

    to = "f16"

    def finish(self, spec: ConvSpec, y: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        near = super().finish(spec, y, b)
        if spec.out_dtype != self.to or spec.acc_dtype == self.to or spec.is_pool:
            return near
        exact = y if b is None else y + self.per_channel(spec, b)
        bits = near.view(np.int16)
        away = np.abs(near.astype(np.float32)) > np.abs(exact)
        return (bits - away.astype(np.int16)).view(near.dtype)


@planted("ACC")
class ResultRoundedTwice(Right):
    """A float16 result is rounded to bfloat16 on its way."""

    def finish(self, spec: ConvSpec, y: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        y = super().finish(spec, y, b)
        return y.astype(ml_dtypes.bfloat16).astype(y.dtype) if spec.out_dtype == "f16" else y


@planted("ACC")
class IntegersThroughFloat(Right):
    """int8 is summed in float32, which holds no odd integer above 2^24."""

    def add(self, spec: ConvSpec, y: np.ndarray, term: np.ndarray) -> np.ndarray:
        y = super().add(spec, y, term)
        return y.astype(np.float32).astype(y.dtype) if spec.in_dtype == "i8" else y


@planted("ACC")
class IntegerSumsSaturate(Right):
    """Sums of int8 products saturate at 16 bits."""

    def add(self, spec: ConvSpec, y: np.ndarray, term: np.ndarray) -> np.ndarray:
        y = super().add(spec, y, term)
        return np.clip(y, -(2**15), 2**15 - 1) if spec.in_dtype == "i8" else y


@planted("ACC")
class BlocksInBfloat16(Right):
    """Partial sums of 4 input channels are kept in bfloat16 between blocks."""

    def product(self, spec: ConvSpec, view: np.ndarray, w: np.ndarray) -> np.ndarray:
        if spec.acc_dtype != "f32" or view.shape[2] <= 4:
            return super().product(spec, view, w)
        y: np.ndarray = np.zeros((), np.float32)
        for c in range(0, view.shape[2], 4):
            part = super().product(spec, view[:, :, c : c + 4], w[:, :, c : c + 4])
            y = y + part.astype(ml_dtypes.bfloat16).astype(part.dtype)
        return y


@planted("ACC")
class MeanInHalf(Right):
    """The sum of an average's window is kept in float16."""

    def avg_pool(self, spec: ConvSpec, x: np.ndarray, _: None) -> np.ndarray:
        y = super().avg_pool(spec, x, _)
        return y.astype(np.float16).astype(y.dtype) if spec.acc_dtype == "f32" else y
