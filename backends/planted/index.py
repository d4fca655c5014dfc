"""Faults of indices: types too short, limits. The limits are small, so that small cases reach them."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from backends.planted.fault import each, planted
from backends.planted.right import NOWHERE, Right
from harness.spec import ConvSpec


@planted("IDXOVF", real="microsoft/onnxruntime#28976")
class IndicesInF16(Right):
    """Indices are computed in float16, which rounds them beyond 2048."""

    def positions(self, spec: ConvSpec, axis: int) -> np.ndarray:
        return super().positions(spec, axis).astype(np.float16).astype(int)


@planted("IDXOVF")
class SparseRunOverflows(Right):
    """Zero weights are stored as runs, whose length wraps at 16: what follows a longer run comes too early."""

    def weights(self, spec: ConvSpec, w: np.ndarray) -> np.ndarray:
        if spec.op != "conv":
            return super().weights(spec, w)
        packed = np.zeros_like(w)
        for row, into in zip(w.reshape(len(w), -1), packed.reshape(len(w), -1), strict=True):
            at = np.flatnonzero(row)
            runs = np.diff(at, prepend=-1) - 1
            into[np.cumsum(runs % 16 + 1) - 1] = row[at]
        return super().weights(spec, packed)


@planted("IDXOVF", over=each("bits", 6, 8, 10))
class RowOffsetKeepsLowBits(Right):
    """Row times pitch, the offset of an element in its plane, is kept in {bits} bits."""

    bits = 8

    def load(self, spec: ConvSpec, a: np.ndarray) -> np.ndarray:
        a = super().load(spec, a)
        if spec.rank < 2 or a.shape != spec.x_shape:
            return a
        flat = a.reshape(*a.shape[:2], -1)
        pitch = a.shape[-1]
        at = np.arange(flat.shape[-1])
        return flat[..., (at - at % pitch) % (1 << self.bits) % flat.shape[-1] // pitch * pitch + at % pitch].reshape(a.shape)


@planted("IDXOVF", over=each("limit", 64, 256, 1024))
class ZeroPastALimit(Right):
    """Elements of the output past the {limit}th are not computed and 0."""

    limit = 256

    def write(self, spec: ConvSpec, y: np.ndarray, out: np.ndarray) -> None:
        out[...] = y
        out.reshape(-1)[self.limit :] = 0


@planted("IDXOVF", real="pytorch/pytorch#96225", over=each("limit", 2, 3))
class BatchBelowALimit(Right):
    """A grid axis holds {limit} samples less one; those after them repeat the first."""

    limit = 2

    def finish(self, spec: ConvSpec, y: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        y = super().finish(spec, y, b)
        if spec.batch >= self.limit:
            y[self.limit - 1 :] = y[:1]
        return y


@planted("IDXOVF", over=each("bits", 2, 4, 6))
class ChannelIndexWraps(Right):
    """The index of an output channel is kept in {bits} bits."""

    bits = 4

    def weights(self, spec: ConvSpec, w: np.ndarray) -> np.ndarray:
        w = super().weights(spec, w)
        flat = w.reshape(-1, *w.shape[2:])
        return flat[np.arange(len(flat)) % (1 << self.bits)].reshape(w.shape)


@planted("IDXOVF", over=each("limit", 32, 128))
class FasterVariantPastALimit(Right):
    """Sums of more than {limit} products are left to a faster variant, which works in bfloat16."""

    limit = 128

    def load(self, spec: ConvSpec, a: np.ndarray) -> np.ndarray:
        a = super().load(spec, a)
        fast = spec.in_dtype == "f32" and not spec.is_pool and spec.accumulation_length > self.limit
        return a.astype(ml_dtypes.bfloat16).astype(a.dtype) if fast else a


@planted("IDXOVF")
class ColumnIndexIsSigned(Right):
    """Columns are counted in a signed 5-bit field: from the 16th on they are negative, and masked."""

    def sources(self, spec: ConvSpec, axis: int) -> np.ndarray:
        at = super().sources(spec, axis)
        return np.where(at >= 16, NOWHERE, at) if axis == spec.rank - 1 and spec.op == "conv" else at
