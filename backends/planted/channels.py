"""Faults of channels, groups, samples, the kernel as a whole, and what is added at the end."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from backends.planted.fault import each, planted
from backends.planted.right import Right, View
from harness.spec import ConvSpec
from harness.spec.host import narrow


@planted("CHAN", real="openxla/xla#49123")
class EveryGroupReadsGroup0(Right):
    """The channel offset of a group is never added."""

    def grouped(self, spec: ConvSpec, view: np.ndarray) -> np.ndarray:
        return np.broadcast_to(super().grouped(spec, view)[:, :1], super().grouped(spec, view).shape)


@planted("CHAN", real="tracel-ai/burn#2286")
class GroupIsModulo(Right):
    """Output channel m belongs to group m % groups, where it is m // (M / groups)."""

    def product(self, spec: ConvSpec, view: np.ndarray, w: np.ndarray) -> np.ndarray:
        m = np.arange(spec.out_channels)
        rows = w.reshape(spec.out_channels, -1)
        y = [np.einsum("nc...,c->n...", view[:, i % spec.groups], rows[i]) for i in m]
        return np.stack(y, 1)


@planted("CHAN")
class WeightsInFirst(Right):
    """Weights are read as (in, out, ...), which shows only where the values do, for the sizes are equal."""

    def weights(self, spec: ConvSpec, w: np.ndarray) -> np.ndarray:
        square = spec.op == "conv" and spec.groups == 1 and w.shape[0] == w.shape[1]
        return super().weights(spec, np.ascontiguousarray(w.swapaxes(0, 1)) if square else w)


@planted("CHAN")
class BiasOfTheWrongGroup(Right):
    """Every group reads the first group's biases."""

    def per_channel(self, spec: ConvSpec, b: np.ndarray) -> np.ndarray:
        return super().per_channel(spec, b[np.arange(spec.out_channels) % (spec.out_channels // spec.groups)])


@planted("CHAN")
class SkipsZeroChannels(Right):
    """Input channels that are all zero are skipped, and those left are multiplied by the first weights."""

    def conv(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        live = np.flatnonzero(x.any((0, *range(2, x.ndim))))
        if spec.groups > 1 or len(live) in (0, spec.in_channels):
            return super().conv(spec, x, w)
        packed = np.zeros_like(x)
        packed[:, : len(live)] = x[:, live]
        return super().conv(spec, packed, w)


@planted("CHAN")
class GroupsReadBackwards(Right):
    """The groups of input channels are taken from the last to the first."""

    def grouped(self, spec: ConvSpec, view: np.ndarray) -> np.ndarray:
        return super().grouped(spec, view)[:, ::-1]


@planted("CHAN")
class EveryGroupUsesTheFirstFilters(Right):
    """Every group is filtered by the first group's weights."""

    def weights(self, spec: ConvSpec, w: np.ndarray) -> np.ndarray:
        w = super().weights(spec, w)
        return np.broadcast_to(w[:1], w.shape)


@planted("CHAN", real="pytorch/pytorch#172711")
class MultiplierOutermost(Right):
    """Output m of a depthwise kernel with a multiplier belongs to channel m % C, where it is m // multiplier."""

    def contract(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        y = super().contract(spec, x, w)
        c, m = spec.in_channels, spec.out_channels // spec.groups
        if spec.groups != c or m == 1 or spec.op != "conv":
            return y
        return y.reshape(spec.batch, c, m, *spec.out_size).swapaxes(1, 2).reshape(y.shape)


@planted("CHAN")
class ThreeChannelsReversed(Right):
    """An input of three channels is read as blue, green, red."""

    def conv(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        return super().conv(spec, x[:, ::-1] if spec.in_channels == 3 else x, w)


@planted("CHAN", over=each("by", -1, 1))
class ChannelMovedBy(Right):
    """The channels of a group are read {by} off, round the corner."""

    by = 1

    def grouped(self, spec: ConvSpec, view: np.ndarray) -> np.ndarray:
        view = super().grouped(spec, view)
        return np.roll(view, self.by, 2) if not spec.is_pool else view


@planted("CHAN")
class OutputChannelsInterleaved(Right):
    """The outputs of two groups are written in turn, where one group's follow the other's."""

    def finish(self, spec: ConvSpec, y: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        y = super().finish(spec, y, b)
        if spec.groups < 2 or spec.out_channels == spec.groups or spec.is_pool:
            return y
        return y.reshape(spec.batch, spec.groups, -1, *spec.out_size).swapaxes(1, 2).reshape(y.shape)


@planted("CHAN")
class LastChannelOfManyMissing(Right):
    """The loop over a group's channels ends one early from 4 on."""

    def grouped(self, spec: ConvSpec, view: np.ndarray) -> np.ndarray:
        view = super().grouped(spec, view)
        if spec.is_pool or spec.channel_taps < 4:
            return view
        view = view.copy()
        view[:, :, -1] = 0
        return view


@planted("CHAN")
class PoolReadsTheFirstChannel(Right):
    """The channel of a pool is not added to the address."""

    def views(self, spec: ConvSpec, x: np.ndarray, fill: float = 0) -> Iterator[View]:
        for tap, view in super().views(spec, x, fill):
            yield tap, np.repeat(view[:, :1], spec.in_channels, 1) if spec.is_pool else view


@planted("BATCH")
class FirstSampleForAll(Right):
    """Every item of a batch is the first one's result."""

    def finish(self, spec: ConvSpec, y: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        return super().finish(spec, np.repeat(y[:1], spec.batch, 0), b)


@planted("BATCH")
class SamplesReversed(Right):
    """The samples of a batch come out in the opposite order."""

    def finish(self, spec: ConvSpec, y: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        return np.ascontiguousarray(super().finish(spec, y, b)[::-1])


@planted("BATCH")
class SamplesAreSummed(Right):
    """The sum is not cleared between samples: each holds those before it too."""

    def contract(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        y = super().contract(spec, x, w)
        return np.cumsum(y, 0, dtype=y.dtype)


@planted("BATCH")
class SampleStrideOfOneGroup(Right):
    """Samples stand one group's channels apart in the input, not all channels."""

    def conv(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        if spec.groups == 1:
            return super().conv(spec, x, w)
        flat = x.reshape(spec.batch * spec.in_channels, *spec.in_size)
        at = np.arange(spec.batch)[:, None] * (spec.in_channels // spec.groups) + np.arange(spec.in_channels)
        return super().conv(spec, flat[at], w)


@planted("FLIP", real="opencv/opencv#5493")
class FlippedKernel(Right):
    """The kernel is reversed, convolution taken for correlation."""

    def weights(self, spec: ConvSpec, w: np.ndarray) -> np.ndarray:
        return super().weights(spec, np.flip(w, tuple(range(2, 2 + spec.rank))))


@planted("FLIP")
class FlipIgnored(Right):
    """`flip` is not read."""

    def weights(self, spec: ConvSpec, w: np.ndarray) -> np.ndarray:
        return super().weights(spec, np.flip(w, tuple(range(2, 2 + spec.rank))) if spec.flip else w)


@planted("FLIP", over=each("at", "first", "last"))
class FlipsOneAxisOnly(Right):
    """Of several axes `flip` reverses the {at} alone."""

    at = "last"

    def weights(self, spec: ConvSpec, w: np.ndarray) -> np.ndarray:
        if not spec.flip or spec.rank < 2:
            return super().weights(spec, w)
        kept = [a for a in range(spec.rank) if a != (0 if self.at == "first" else spec.rank - 1)]
        return super().weights(spec, np.flip(w, tuple(2 + a for a in kept)))


@planted("FLIP")
class FlipReversesChannels(Right):
    """`flip` reverses the input channels of the kernel too."""

    def weights(self, spec: ConvSpec, w: np.ndarray) -> np.ndarray:
        return super().weights(spec, np.flip(w, 1) if spec.flip and spec.op == "conv" else w)


@planted("FLIP")
class KernelTransposed(Right):
    """A square kernel's rows are taken for its columns."""

    def weights(self, spec: ConvSpec, w: np.ndarray) -> np.ndarray:
        square = spec.rank == 2 and spec.kernel_size[0] == spec.kernel_size[1]
        return super().weights(spec, np.swapaxes(w, 2, 3) if square else w)


@planted("FLIP")
class AsymmetricKernelFlipped(Right):
    """Kernels longer than 3 along the last axis are reversed along it."""

    def weights(self, spec: ConvSpec, w: np.ndarray) -> np.ndarray:
        return super().weights(spec, np.flip(w, -1) if spec.kernel_size[-1] > 3 and spec.op == "conv" else w)


@planted("EPILOGUE")
class BiasTwice(Right):
    """The bias is added by the kernel and by the epilogue."""

    def finish(self, spec: ConvSpec, y: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        return super().finish(spec, y, None if b is None else b + b)


@planted("EPILOGUE", real="pytorch/pytorch#18218")
class BiasIgnored(Right):
    """The bias is not read."""

    def finish(self, spec: ConvSpec, y: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        return super().finish(spec, y, None)


@planted("EPILOGUE")
class BiasAfterRounding(Right):
    """The sum is rounded to the output's type before the bias is added, and once more after."""

    def finish(self, spec: ConvSpec, y: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        return super().finish(spec, narrow(y, spec).astype(y.dtype), b)


@planted("EPILOGUE")
class ZeroInputGivesZero(Right):
    """An input of zeros is answered at once by zeros, the bias forgotten."""

    def __call__(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray | None, b: np.ndarray | None) -> np.ndarray:
        return super().__call__(spec, x, w, b if b is None or x.any() else np.zeros_like(b))


@planted("EPILOGUE")
class NegativeResultsAreZero(Right):
    """An activation that was not asked for is applied: negative results of a convolution are 0."""

    def finish(self, spec: ConvSpec, y: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        y = super().finish(spec, y, b)
        return y if spec.is_pool else np.maximum(y, y.dtype.type(0))


@planted("EPILOGUE")
class BiasOnTheFirstSample(Right):
    """The bias is added to the first sample alone."""

    def per_channel(self, spec: ConvSpec, b: np.ndarray) -> np.ndarray:
        first = (np.arange(spec.batch) == 0).reshape(-1, *(1,) * (spec.rank + 1))
        return super().per_channel(spec, b) * first


@planted("EPILOGUE")
class BiasSubtracted(Right):
    """The bias is subtracted."""

    def per_channel(self, spec: ConvSpec, b: np.ndarray) -> np.ndarray:
        return -super().per_channel(spec, b)


@planted("EPILOGUE")
class BiasOfTheNextChannel(Right):
    """The bias of the next channel is added, the last channel's own aside."""

    def per_channel(self, spec: ConvSpec, b: np.ndarray) -> np.ndarray:
        return super().per_channel(spec, np.append(b[1:], b[-1:]))


@planted("EPILOGUE")
class BiasAlongTheColumns(Right):
    """Where there are as many columns as channels the bias is added along the columns."""

    def per_channel(self, spec: ConvSpec, b: np.ndarray) -> np.ndarray:
        return b if spec.out_size[-1] == len(b) else super().per_channel(spec, b)
