"""Faults of pooling: windows, overhang, divisor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from backends.planted.fault import planted
from backends.planted.right import Right
from harness.spec import ConvSpec


@planted("CEIL", real="tensorflow/tensorflow#57128")
class CeilForFloor(Right):
    """The windows are laid out for a rounded-up output, from the high end: they start one element late."""

    def positions(self, spec: ConvSpec, axis: int) -> np.ndarray:
        a = spec.axes[axis]
        left_over = (a.n + a.lo + a.hi - a.extent) % a.s
        at = super().positions(spec, axis)
        return at + 1 if spec.op == "conv" and left_over else at


@planted("CEIL")
class OverhangIsZero(Right):
    """The last, partial windows of ceil_mode are allotted and not computed."""

    def finish(self, spec: ConvSpec, y: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        y = super().finish(spec, y, b)
        for axis, a in enumerate(spec.axes):
            if spec.ceil_mode and (spec.out_size[axis] - 1) * a.s + a.extent > a.n + a.lo + a.hi:
                np.moveaxis(y, 2 + axis, 0)[-1:] = 0
        return y


@planted("CEIL")
class OverhangReadsTheEdge(Right):
    """What lies beyond the high padding under ceil_mode repeats the last element."""

    def beyond(self, spec: ConvSpec, axis: int, at: np.ndarray, n: int) -> np.ndarray:
        found = super().beyond(spec, axis, at, n)
        return np.where(at >= n + spec.padding[axis][1], n - 1, found) if spec.ceil_mode else found


@planted("CEIL")
class OverhangMovedInside(Right):
    """A window of ceil_mode that hangs over is moved back until it fits."""

    def positions(self, spec: ConvSpec, axis: int) -> np.ndarray:
        at = super().positions(spec, axis)
        a = spec.axes[axis]
        return at - np.maximum(0, at[:, -1:] - (a.n + a.hi - 1)) if spec.ceil_mode else at


@planted("DIVISOR")
class AvgAlwaysDividesByK(Right):
    """The divisor is the window's size, at the border too."""

    def counted(self, spec: ConvSpec, axis: int) -> np.ndarray:
        return np.full(spec.out_size[axis], spec.kernel_size[axis])


@planted("DIVISOR", real="microsoft/onnxruntime#16203")
class OverhangCounted(Right):
    """Under ceil_mode the elements beyond the padding count in the divisor."""

    def counted(self, spec: ConvSpec, axis: int) -> np.ndarray:
        whole = np.full(spec.out_size[axis], spec.kernel_size[axis])
        return whole if spec.count_include_pad else super().counted(spec, axis)


@planted("DIVISOR")
class PaddingNeverCounted(Right):
    """count_include_pad is not read: padding is left out of the divisor."""

    def counted(self, spec: ConvSpec, axis: int) -> np.ndarray:
        at = self.positions(spec, axis)
        return ((at >= 0) & (at < spec.in_size[axis])).sum(1)


@planted("DIVISOR")
class PaddingAlwaysCounted(Right):
    """count_include_pad is not read: padding counts in the divisor."""

    def counted(self, spec: ConvSpec, axis: int) -> np.ndarray:
        at, a = self.positions(spec, axis), spec.axes[axis]
        return ((at >= -a.lo) & (at < a.n + a.hi)).sum(1)


@planted("DIVISOR")
class DivisorOfTheFirstOutput(Right):
    """The divisor is worked out for the first output and kept for all."""

    def counted(self, spec: ConvSpec, axis: int) -> np.ndarray:
        counts = super().counted(spec, axis)
        return np.full_like(counts, counts[0])


@planted("DIVISOR")
class LowSideCountsAsData(Right):
    """The divisor looks at the upper bound alone."""

    def counted(self, spec: ConvSpec, axis: int) -> np.ndarray:
        low = self.positions(spec, axis)
        return np.maximum(1, (low < spec.in_size[axis]).sum(1)) if not spec.count_include_pad else super().counted(spec, axis)


@planted("DIVISOR")
class SumForAMean(Right):
    """The mean of a window of at most 2 elements an axis is not divided."""

    def divisor(self, spec: ConvSpec) -> np.ndarray:
        whole = super().divisor(spec)
        return np.ones_like(whole) if max(spec.kernel_size) <= 2 else whole


@planted("NAN")
class MaxPadsWithZero(Right):
    """The padding of max_pool is zeros that take part in the maximum."""

    def max_pool(self, spec: ConvSpec, x: np.ndarray, _: None) -> np.ndarray:
        return np.stack([view for _, view in self.views(spec, x, 0)]).max(0)


@planted("NAN")
class MaxStartsFromZero(Right):
    """The running maximum starts from 0."""

    def max_pool(self, spec: ConvSpec, x: np.ndarray, _: None) -> np.ndarray:
        return np.maximum(super().max_pool(spec, x, _), 0).astype(x.dtype)


@planted("NAN", "nonfinite", real="pytorch/pytorch#157237")
class MaxSwallowsNan(Right):
    """max_pool is `acc > v ? acc : v`, which drops a NaN, and promises to propagate it."""

    declares: ClassVar[Mapping[str, Any]] = {"nan_max_pool": "propagate"}

    def max_pool(self, spec: ConvSpec, x: np.ndarray, _: None) -> np.ndarray:
        return np.fmax.reduce(np.stack([view for _, view in self.views(spec, x, self.lowest(spec))]))


@planted("NAN")
class MaxIsOfMagnitudes(Right):
    """The largest element is found by its absolute value."""

    def max_pool(self, spec: ConvSpec, x: np.ndarray, _: None) -> np.ndarray:
        views = np.stack([view for _, view in self.views(spec, x, self.lowest(spec))])
        size = np.where(views == self.lowest(spec), -1.0, np.abs(views.astype(np.float64)))
        return np.take_along_axis(views, size.argmax(0)[None], 0)[0]


@planted("NAN", "nonfinite", real="tensorflow/tensorflow#2501")
class MaxStartsFromLowestFinite(Right):
    """The running maximum starts from the lowest finite number, which an infinite window does not exceed."""

    def max_pool(self, spec: ConvSpec, x: np.ndarray, _: None) -> np.ndarray:
        y = super().max_pool(spec, x, _)
        return np.maximum(y, np.finfo(np.float32).min).astype(y.dtype) if spec.in_dtype == "f32" else y


@planted("NAN")
class MaxOfBytesStartsFromMinus127(Right):
    """The running maximum of int8 starts from -127."""

    def max_pool(self, spec: ConvSpec, x: np.ndarray, _: None) -> np.ndarray:
        y = super().max_pool(spec, x, _)
        return np.maximum(y, -127).astype(y.dtype) if spec.in_dtype == "i8" else y
