"""A right convolution in NumPy, in steps that a fault can replace one by one.

`Right` computes every operation from one table an axis: which input element each (output, tap) pair
reads, or that it reads none. It shares no code with the oracle or a built-in backend. A planted fault
is a subclass that overrides one step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from typing import Any, ClassVar, Self

import numpy as np

from harness.backend import LAYOUTS, BackendInfo, Limits, Prepared, Probe, from_function, host_device
from harness.spec import ConvSpec
from harness.spec.host import narrow, numpy_dtype, widen

Tap = tuple[int, ...]
#: A tap's index and what every output reads there, (batch, channels, outputs...).
View = tuple[Tap, np.ndarray]

#: In a table of sources: the element lies in no input.
NOWHERE = -1


def at_tap(tap: Tap) -> Any:
    """The index of a tap in weights, all channels of it."""
    return (..., *tap)


class Right:
    """The function of a backend: `Right()(spec, x, w, b)` is the output.

    Attributes
    ----------
    declares : mapping
        Fields of `BackendInfo` that differ from a direct sum's defaults.
    shared : dict
        What outlives a preparation: a cache of the whole backend.
    """

    declares: ClassVar[Mapping[str, Any]] = {}
    shared: dict[Any, Any]

    def __call__(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray | None, b: np.ndarray | None) -> np.ndarray:
        """Widen, sum, add the bias, round once: the whole computation."""
        with np.errstate(all="ignore"):  # NaN and infinities are data here
            y = getattr(self, spec.op)(spec, self.load(spec, x), None if w is None else self.load(spec, w))
            return self.finish(spec, y, b)

    def write(self, spec: ConvSpec, y: np.ndarray, out: np.ndarray) -> None:
        """The result delivered, where the backend is `Planned`."""
        out[...] = y

    # --- values -------------------------------------------------------------------------------
    def load(self, spec: ConvSpec, a: np.ndarray) -> np.ndarray:
        """An operand in the accumulator's type."""
        return widen(a, spec)

    def finish(self, spec: ConvSpec, y: np.ndarray, b: np.ndarray | None) -> np.ndarray:
        """The bias added in the accumulator's type, then the one rounding."""
        return narrow(y if b is None else y + self.per_channel(spec, b), spec)

    def per_channel(self, spec: ConvSpec, b: np.ndarray) -> np.ndarray:
        """A vector of the output's channels, to be added to the output."""
        return b.reshape(-1, *(1,) * spec.rank)

    # --- places -------------------------------------------------------------------------------
    def sources(self, spec: ConvSpec, axis: int) -> np.ndarray:
        """(outputs, taps) along `axis`: the input element that is read, or NOWHERE."""
        at = self.positions(spec, axis)
        n = spec.in_size[axis]
        inside = (at >= 0) & (at < n)
        return np.where(inside, at, self.beyond(spec, axis, at, n))

    def positions(self, spec: ConvSpec, axis: int) -> np.ndarray:
        """(outputs, taps) along `axis`: coordinates in the input, which may lie outside of it."""
        a = spec.axes[axis]
        o, k = np.arange(spec.out_size[axis])[:, None], np.arange(a.m)
        if spec.op != "conv_transpose":
            return o * a.s - a.lo + k * a.d
        stamped, phase = np.divmod(o + a.lo - k * a.d, a.s)
        return np.where(phase == 0, stamped, NOWHERE)

    def beyond(self, spec: ConvSpec, axis: int, at: np.ndarray, n: int) -> np.ndarray:
        """What stands for coordinates outside of the input's `n` elements."""
        if spec.padding_mode == "circular":
            return at % n
        if spec.padding_mode == "replicate":
            return np.clip(at, 0, n - 1)
        if spec.padding_mode == "reflect":
            return np.where(at < 0, -at, 2 * (n - 1) - at)
        return np.full_like(at, NOWHERE)

    def views(self, spec: ConvSpec, x: np.ndarray, fill: float = 0) -> Iterator[View]:
        """For each tap its index and what every output reads there, (batch, channels, outputs...)."""
        x = np.pad(x, [(0, 0), (0, 0), *[(0, 1)] * spec.rank], constant_values=fill)  # index -1 reads the fill
        return self.taken(x, [self.sources(spec, axis) for axis in range(spec.rank)], ())

    def taken(self, x: np.ndarray, tables: Sequence[np.ndarray], tap: Tap) -> Iterator[View]:
        """The same for the taps that begin with `tap`, whose axes have been read."""
        if len(tap) == len(tables):
            yield tap, x
            return
        for k, at in enumerate(tables[len(tap)].T):
            yield from self.taken(x.take(at, 2 + len(tap)), tables, (*tap, k))

    # --- operations ---------------------------------------------------------------------------
    def conv(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        """The sum over taps and the channels of the group."""
        return self.contract(spec, x, self.weights(spec, w))

    def conv_transpose(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        """The same sum; only the sources and the weights' layout differ."""
        return self.contract(spec, x, self.weights(spec, w))

    def weights(self, spec: ConvSpec, w: np.ndarray) -> np.ndarray:
        """(groups, outputs a group, inputs a group, taps...), in the order in which taps are read."""
        if spec.flip:
            w = np.flip(w, tuple(range(2, 2 + spec.rank)))
        if spec.op == "conv_transpose":
            per_group = w.reshape(spec.groups, spec.in_channels // spec.groups, -1, *spec.kernel_size)
            return np.swapaxes(per_group, 1, 2)
        return w.reshape(spec.groups, -1, spec.in_channels // spec.groups, *spec.kernel_size)

    def contract(self, spec: ConvSpec, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        """Multiply and add, tap by tap, in the accumulator's type."""
        y = np.zeros(spec.out_shape, numpy_dtype(spec.acc_dtype))
        for tap, view in self.views(spec, x):
            y = self.add(spec, y, self.product(spec, self.grouped(spec, view), w[at_tap(tap)]).reshape(y.shape))
        return y

    def add(self, spec: ConvSpec, y: np.ndarray, term: np.ndarray) -> np.ndarray:
        """One step of the accumulation."""
        return y + term

    def grouped(self, spec: ConvSpec, view: np.ndarray) -> np.ndarray:
        """(batch, groups, inputs a group, outputs...): the channels that each group reads."""
        return view.reshape(spec.batch, spec.groups, spec.in_channels // spec.groups, *spec.out_size)

    def product(self, spec: ConvSpec, view: np.ndarray, w: np.ndarray) -> np.ndarray:
        """One tap's channels contracted: (batch, groups, outputs a group, outputs...)."""
        flat = view.reshape(*view.shape[:3], prod(view.shape[3:]))
        return (w @ flat).reshape(*view.shape[:2], w.shape[1], *view.shape[3:])

    def max_pool(self, spec: ConvSpec, x: np.ndarray, _: None) -> np.ndarray:
        """The largest element of each window; padding is none."""
        views = [view for _, view in self.views(spec, x, self.lowest(spec))]
        return np.stack(views).max(0)

    def lowest(self, spec: ConvSpec) -> float:
        """What a window's maximum starts from."""
        return -np.inf if spec.in_type.is_float else -128

    def avg_pool(self, spec: ConvSpec, x: np.ndarray, _: None) -> np.ndarray:
        """The mean of each window."""
        total: np.ndarray = sum((view for _, view in self.views(spec, x)), np.zeros((), x.dtype))
        return total / self.divisor(spec).astype(total.dtype)

    def divisor(self, spec: ConvSpec) -> np.ndarray:
        """How many elements each window counts, (outputs...)."""
        counts = [self.counted(spec, axis) for axis in range(spec.rank)]
        whole = counts[0]
        for c in counts[1:]:
            whole = whole[..., None] * c
        return whole

    def counted(self, spec: ConvSpec, axis: int) -> np.ndarray:
        """The factor of the divisor that `axis` contributes."""
        a = spec.axes[axis]
        at = self.positions(spec, axis)
        low, high = (-a.lo, a.n + a.hi) if spec.count_include_pad else (0, a.n)
        return ((at >= low) & (at < high)).sum(1)


class Planned:
    """A backend whose every Prepared holds an algorithm of its own, made by calling `algorithm`."""

    def __init__(self, name: str, algorithm: Callable[[], Right], /, **info: Any) -> None:
        self.info, self._new = BackendInfo(name, **info), algorithm
        self.shared: dict[Any, Any] = {}

    def algorithm(self) -> Right:
        """A fresh algorithm that knows what its backend shares."""
        made = self._new()
        made.shared = self.shared
        return made

    def probe(self) -> Probe:
        """The host."""
        return Probe((host_device(),))

    def workspace_bytes(self, spec: ConvSpec, /) -> int:
        """Not told: the cases are small."""
        return 0

    def prepare(self, spec: ConvSpec, device: str, /) -> Prepared:
        """An algorithm of its own."""
        return Plan(spec, self.algorithm())


class Plan:
    """One specification prepared by a `Planned` backend."""

    def __init__(self, spec: ConvSpec, algorithm: Right) -> None:
        self.spec, self.algorithm = spec, algorithm

    def run(self, x: np.ndarray, w: np.ndarray | None, b: np.ndarray | None, out: np.ndarray, /) -> None:
        """Compute, then deliver."""
        self.algorithm.write(self.spec, self.algorithm(self.spec, x, w, b), out)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return None


#: Right, by both ways of writing a backend.
planned = Planned("right-planned", Right)
backend = from_function(
    "right-numpy",
    Right(),
    Limits(),
    summary="every operation, in plain NumPy",
    nan_max_pool="propagate",
    thread_safe=True,
    layouts=LAYOUTS,
)
