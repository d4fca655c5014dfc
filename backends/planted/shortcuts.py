"""Faults of faster algorithms, types and instructions: Winograd, FFT, bytes, what a compiler makes of a sum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import ml_dtypes
import numpy as np

from backends.planted.fault import each, planted
from backends.planted.right import NOWHERE, Right, at_tap
from harness.backend import AlgorithmClass
from harness.spec import ConvSpec
from harness.spec.host import numpy_dtype


@planted("WINO", real="pytorch/pytorch#35655")
class FftDeclaredDirect(Right):
    """Dense zero-padded convolutions go through a float32 FFT, in a backend that declares a direct sum."""

    def conv(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        plain = spec.padding_mode == "zeros" and spec.groups == 1 and {*spec.dilation} == {1} and spec.in_dtype == "f32"
        if not plain or min(min(p) for p in spec.padding) < 0 or spec.acc_dtype != "f32":
            return super().conv(spec, x, w)
        axes = tuple(range(-spec.rank, 0))
        x = np.pad(x, [(0, 0), (0, 0), *spec.padding])
        size = x.shape[2:]
        product = np.einsum(
            "nc...,mc...->nm...", np.fft.rfftn(x, size, axes), np.conj(np.fft.rfftn(self.weights(spec, w)[0], size, axes))
        )
        y = np.fft.irfftn(product, size, axes).astype(np.float32)
        kept: Any = (..., *(slice(0, (o - 1) * s + 1, s) for o, s in zip(spec.out_size, spec.stride, strict=True)))
        return y[kept]


@planted("WINO", real="pytorch/pytorch#35655")
class WinogradDeclaredDirect(Right):
    """Rows of three taps over several channels go through Winograd's F(2,3), in a backend that declares a direct sum."""

    declares: ClassVar[Mapping[str, Any]] = {"taint": "image"}

    def contract(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        last = spec.rank - 1
        a = spec.axes[last]
        fits = spec.op == "conv" and (a.m, a.s, a.d) == (3, 1, 1) and a.lo >= 0 and spec.channel_taps > 1
        if not fits or spec.acc_dtype != "f32":
            return super().contract(spec, x, w)
        d0, d1, d2, d3 = self.tile_inputs(spec, x)
        g0, g1, g2 = w[..., 0], w[..., 1], w[..., 2]
        half = np.float32(0.5)
        m = [
            self.rows(spec, d0 - d2, g0),
            self.rows(spec, d1 + d2, (g0 + g1 + g2) * half),
            self.rows(spec, d2 - d1, (g0 - g1 + g2) * half),
            self.rows(spec, d1 - d3, g2),
        ]
        y = np.stack([m[0] + m[1] + m[2], m[1] - m[2] - m[3]], -1)
        return y.reshape(*y.shape[:-2], 2 * y.shape[-2])[..., : spec.out_size[last]]

    def tile_inputs(self, spec: ConvSpec, x: np.ndarray) -> list[np.ndarray]:
        """What taps 0 to 3 of each pair of outputs read, (batch, channels, padded outer axes..., pairs)."""
        a = spec.axes[-1]
        pairs = -(-spec.out_size[-1] // 2)
        at = 2 * np.arange(pairs)[:, None] - a.lo + np.arange(4)
        source = np.where((at >= 0) & (at < a.n), at, self.beyond(spec, spec.rank - 1, np.minimum(at, a.n + a.hi - 1), a.n))
        x = np.pad(x, [(0, 0), (0, 0), *[(0, 1)] * spec.rank])
        return [x[..., source[:, k]] for k in range(4)]

    def rows(self, spec: ConvSpec, d: np.ndarray, g: np.ndarray) -> np.ndarray:
        """The sum over the outer taps and the channels: (batch, out channels, outer outputs..., pairs)."""
        tables = [self.sources(spec, axis) for axis in range(spec.rank - 1)]
        y: np.ndarray = np.zeros((), d.dtype)
        for tap in np.ndindex(*spec.kernel_size[:-1]):
            index: Any = np.ix_(*(t[:, k] for t, k in zip(tables, tap, strict=True)), np.arange(d.shape[-1]))
            view = d[(..., *index)]
            view = view.reshape(spec.batch, spec.groups, spec.channel_taps, *view.shape[2:])
            y = y + self.product(spec, view, g[at_tap(tap)])
        return y.reshape(spec.batch, spec.out_channels, *y.shape[3:])


class Winograd(WinogradDeclaredDirect):
    """F(2,3) along the last axis, in a backend that declares it."""

    declares: ClassVar[Mapping[str, Any]] = {
        "taint": "image",
        "algorithm": AlgorithmClass("winograd", 2, 3, (0.0, 1.0, -1.0)),
    }

    def fits(self, spec: ConvSpec) -> bool:
        """Whether `contract` goes the fast way; see there."""
        a = spec.axes[-1]
        return spec.op == "conv" and (a.m, a.s, a.d) == (3, 1, 1) and a.lo >= 0 and spec.channel_taps > 1


@planted("WINO", real="tinygrad/tinygrad#14294")
class WinogradTilesRoundedDown(Winograd):
    """The number of tiles is O/2 rounded down: the odd column at the end stays 0."""

    def contract(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        y = super().contract(spec, x, w)
        if self.fits(spec) and spec.acc_dtype == "f32" and spec.out_size[-1] % 2:
            y[..., -1] = 0
        return y


@planted("WINO")
class WinogradConstantsOfF43(Winograd):
    """The transformed kernel's middle rows are scaled by 1/6, as F(4,3) has it, where F(2,3) has 1/2."""

    def contract(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        y = super().contract(spec, x, w)
        if not self.fits(spec) or spec.acc_dtype != "f32":
            return y
        _, d1, d2, _ = self.tile_inputs(spec, x)
        wrong = np.float32(1 / 6 - 1 / 2)
        m1 = self.rows(spec, d1 + d2, (w[..., 0] + w[..., 1] + w[..., 2]) * wrong)
        m2 = self.rows(spec, d2 - d1, (w[..., 0] - w[..., 1] + w[..., 2]) * wrong)
        off = np.stack([m1 + m2, m1 - m2], -1)
        return y + off.reshape(*off.shape[:-2], 2 * off.shape[-2])[..., : spec.out_size[-1]]


@planted("WINO", real="ml-explore/mlx#4242", over=each("kept", "float16", "bfloat16"))
class WinogradTransformsIn(Winograd):
    """The transformed tiles are kept in {kept}."""

    kept = "float16"

    def rows(self, spec: ConvSpec, d: np.ndarray, g: np.ndarray) -> np.ndarray:
        short = np.float16 if self.kept == "float16" else ml_dtypes.bfloat16
        return super().rows(spec, d.astype(short).astype(d.dtype), g)


@planted("WINO")
class WinogradForStrideTwo(Winograd):
    """Stride 2 is taken by the fast way and every second output kept, beginning with the second."""

    def positions(self, spec: ConvSpec, axis: int) -> np.ndarray:
        at = super().positions(spec, axis)
        a = spec.axes[axis]
        return at + 1 if spec.op == "conv" and axis == spec.rank - 1 and (a.m, a.s, a.d) == (3, 2, 1) else at


@planted("WINO")
class FftTooShort(Right):
    """The transform is as long as the output, not as the padded input: the end of the row wraps into its beginning."""

    def sources(self, spec: ConvSpec, axis: int) -> np.ndarray:
        at = super().sources(spec, axis)
        a = spec.axes[axis]
        dense = spec.op == "conv" and (a.s, a.d) == (1, 1) and axis == spec.rank - 1 and spec.padding_mode == "zeros"
        if not dense or a.lo < 0:
            return at
        place = (np.arange(len(at))[:, None] + np.arange(a.m)) % len(at) - a.lo
        return np.where((place >= 0) & (place < a.n), place, NOWHERE)


@planted("WINO")
class ConjugateMissing(Right):
    """The kernel's spectrum is not conjugated: dense circular convolutions come out with the kernel reversed."""

    def weights(self, spec: ConvSpec, w: np.ndarray) -> np.ndarray:
        dense = spec.op == "conv" and spec.padding_mode == "circular" and {*spec.dilation, *spec.stride} == {1}
        return super().weights(spec, np.flip(w, tuple(range(2, 2 + spec.rank))) if dense else w)


@planted("DTYPE")
class UnsignedBytes(Right):
    """int8 is read as uint8."""

    def load(self, spec: ConvSpec, a: np.ndarray) -> np.ndarray:
        return super().load(spec, a.view(np.uint8) if spec.in_dtype == "i8" and not spec.is_pool else a)


@planted("DTYPE")
class UnsignedWeights(Right):
    """int8 weights are read as uint8, the input rightly."""

    def weights(self, spec: ConvSpec, w: np.ndarray) -> np.ndarray:
        return super().weights(spec, np.where(w < 0, w + 256, w) if spec.in_dtype == "i8" else w)


@planted("DTYPE", over=[{"given": "bf16", "as_if": "f16"}, {"given": "f16", "as_if": "bf16"}])
class HalfTypesMistaken(Right):
    """Bytes of {given} are read as {as_if}."""

    given, as_if = "bf16", "f16"

    def load(self, spec: ConvSpec, a: np.ndarray) -> np.ndarray:
        mistaken = spec.in_dtype == self.given and a.dtype == numpy_dtype(self.given)
        return super().load(spec, np.ascontiguousarray(a).view(numpy_dtype(self.as_if)) if mistaken else a)


@planted("DTYPE")
class BiasInTheInputType(Right):
    """The bias is rounded to the input's type before it is added."""

    def per_channel(self, spec: ConvSpec, b: np.ndarray) -> np.ndarray:
        return super().per_channel(spec, b.astype(numpy_dtype(spec.in_dtype)).astype(b.dtype))


@planted("DTYPE")
class BytesSymmetric(Right):
    """int8 operands are clipped to [-127, 127]."""

    def load(self, spec: ConvSpec, a: np.ndarray) -> np.ndarray:
        return np.maximum(super().load(spec, a), -127) if spec.in_dtype == "i8" else super().load(spec, a)


@planted("ISA")
class PairsSaturate(Right):
    """Sums of two int8 products saturate at 16 bits, as pmaddubsw does."""

    def product(self, spec: ConvSpec, view: np.ndarray, w: np.ndarray) -> np.ndarray:
        if spec.in_dtype != "i8":
            return super().product(spec, view, w)
        y: np.ndarray = np.zeros((), view.dtype)
        for c in range(0, view.shape[2], 2):
            y = y + np.clip(super().product(spec, view[:, :, c : c + 2], w[:, :, c : c + 2]), -(2**15), 2**15 - 1)
        return y


@planted("ISA", real="oneapi-src/oneDNN#5942")
class NoCompensationAtTheBorder(Right):
    """Bytes are offset by 128 to be unsigned, and the offset's sum taken off again over all taps, those on padding too."""

    def contract(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        y = super().contract(spec, x, w)
        if spec.in_dtype != "i8" or spec.op != "conv":
            return y
        ones = super().contract(spec, np.ones_like(x), w)
        taps = w.sum((*range(3, w.ndim),)).sum(2).reshape(-1, *(1,) * spec.rank)
        return y + 128 * (ones - taps)


@planted("ISA", over=each("bits", 16, 24))
class SumsKeepBits(Right):
    """A sum of int8 products is kept in a register of {bits} bits, wrapping at the end."""

    bits = 24

    def finish(self, spec: ConvSpec, y: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        if spec.in_dtype == "i8" and not spec.is_pool:
            half = 1 << (self.bits - 1)
            y = ((y.astype(np.int64) + half) % (2 * half) - half).astype(y.dtype)
        return super().finish(spec, y, b)


@planted("ISA")
class DotOfFourSaturates(Right):
    """A dot product of 4 channels of bytes saturates at 16 bits."""

    def product(self, spec: ConvSpec, view: np.ndarray, w: np.ndarray) -> np.ndarray:
        if spec.in_dtype != "i8":
            return super().product(spec, view, w)
        parts = [
            super(DotOfFourSaturates, self).product(spec, view[:, :, c : c + 4], w[:, :, c : c + 4])
            for c in range(0, view.shape[2], 4)
        ]
        return np.sum([np.clip(p, -(2**15), 2**15 - 1) for p in parts], 0, parts[0].dtype)


@planted("COMPILER")
class SumReassociatedInHalf(Right):
    """The compiler splits a sum of 8 products and more in two and keeps one half in float16."""

    def contract(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        y = super().contract(spec, x, w)
        if spec.acc_dtype != "f32" or spec.accumulation_length < 8:
            return y
        half = w.copy()
        half[..., : -(-w.shape[-1] // 2)] = 0
        part = super().contract(spec, x, half)
        return (y - part) + part.astype(np.float16).astype(y.dtype)


@planted("COMPILER", "nonfinite")
class FiniteMathOnly(Right):
    """The compiler is told that there are no NaN: the test for one in max_pool is folded away."""

    declares: ClassVar[Mapping[str, Any]] = {"nan_max_pool": "propagate"}

    def max_pool(self, spec: ConvSpec, x: np.ndarray, _: None) -> np.ndarray:
        best = np.full(spec.out_shape, self.lowest(spec), x.dtype)
        for _tap, view in self.views(spec, x, self.lowest(spec)):
            best = np.where(view > best, view, best)
        return best


@planted("COMPILER")
class DivisionByReciprocalEstimate(Right):
    """A mean is taken by a 12-bit estimate of the divisor's reciprocal."""

    def avg_pool(self, spec: ConvSpec, x: np.ndarray, _: None) -> np.ndarray:
        total: np.ndarray = sum((view for _, view in self.views(spec, x)), np.zeros((), x.dtype))
        m, e = np.frexp(1 / self.divisor(spec))
        return (total * np.ldexp(np.rint(m * 2**12), e - 12)).astype(total.dtype)
