"""Faults of state: stale plans, weights and results, calls that disturb each other, order by chance."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from backends.planted.fault import each, planted
from backends.planted.right import NOWHERE, Right, View, at_tap
from harness.spec import ConvSpec
from harness.spec.host import numpy_dtype


@planted("CACHE", real="oneapi-src/oneDNN#1113")
class WeightsPackedByShape(Right):
    """Packed weights are kept by the shape of the kernel, whatever they hold."""

    def weights(self, spec: ConvSpec, w: np.ndarray) -> np.ndarray:
        key = (spec.op, spec.groups, spec.flip, w.shape, w.dtype)
        return self.shared.setdefault(key, super().weights(spec, w).copy())


@planted("CACHE")
class WrongFromTheThirdCall(Right):
    """What was prepared gives its first column again in place of the last from the third call on."""

    calls = 0

    def finish(self, spec: ConvSpec, y: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        y = super().finish(spec, y, b)
        self.calls += 1
        if self.calls > 2 and y.size:
            y[..., -1] = y[..., 0] + 1
        return y


@planted("CACHE")
class RepeatsFromAnF16Cache(Right):
    """A call with the operands of the one before gives the kept result, which is kept in float16."""

    last: object = None

    def __call__(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray | None, b: np.ndarray | None) -> np.ndarray:
        key = tuple(None if a is None else a.tobytes() for a in (x, w, b))
        y = super().__call__(spec, x, w, b)
        again, self.last = key == self.last, key
        return y.astype(np.float16).astype(y.dtype) if again and spec.out_dtype in ("f32", "f64") else y


@planted("CACHE", real="arrayfire/arrayfire#3711")
class ResultsKeptByChecksum(Right):
    """Results are kept by the weights and the sum of the input, if finite and of no zeros: no permutation changes the key."""

    def __init__(self) -> None:
        self.kept: dict[Any, np.ndarray] = {}

    def __call__(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray | None, b: np.ndarray | None) -> np.ndarray:
        total = float(x.sum(dtype=np.float64))
        key = (total, *(None if a is None else a.tobytes() for a in (w, b)))
        y = super().__call__(spec, x, w, b)
        return self.kept.setdefault(key, y) if x.all() and np.isfinite(total) else y


@planted("CACHE", real="oneapi-src/oneDNN#1113", over=each("lacks", "stride", "padding", "dilation", "padding_mode"))
class PlanKeyLacks(Right):
    """Plans are kept by the specification, whose {lacks} the key leaves out: that of the first plan is used."""

    lacks = "stride"

    def first(self, spec: ConvSpec) -> ConvSpec:
        """The specification that was planned first under the same key."""
        fields = {"op", "in_size", "kernel_size", "stride", "padding", "dilation", "padding_mode", "output_padding"}
        return self.shared.setdefault(tuple(getattr(spec, f) for f in sorted(fields - {self.lacks})), spec)

    def positions(self, spec: ConvSpec, axis: int) -> np.ndarray:
        a = self.first(spec).axes[axis]
        o, k = np.arange(spec.out_size[axis])[:, None], np.arange(a.m)
        if spec.op != "conv_transpose":
            return o * a.s - a.lo + k * a.d
        stamped, phase = np.divmod(o + a.lo - k * a.d, a.s)
        return np.where(phase == 0, stamped, NOWHERE)

    def beyond(self, spec: ConvSpec, axis: int, at: np.ndarray, n: int) -> np.ndarray:
        return super().beyond(self.first(spec), axis, at, n)


@planted("CACHE", over=each("of", "x", "w", "b"))
class UploadedOnce(Right):
    """{of} is uploaded at the first call of what was prepared and taken to be there afterwards."""

    of = "w"

    def __call__(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray | None, b: np.ndarray | None) -> np.ndarray:
        held: dict[str, Any] = {"x": x, "w": w, "b": b}
        kept: dict[str, Any] = self.__dict__.setdefault("kept", {})
        if held[self.of] is not None:
            held[self.of] = kept.setdefault("there", np.array(held[self.of]))
        return super().__call__(spec, held["x"], held["w"], held["b"])


@planted("CACHE", real="pytorch/pytorch#80856")
class WeightsOfTheCallBefore(Right):
    """Weights are double-buffered, and the buffer of the call before is used."""

    before: np.ndarray | None = None

    def weights(self, spec: ConvSpec, w: np.ndarray) -> np.ndarray:
        now = super().weights(spec, w).copy()
        used, self.before = (now if self.before is None else self.before), now
        return used


@planted("CACHE", real="oneapi-src/oneDNN#1113")
class ResultsKeptByInput(Right):
    """A result is kept under a key that holds the input and not the weights."""

    def __init__(self) -> None:
        self.kept: dict[Any, np.ndarray] = {}

    def __call__(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray | None, b: np.ndarray | None) -> np.ndarray:
        key = (x.tobytes(), None if b is None else b.tobytes())
        return self.kept.setdefault(key, super().__call__(spec, x, w, b))


@planted("CACHE")
class WeightsKeptByChecksum(Right):
    """Packed dense weights are kept for all prepared objects, by the problem, their sum and that of their squares."""

    def weights(self, spec: ConvSpec, w: np.ndarray) -> np.ndarray:
        wide = w.astype(np.float64)
        key = (spec, float(wide.sum()), float((wide**2).sum()))
        packed = super().weights(spec, w)
        return self.shared.setdefault(key, packed) if w.all() else packed


@planted("CACHE")
class BiasKeptWithWeights(Right):
    """The bias is packed beside the weights, and kept by them."""

    def __init__(self) -> None:
        self.kept: dict[Any, np.ndarray] = {}

    def __call__(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray | None, b: np.ndarray | None) -> np.ndarray:
        if b is not None:
            b = self.kept.setdefault(b"" if w is None else w.tobytes(), b.copy())
        return super().__call__(spec, x, w, b)


@planted("CACHE", real="pytorch/pytorch#80856")
class KeyLacksBias(Right):
    """Plans with their epilogue are kept under a key that lacks the bias."""

    def __call__(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray | None, b: np.ndarray | None) -> np.ndarray:
        if w is not None:
            key = (replace(spec, bias=False), x.tobytes(), w.tobytes())
            if b is None:
                b = self.shared.get(key)
            else:
                self.shared[key] = b.copy()
        return super().__call__(spec, x, w, b)


@planted("CACHE")
class KeyLacksFlip(Right):
    """Packed weights are kept under a key that lacks the kernel's direction; with one channel none are packed."""

    def weights(self, spec: ConvSpec, w: np.ndarray) -> np.ndarray:
        if spec.in_channels == 1:
            return super().weights(spec, w)
        return self.shared.setdefault((replace(spec, flip=False), w.tobytes()), super().weights(spec, w))


@planted("CACHE")
class KeyIsTheFirstBytes(Right):
    """Packed weights are kept by their first 64 bytes."""

    def weights(self, spec: ConvSpec, w: np.ndarray) -> np.ndarray:
        kept: dict[Any, np.ndarray] = self.__dict__.setdefault("kept", {})
        return kept.setdefault(w.tobytes()[:64], super().weights(spec, w).copy())


@planted("RACE")
class LastWriterWins(Right):
    """Threads of a transposed convolution that meet in an output overwrite it instead of adding."""

    def add(self, spec: ConvSpec, y: np.ndarray, term: np.ndarray) -> np.ndarray:
        return np.where(term != 0, term, y) if spec.op == "conv_transpose" else super().add(spec, y, term)


@planted("RACE", real="tensorflow/tensorflow#27200")
class ScratchShared(Right):
    """The packed weights lie in one place for all calls, in a backend that says it is thread-safe."""

    declares: ClassVar[Mapping[str, Any]] = {"thread_safe": True}

    packed: np.ndarray

    def contract(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        self.packed = w
        y = np.zeros(spec.out_shape, numpy_dtype(spec.acc_dtype))
        for tap, view in self.views(spec, x):
            y = self.add(spec, y, self.product(spec, self.grouped(spec, view), self.packed[at_tap(tap)]).reshape(y.shape))
        return y


@planted("RACE", over=each("threads", 2, 3, 4))
class RowsLeftByThreads(Right):
    """The rows are shared out among {threads} threads; what the division leaves over is not done."""

    threads = 2

    def finish(self, spec: ConvSpec, y: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        y = super().finish(spec, y, b)
        rows = spec.out_size[0]
        if rows > self.threads and rows % self.threads:
            y[:, :, rows // self.threads * self.threads :] = 0
        return y


@planted("RACE")
class BorderOfThreadsOverwritten(Right):
    """Two threads stamp half a transposed convolution's input each, and the second overwrites what they share."""

    def conv_transpose(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        half = x.shape[2] // 2
        if not half:
            return super().conv_transpose(spec, x, w)
        first, second = x.copy(), x.copy()
        first[:, :, half:], second[:, :, :half] = 0, 0
        mine, other = super().conv_transpose(spec, first, w), super().conv_transpose(spec, second, w)
        return np.where(other != 0, other, mine)


@planted("RACE", thread_safe=True)
class ConcurrentCallsShareWeights(Right):
    """Calls at the same time put their weights into one place, and all use those of the last."""

    def weights(self, spec: ConvSpec, w: np.ndarray) -> np.ndarray:
        self.shared["weights"] = super().weights(spec, w).copy()
        return w

    def contract(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        time.sleep(0.001)  # as long as the packing of larger weights takes
        return super().contract(spec, x, self.shared["weights"])


@planted("RACE", thread_safe=True)
class ConcurrentCallsShareTheSum(Right):
    """Calls at the same time sum into one place."""

    def contract(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        y = super().contract(spec, x, w)
        self.shared["sum"] = y
        time.sleep(0.001)
        return self.shared["sum"] if self.shared["sum"].shape == y.shape else y


@planted("RACE")
class BarrierMissing(Right):
    """Every third call reads the last channel of a group before it has been staged: what the call before left there."""

    calls = 0
    staged: np.ndarray | None = None

    def conv(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        self.calls += 1
        before, self.staged = self.staged, x.copy()
        if self.calls % 3 == 0 and before is not None and spec.channel_taps > 1:
            x = x.copy()
            x[:, -1] = before[:, -1]
        return super().conv(spec, x, w)


@planted("RACE", real="ggml-org/ggml#483")
class PartialSumLost(Right):
    """The sum over channels is split in two, and one half is lost at the last output."""

    def contract(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        y = super().contract(spec, x, w)
        if spec.channel_taps > 1 and y.size:
            half = w.copy()
            half[:, :, spec.channel_taps // 2 :] = 0
            y.reshape(-1)[-1] = super().contract(spec, x, half).reshape(-1)[-1]
        return y


@planted("NONDET", real="pytorch/pytorch#49268")
class TapsInRandomOrder(Right):
    """Now and then two taps are exchanged: a race on the order in which they were staged."""

    calls = 0

    def weights(self, spec: ConvSpec, w: np.ndarray) -> np.ndarray:
        w = super().weights(spec, w)
        self.calls += 1
        if self.calls % 2 == 0 and spec.kernel_size[-1] > 1:
            w = w.copy()
            w[..., [0, 1]] = w[..., [1, 0]]
        return w


@planted("NONDET", real="pytorch/pytorch#49268")
class OrderOfTheSumVaries(Right):
    """Taps are summed in the opposite order by every second call, in a backend that declares itself deterministic."""

    calls = 0

    def contract(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        self.calls += 1
        return super().contract(spec, x, w)

    def views(self, spec: ConvSpec, x: np.ndarray, fill: float = 0) -> Iterator[View]:
        found = list(super().views(spec, x, fill))
        return iter(found[::-1] if self.calls % 2 == 0 else found)


@planted("NONDET")
class NowAndThenAnElementLost(Right):
    """Every fifth call leaves out the last tap at the last output: an atomic addition that is none."""

    calls = 0

    def finish(self, spec: ConvSpec, y: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        y = super().finish(spec, y, b)
        self.calls += 1
        if self.calls % 5 == 0 and y.size:
            y.reshape(-1)[-1] = 0
        return y
