"""Faults of transposed convolution, and of the size of an output."""

from __future__ import annotations

import numpy as np

from backends.planted.fault import each, planted
from backends.planted.right import NOWHERE, Right
from harness.spec import ConvSpec


@planted("TRANSP", real="apache/tvm#5758")
class OutputPaddingIsZero(Right):
    """The rows that output padding adds are 0 (plus the bias) instead of computed."""

    def contract(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        y = super().contract(spec, x, w)
        for axis, extra in enumerate(spec.output_padding):
            if extra:
                np.moveaxis(y, 2 + axis, 0)[-extra:] = 0
        return y


@planted("TRANSP", real="alibaba/MNN#951")
class TransposedWeightsOutFirst(Right):
    """Weights of a transposed group are read as (out/groups, in), where they lie (in, out/groups)."""

    def weights(self, spec: ConvSpec, w: np.ndarray) -> np.ndarray:
        if spec.op == "conv_transpose":
            w = np.ascontiguousarray(w).reshape(w.shape[1], w.shape[0], *w.shape[2:]).swapaxes(0, 1)
        return super().weights(spec, np.ascontiguousarray(w))


class Transposed(Right):
    """A fault in where the taps of a transposed convolution land: `landing` replaces `positions`."""

    def landing(self, spec: ConvSpec, axis: int) -> np.ndarray:
        """(outputs, taps): the input element that is read, or NOWHERE."""
        return super().positions(spec, axis)

    def positions(self, spec: ConvSpec, axis: int) -> np.ndarray:
        return self.landing(spec, axis) if spec.op == "conv_transpose" else super().positions(spec, axis)

    def stamped(self, spec: ConvSpec, axis: int, **wrong: int) -> np.ndarray:
        """The right table with some of s, d, lo replaced."""
        a = spec.axes[axis]
        s, d, lo = (wrong.get(k, getattr(a, k)) for k in ("s", "d", "lo"))
        o, k = np.arange(spec.out_size[axis])[:, None], np.arange(a.m)
        i, phase = np.divmod(o + lo - k * d, s)
        return np.where(phase == 0, i, NOWHERE)


@planted("TRANSP")
class PaddingAddedToTheInput(Transposed):
    """Padding is added in front of the input, where it takes outputs away."""

    def landing(self, spec: ConvSpec, axis: int) -> np.ndarray:
        """The sign of lo reversed."""
        return self.stamped(spec, axis, lo=-spec.padding[axis][0])


@planted("TRANSP", real="microsoft/onnxruntime#14208")
class TransposedPadsSwapped(Transposed):
    """The low and the high padding of a transposed convolution are exchanged."""

    def landing(self, spec: ConvSpec, axis: int) -> np.ndarray:
        """With hi for lo."""
        return self.stamped(spec, axis, lo=spec.padding[axis][1])


@planted("TRANSP", real="microsoft/onnxruntime#2518")
class OutputPaddingInFront(Transposed):
    """Output padding is put at the low end."""

    def landing(self, spec: ConvSpec, axis: int) -> np.ndarray:
        """Everything later by the output padding."""
        return self.stamped(spec, axis, lo=spec.padding[axis][0] - spec.output_padding[axis])


@planted("TRANSP")
class TransposedIgnoresDilation(Transposed):
    """A transposed kernel is taken for a dense one."""

    def landing(self, spec: ConvSpec, axis: int) -> np.ndarray:
        """With d = 1."""
        return self.stamped(spec, axis, d=1)


@planted("TRANSP", over=each("what", "stride", "dilation"))
class TransposedTakesTheFirstAxis(Transposed):
    """The {what} of axis 0 is used for every axis of a transposed convolution."""

    what = "stride"

    def landing(self, spec: ConvSpec, axis: int) -> np.ndarray:
        """With axis 0's."""
        return self.stamped(spec, axis, **({"s": spec.stride[0]} if self.what == "stride" else {"d": spec.dilation[0]}))


@planted("TRANSP")
class PhaseNotTested(Transposed):
    """Inputs between the stamps are read too: the remainder of the division by the stride is not looked at."""

    def landing(self, spec: ConvSpec, axis: int) -> np.ndarray:
        """Every phase, rounded down."""
        a = spec.axes[axis]
        return (np.arange(spec.out_size[axis])[:, None] + a.lo - np.arange(a.m) * a.d) // a.s


@planted("TRANSP")
class LastInputNotStamped(Transposed):
    """The last input element of an axis is not stamped."""

    def landing(self, spec: ConvSpec, axis: int) -> np.ndarray:
        """Without n - 1."""
        at = self.stamped(spec, axis)
        return np.where(at == spec.in_size[axis] - 1, NOWHERE, at) if spec.in_size[axis] > 1 else at


@planted("TRANSP", real="apache/tvm#19524")
class DilatedExtentTooShort(Transposed):
    """The size is worked out with K + d - 1 for the extent: what lies beyond stays 0."""

    def landing(self, spec: ConvSpec, axis: int) -> np.ndarray:
        """Nothing beyond the short size."""
        a = spec.axes[axis]
        short = (a.n - 1) * a.s - a.lo - a.hi + a.m + a.d - 1 + a.op
        return np.where(np.arange(spec.out_size[axis])[:, None] < short, self.stamped(spec, axis), NOWHERE)


@planted("TRANSP")
class TransposedIsFlipped(Right):
    """A transposed convolution is done as a convolution of the spread input, its kernel not reversed for it."""

    def conv_transpose(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        return super().conv_transpose(spec, x, np.flip(w, tuple(range(2, 2 + spec.rank))))


@planted("TRANSP")
class TransposedGroupsReadGroup0(Right):
    """Every group of a transposed convolution reads the first group's channels."""

    def grouped(self, spec: ConvSpec, view: np.ndarray) -> np.ndarray:
        view = super().grouped(spec, view)
        return np.broadcast_to(view[:, :1], view.shape) if spec.op == "conv_transpose" else view


@planted("TRANSP")
class TransposedBiasOfGroup0(Right):
    """Every group of a transposed convolution adds the first group's biases."""

    def per_channel(self, spec: ConvSpec, b: np.ndarray) -> np.ndarray:
        of_group = np.arange(spec.out_channels) % (spec.out_channels // spec.groups)
        return super().per_channel(spec, b[of_group] if spec.op == "conv_transpose" else b)


@planted("TRANSP")
class StrideBeyondTheKernelOverlaps(Transposed):
    """A stride above the kernel's extent is cut down to it: the gaps between stamps vanish."""

    def landing(self, spec: ConvSpec, axis: int) -> np.ndarray:
        """With the smaller stride."""
        a = spec.axes[axis]
        return self.stamped(spec, axis, s=min(a.s, a.extent))
