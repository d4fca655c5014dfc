"""Faults with NaN, infinities and subnormal numbers."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from backends.planted.fault import each, planted
from backends.planted.right import Right
from harness.spec import ConvSpec


@planted("NAN")
class SmallNumbersAreNoise(Right):
    """Inputs below 1e-8 count as zeros, to be skipped."""

    def load(self, spec: ConvSpec, a: np.ndarray) -> np.ndarray:
        a = super().load(spec, a)
        return np.where(np.abs(a) < 1e-8, 0, a).astype(a.dtype) if spec.in_type.is_float else a


@planted("NAN")
class FlushesSubnormals(Right):
    """Operands below the smallest normal number are 0, and the device says that it is gradual."""

    def load(self, spec: ConvSpec, a: np.ndarray) -> np.ndarray:
        a = super().load(spec, a)
        return np.where(np.abs(a) < spec.in_type.tiny, 0, a).astype(a.dtype) if spec.in_type.is_float else a


@planted("NAN", "nonfinite")
class ScalesToKeepSubnormals(Right):
    """Weights are scaled up by 2^12 and the sum is scaled back, so that nothing underflows."""

    def weights(self, spec: ConvSpec, w: np.ndarray) -> np.ndarray:
        return super().weights(spec, w * w.dtype.type(2**12) if spec.acc_dtype == "f32" else w)

    def finish(self, spec: ConvSpec, y: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        scaled = spec.acc_dtype == "f32" and not spec.is_pool
        return super().finish(spec, y * np.float32(2.0**-12) if scaled else y, b)


@planted("NAN", "nonfinite", real="tensorflow/tensorflow#2501")
class ClipsToFinite(Right):
    """float32 results are clipped to the largest finite number."""

    def finish(self, spec: ConvSpec, y: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        y = super().finish(spec, y, b)
        return np.clip(y, -np.finfo(y.dtype).max, np.finfo(y.dtype).max) if spec.dtypes == ("f32",) * 3 else y


@planted("NAN")
class FlushesResults(Right):
    """float32 results below 1.2e-38 are 0, and the device says that it is gradual."""

    def finish(self, spec: ConvSpec, y: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        y = super().finish(spec, y, b)
        return np.where(np.abs(y) < 1.1754944e-38, 0, y).astype(y.dtype) if spec.out_dtype == "f32" else y


@planted("NAN", "nonfinite")
class NanReadsAsZero(Right):
    """A NaN of the input is replaced by 0."""

    def load(self, spec: ConvSpec, a: np.ndarray) -> np.ndarray:
        a = super().load(spec, a)
        return np.where(np.isnan(a), 0, a).astype(a.dtype) if spec.in_type.is_float and not spec.is_pool else a


@planted("NAN", "nonfinite", over=each("of", "x", "w"))
class InfinityIsSplit(Right):
    """{of} is split into a bfloat16 part and the rest, which is NaN for an infinity."""

    of = "x"

    def conv(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        def joined(a: np.ndarray) -> np.ndarray:
            high = a.astype(ml_dtypes.bfloat16).astype(a.dtype)
            return np.where(np.isinf(a), high + (a - high), a)

        if spec.in_dtype != "f32":
            return super().conv(spec, x, w)
        return super().conv(spec, joined(x) if self.of == "x" else x, joined(w) if self.of == "w" else w)


@planted("NAN", "nonfinite")
class HalvesClipped(Right):
    """A float16 result beyond 65504 is 65504, where it is infinite."""

    def finish(self, spec: ConvSpec, y: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        y = super().finish(spec, y, b)
        return np.clip(y, -65504, 65504).astype(y.dtype) if spec.out_dtype == "f16" and not spec.is_pool else y


@planted("NAN", "nonfinite")
class SumStopsAtOverflow(Right):
    """An infinite partial sum of float32 is set to the largest finite number and goes on from there."""

    def add(self, spec: ConvSpec, y: np.ndarray, term: np.ndarray) -> np.ndarray:
        y = super().add(spec, y, term)
        top = np.finfo(np.float32).max
        return np.clip(y, -top, top) if spec.acc_dtype == "f32" else y


@planted("NAN", "nonfinite")
class OverflowBecomesNan(Right):
    """A float32 result whose magnitude exceeds 2^126 is computed as a difference of squares' roots, which overflow."""

    def finish(self, spec: ConvSpec, y: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        y = super().finish(spec, y, b)
        return np.sign(y) * np.sqrt(y * y) if spec.out_dtype == "f32" and bool((np.abs(y) > 2.0**126).any()) else y


@planted("NAN", "nonfinite", real="pytorch/pytorch#157237")
class MeanSkipsNan(Right):
    """avg_pool leaves NaN out of the sum."""

    def avg_pool(self, spec: ConvSpec, x: np.ndarray, _: None) -> np.ndarray:
        return super().avg_pool(spec, np.where(np.isnan(x), 0, x).astype(x.dtype), _)
