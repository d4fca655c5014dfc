"""A random specification over the whole lattice, from any source of choices.

The same function serves a seeded stream (`Dice`), whose draws are the same for ever, and Hypothesis
(`harness.fuzzing.strategies`), which shrinks by choosing smaller: of every choice the simplest option stands first.
Sizes lean to where implementations break: primes, one more or less than 4, 8, 16 and 32, axes of one element,
kernels as large as the input or larger, padding beyond the kernel.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Protocol, TypeVar

from harness.spec import ConvSpec, SpecError
from harness.spec.convspec import DTYPE_TRIPLES, OPS
from harness.spec.geometry import same_padding

T = TypeVar("T")
#: Elements an axis, by rank; the tails of vectors of 4, 8, 16 and 32, primes, and lengths 1 and 2.
SIZES: tuple[tuple[int, ...], ...] = (
    (5, 7, 1, 2, 3, 4, 6, 8, 9, 11, 13, 15, 16, 17, 19, 23, 31, 32, 33, 37, 47, 61, 63, 64, 65, 67),
    (5, 7, 1, 2, 3, 4, 6, 8, 9, 10, 11, 13, 15, 16, 17, 19, 23, 31, 32, 33),
    (3, 4, 1, 2, 5, 6, 7, 8, 9, 11, 13, 17),
)
KERNELS = (3, 1, 2, 3, 4, 5, 7)
STRIDES = (1, 1, 1, 2, 2, 3, 4, 5)
DILATIONS = (1, 1, 1, 1, 2, 2, 3, 4)
PADDINGS = ("none", "symmetric", "asymmetric", "negative", "same_upper", "same_lower", "negative", "beyond")
MODES = ("zeros", "zeros", "zeros", "circular", "reflect", "replicate")
#: How often each operation is drawn.
_WEIGHT = {"conv": 5, "conv_transpose": 3, "max_pool": 1, "avg_pool": 1}
BATCHES = (1, 1, 1, 1, 1, 2, 2, 3, 0)
MOST_CHANNELS = 20
#: How the channels are grouped.
GROUPINGS = ("1", "1", "1", "some", "depthwise", "multiplier")


class Chooser(Protocol):
    """Where choices come from."""

    def integer(self, low: int, high: int) -> int:
        """One of low, ..., high."""
        ...

    def pick(self, options: Sequence[T]) -> T:
        """One of the options; the first is the simplest."""
        ...


class Dice:
    """Choices that a key fixes, on any machine and under any release of Python.

    Only `random.random` is used, the one method whose sequence for a seed Python promises to keep.

    Examples
    --------
    >>> one, other = Dice(7, 0), Dice(7, 0)
    >>> [one.integer(1, 6) for _ in range(9)] == [other.integer(1, 6) for _ in range(9)]
    True
    """

    def __init__(self, *key: object) -> None:
        self._random = random.Random("\0".join(map(str, key))).random  # noqa: S311 - no secret

    def integer(self, low: int, high: int) -> int:
        """One of low, ..., high."""
        return low + int(self._random() * (high - low + 1))

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[self.integer(0, len(options) - 1)]


@dataclass(frozen=True)
class Bounds:
    """What is drawn.

    Attributes
    ----------
    ops : tuple of str
    triples : tuple of (str, str, str)
        Input, accumulator and output types.
    max_flops : int
        The most that a specification may cost, `ConvSpec.flops`.
    max_elements : int
        The most elements of the input and of the output.
    """

    ops: tuple[str, ...] = OPS
    triples: tuple[tuple[str, str, str], ...] = DTYPE_TRIPLES
    max_flops: int = 400_000
    max_elements: int = 6_000

    def within(self, spec: ConvSpec) -> bool:
        """Whether the specification is small enough."""
        return max(prod(spec.x_shape), prod(spec.out_shape)) <= self.max_elements and spec.flops <= self.max_flops


@dataclass
class _Axis:
    """One axis as it is drawn."""

    n: int
    m: int
    s: int
    d: int
    lo: int = 0
    hi: int = 0
    extra: int = 0

    @property
    def extent(self) -> int:
        return (self.m - 1) * self.d + 1


def draw_spec(choose: Chooser, bounds: Bounds | None = None) -> ConvSpec | None:
    """A specification, or None where the choices have no meaning together or cost too much.

    Parameters
    ----------
    choose : Chooser
    bounds : Bounds, optional

    Examples
    --------
    >>> drawn = [draw_spec(Dice(1, i)) for i in range(100)]
    >>> len([spec for spec in drawn if spec]) > 80
    True
    """
    bounds = bounds or Bounds()
    op = choose.pick([o for o in bounds.ops for _ in range(_WEIGHT[o])])
    rank = choose.pick((1, 2, 2, 3))
    pool = op in ("max_pool", "avg_pool")
    mode = choose.pick(MODES) if op == "conv" else "zeros"
    axes = _axes(choose, op, rank, mode)
    groups, inner, outer = (1, channels := _count(choose), channels) if pool else _channels(choose)
    types = _types(choose, op, bounds.triples)
    if types is None:
        return None
    try:
        spec = ConvSpec(
            op,
            tuple(a.n for a in axes),
            tuple(a.m for a in axes),
            batch=choose.pick(BATCHES),
            in_channels=inner,
            out_channels=outer,
            stride=tuple(a.s for a in axes),
            padding=tuple((a.lo, a.hi) for a in axes),
            padding_mode=mode,
            dilation=tuple(a.d for a in axes),
            groups=groups,
            output_padding=tuple(a.extra for a in axes),
            bias=not pool and choose.pick((False, True)),
            flip=not pool and choose.pick((False, False, True)),
            ceil_mode=pool and choose.pick((False, True)),
            count_include_pad=op == "avg_pool" and choose.pick((False, True)),
            in_dtype=types[0],
            acc_dtype=types[1],
            out_dtype=types[2],
        )
    except SpecError:
        return None
    return spec if bounds.within(spec) else None


def _types(choose: Chooser, op: str, triples: Sequence[tuple[str, str, str]]) -> tuple[str, str, str] | None:
    """Element types that the operation takes; None if there is none."""
    if op == "max_pool":
        name = choose.pick(tuple(dict.fromkeys(t[0] for t in triples)))
        return name, name, name
    fit = [t for t in triples if op != "avg_pool" or t[0] != "i8"]
    # the default type half of the time: every other feature is met in it first
    return choose.pick((fit[0], choose.pick(fit))) if fit else None


def _count(choose: Chooser) -> int:
    """Channels: one, few, or up to `MOST_CHANNELS`."""
    return choose.integer(1, choose.pick((1, 4, 4, 9, MOST_CHANNELS)))


def _channels(choose: Chooser) -> tuple[int, int, int]:
    """(groups, in_channels, out_channels)."""
    kind = choose.pick(GROUPINGS)
    if kind == "1":
        return 1, _count(choose), _count(choose)
    if kind == "some":
        groups = choose.integer(2, 4)
        return groups, groups * choose.integer(1, 5), groups * choose.integer(1, 5)
    groups = _count(choose)
    return groups, groups, groups * (1 if kind == "depthwise" else choose.integer(2, 3))


def _axes(choose: Chooser, op: str, rank: int, mode: str) -> list[_Axis]:
    """The axes: of one kind each, or the features of the first repeated on all."""
    alike = choose.pick((True, False))  # the same kernel, stride, dilation and padding on every axis
    plain = choose.pick((False, False, True))  # stride and dilation 1: what fast algorithms take
    axes: list[_Axis] = []
    kind = ""
    for _ in range(rank):
        n = choose.pick(SIZES[rank - 1])
        if axes and alike:
            axes.append(_Axis(n, axes[0].m, axes[0].s, axes[0].d))
        else:
            kind = choose.pick(PADDINGS)
            m = choose.pick(KERNELS) if choose.integer(0, 9) else choose.integer(n, n + 2)  # now and then beyond the input
            axes.append(_Axis(n, m, *((1, 1) if plain else (choose.pick(STRIDES), choose.pick(DILATIONS)))))
        a = axes[-1]
        a.lo, a.hi = _padding(choose, kind, a, mode)
        _fit(a, op, mode)
        a.extra = choose.integer(0, a.s - 1) if op == "conv_transpose" else 0
    return axes


def _padding(choose: Chooser, kind: str, a: _Axis, mode: str) -> tuple[int, int]:
    """Low and high padding of one kind."""
    if kind == "symmetric":
        p = choose.integer(0, a.extent)
        return p, p
    if kind == "asymmetric":
        return choose.integer(0, a.extent), choose.integer(0, a.extent)
    if kind in ("same_upper", "same_lower"):
        return same_padding(a.n, a.m, a.s, a.d, upper=kind == "same_upper")
    if kind == "negative" and mode == "zeros":
        return choose.integer(-2, 1), choose.integer(-2, 1)
    if kind == "beyond":
        return a.extent + choose.integer(0, 2), choose.integer(0, a.extent + 2)
    return 0, 0


def _fit(a: _Axis, op: str, mode: str) -> None:
    """Bring the padding into what the operation and the mode allow, and the kernel into the padded input."""
    if op in ("max_pool", "avg_pool"):
        a.lo, a.hi = (min(max(p, 0), a.extent - 1) for p in (a.lo, a.hi))
    elif op == "conv_transpose":
        a.lo, a.hi = max(a.lo, 0), max(a.hi, 0)
        room = (a.n - 1) * a.s + a.extent - 1
        a.lo = min(a.lo, room)
        a.hi = min(a.hi, room - a.lo)
        return
    most = {"circular": a.n, "reflect": a.n - 1}.get(mode)
    if most is not None:
        a.lo, a.hi = min(a.lo, most), min(a.hi, most)
    if (short := a.extent - a.n - a.lo - a.hi) > 0:
        if most is None and op == "conv":
            a.hi += short
        else:
            a.m = (a.n + a.lo + a.hi - 1) // a.d + 1
