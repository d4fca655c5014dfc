"""Faults of stride and dilation: a parameter ignored, taken from another axis, or mixed up with another."""

from __future__ import annotations

from math import prod

import numpy as np

from backends.planted.fault import each, planted
from backends.planted.right import Right
from harness.spec import ConvSpec


@planted("STRDIL")
class StrideDilationSwapped(Right):
    """The stride of an axis is its dilation, and the dilation its stride."""

    def positions(self, spec: ConvSpec, axis: int) -> np.ndarray:
        a = spec.axes[axis]
        if spec.op == "conv_transpose":
            return super().positions(spec, axis)
        return np.arange(spec.out_size[axis])[:, None] * a.d - a.lo + np.arange(a.m) * a.s


@planted("STRDIL")
class DilationIgnored(Right):
    """Every kernel is taken for a dense one."""

    def positions(self, spec: ConvSpec, axis: int) -> np.ndarray:
        a = spec.axes[axis]
        return super().positions(spec, axis)[:, :1] + np.arange(a.m) if spec.op == "conv" else super().positions(spec, axis)


@planted("STRDIL")
class StrideOfTheFirstAxis(Right):
    """The stride of axis 0 is used for every axis."""

    def positions(self, spec: ConvSpec, axis: int) -> np.ndarray:
        o = np.arange(spec.out_size[axis])[:, None]
        shift = o * (spec.stride[0] - spec.stride[axis])
        return super().positions(spec, axis) + (0 if spec.op == "conv_transpose" else shift)


@planted("STRDIL", real="openvinotoolkit/openvino#11940")
class DilationOfTheFirstAxis(Right):
    """The dilation of axis 0 is used for every axis."""

    def positions(self, spec: ConvSpec, axis: int) -> np.ndarray:
        k = np.arange(spec.kernel_size[axis])
        shift = k * (spec.dilation[0] - spec.dilation[axis])
        return super().positions(spec, axis) + (0 if spec.op == "conv_transpose" else shift)


@planted("STRDIL", real="tensorflow/tensorflow#56498")
class DepthwiseIgnoresDilation(Right):
    """Only the depthwise kernel takes itself for dense."""

    def positions(self, spec: ConvSpec, axis: int) -> np.ndarray:
        a = spec.axes[axis]
        at = super().positions(spec, axis)
        return at[:, :1] + np.arange(a.m) if spec.op == "conv" and spec.groups == spec.in_channels > 1 else at


@planted("STRDIL")
class SeparablePathIgnoresDilation(Right):
    """Kernels of rank one go through a separable fast path, which has no dilation."""

    separable = False

    def conv(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        matrices = w.reshape(-1, *spec.kernel_size)
        self.separable = spec.rank == 2 and bool((np.linalg.matrix_rank(matrices.astype(np.float64)) <= 1).all())
        return super().conv(spec, x, w)

    def positions(self, spec: ConvSpec, axis: int) -> np.ndarray:
        at = super().positions(spec, axis)
        dense = self.separable and min(spec.kernel_size) > 1
        return at[:, :1] + np.arange(spec.kernel_size[axis]) if dense else at


@planted("STRDIL", over=each("at", "first", "last"))
class DilationIgnoredOnOneAxis(Right):
    """The {at} of several axes is taken for dense."""

    at = "last"

    def positions(self, spec: ConvSpec, axis: int) -> np.ndarray:
        at = super().positions(spec, axis)
        here = axis == (0 if self.at == "first" else spec.rank - 1) and spec.rank > 1
        return at[:, :1] + np.arange(at.shape[1]) if here and spec.op == "conv" else at


@planted("STRDIL", over=each("op", "conv", "max_pool", "avg_pool"))
class StrideIgnored(Right):
    """The windows of {op} begin at the first outputs' places, one after the other, whatever the stride."""

    op = "conv"

    def positions(self, spec: ConvSpec, axis: int) -> np.ndarray:
        at = super().positions(spec, axis)
        o = np.arange(spec.out_size[axis])[:, None]
        return at - o * (spec.stride[axis] - 1) if spec.op == self.op else at


@planted("STRDIL", over=each("op", "max_pool", "avg_pool"))
class PoolIgnoresDilation(Right):
    """The windows of {op} are taken for dense."""

    op = "max_pool"

    def positions(self, spec: ConvSpec, axis: int) -> np.ndarray:
        at = super().positions(spec, axis)
        return at[:, :1] + np.arange(at.shape[1]) if spec.op == self.op else at


@planted("STRDIL")
class SubsamplesFromTheSecond(Right):
    """A stride takes the second, not the first, of each so many outputs of the dense convolution."""

    def positions(self, spec: ConvSpec, axis: int) -> np.ndarray:
        at = super().positions(spec, axis)
        return at + 1 if spec.op == "conv" and spec.stride[axis] > 1 else at


@planted("STRDIL", real="pytorch/pytorch#25101")
class StrideThreeAsTwo(Right):
    """A stride of 3 under a kernel of 5 or more goes the way of stride 2."""

    def positions(self, spec: ConvSpec, axis: int) -> np.ndarray:
        at = super().positions(spec, axis)
        a = spec.axes[axis]
        wrong = spec.op == "conv" and a.s == 3 and a.m >= 5
        return at - np.arange(spec.out_size[axis])[:, None] if wrong else at


@planted("STRDIL")
class StridedDilatedDropsAnOutput(Right):
    """Where both stride and dilation exceed 1 the last output of the axis stays 0."""

    def contract(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        y = super().contract(spec, x, w)
        for axis, a in enumerate(spec.axes):
            if spec.op == "conv" and a.s > 1 and a.d > 1:
                np.moveaxis(y, 2 + axis, 0)[-1:] = 0
        return y


@planted("STRDIL")
class DilationScalesTheOrigin(Right):
    """The window's origin is multiplied by the dilation too."""

    def positions(self, spec: ConvSpec, axis: int) -> np.ndarray:
        at = super().positions(spec, axis)
        a = spec.axes[axis]
        o = np.arange(spec.out_size[axis])[:, None]
        return at + o * a.s * (a.d - 1) if spec.op == "conv" else at


@planted("STRDIL")
class DilationAboutTheCentre(Right):
    """A dilated kernel is spread about its centre, where it is spread from its first tap."""

    def positions(self, spec: ConvSpec, axis: int) -> np.ndarray:
        at = super().positions(spec, axis)
        a = spec.axes[axis]
        return at - (a.d - 1) * (a.m - 1) // 2 if spec.op == "conv" else at


@planted("STRDIL")
class DilationCountsHoles(Right):
    """A dilation above 1 is taken for the number of holes: the taps stand one element further apart."""

    def positions(self, spec: ConvSpec, axis: int) -> np.ndarray:
        at = super().positions(spec, axis)
        a = spec.axes[axis]
        return at + np.arange(a.m) if spec.op == "conv" and a.d > 1 else at


@planted("STRDIL", real="openvinotoolkit/openvino#11940")
class StridesExchanged(Right):
    """The strides of the first and the last axis are exchanged."""

    def positions(self, spec: ConvSpec, axis: int) -> np.ndarray:
        at = super().positions(spec, axis)
        other = spec.stride[spec.rank - 1 - axis]
        o = np.arange(spec.out_size[axis])[:, None]
        return at + o * (other - spec.stride[axis]) if spec.op == "conv" else at


@planted("STRDIL")
class PointwiseIgnoresStride(Right):
    """A kernel of one tap goes to a matrix product, which has no stride."""

    def positions(self, spec: ConvSpec, axis: int) -> np.ndarray:
        at = super().positions(spec, axis)
        o = np.arange(spec.out_size[axis])[:, None]
        return at - o * (spec.stride[axis] - 1) if spec.op == "conv" and prod(spec.kernel_size) == 1 else at


@planted("ANCHOR", over=[{"at": a, "by": b} for a in ("first", "last") for b in (-1, 1)])
class WindowMoved(Right):
    """Every window of several taps stands {by} element off along the {at} axis."""

    at, by = "last", 1

    def positions(self, spec: ConvSpec, axis: int) -> np.ndarray:
        at = super().positions(spec, axis)
        here = axis == (0 if self.at == "first" else spec.rank - 1) and spec.kernel_size[axis] > 1
        return at + self.by if here and spec.op == "conv" else at


@planted("ANCHOR", real="opencv/opencv#13375")
class AnchorOfEvenKernels(Right):
    """An even kernel that is padded stands one element late: its centre is K/2, where it is (K-1)/2."""

    def positions(self, spec: ConvSpec, axis: int) -> np.ndarray:
        at = super().positions(spec, axis)
        a = spec.axes[axis]
        return at + 1 if spec.op == "conv" and a.m % 2 == 0 and a.lo > 0 else at
