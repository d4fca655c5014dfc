"""Wrong backends: each differs from `right_numpy.Right` in one step, and says which check is meant for it.

The docstring of a class is its fault in a sentence. `real` cites a bug of the same kind in a public tracker.
`caught_by` names a check that fails it on some case of `smoke` (and of `also`, cases of the gate that smoke lacks).
`alone`: no check that runs before that one sees it, so it shows that the check is needed. `backends` holds them all:
`wrong_backends.py:backends.flipped_kernel`.
"""

import re
from dataclasses import dataclass
from math import prod
from types import SimpleNamespace
from typing import ClassVar

import ml_dtypes
import numpy as np
from right_numpy import NOWHERE, Planned, Right

from harness.spec.host import narrow


@dataclass(frozen=True)
class Wrong:
    """A planted fault."""

    name: str
    fault: str
    caught_by: str
    real: str = ""
    also: tuple[str, ...] = ()
    alone: bool = False

    @property
    def attribute(self):
        """Its name in `backends`."""
        return self.name.replace("-", "_")


WRONG: list[Wrong] = []
backends = SimpleNamespace()


def caught_by(check, real="", **more):
    """Register a subclass of `Right` as a wrong backend called after it."""

    def register(cls):
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", cls.__name__).lower()
        entry = Wrong(name, cls.__doc__, check, real, **more)
        WRONG.append(entry)
        setattr(backends, entry.attribute, Planned(name, cls, summary=cls.__doc__, **getattr(cls, "declares", {})))
        return cls

    return register


# === contract ===================================================================================================


@caught_by("contract", "Tencent/ncnn#315", alone=True)
class LastColumnNotWritten(Right):
    """The last column of the output is never written."""

    def write(self, spec, y, out):
        out[..., :-1] = y[..., :-1]


@caught_by("contract")
class CornerNotWritten(Right):
    """The last element of the last channel is never written."""

    def write(self, spec, y, out):
        out.reshape(-1)[:-1] = y.reshape(-1)[:-1]


@caught_by("contract", "pytorch/pytorch#59439")
class AccumulatesIntoOut(Right):
    """Without a bias the sum starts from whatever the output holds."""

    def write(self, spec, y, out):
        out[...] = y if spec.bias else y + out


@caught_by("contract")
class WritesPastOut(Right):
    """A vector store writes one element past the end of the output."""

    def write(self, spec, y, out):
        past = np.lib.stride_tricks.as_strided(out, (out.size + 1,), (out.itemsize,))
        past[:-1], past[-1] = y.reshape(-1), 0


@caught_by("contract")
class InputModifiedInPlace(Right):
    """The input is negated in place, used, and left so."""

    def __call__(self, spec, x, w, b):
        np.negative(x, out=x)
        return super().__call__(spec, -x, w, b)


@caught_by("contract")
class FlipsWeightsInPlace(Right):
    """A flipped kernel is reversed in the caller's memory."""

    def weights(self, spec, w):
        if spec.flip:
            w[...] = np.flip(w, tuple(range(2, 2 + spec.rank))).copy()
            return super().weights(spec, np.flip(w, tuple(range(2, 2 + spec.rank))))
        return super().weights(spec, w)


# === literal: wrong on the small worked cases ===================================================================


@caught_by("literal", "opencv/opencv#5493")
class FlippedKernel(Right):
    """The kernel is reversed, convolution taken for correlation."""

    def weights(self, spec, w):
        return super().weights(spec, np.flip(w, tuple(range(2, 2 + spec.rank))))


@caught_by("literal", alone=True)
class FlipIgnored(Right):
    """`flip` is not read."""

    def weights(self, spec, w):
        return super().weights(spec, np.flip(w, tuple(range(2, 2 + spec.rank))) if spec.flip else w)


@caught_by("literal")
class PadsSwapped(Right):
    """The low and the high padding of an axis are exchanged."""

    def positions(self, spec, axis):
        a = spec.axes[axis]
        return super().positions(spec, axis) + (a.lo - a.hi) * (1 if spec.op != "conv_transpose" else 0)


@caught_by("literal")
class StrideDilationSwapped(Right):
    """The stride of an axis is its dilation, and the dilation its stride."""

    def positions(self, spec, axis):
        a = spec.axes[axis]
        if spec.op == "conv_transpose":
            return super().positions(spec, axis)
        return np.arange(spec.out_size[axis])[:, None] * a.d - a.lo + np.arange(a.m) * a.s


@caught_by("literal")
class DilationIgnored(Right):
    """Every kernel is taken for a dense one."""

    def positions(self, spec, axis):
        a = spec.axes[axis]
        return super().positions(spec, axis)[:, :1] + np.arange(a.m) if spec.op == "conv" else super().positions(spec, axis)


@caught_by("literal", "openxla/xla#49123")
class EveryGroupReadsGroup0(Right):
    """The channel offset of a group is never added."""

    def grouped(self, spec, view):
        return np.broadcast_to(super().grouped(spec, view)[:, :1], super().grouped(spec, view).shape)


@caught_by("literal", "tracel-ai/burn#2286")
class GroupIsModulo(Right):
    """Output channel m belongs to group m % groups, where it is m // (M / groups)."""

    def product(self, spec, view, w):
        m = np.arange(spec.out_channels)
        rows = w.reshape(spec.out_channels, -1)
        y = [np.einsum("nc...,c->n...", view[:, i % spec.groups], rows[i]) for i in m]
        return np.stack(y, 1)


@caught_by("literal")
class BiasTwice(Right):
    """The bias is added by the kernel and by the epilogue."""

    def finish(self, spec, y, b):
        return super().finish(spec, y, None if b is None else b + b)


@caught_by("literal", "pytorch/pytorch#18218")
class BiasIgnored(Right):
    """The bias is not read."""

    def finish(self, spec, y, b):
        return super().finish(spec, y, None)


@caught_by("literal")
class ReflectRepeatsTheEdge(Right):
    """Reflection is about the edge of the last element, not about its centre."""

    def beyond(self, spec, axis, at, n):
        if spec.padding_mode == "reflect":
            return np.where(at < 0, -at - 1, 2 * n - 1 - at)
        return super().beyond(spec, axis, at, n)


@caught_by("literal", "pytorch/pytorch#20981")
class CircularReadsZeros(Right):
    """Circular padding is zero padding."""

    def beyond(self, spec, axis, at, n):
        return np.full_like(at, NOWHERE) if spec.padding_mode == "circular" else super().beyond(spec, axis, at, n)


@caught_by("literal", "pytorch/pytorch#24504")
class CircularNeedsHighPadding(Right):
    """Circular padding vanishes where the high side is 0, for the slice that is copied ends at -0."""

    def beyond(self, spec, axis, at, n):
        found = super().beyond(spec, axis, at, n)
        return np.full_like(at, NOWHERE) if spec.padding_mode == "circular" and spec.padding[axis][1] == 0 else found


@caught_by("literal", "ml-explore/mlx#2038")
class PadsMadeSymmetric(Right):
    """Both sides of an axis are padded by the larger amount, and the outputs counted from there."""

    def positions(self, spec, axis):
        a = spec.axes[axis]
        return super().positions(spec, axis) - (max(0, a.hi - a.lo) if spec.op == "conv" and a.lo >= 0 else 0)


@caught_by("literal", "microsoft/onnxruntime#26708")
class PadsInterleaved(Right):
    """Padding listed (low, low, high, high) is read as (low, high) an axis."""

    def positions(self, spec, axis):
        listed = [*(lo for lo, _ in spec.padding), *(hi for _, hi in spec.padding)]
        shift = spec.axes[axis].lo - listed[2 * axis]
        return super().positions(spec, axis) + (0 if spec.op == "conv_transpose" or spec.is_pool else shift)


@caught_by("literal")
class MaxStartsFromZero(Right):
    """The running maximum starts from 0."""

    def max_pool(self, spec, x, _):
        return np.maximum(super().max_pool(spec, x, _), 0).astype(x.dtype)


@caught_by("literal")
class RowPitchOfTheOtherAxis(Right):
    """Element (i, j) is looked for at i H + j, where it is at i W + j: right only if H = W."""

    def __call__(self, spec, x, w, b):
        if spec.rank == 2:
            h, width = spec.in_size
            at = np.arange(h)[:, None] * h + np.arange(width)
            x = x.reshape(*x.shape[:2], h * width)[..., at % (h * width)]
        return super().__call__(spec, x, w, b)


@caught_by("literal", "opencv/opencv#23151")
class ReadsPastTheInput(Right):
    """The last element is computed from one element past the input too, multiplied by 0."""

    def write(self, spec, y, out):
        super().write(spec, y, out)
        if y.size and spec.in_type.is_float:
            out.reshape(-1)[-1] += self.past * 0

    def __call__(self, spec, x, w, b):
        self.past = np.lib.stride_tricks.as_strided(x, (x.size + 1,), (x.itemsize,))[-1] if x.size else 0
        return super().__call__(spec, x, w, b)


@caught_by("literal", "oneapi-src/oneDNN#1113")
class WeightsPackedByShape(Right):
    """Packed weights are kept by the shape of the kernel, whatever they hold."""

    packed: ClassVar = {}

    def weights(self, spec, w):
        key = (spec.op, spec.groups, spec.flip, w.shape, w.dtype)
        return self.packed.setdefault(key, super().weights(spec, w).copy())


@caught_by("literal", "pytorch/pytorch#49268")
class TapsInRandomOrder(Right):
    """Now and then two taps are exchanged: a race on the order in which they were staged."""

    calls = 0

    def weights(self, spec, w):
        w = super().weights(spec, w)
        type(self).calls += 1
        if self.calls % 2 == 0 and spec.kernel_size[-1] > 1:
            w = w.copy()
            w[..., [0, 1]] = w[..., [1, 0]]
        return w


@caught_by("literal")
class LastWriterWins(Right):
    """Threads of a transposed convolution that meet in an output overwrite it instead of adding."""

    def add(self, spec, y, term):
        return np.where(term != 0, term, y) if spec.op == "conv_transpose" else super().add(spec, y, term)


@caught_by("literal")
class StrideOfTheFirstAxis(Right):
    """The stride of axis 0 is used for every axis."""

    def positions(self, spec, axis):
        o = np.arange(spec.out_size[axis])[:, None]
        shift = o * (spec.stride[0] - spec.stride[axis])
        return super().positions(spec, axis) + (0 if spec.op == "conv_transpose" else shift)


@caught_by("literal", "Tencent/TNN#394")
class LastColumnZeroInTheTail(Right):
    """The last column stays 0 where the width is no multiple of 8."""

    def finish(self, spec, y, b):
        y = super().finish(spec, y, b)
        if spec.out_size[-1] % 8:
            y[..., -1] = 0
        return y


@caught_by("literal")
class TailStartsAtTheVectorCount(Right):
    """The scalar tail of a row begins at element nvec, where it begins at nvec * 8."""

    def views(self, spec, x, fill=0):
        width = spec.out_size[-1]
        at = np.arange(width)
        whole = width // 8
        if whole and width % 8:
            at[whole * 8 :] = whole + np.arange(width - whole * 8)
        return ((tap, view[..., at]) for tap, view in super().views(spec, x, fill))


@caught_by("literal")
class LastRowDropped(Right):
    """The last row stays 0 where the plane leaves one element over a vector of 4."""

    def finish(self, spec, y, b):
        y = super().finish(spec, y, b)
        if spec.rank > 1 and prod(spec.out_size) % 4 == 1:
            y[..., -1, :] = 0
        return y


@caught_by("literal", "tensorflow/tensorflow#57128")
class CeilForFloor(Right):
    """The windows are laid out for a rounded-up output, from the high end: they start one element late."""

    def positions(self, spec, axis):
        a = spec.axes[axis]
        left_over = (a.n + a.lo + a.hi - a.extent) % a.s
        at = super().positions(spec, axis)
        return at + 1 if spec.op == "conv" and left_over else at


@caught_by("literal")
class FirstColumnMasked(Right):
    """The border mask says i > 0, where it says i >= 0."""

    def sources(self, spec, axis):
        at = super().sources(spec, axis)
        return np.where((at == 0) & any(spec.padding[axis]), NOWHERE, at)


@caught_by("literal", "pytorch/pytorch#35655")
class FftDeclaredDirect(Right):
    """Dense zero-padded convolutions go through a float32 FFT, in a backend that declares a direct sum."""

    def conv(self, spec, x, w):
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
        return y[(..., *(slice(0, (o - 1) * s + 1, s) for o, s in zip(spec.out_size, spec.stride, strict=True)))]


# === integers: needs sizes, options or types that the worked cases do not have ===================================


@caught_by("integers", "openvinotoolkit/openvino#11940")
class DilationOfTheFirstAxis(Right):
    """The dilation of axis 0 is used for every axis."""

    def positions(self, spec, axis):
        k = np.arange(spec.kernel_size[axis])
        shift = k * (spec.dilation[0] - spec.dilation[axis])
        return super().positions(spec, axis) + (0 if spec.op == "conv_transpose" else shift)


@caught_by("integers", "tensorflow/tensorflow#56498")
class DepthwiseIgnoresDilation(Right):
    """Only the depthwise kernel takes itself for dense."""

    def positions(self, spec, axis):
        a = spec.axes[axis]
        at = super().positions(spec, axis)
        return at[:, :1] + np.arange(a.m) if spec.op == "conv" and spec.groups == spec.in_channels > 1 else at


@caught_by("integers", "pytorch/pytorch#21597")
class ChannelTailZero(Right):
    """Channels beyond the last whole block of 8 stay 0 where there is a whole block."""

    def finish(self, spec, y, b):
        y = super().finish(spec, y, b)
        if spec.out_channels > 8:
            y[:, spec.out_channels // 8 * 8 :] = 0
        return y


@caught_by("integers")
class BiasOfTheWrongGroup(Right):
    """Every group reads the first group's biases."""

    def per_channel(self, spec, b):
        return super().per_channel(spec, b[np.arange(spec.out_channels) % (spec.out_channels // spec.groups)])


@caught_by("integers", also=("basic-type-bias-*",))
class BiasAfterRounding(Right):
    """The sum is rounded to the output's type before the bias is added, and once more after."""

    def finish(self, spec, y, b):
        return super().finish(spec, narrow(y, spec).astype(y.dtype), b)


@caught_by("integers", "pytorch/pytorch#37844")
class CircularAxesSwapped(Right):
    """The padding of the first axis goes to the last one, and back; what is missing reads zeros."""

    def beyond(self, spec, axis, at, n):
        found = super().beyond(spec, axis, at, n)
        if spec.padding_mode != "circular":
            return found
        lo, hi = spec.padding[spec.rank - 1 - axis]
        return np.where((at >= -lo) & (at < n + hi), found, NOWHERE)


@caught_by("integers")
class ReplicateReadsOneIn(Right):
    """Replication repeats the element next to the edge."""

    def beyond(self, spec, axis, at, n):
        if spec.padding_mode == "replicate":
            return np.clip(at, min(1, n - 1), max(0, n - 2))
        return super().beyond(spec, axis, at, n)


@caught_by("integers")
class AvgAlwaysDividesByK(Right):
    """The divisor is the window's size, at the border too."""

    def counted(self, spec, axis):
        return np.full(spec.out_size[axis], spec.kernel_size[axis])


@caught_by("integers", "microsoft/onnxruntime#16203")
class OverhangCounted(Right):
    """Under ceil_mode the elements beyond the padding count in the divisor."""

    def counted(self, spec, axis):
        whole = np.full(spec.out_size[axis], spec.kernel_size[axis])
        return whole if spec.count_include_pad else super().counted(spec, axis)


@caught_by("integers", "apache/tvm#5758")
class OutputPaddingIsZero(Right):
    """The rows that output padding adds are 0 (plus the bias) instead of computed."""

    def contract(self, spec, x, w):
        y = super().contract(spec, x, w)
        for axis, extra in enumerate(spec.output_padding):
            if extra:
                np.moveaxis(y, 2 + axis, 0)[-extra:] = 0
        return y


@caught_by("integers", "alibaba/MNN#951")
class TransposedWeightsOutFirst(Right):
    """Weights of a transposed group are read as (out/groups, in), where they lie (in, out/groups)."""

    def weights(self, spec, w):
        if spec.op == "conv_transpose":
            w = np.ascontiguousarray(w).reshape(w.shape[1], w.shape[0], *w.shape[2:]).swapaxes(0, 1)
        return super().weights(spec, np.ascontiguousarray(w))


@caught_by("integers", also=("topology-tcn-block-d4",))
class WeightsInFirst(Right):
    """Weights are read as (in, out, ...), which shows only where the values do, for the sizes are equal."""

    def weights(self, spec, w):
        square = spec.op == "conv" and spec.groups == 1 and w.shape[0] == w.shape[1]
        return super().weights(spec, np.ascontiguousarray(w.swapaxes(0, 1)) if square else w)


@caught_by("integers", "opencv/opencv#13179")
class WindowInPaddingCopiesItsNeighbour(Right):
    """A window that lies wholly in the padding gives what the one before it gave."""

    def views(self, spec, x, fill=0):
        table = self.sources(spec, spec.rank - 1)
        at = np.arange(len(table))
        for o in at[1:]:
            at[o] = at[o - 1] if (table[o] == NOWHERE).all() else o
        return ((tap, view[..., at]) for tap, view in super().views(spec, x, fill))


@caught_by("integers")
class CropIgnored(Right):
    """Negative padding is taken for none."""

    def positions(self, spec, axis):
        return super().positions(spec, axis) + min(0, spec.axes[axis].lo)


@caught_by("integers")
class FirstSampleForAll(Right):
    """Every item of a batch is the first one's result."""

    def finish(self, spec, y, b):
        return super().finish(spec, np.repeat(y[:1], spec.batch, 0), b)


@caught_by("integers", alone=True)
class SumWrapsToInt16(Right):
    """Products of int8 are added in 16 bits, wrapping."""

    def add(self, spec, y, term):
        y = super().add(spec, y, term)
        return y.astype(np.int16).astype(y.dtype) if spec.in_dtype == "i8" else y


@caught_by("integers")
class UnsignedBytes(Right):
    """int8 is read as uint8."""

    def load(self, spec, a):
        return super().load(spec, a.view(np.uint8) if spec.in_dtype == "i8" and not spec.is_pool else a)


@caught_by("integers", "pytorch/pytorch#68048")
class AccumulatesInF16(Right):
    """A float32 sum is rounded to float16 after every product."""

    def add(self, spec, y, term):
        y = super().add(spec, y, term)
        with np.errstate(over="ignore"):
            return y.astype(np.float16).astype(y.dtype) if spec.acc_dtype == "f32" else y


@caught_by("integers")
class AccumulatesInTheInputType(Right):
    """A float64 accumulator over float32 operands is a float32 one."""

    def add(self, spec, y, term):
        y = super().add(spec, y, term)
        return y.astype(np.float32).astype(y.dtype) if spec.in_dtype == "f32" else y


def significant(a, bits):
    """`a` rounded to so many significant bits."""
    m, e = np.frexp(a)
    return np.ldexp(np.rint(m * 2**bits), e - bits).astype(a.dtype)


class Rounds(Right):
    """Operands in float32 lose bits."""

    bits = 24

    def load(self, spec, a):
        a = super().load(spec, a)
        return significant(a, self.bits) if spec.in_dtype == "f32" and spec.op != "max_pool" else a


@caught_by("integers", "pytorch/pytorch#35655")
class Tf32(Rounds):
    """float32 operands are rounded to TF32, 11 significant bits."""

    bits = 11


@caught_by("integers")
class Bfloat16Operands(Rounds):
    """float32 operands are rounded to bfloat16, 8 significant bits."""

    bits = 8


@caught_by("integers")
class FourBits(Rounds):
    """float32 operands keep 4 significant bits."""

    bits = 4


# === impulses: needs operands that are mostly zero ===============================================================


@caught_by("impulses")
class WrongFromTheThirdCall(Right):
    """What was prepared gives its first column again in place of the last from the third call on."""

    calls = 0

    def finish(self, spec, y, b):
        y = super().finish(spec, y, b)
        self.calls += 1
        if self.calls > 2 and y.size:
            y[..., -1] = y[..., 0] + 1
        return y


@caught_by("impulses")
class SkipsZeroChannels(Right):
    """Input channels that are all zero are skipped, and those left are multiplied by the first weights."""

    def conv(self, spec, x, w):
        live = np.flatnonzero(x.any((0, *range(2, x.ndim))))
        if spec.groups > 1 or len(live) in (0, spec.in_channels):
            return super().conv(spec, x, w)
        packed = np.zeros_like(x)
        packed[:, : len(live)] = x[:, live]
        return super().conv(spec, packed, w)


@caught_by("impulses")
class SparseRunOverflows(Right):
    """Zero weights are stored as runs, whose length wraps at 16: what follows a longer run comes too early."""

    def weights(self, spec, w):
        if spec.op != "conv":
            return super().weights(spec, w)
        packed = np.zeros_like(w)
        for row, into in zip(w.reshape(len(w), -1), packed.reshape(len(w), -1), strict=True):
            at = np.flatnonzero(row)
            runs = np.diff(at, prepend=-1) - 1
            into[np.cumsum(runs % 16 + 1) - 1] = row[at]
        return super().weights(spec, packed)


@caught_by("impulses", alone=True)
class SeparablePathIgnoresDilation(Right):
    """Kernels of rank one go through a separable fast path, which has no dilation."""

    separable = False

    def conv(self, spec, x, w):
        matrices = w.reshape(-1, *spec.kernel_size)
        self.separable = spec.rank == 2 and bool((np.linalg.matrix_rank(matrices.astype(np.float64)) <= 1).all())
        return super().conv(spec, x, w)

    def positions(self, spec, axis):
        at = super().positions(spec, axis)
        dense = self.separable and min(spec.kernel_size) > 1
        return at[:, :1] + np.arange(spec.kernel_size[axis]) if dense else at


# === operator: needs a lone impulse, at every place ==============================================================


@caught_by("operator", alone=True)
class LoneImpulseAtTheBorder(Right):
    """A long signal with one nonzero is answered by pasting the kernel, which a slice that starts below 0 loses."""

    def conv(self, spec, x, w):
        y = super().conv(spec, x, w)
        long = spec.rank == 1 and x.size >= 2 * spec.axes[0].extent and spec.padding_mode == "zeros"
        return np.zeros_like(y) if long and np.count_nonzero(x) == 1 and x[0, 0, 0] else y


# === nan_taint, read_guards: need what must not be read to be poisonous ==========================================


@caught_by("nan_taint", alone=True)
class ReadsOneTapMore(Right):
    """Rows of taps are read up to a whole vector, the surplus multiplied by 0."""

    def views(self, spec, x, fill=0):
        for tap, view in super().views(spec, x, fill):
            yield tap, view
        if not spec.is_pool:
            yield tap, 0 * np.roll(view, 1, -1)


@caught_by("nan_taint", "pytorch/pytorch#157237")
class MaxSwallowsNan(Right):
    """max_pool is `acc > v ? acc : v`, which drops a NaN, and promises to propagate it."""

    declares: ClassVar = {"nan_max_pool": "propagate"}

    def max_pool(self, spec, x, _):
        return np.fmax.reduce(np.stack([view for _, view in self.views(spec, x, self.lowest(spec))]))


@caught_by("read_guards", "opencv/opencv#23151", alone=True)
class MaxReadsPastTheInput(Right):
    """The last window takes in the element past the input; a NaN there would be dropped."""

    def __call__(self, spec, x, w, b):
        y = super().__call__(spec, x, w, b)
        if spec.op == "max_pool" and spec.in_type.is_float and x.size:
            past = np.lib.stride_tricks.as_strided(x, (x.size + 1,), (x.itemsize,))[-1]
            y.reshape(-1)[-1] = np.fmax(y.reshape(-1)[-1], past)
        return y


# === metamorphic: needs related calls, no oracle =================================================================


@caught_by("repeat", "pytorch/pytorch#59439", alone=True)
class FlagNeverCleared(Right):
    """The output serves as scratch; a flag in it, which nobody clears, chooses a path that rounds to float16."""

    def write(self, spec, y, out):
        if spec.out_dtype in ("f32", "f64") and out.size and out.reshape(-1).view(np.uint8)[0] & 0x80:
            y = y.astype(np.float16)
        out[...] = y


@caught_by("repeat")
class RepeatsFromAnF16Cache(Right):
    """A call with the operands of the one before gives the kept result, which is kept in float16."""

    last = None

    def __call__(self, spec, x, w, b):
        key = tuple(None if a is None else a.tobytes() for a in (x, w, b))
        y = super().__call__(spec, x, w, b)
        again, self.last = key == self.last, key
        return y.astype(np.float16).astype(y.dtype) if again and spec.out_dtype in ("f32", "f64") else y


@caught_by("zero_input", alone=True)
class ZeroInputGivesZero(Right):
    """An input of zeros is answered at once by zeros, the bias forgotten."""

    def __call__(self, spec, x, w, b):
        return super().__call__(spec, x, w, b if b is None or x.any() else np.zeros_like(b))


@caught_by("negation", alone=True)
class RoundsDownward(Right):
    """float32 results are rounded downward, once, from sums in float64."""

    def load(self, spec, a):
        return a.astype(np.float64) if spec.acc_dtype == "f32" else super().load(spec, a)

    def finish(self, spec, y, b):
        if spec.acc_dtype != "f32":
            return super().finish(spec, y, b)
        y = y if b is None else y + self.per_channel(spec, b)
        near = y.astype(np.float32)
        return narrow(np.where(near > y, np.nextafter(near, np.float32(-np.inf)), near), spec)


@caught_by("scaling", alone=True)
class SmallNumbersAreNoise(Right):
    """Inputs below 1e-8 count as zeros, to be skipped."""

    def load(self, spec, a):
        a = super().load(spec, a)
        return np.where(np.abs(a) < 1e-8, 0, a).astype(a.dtype) if spec.in_type.is_float else a


# === zero_mean: needs every bit of the significand ===============================================================


@caught_by("zero_mean", also=("topology-resnet50-res2a-branch2b",), alone=True)
class LongSumsInTwentyBits(Right):
    """Sums of 500 products and more are rounded to 20 bits by every addition, but for that of a 0."""

    def product(self, spec, view, w):
        if spec.acc_dtype != "f32" or spec.accumulation_length < 500:
            return super().product(spec, view, w)
        y = np.float32(0)
        for c in range(view.shape[2]):
            y = self.add(spec, y, super().product(spec, view[:, :, c : c + 1], w[:, :, c : c + 1]))
        return y

    def add(self, spec, y, term):
        total = super().add(spec, y, term)
        if spec.acc_dtype != "f32" or spec.accumulation_length < 500:
            return total
        return np.where((y == 0) | (term == 0), total, significant(total, 20))


@caught_by("identity", alone=True)
class TwoBfloat16Terms(Right):
    """float32 operands are split into two bfloat16 terms, 16 significant bits, where three hold them all."""

    def load(self, spec, a):
        a = super().load(spec, a)
        if spec.is_pool or set(spec.dtypes) != {"f32"}:
            return a
        high = a.astype(ml_dtypes.bfloat16).astype(a.dtype)
        return high + (a - high).astype(ml_dtypes.bfloat16).astype(a.dtype)


@caught_by("zero_mean")
class WeightsThroughText(Right):
    """float32 weights have passed through text with six digits, printf's default."""

    def weights(self, spec, w):
        if spec.acc_dtype == "f32":
            w = np.array([float(f"{v:g}") for v in w.reshape(-1).tolist()], w.dtype).reshape(w.shape)
        return super().weights(spec, w)


# === other real data =============================================================================================


@caught_by("positive", alone=True)
class AvgTruncates(Right):
    """avg_pool sums long windows in 23 bits, towards zero: errors of random sign cancel, those of one sign do not."""

    def avg_pool(self, spec, x, _):
        if spec.acc_dtype != "f32" or prod(spec.kernel_size) <= 16:
            return super().avg_pool(spec, x, _)
        total = 0.0
        for _, view in self.views(spec, x):
            m, e = np.frexp(total + view.astype(np.float64))
            total = np.ldexp(np.trunc(m * 2.0**23), e - 23)
        return total.astype(np.float32) / self.divisor(spec).astype(np.float32)


@caught_by("graded", "pytorch/pytorch#35655")
class WinogradDeclaredDirect(Right):
    """Rows of three taps over several channels go through Winograd's F(2,3), in a backend that declares a direct sum."""

    declares: ClassVar = {"taint": "image"}

    def contract(self, spec, x, w):
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

    def tile_inputs(self, spec, x):
        """What taps 0 to 3 of each pair of outputs read, (batch, channels, padded outer axes..., pairs)."""
        a = spec.axes[-1]
        pairs = -(-spec.out_size[-1] // 2)
        at = 2 * np.arange(pairs)[:, None] - a.lo + np.arange(4)
        source = np.where((at >= 0) & (at < a.n), at, self.beyond(spec, spec.rank - 1, np.minimum(at, a.n + a.hi - 1), a.n))
        x = np.pad(x, [(0, 0), (0, 0), *[(0, 1)] * spec.rank])
        return [x[..., source[:, k]] for k in range(4)]

    def rows(self, spec, d, g):
        """The sum over the outer taps and the channels: (batch, out channels, outer outputs..., pairs)."""
        tables = [self.sources(spec, axis) for axis in range(spec.rank - 1)]
        y = 0
        for tap in np.ndindex(*spec.kernel_size[:-1]):
            index = np.ix_(*(t[:, k] for t, k in zip(tables, tap, strict=True)), np.arange(d.shape[-1]))
            view = d[(..., *index)]
            view = view.reshape(spec.batch, spec.groups, spec.channel_taps, *view.shape[2:])
            y = y + self.product(spec, view, g[(..., *tap)])
        return y.reshape(spec.batch, spec.out_channels, *y.shape[3:])


class FixedPoint(Right):
    """float32 operands are aligned to the largest of them."""

    bits = 64

    def load(self, spec, a):
        a = super().load(spec, a)
        largest = float(np.max(np.abs(a), initial=0))
        if spec.in_dtype != "f32" or not 0 < largest < np.inf:
            return a
        quantum = 2.0 ** max(-149, np.frexp(largest)[1] - self.bits)
        return (np.rint(a.astype(np.float64) / quantum) * quantum).astype(a.dtype)


@caught_by("graded", alone=True)
class FixedPoint32(FixedPoint):
    """float32 operands are aligned to the largest of them and kept in 32 bits."""

    bits = 32


@caught_by("wide_range", alone=True)
class FixedPoint48(FixedPoint):
    """float32 operands are aligned to the largest of them and kept in 48 bits."""

    bits = 48


@caught_by("denormal", alone=True)
class FlushesSubnormals(Right):
    """Operands below the smallest normal number are 0, and the device says that it is gradual."""

    def load(self, spec, a):
        a = super().load(spec, a)
        return np.where(np.abs(a) < spec.in_type.tiny, 0, a).astype(a.dtype) if spec.in_type.is_float else a


@caught_by("near_overflow", alone=True)
class ScalesToKeepSubnormals(Right):
    """Weights are scaled up by 2^12 and the sum is scaled back, so that nothing underflows."""

    def weights(self, spec, w):
        return super().weights(spec, w * w.dtype.type(2**12) if spec.acc_dtype == "f32" else w)

    def finish(self, spec, y, b):
        scaled = spec.acc_dtype == "f32" and not spec.is_pool
        return super().finish(spec, y * np.float32(2.0**-12) if scaled else y, b)


@caught_by("identity")
class MultiplicationByOneIsACopy(Right):
    """A tap of 1 adds x without multiplying, from a copy that has 20 significant bits."""

    def product(self, spec, view, w):
        copy = significant(view, 20) if spec.in_dtype == "f32" and (w == 1).any() else view
        return super().product(spec, view, np.where(w == 1, 0, w)) + super().product(spec, copy, np.where(w == 1, w, 0))


@caught_by("infinity", "tensorflow/tensorflow#2501", alone=True)
class ClipsToFinite(Right):
    """float32 results are clipped to the largest finite number."""

    def finish(self, spec, y, b):
        y = super().finish(spec, y, b)
        return np.clip(y, -np.finfo(y.dtype).max, np.finfo(y.dtype).max) if spec.dtypes == ("f32",) * 3 else y


# === equivariance: needs two related calls =======================================================================


@caught_by("equivariance", "arrayfire/arrayfire#3711", alone=True)
class ResultsKeptByChecksum(Right):
    """Results are kept by the weights and the sum of the input, if it has no zeros: no permutation changes the key."""

    def __init__(self):
        self.kept = {}

    def __call__(self, spec, x, w, b):
        key = (float(x.sum(dtype=np.float64)), *(None if a is None else a.tobytes() for a in (w, b)))
        y = super().__call__(spec, x, w, b)
        return self.kept.setdefault(key, y) if x.all() else y


# === layouts: needs operands that do not lie in order ============================================================


@caught_by("layouts", "cupy/cupy#10303", alone=True)
class StridesIgnored(Right):
    """Operands are taken as contiguous from their first element on, in a backend that declares every layout."""

    declares: ClassVar = {"layouts": ("C", "F", "unaligned")}

    def load(self, spec, a):
        strides = np.empty(a.shape, a.dtype).strides
        return super().load(spec, np.lib.stride_tricks.as_strided(a, a.shape, strides))


# === extremes =====================================================================================================


@caught_by("integers", "microsoft/onnxruntime#28976")
class IndicesInF16(Right):
    """Indices are computed in float16, which rounds them beyond 2048."""

    def positions(self, spec, axis):
        return super().positions(spec, axis).astype(np.float16).astype(int)


@caught_by("integers")
class PairsSaturate(Right):
    """Sums of two int8 products saturate at 16 bits, as pmaddubsw does."""

    def product(self, spec, view, w):
        if spec.in_dtype != "i8":
            return super().product(spec, view, w)
        y = 0
        for c in range(0, view.shape[2], 2):
            y = y + np.clip(super().product(spec, view[:, :, c : c + 2], w[:, :, c : c + 2]), -(2**15), 2**15 - 1)
        return y
