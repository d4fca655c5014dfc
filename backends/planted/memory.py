"""Faults of memory: what is not written, written beside, read beside, or read in the wrong order."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from backends.planted.fault import each, planted
from backends.planted.right import Right, View
from harness.spec import ConvSpec


@planted("UNINIT", "contract", real="Tencent/ncnn#315")
class LastColumnNotWritten(Right):
    """The last column of the output is never written."""

    def write(self, spec: ConvSpec, y: np.ndarray, out: np.ndarray) -> None:
        out[..., :-1] = y[..., :-1]


@planted("UNINIT", "contract")
class CornerNotWritten(Right):
    """The last element of the last channel is never written."""

    def write(self, spec: ConvSpec, y: np.ndarray, out: np.ndarray) -> None:
        out.reshape(-1)[:-1] = y.reshape(-1)[:-1]


@planted("UNINIT", "contract", real="pytorch/pytorch#59439")
class AccumulatesIntoOut(Right):
    """Without a bias the sum starts from whatever the output holds."""

    def write(self, spec: ConvSpec, y: np.ndarray, out: np.ndarray) -> None:
        out[...] = y if spec.bias else y + out


@planted("UNINIT", "contract")
class WritesPastOut(Right):
    """A vector store writes one element past the end of the output."""

    def write(self, spec: ConvSpec, y: np.ndarray, out: np.ndarray) -> None:
        past = np.lib.stride_tricks.as_strided(out, (out.size + 1,), (out.itemsize,))
        past[:-1], past[-1] = y.reshape(-1), 0


@planted("UNINIT", "nonfinite", real="opencv/opencv#23151")
class ReadsPastTheInput(Right):
    """The last element is computed from one element past the input too, multiplied by 0."""

    def write(self, spec: ConvSpec, y: np.ndarray, out: np.ndarray) -> None:
        super().write(spec, y, out)
        if y.size and spec.in_type.is_float:
            out.reshape(-1)[-1] += self.past * 0

    def __call__(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray | None, b: np.ndarray | None) -> np.ndarray:
        self.past = np.lib.stride_tricks.as_strided(x, (x.size + 1,), (x.itemsize,))[-1] if x.size else 0
        return super().__call__(spec, x, w, b)


@planted("UNINIT", "nonfinite")
class ReadsOneTapMore(Right):
    """Rows of taps are read up to a whole vector, the surplus multiplied by 0."""

    def views(self, spec: ConvSpec, x: np.ndarray, fill: float = 0) -> Iterator[View]:
        for tap, view in super().views(spec, x, fill):
            yield tap, view
        if not spec.is_pool:
            yield tap, 0 * np.roll(view, 1, -1)


@planted("UNINIT", "nonfinite", real="opencv/opencv#23151")
class MaxReadsPastTheInput(Right):
    """The last window takes in the element past the input; a NaN there would be dropped."""

    def __call__(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray | None, b: np.ndarray | None) -> np.ndarray:
        y = super().__call__(spec, x, w, b)
        if spec.op == "max_pool" and spec.in_type.is_float and x.size:
            past = np.lib.stride_tricks.as_strided(x, (x.size + 1,), (x.itemsize,))[-1]
            y.reshape(-1)[-1] = np.fmax(y.reshape(-1)[-1], past)
        return y


@planted("UNINIT", real="pytorch/pytorch#59439")
class FlagNeverCleared(Right):
    """The output serves as scratch; a flag in it, which nobody clears, chooses a path that rounds to float16."""

    def write(self, spec: ConvSpec, y: np.ndarray, out: np.ndarray) -> None:
        if spec.out_dtype in ("f32", "f64") and out.size and out.reshape(-1).view(np.uint8)[0] & 0x80:
            y = y.astype(np.float16)
        out[...] = y


def beside(a: np.ndarray, place: int) -> np.ndarray:
    """The element `place` elements from the first of `a`, which may lie outside: an array of one."""
    address = a.__array_interface__["data"][0] + place * a.itemsize
    held: Any = (ctypes.c_char * a.itemsize).from_address(address)
    return np.frombuffer(held, a.dtype)


@planted("UNINIT", "contract")
class WritesBeforeOut(Right):
    """A store aligned downwards writes the element before the output."""

    def write(self, spec: ConvSpec, y: np.ndarray, out: np.ndarray) -> None:
        out[...] = y
        if out.size:
            beside(out, -1)[:] = 0


@planted("UNINIT", "contract")
class LastSampleNotWritten(Right):
    """The last of several samples is never written."""

    def write(self, spec: ConvSpec, y: np.ndarray, out: np.ndarray) -> None:
        kept = max(1, spec.batch - 1)
        out[:kept] = y[:kept]


@planted("UNINIT", "contract")
class ZerosNotStored(Right):
    """Zeros are not stored: the output is taken for cleared."""

    def write(self, spec: ConvSpec, y: np.ndarray, out: np.ndarray) -> None:
        np.copyto(out, y, where=y != 0)


@planted("UNINIT", "contract", real="tracel-ai/burn#5626")
class OddRowsNotWritten(Right):
    """Rows are written in pairs, and an odd one at the end is never written."""

    def write(self, spec: ConvSpec, y: np.ndarray, out: np.ndarray) -> None:
        rows = spec.out_size[0]
        kept = rows - rows % 2 if rows > 1 else rows
        out[:, :, :kept] = y[:, :, :kept]


@planted("UNINIT", "nonfinite", real="opencv/opencv#23151", over=each("of", "x", "w", "b"))
class ReadsBefore(Right):
    """The element before {of} is read and multiplied by 0."""

    of = "x"

    def __call__(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray | None, b: np.ndarray | None) -> np.ndarray:
        y = super().__call__(spec, x, w, b)
        a = {"x": x, "w": w, "b": b}[self.of]
        if a is not None and a.size and y.size and spec.in_type.is_float:
            y.reshape(-1)[0] += (beside(a, -1) * a.dtype.type(0)).astype(y.dtype)[0]
        return y


@planted("UNINIT", "nonfinite", over=each("of", "w", "b"))
class ReadsPast(Right):
    """The element past {of} is read and multiplied by 0."""

    of = "w"

    def __call__(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray | None, b: np.ndarray | None) -> np.ndarray:
        y = super().__call__(spec, x, w, b)
        a = {"w": w, "b": b}[self.of]
        if a is not None and a.size and y.size and spec.in_type.is_float:
            y.reshape(-1)[-1] += (beside(a, a.size) * a.dtype.type(0)).astype(y.dtype)[0]
        return y


@planted("UNINIT")
class ScratchNotCleared(Right):
    """Without a bias the sum of a convolution of bytes starts from what the call before has left."""

    left: np.ndarray | None = None

    def contract(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        y = super().contract(spec, x, w)
        before, self.left = self.left, y
        return y if before is None or spec.bias or spec.in_dtype != "i8" else y + before


@planted("ALIAS", "contract", real="pytorch/pytorch#62926")
class InputModifiedInPlace(Right):
    """The input is negated in place, used, and left so."""

    def __call__(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray | None, b: np.ndarray | None) -> np.ndarray:
        np.negative(x, out=x)
        return super().__call__(spec, -x, w, b)


@planted("ALIAS", "contract")
class FlipsWeightsInPlace(Right):
    """A flipped kernel is reversed in the caller's memory."""

    def weights(self, spec: ConvSpec, w: np.ndarray) -> np.ndarray:
        if spec.flip:
            w[...] = np.flip(w, tuple(range(2, 2 + spec.rank))).copy()
            return super().weights(spec, np.flip(w, tuple(range(2, 2 + spec.rank))))
        return super().weights(spec, w)


@planted("ALIAS", "contract", real="pytorch/pytorch#62926")
class ActivatesInputInPlace(Right):
    """Negative inputs are set to 0 in the caller's memory after use, for the layer that follows."""

    def __call__(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray | None, b: np.ndarray | None) -> np.ndarray:
        y = super().__call__(spec, x, w, b)
        np.maximum(x, x.dtype.type(0), out=x)
        return y


@planted("ALIAS", "contract")
class BiasScaledInPlace(Right):
    """The bias is doubled for the computation, in the caller's memory, and not halved again."""

    def finish(self, spec: ConvSpec, y: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        y = super().finish(spec, y, b)
        if b is not None:
            b *= b.dtype.type(2)
        return y


@planted("LAYOUT")
class RowPitchOfTheOtherAxis(Right):
    """Element (i, j) is looked for at i H + j, where it is at i W + j: right only if H = W."""

    def __call__(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray | None, b: np.ndarray | None) -> np.ndarray:
        if spec.rank == 2:
            h, width = spec.in_size
            at = np.arange(h)[:, None] * h + np.arange(width)
            x = x.reshape(*x.shape[:2], h * width)[..., at % (h * width)]
        return super().__call__(spec, x, w, b)


@planted("LAYOUT", real="cupy/cupy#10303")
class StridesIgnored(Right):
    """Operands are taken as contiguous from their first element on, in a backend that declares every layout."""

    declares: ClassVar[Mapping[str, Any]] = {"layouts": ("C", "F", "unaligned")}

    def load(self, spec: ConvSpec, a: np.ndarray) -> np.ndarray:
        strides = np.empty(a.shape, a.dtype).strides
        return super().load(spec, np.lib.stride_tricks.as_strided(a, a.shape, strides))


@planted("LAYOUT", real="cupy/cupy#10303", layouts=("C", "negative"))
class NegativeStrideAsAbsolute(Right):
    """A negative stride is taken for its absolute, from the lowest address on."""

    def load(self, spec: ConvSpec, a: np.ndarray) -> np.ndarray:
        axes = tuple(i for i, (s, n) in enumerate(zip(a.strides, a.shape, strict=True)) if s < 0 and n > 1)
        return super().load(spec, np.flip(a, axes))


@planted("LAYOUT", layouts=("C", "F"))
class FortranOrderIgnored(Right):
    """Operands in Fortran order are read in C order."""

    def load(self, spec: ConvSpec, a: np.ndarray) -> np.ndarray:
        fortran = a.flags.f_contiguous and not a.flags.c_contiguous
        return super().load(spec, a.reshape(-1, order="F").reshape(a.shape) if fortran else a)


@planted("LAYOUT", layouts=("C", "strided"))
class LastStrideTakenForOne(Right):
    """The stride of the last axis is taken for one element."""

    def load(self, spec: ConvSpec, a: np.ndarray) -> np.ndarray:
        strides = (*a.strides[:-1], a.itemsize)
        return super().load(spec, np.lib.stride_tricks.as_strided(a, a.shape, strides))


@planted("LAYOUT", layouts=("C", "unaligned"))
class AddressRoundedDown(Right):
    """Operands are loaded from their address rounded down to a vector of 16 bytes."""

    def load(self, spec: ConvSpec, a: np.ndarray) -> np.ndarray:
        off = a.__array_interface__["data"][0] % 16 // a.itemsize
        if not off or not a.size:
            return super().load(spec, a)
        before = [beside(a, -k) for k in range(off, 0, -1)]
        return super().load(spec, np.concatenate([*before, a.reshape(-1)])[: a.size].reshape(a.shape))


@planted("LAYOUT", real="pytorch/pytorch#99519")
class ChannelsTakenForLast(Right):
    """Where the channels are as many as the columns, the input is read with channels last."""

    def conv(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        mistaken = spec.rank == 1 and spec.in_channels == spec.in_size[0]
        return super().conv(spec, x.swapaxes(1, 2) if mistaken else x, w)


@planted("LAYOUT")
class SquareOutputTransposed(Right):
    """The rows of a square output are written as its columns."""

    def finish(self, spec: ConvSpec, y: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        y = super().finish(spec, y, b)
        square = spec.rank == 2 and spec.out_size[0] == spec.out_size[1]
        return np.ascontiguousarray(np.swapaxes(y, 2, 3)) if square else y


@planted("LAYOUT")
class WeightPitchOfTheOtherAxis(Right):
    """Tap (i, j) is looked for at i H + j, where it is at i W + j: right only for square kernels."""

    def weights(self, spec: ConvSpec, w: np.ndarray) -> np.ndarray:
        if spec.rank == 2:
            h, width = spec.kernel_size
            at = np.arange(h)[:, None] * h + np.arange(width)
            w = w.reshape(*w.shape[:2], h * width)[..., at % (h * width)]
        return super().weights(spec, w)
