"""A right convolution in NumPy, in steps that a fault can replace one by one.

`Right` computes every operation from one table an axis: which input element each (output, tap) pair
reads, or that it reads none. It shares no code with the oracle or a built-in backend. A wrong backend
is a subclass that overrides one step; see `wrong_backends`.
"""

from math import prod

import numpy as np

from harness.backend import LAYOUTS, BackendInfo, Limits, Probe, from_function, host_device
from harness.spec.host import narrow, numpy_dtype, widen

#: In a table of sources: the element lies in no input.
NOWHERE = -1


class Right:
    """The function of a backend: `Right()(spec, x, w, b)` is the output."""

    def __call__(self, spec, x, w, b):
        """Widen, sum, add the bias, round once: the whole computation."""
        with np.errstate(all="ignore"):  # NaN and infinities are data here
            y = getattr(self, spec.op)(spec, self.load(spec, x), None if w is None else self.load(spec, w))
            return self.finish(spec, y, b)

    def write(self, spec, y, out):
        """The result delivered, where the backend is `Planned`."""
        out[...] = y

    # --- values -------------------------------------------------------------------------------
    def load(self, spec, a):
        """An operand in the accumulator's type."""
        return widen(a, spec)

    def finish(self, spec, y, b):
        """The bias added in the accumulator's type, then the one rounding."""
        return narrow(y if b is None else y + self.per_channel(spec, b), spec)

    def per_channel(self, spec, b):
        """A vector of the output's channels, to be added to the output."""
        return b.reshape(-1, *(1,) * spec.rank)

    # --- places -------------------------------------------------------------------------------
    def sources(self, spec, axis):
        """(outputs, taps) along `axis`: the input element that is read, or NOWHERE."""
        at = self.positions(spec, axis)
        n = spec.in_size[axis]
        inside = (at >= 0) & (at < n)
        return np.where(inside, at, self.beyond(spec, axis, at, n))

    def positions(self, spec, axis):
        """(outputs, taps) along `axis`: coordinates in the input, which may lie outside of it."""
        a = spec.axes[axis]
        o, k = np.arange(spec.out_size[axis])[:, None], np.arange(a.m)
        if spec.op != "conv_transpose":
            return o * a.s - a.lo + k * a.d
        stamped, phase = np.divmod(o + a.lo - k * a.d, a.s)
        return np.where(phase == 0, stamped, NOWHERE)

    def beyond(self, spec, axis, at, n):
        """What stands for coordinates outside of the input's `n` elements."""
        if spec.padding_mode == "circular":
            return at % n
        if spec.padding_mode == "replicate":
            return np.clip(at, 0, n - 1)
        if spec.padding_mode == "reflect":
            return np.where(at < 0, -at, 2 * (n - 1) - at)
        return np.full_like(at, NOWHERE)

    def views(self, spec, x, fill=0):
        """For each tap its index and what every output reads there, (batch, channels, outputs...)."""
        x = np.pad(x, [(0, 0), (0, 0), *[(0, 1)] * spec.rank], constant_values=fill)  # index -1 reads the fill
        return self.taken(x, [self.sources(spec, axis) for axis in range(spec.rank)], ())

    def taken(self, x, tables, tap):
        """The same for the taps that begin with `tap`, whose axes have been read."""
        if len(tap) == len(tables):
            yield tap, x
            return
        for k, at in enumerate(tables[len(tap)].T):
            yield from self.taken(x.take(at, 2 + len(tap)), tables, (*tap, k))

    # --- operations ---------------------------------------------------------------------------
    def conv(self, spec, x, w):
        """The sum over taps and the channels of the group."""
        return self.contract(spec, x, self.weights(spec, w))

    def conv_transpose(self, spec, x, w):
        """The same sum; only the sources and the weights' layout differ."""
        return self.contract(spec, x, self.weights(spec, w))

    def weights(self, spec, w):
        """(groups, outputs a group, inputs a group, taps...), in the order in which taps are read."""
        if spec.flip:
            w = np.flip(w, tuple(range(2, 2 + spec.rank)))
        if spec.op == "conv_transpose":
            per_group = w.reshape(spec.groups, spec.in_channels // spec.groups, -1, *spec.kernel_size)
            return np.swapaxes(per_group, 1, 2)
        return w.reshape(spec.groups, -1, spec.in_channels // spec.groups, *spec.kernel_size)

    def contract(self, spec, x, w):
        """Multiply and add, tap by tap, in the accumulator's type."""
        y = np.zeros(spec.out_shape, numpy_dtype(spec.acc_dtype))
        for tap, view in self.views(spec, x):
            y = self.add(spec, y, self.product(spec, self.grouped(spec, view), w[(..., *tap)]).reshape(y.shape))
        return y

    def add(self, spec, y, term):
        """One step of the accumulation."""
        return y + term

    def grouped(self, spec, view):
        """(batch, groups, inputs a group, outputs...): the channels that each group reads."""
        return view.reshape(spec.batch, spec.groups, spec.in_channels // spec.groups, *spec.out_size)

    def product(self, spec, view, w):
        """One tap's channels contracted: (batch, groups, outputs a group, outputs...)."""
        flat = view.reshape(*view.shape[:3], prod(view.shape[3:]))
        return (w @ flat).reshape(*view.shape[:2], w.shape[1], *view.shape[3:])

    def max_pool(self, spec, x, _):
        """The largest element of each window; padding is none."""
        views = [view for _, view in self.views(spec, x, self.lowest(spec))]
        return np.stack(views).max(0)

    def lowest(self, spec):
        """What a window's maximum starts from."""
        return -np.inf if spec.in_type.is_float else -128

    def avg_pool(self, spec, x, _):
        """The mean of each window."""
        total = sum(view for _, view in self.views(spec, x))
        return total / self.divisor(spec).astype(total.dtype)

    def divisor(self, spec):
        """How many elements each window counts, (outputs...)."""
        counts = [self.counted(spec, axis) for axis in range(spec.rank)]
        whole = counts[0]
        for c in counts[1:]:
            whole = whole[..., None] * c
        return whole

    def counted(self, spec, axis):
        """The factor of the divisor that `axis` contributes."""
        a = spec.axes[axis]
        at = self.positions(spec, axis)
        low, high = (-a.lo, a.n + a.hi) if spec.count_include_pad else (0, a.n)
        return ((at >= low) & (at < high)).sum(1)


class Planned:
    """A backend whose every Prepared holds an algorithm of its own, made by calling `algorithm`."""

    def __init__(self, name, algorithm, **info):
        self.info, self.algorithm = BackendInfo(name, **info), algorithm

    def probe(self):
        return Probe((host_device(),))

    def workspace_bytes(self, spec):
        return 0

    def prepare(self, spec, device):
        return Plan(spec, self.algorithm())


class Plan:
    """One specification prepared by a `Planned` backend."""

    def __init__(self, spec, algorithm):
        self.spec, self.algorithm = spec, algorithm

    def run(self, x, w, b, out):
        self.algorithm.write(self.spec, self.algorithm(self.spec, x, w, b), out)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
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
