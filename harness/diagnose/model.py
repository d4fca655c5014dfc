"""A convolution in pieces that a hypothesis can replace one by one, evaluated at chosen outputs.

Each output (n, m, o) reads x[n, channels[m], tables[0][o_0], ...] and multiplies it by w[m]. One table an axis says
which input element each (output, tap) pair reads, or that it reads padding. A hypothesis about the geometry replaces
a table, one about the operands an array. Only a few outputs are evaluated before a hypothesis is given up, so that
hundreds of them cost a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import prod
from typing import Any, Self

import numpy as np

from harness.data import Operands
from harness.spec import ConvSpec
from harness.spec.geometry import Axis

#: In a table: the pair reads padding. It is the index of the element that `padded` appends.
OUTSIDE = -1
#: Products gathered at a time.
CHUNK = 1 << 20


def table(a: Axis, out: int, op: str, mode: str = "zeros") -> np.ndarray:
    """Which input element every (output, tap) pair of an axis reads.

    Parameters
    ----------
    a : Axis
        Any integers; they need not be those of a valid specification.
    out : int
        Outputs.
    op : str
        The operation.
    mode : str
        A padding mode, or `symmetric` (a reflection that repeats the edge), `replicate-one-in` or `circular-one-off`.

    Returns
    -------
    ndarray of int, (out, a.m)

    Examples
    --------
    >>> table(Axis(n=3, m=2, lo=1), 3, "conv").tolist()
    [[-1, 0], [0, 1], [1, 2]]
    """
    o, k = np.arange(out)[:, None], np.arange(a.m)
    if op == "conv_transpose":
        at, phase = np.divmod(o + a.lo - k * a.d, a.s)
        return np.where((phase == 0) & (at >= 0) & (at < a.n), at, OUTSIDE)
    return resolve(o * a.s - a.lo + k * a.d, a.n, mode)


def resolve(at: np.ndarray, n: int, mode: str) -> np.ndarray:
    """Coordinates mapped into an input of `n` elements by a padding mode, or `OUTSIDE`."""
    if mode == "circular":
        return at % n
    if mode == "circular-one-off":
        return np.where(at < 0, at - 1, np.where(at >= n, at + 1, at)) % n
    if mode == "replicate":
        return np.clip(at, 0, n - 1)
    if mode == "replicate-one-in":
        return np.where((at < 0) | (at >= n), np.clip(at, min(1, n - 1), max(0, n - 2)), at)
    if mode == "reflect":
        at = np.where(at < 0, -at, np.where(at >= n, 2 * (n - 1) - at, at))
    elif mode == "symmetric":
        at = np.where(at < 0, -at - 1, np.where(at >= n, 2 * n - 1 - at, at))
    return np.where((at >= 0) & (at < n), at, OUTSIDE)


@dataclass(frozen=True, eq=False)
class Model:
    """What computes an output.

    Attributes
    ----------
    spec : ConvSpec
        Of the call; only its shapes are used by `at`.
    tables : tuple of ndarray of int, one an axis, (out_size[axis], taps)
    padded : ndarray of float64, (batch, in_channels, in_size + 1...)
        The input; the appended elements hold what padding is.
    w : ndarray of float64 or None, (out_channels, channels a group, taps...), in the order in which taps are read
    channels : ndarray of int, (out_channels, channels a group)
        Input channels that an output channel reads.
    bias : ndarray of float64 or None, (out_channels,)
    kind : {'sum', 'mean', 'max', 'fmax', 'min', 'first', 'last'}
        How the products become an output: `first` and `last` keep one tap that is not zero, `fmax` drops NaN.
    divisor : ndarray of float64 or None, `out_size`
        Of a mean.
    """

    spec: ConvSpec
    tables: tuple[np.ndarray, ...]
    padded: np.ndarray
    w: np.ndarray | None
    channels: np.ndarray
    bias: np.ndarray | None
    kind: str
    divisor: np.ndarray | None

    @classmethod
    def of(cls, spec: ConvSpec, ops: Operands) -> Self:
        """The right computation of `spec` on `ops`."""
        if spec.is_pool:
            channels = np.arange(spec.out_channels)[:, None]
        else:
            per = spec.in_channels // spec.groups
            group = np.arange(spec.out_channels) // (spec.out_channels // spec.groups)
            channels = group[:, None] * per + np.arange(per)
        kind = {"max_pool": "max", "avg_pool": "mean"}.get(spec.op, "sum")
        return cls(
            spec,
            tables(spec),
            pad(ops.x, -np.inf if kind == "max" else 0.0),
            None if ops.w is None else taps_of(spec, ops.w),
            channels,
            None if ops.b is None else ops.b.astype(np.float64),
            kind,
            outer(spec.divisor_counts) if kind == "mean" else None,
        )

    @property
    def taps(self) -> int:
        """Products that one output sums, padding included."""
        return self.channels.shape[1] * prod(t.shape[1] for t in self.tables)

    @property
    def x(self) -> np.ndarray:
        """The input, float64."""
        inner: tuple[Any, ...] = (..., *[slice(-1)] * self.spec.rank)
        found: np.ndarray = self.padded[inner]
        return found

    def on(self, x: np.ndarray) -> Model:
        """With another input of the same shape."""
        return replace(self, padded=pad(x, self.padded.flat[-1]))

    def weighted(self, w: np.ndarray) -> Model:
        """With weights given as the backend gets them, of `w_shape`."""
        return replace(self, w=taps_of(self.spec, w))

    def reading(self, changed: Mapping[int, np.ndarray]) -> Model:
        """With other tables for some axes."""
        return replace(self, tables=tuple(changed.get(i, t) for i, t in enumerate(self.tables)))

    def laid_out(self, axes: Sequence[Axis], mode: str | None = None) -> Model:
        """With tables of other axes; the number of taps is that of the weights, the number of outputs stays."""
        spec = self.spec
        found = [table(a, o, spec.op, mode or spec.padding_mode) for a, o in zip(axes, spec.out_size, strict=True)]
        return replace(self, tables=tuple(found))

    def at(self, points: np.ndarray) -> np.ndarray:
        """Outputs at `points`, (count, 2 + rank) indices; float64."""
        return np.concatenate([self._gather(p, self._sum) for p in self._parts(points)])

    def sizes(self, points: np.ndarray) -> np.ndarray:
        """The sum of the products' magnitudes there: the scale of rounding errors."""
        return np.concatenate([self._gather(p, self._magnitude) for p in self._parts(points)])

    def terms(self, points: np.ndarray) -> np.ndarray:
        """The products themselves, (count, channels a group, taps...)."""
        return self._products(points)

    def _parts(self, points: np.ndarray) -> list[np.ndarray]:
        return np.array_split(points, max(1, len(points) * self.taps // CHUNK))

    def _products(self, points: np.ndarray) -> np.ndarray:
        rank = len(self.tables)
        n, m = points[:, 0], points[:, 1]
        index: list[np.ndarray] = [n.reshape(-1, *(1,) * (rank + 1)), self.channels[m].reshape(len(m), -1, *(1,) * rank)]
        for i, t in enumerate(self.tables):
            rows = t[points[:, 2 + i]]
            shape = [len(m), 1, *(1,) * rank]
            shape[2 + i] = rows.shape[1]
            index.append(rows.reshape(shape))
        read: np.ndarray = self.padded[tuple(index)]
        return read if self.w is None else read * self.w[m]

    def _gather(self, points: np.ndarray, reduced: Any) -> np.ndarray:
        with np.errstate(all="ignore"):
            found: np.ndarray = reduced(points, self._products(points))
        return found

    def _sum(self, points: np.ndarray, products: np.ndarray) -> np.ndarray:
        flat = products.reshape(len(points), -1)
        if self.kind in _EXTREMES:
            found: np.ndarray = _EXTREMES[self.kind](flat, axis=1)
            return found
        one = self.kind in ("first", "last")
        y = _kept(products.sum(1).reshape(len(points), -1), self.kind) if one else flat.sum(1)
        if self.kind == "mean" and self.divisor is not None:
            y = y / self.divisor[tuple(points[:, 2:].T)]
        return y if self.bias is None else y + self.bias[points[:, 1]]

    def _magnitude(self, points: np.ndarray, products: np.ndarray) -> np.ndarray:
        flat = np.abs(products.reshape(len(points), -1))
        if self.kind in _EXTREMES:
            return np.zeros(len(points))
        y = flat.sum(1)
        if self.kind == "mean" and self.divisor is not None:
            y = y / self.divisor[tuple(points[:, 2:].T)]
        size: np.ndarray = y if self.bias is None else y + np.abs(self.bias[points[:, 1]])
        return size


_EXTREMES: Mapping[str, Any] = {"max": np.max, "fmax": np.fmax.reduce, "min": np.min}


def _kept(terms: np.ndarray, kind: str) -> np.ndarray:
    """Of each row the first or last entry that is not zero."""
    live = terms != 0
    at = np.argmax(live, 1) if kind == "first" else terms.shape[1] - 1 - np.argmax(live[:, ::-1], 1)
    kept: np.ndarray = terms[np.arange(len(terms)), at]
    return kept


def tables(spec: ConvSpec) -> tuple[np.ndarray, ...]:
    """The right tables of `spec`."""
    return tuple(table(a, o, spec.op, spec.padding_mode) for a, o in zip(spec.axes, spec.out_size, strict=True))


def outer(counts: Sequence[Sequence[int] | np.ndarray]) -> np.ndarray:
    """The product over axes of an entry each, float64."""
    return reduce(np.multiply.outer, [np.asarray(c, np.float64) for c in counts])


def pad(x: np.ndarray, fill: float) -> np.ndarray:
    """`x` in float64 with one element of `fill` after the end of every spatial axis."""
    rank = x.ndim - 2
    return np.pad(x.astype(np.float64), [(0, 0), (0, 0), *[(0, 1)] * rank], constant_values=fill)


def taps_of(spec: ConvSpec, w: np.ndarray) -> np.ndarray:
    """Weights of `w_shape` as `Model.w` holds them."""
    w = w.astype(np.float64)
    if spec.flip:
        w = np.flip(w, tuple(range(2, w.ndim)))
    if spec.op == "conv_transpose":
        grouped = w.reshape(spec.groups, spec.in_channels // spec.groups, -1, *spec.kernel_size)
        w = np.swapaxes(grouped, 1, 2)
    return w.reshape(spec.out_channels, -1, *spec.kernel_size)
