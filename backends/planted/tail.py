"""Faults in what is left over: vector and tile remainders, channel packing."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from backends.planted.fault import each, planted
from backends.planted.right import Right, View
from harness.spec import ConvSpec


@planted("TAIL", real="pytorch/pytorch#21597", over=each("width", 4, 8, 16))
class ChannelTailZero(Right):
    """Channels beyond the last whole block of 8 stay 0 where there is a whole block."""

    def finish(self, spec: ConvSpec, y: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        y = super().finish(spec, y, b)
        if spec.out_channels > 8:
            y[:, spec.out_channels // 8 * 8 :] = 0
        return y


@planted("TAIL", real="Tencent/TNN#394", over=each("width", 2, 4, 8))
class LastColumnZeroInTheTail(Right):
    """The last column stays 0 where the width is no multiple of 8."""

    def finish(self, spec: ConvSpec, y: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        y = super().finish(spec, y, b)
        if spec.out_size[-1] % 8:
            y[..., -1] = 0
        return y


@planted("TAIL", over=each("width", 4, 8))
class TailStartsAtTheVectorCount(Right):
    """The scalar tail of a row begins at element nvec, where it begins at nvec * 8."""

    def views(self, spec: ConvSpec, x: np.ndarray, fill: float = 0) -> Iterator[View]:
        width = spec.out_size[-1]
        at = np.arange(width)
        whole = width // 8
        if whole and width % 8:
            at[whole * 8 :] = whole + np.arange(width - whole * 8)
        return ((tap, view[..., at]) for tap, view in super().views(spec, x, fill))


@planted("TAIL")
class LastRowDropped(Right):
    """The last row stays 0 where the plane leaves one element over a vector of 4."""

    def finish(self, spec: ConvSpec, y: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        y = super().finish(spec, y, b)
        if spec.rank > 1 and prod(spec.out_size) % 4 == 1:
            y[..., -1, :] = 0
        return y


@planted("TAIL", real="pytorch/pytorch#21597", over=each("width", 2, 4, 8))
class InputChannelTailDropped(Right):
    """Input channels beyond the last whole block of {width} are not summed where there is a whole block."""

    width = 8

    def grouped(self, spec: ConvSpec, view: np.ndarray) -> np.ndarray:
        view = super().grouped(spec, view).copy()
        if not spec.is_pool and spec.channel_taps > self.width:
            view[:, :, spec.channel_taps // self.width * self.width :] = 0
        return view


@planted("TAIL", over=each("width", 1, 2, 4))
class UnpairedSliceTwice(Right):
    """Slices of {width} input channels are summed in pairs; where their number is odd the last is its own partner."""

    width = 1

    def grouped(self, spec: ConvSpec, view: np.ndarray) -> np.ndarray:
        view = super().grouped(spec, view)
        slices = spec.channel_taps // self.width
        if slices % 2 and slices > 1 and slices * self.width == spec.channel_taps:
            view = view.copy()
            view[:, :, -self.width :] *= 2
        return view


@planted("TAIL", real="Tencent/TNN#394", over=each("tile", 1, 2))
class TilesBeyondHalfABlock(Right):
    """Tiles of {tile} columns go in blocks of 8; where more than 4 are left over, the fifth and those after it stay 0."""

    tile = 1

    def contract(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        y = super().contract(spec, x, w)
        tiles = -(-spec.out_size[-1] // self.tile)
        if tiles % 8 > 4:
            y[..., (tiles // 8 * 8 + 4) * self.tile :] = 0
        return y


@planted("TAIL", over=each("width", 4, 8))
class OverlappingVectorAddsTwice(Right):
    """The last vector of {width} columns is moved back to end at the border, and adds where one has been added."""

    width = 8

    def contract(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        y = super().contract(spec, x, w)
        columns = spec.out_size[-1]
        if columns > self.width and columns % self.width:
            y[..., columns - self.width : columns // self.width * self.width] *= 2
        return y


@planted("TAIL", over=each("unroll", 2, 4))
class TapsBeyondTheUnrollDropped(Right):
    """The row of taps is unrolled by {unroll}; what is left over is not summed."""

    unroll = 2

    def contract(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        taps = spec.kernel_size[-1]
        if taps > self.unroll:
            w = w.copy()
            w[..., taps // self.unroll * self.unroll :] = 0
        return super().contract(spec, x, w)


@planted("TAIL", over=each("unroll", 2, 4))
class RowsBeyondTheUnrollRepeat(Right):
    """Rows are made {unroll} at a time; those left over repeat the last whole block's last one."""

    unroll = 2

    def finish(self, spec: ConvSpec, y: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        y = super().finish(spec, y, b)
        rows = spec.out_size[0]
        whole = rows // self.unroll * self.unroll
        if spec.rank > 1 and whole and rows > whole:
            y[:, :, whole:] = y[:, :, whole - 1 : whole]
        return y


@planted("TAIL")
class StridedPathStopsAtSixteenChannels(Right):
    """The path for strides over more than 16 input channels and narrow rows sums the first 16 of them."""

    def grouped(self, spec: ConvSpec, view: np.ndarray) -> np.ndarray:
        view = super().grouped(spec, view)
        if max(spec.stride) > 1 and spec.channel_taps > 16 and spec.in_size[-1] < 17:
            view = view.copy()
            view[:, :, 16:] = 0
        return view


@planted("TAIL", real="pytorch/pytorch#21597")
class OddChannelsOfAGroup(Right):
    """Channels of a group are taken in twos; an odd one at the end is left out of every group but the last."""

    def grouped(self, spec: ConvSpec, view: np.ndarray) -> np.ndarray:
        view = super().grouped(spec, view)
        if spec.groups > 1 and spec.channel_taps % 2 and spec.channel_taps > 1:
            view = view.copy()
            view[:, :-1, -1] = 0
        return view


@planted("TAIL", over=each("width", 4, 8))
class DepthwiseTailRepeatsFilters(Right):
    """Depthwise channels go in blocks of {width}; those left over are filtered by the first block's filters."""

    width = 4

    def weights(self, spec: ConvSpec, w: np.ndarray) -> np.ndarray:
        w = super().weights(spec, w)
        if spec.groups == spec.in_channels > self.width:
            whole = spec.groups // self.width * self.width
            w = w[[*range(whole), *range(spec.groups - whole)]]
        return w


@planted("TAIL")
class OddSampleDropped(Right):
    """Samples go in pairs; an odd one at the end of a batch stays 0."""

    def finish(self, spec: ConvSpec, y: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        y = super().finish(spec, y, b)
        if spec.batch > 1 and spec.batch % 2:
            y[-1] = 0
        return y


@planted("TAIL")
class LastBlockOfOutputChannelsRepeats(Right):
    """Output channels go in blocks of 4; the last, incomplete block is filled from its first channel."""

    def finish(self, spec: ConvSpec, y: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        y = super().finish(spec, y, b)
        m = spec.out_channels
        if not spec.is_pool and m > 4 and m % 4:
            y[:, m // 4 * 4 :] = y[:, m // 4 * 4 : m // 4 * 4 + 1]
        return y
