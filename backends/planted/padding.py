"""Faults at the border: zero padding, its masks, its two sides."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from backends.planted.fault import each, planted
from backends.planted.right import NOWHERE, Right, View
from harness.spec import ConvSpec
from harness.spec.host import narrow, numpy_dtype


@planted("HALO")
class FirstColumnMasked(Right):
    """The border mask says i > 0, where it says i >= 0."""

    def sources(self, spec: ConvSpec, axis: int) -> np.ndarray:
        at = super().sources(spec, axis)
        return np.where((at == 0) & any(spec.padding[axis]), NOWHERE, at)


@planted("HALO", real="opencv/opencv#13179")
class WindowInPaddingCopiesItsNeighbour(Right):
    """A window that lies wholly in the padding gives what the one before it gave."""

    def views(self, spec: ConvSpec, x: np.ndarray, fill: float = 0) -> Iterator[View]:
        table = self.sources(spec, spec.rank - 1)
        at = np.arange(len(table))
        for o in at[1:]:
            at[o] = at[o - 1] if (table[o] == NOWHERE).all() else o
        return ((tap, view[..., at]) for tap, view in super().views(spec, x, fill))


@planted("HALO")
class CropIgnored(Right):
    """Negative padding is taken for none."""

    def positions(self, spec: ConvSpec, axis: int) -> np.ndarray:
        return super().positions(spec, axis) + min(0, spec.axes[axis].lo)


@planted("HALO")
class LoneImpulseAtTheBorder(Right):
    """A long signal with one nonzero is answered by pasting the kernel, which a slice that starts below 0 loses."""

    def conv(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        y = super().conv(spec, x, w)
        long = spec.rank == 1 and x.size >= 2 * spec.axes[0].extent and spec.padding_mode == "zeros"
        return np.zeros_like(y) if long and np.count_nonzero(x) == 1 and x[0, 0, 0] else y


@planted("HALO")
class LastElementMasked(Right):
    """The border mask says i < n - 1, where it says i < n."""

    def sources(self, spec: ConvSpec, axis: int) -> np.ndarray:
        at = super().sources(spec, axis)
        return np.where((at == spec.in_size[axis] - 1) & any(spec.padding[axis]), NOWHERE, at)


@planted("HALO")
class MaskSkippedFromTheSixth(Right):
    """From the sixth output on the mask is left out: what lies beyond the axis is read round the corner."""

    def beyond(self, spec: ConvSpec, axis: int, at: np.ndarray, n: int) -> np.ndarray:
        found = super().beyond(spec, axis, at, n)
        late = np.arange(len(at))[:, None] >= 6
        return np.where(late, at % n, found) if spec.op == "conv" else found


@planted("HALO")
class OneReadTooMany(Right):
    """The upper bound says i <= n: one element of the next row is read."""

    def beyond(self, spec: ConvSpec, axis: int, at: np.ndarray, n: int) -> np.ndarray:
        found = super().beyond(spec, axis, at, n)
        return np.where(at == n, 0, found) if spec.padding_mode == "zeros" and spec.op == "conv" else found


@planted("HALO", over=each("at", "first", "last"))
class BoundNotTested(Right):
    """Padding along the {at} axis is not masked: what is read there lies on the other side."""

    at = "last"

    def beyond(self, spec: ConvSpec, axis: int, at: np.ndarray, n: int) -> np.ndarray:
        found = super().beyond(spec, axis, at, n)
        here = axis == (0 if self.at == "first" else spec.rank - 1)
        return at % n if here and spec.op == "conv" and spec.padding_mode == "zeros" else found


@planted("HALO", over=each("at", "first", "last"))
class LastOutputMissing(Right):
    """The loop over the {at} axis ends one early where the stride divides what is covered: the last output stays 0."""

    at = "last"

    def finish(self, spec: ConvSpec, y: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        y = super().finish(spec, y, b)
        axis = 0 if self.at == "first" else spec.rank - 1
        a = spec.axes[axis]
        if spec.op == "conv" and a.s > 1 and (a.n + a.lo + a.hi - a.extent) % a.s == 0:
            np.moveaxis(y, 2 + axis, 0)[-1:] = 0
        return y


@planted("HALO")
class OutputsBelowTheDilationZero(Right):
    """Outputs before the dilation's first whole step stay 0 where there is padding."""

    def contract(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        y = super().contract(spec, x, w)
        for axis, a in enumerate(spec.axes):
            if spec.op == "conv" and a.d > 1 and a.lo > 0:
                np.moveaxis(y, 2 + axis, 0)[: a.d] = 0
        return y


@planted("HALO")
class PaddingIsReplicated(Right):
    """Zero padding repeats the edge."""

    def beyond(self, spec: ConvSpec, axis: int, at: np.ndarray, n: int) -> np.ndarray:
        zeros = spec.padding_mode == "zeros" and spec.op == "conv"
        return np.clip(at, 0, n - 1) if zeros else super().beyond(spec, axis, at, n)


@planted("HALO", over=each("fill", 1, -128))
class PadsBytesWith(Right):
    """Padding of int8 reads {fill}, a zero point that the specification does not have."""

    fill = 0

    def views(self, spec: ConvSpec, x: np.ndarray, fill: float = 0) -> Iterator[View]:
        return super().views(spec, x, self.fill if spec.in_dtype == "i8" and spec.op == "conv" else fill)


@planted("HALO")
class BorderWithoutBias(Right):
    """The path for windows that touch the padding adds no bias."""

    def finish(self, spec: ConvSpec, y: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        if b is None or spec.op != "conv":
            return super().finish(spec, y, b)
        inside: np.ndarray = np.ones((), bool)
        for axis in range(spec.rank):
            at = self.positions(spec, axis)
            inside = inside[..., None] & ((at >= 0) & (at < spec.in_size[axis])).all(1)
        return narrow(y + self.per_channel(spec, b) * inside, spec).astype(numpy_dtype(spec.out_dtype))


@planted("HALO", over=each("tile", 4, 8, 16))
class HaloOfATileMissing(Right):
    """Outputs go in tiles of {tile} columns, whose input is loaded without what the next tile's windows share."""

    tile = 8

    def sources(self, spec: ConvSpec, axis: int) -> np.ndarray:
        at = super().sources(spec, axis)
        a = spec.axes[axis]
        if spec.op != "conv" or axis != spec.rank - 1:
            return at
        o = np.arange(len(at))[:, None]
        end = (o // self.tile + 1) * self.tile * a.s - a.lo  # where the next tile's first window begins
        last = o // self.tile == (len(at) - 1) // self.tile
        return np.where((self.positions(spec, axis) >= end) & ~last, NOWHERE, at)


@planted("HALO")
class CornersOfPaddingRead(Right):
    """An element counts as padding only where it is outside along every axis: beyond one edge the edge is repeated."""

    def views(self, spec: ConvSpec, x: np.ndarray, fill: float = 0) -> Iterator[View]:
        if spec.op != "conv" or spec.padding_mode != "zeros" or spec.rank < 2:
            yield from super().views(spec, x, fill)
            return
        at = [self.positions(spec, axis) for axis in range(spec.rank)]
        clipped = [np.clip(a, 0, n - 1) for a, n in zip(at, spec.in_size, strict=True)]
        for tap, view in self.taken(x, clipped, ()):
            outside: np.ndarray = np.ones((), bool)
            for axis, k in enumerate(tap):
                here = at[axis][:, k]
                outside = outside[..., None] & ((here < 0) | (here >= spec.in_size[axis]))
            yield tap, np.where(outside, 0, view)


@planted("PADASYM")
class PadsSwapped(Right):
    """The low and the high padding of an axis are exchanged."""

    def positions(self, spec: ConvSpec, axis: int) -> np.ndarray:
        a = spec.axes[axis]
        return super().positions(spec, axis) + (a.lo - a.hi) * (1 if spec.op != "conv_transpose" else 0)


@planted("PADASYM", real="ml-explore/mlx#2038")
class PadsMadeSymmetric(Right):
    """Both sides of an axis are padded by the larger amount, and the outputs counted from there."""

    def positions(self, spec: ConvSpec, axis: int) -> np.ndarray:
        a = spec.axes[axis]
        return super().positions(spec, axis) - (max(0, a.hi - a.lo) if spec.op == "conv" and a.lo >= 0 else 0)


@planted("PADASYM", real="microsoft/onnxruntime#26708")
class PadsInterleaved(Right):
    """Padding listed (low, low, high, high) is read as (low, high) an axis."""

    def positions(self, spec: ConvSpec, axis: int) -> np.ndarray:
        listed = [*(lo for lo, _ in spec.padding), *(hi for _, hi in spec.padding)]
        shift = spec.axes[axis].lo - listed[2 * axis]
        return super().positions(spec, axis) + (0 if spec.op == "conv_transpose" or spec.is_pool else shift)


class MovedBy(Right):
    """Windows of a convolution moved by what a wrong low padding makes of the right one."""

    def low(self, spec: ConvSpec, axis: int) -> int:
        """The low padding that is used."""
        return spec.padding[axis][0]

    def positions(self, spec: ConvSpec, axis: int) -> np.ndarray:
        at = super().positions(spec, axis)
        return at + spec.padding[axis][0] - self.low(spec, axis) if spec.op == "conv" else at


@planted("PADASYM", over=each("at", "first", "last"))
class PadsSwappedOnOneAxis(MovedBy):
    """The low and the high padding of the {at} of several axes are exchanged."""

    at = "last"

    def low(self, spec: ConvSpec, axis: int) -> int:
        """The other side's."""
        here = spec.rank > 1 and axis == (0 if self.at == "first" else spec.rank - 1)
        return spec.padding[axis][1 if here else 0]


@planted("PADASYM")
class PadsOfTheFirstAxis(MovedBy):
    """The padding of axis 0 is used for every axis."""

    def low(self, spec: ConvSpec, axis: int) -> int:
        """Of axis 0."""
        return spec.padding[0][0]


@planted("PADASYM")
class PadsLastAxisFirst(MovedBy):
    """Padding listed from the last axis to the first is read from the first to the last."""

    def low(self, spec: ConvSpec, axis: int) -> int:
        """Of the axis counted from the other end."""
        return spec.padding[spec.rank - 1 - axis][0]


@planted("PADASYM")
class PadsOfTheSmallerSide(MovedBy):
    """Both sides of an axis are padded by the smaller amount."""

    def low(self, spec: ConvSpec, axis: int) -> int:
        """The smaller one."""
        return min(spec.padding[axis])


@planted("PADASYM", real="ROCm/MIOpen#179")
class PadsMovedByOne(MovedBy):
    """Unequal paddings (low, high) are read as (low + 1, high - 1)."""

    def low(self, spec: ConvSpec, axis: int) -> int:
        """One more, where the sides differ."""
        lo, hi = spec.padding[axis]
        return lo + (lo != hi)


@planted("PADASYM")
class HighPadMeansLow(MovedBy):
    """Where only the high side is padded, its amount is put on the low side."""

    def low(self, spec: ConvSpec, axis: int) -> int:
        """The high side's, where the low one is 0."""
        lo, hi = spec.padding[axis]
        return lo or hi


@planted("PADASYM")
class PoolPadsSwapped(Right):
    """The low and the high padding of a pool are exchanged."""

    def positions(self, spec: ConvSpec, axis: int) -> np.ndarray:
        lo, hi = spec.padding[axis]
        return super().positions(spec, axis) + (lo - hi if spec.is_pool else 0)
