"""A convolution or its transpose as sums over shifted copies of one padded array: the plan of the blocked kernels.

Tap k of a convolution of stride s and dilation d reads, for output o, the padded input at o s + k d. Write
k d = q s + r: the padded input is stored as its s residues (its *phases*), and tap k reads phase r at o + q, so
that neighbours among the outputs are neighbours in memory whatever the stride. Outputs are counted in the pitch of
the stored rows: a tap is then one offset for all outputs, rows and planes included, and what is computed between
the rows' ends is left out when it is stored.

A transposed convolution is the same for each residue of its outputs: o = q s + r takes the taps with
r + low - k d = e s, each from x at q + e.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np

from harness.spec import ConvSpec


@dataclass(frozen=True)
class Stored:
    """How the input is stored, by axis: depth, height, width.

    Attributes
    ----------
    stride : tuple of int
        Input elements between neighbours in memory.
    phases : tuple of tuple of int
        The residues that any tap reads, in the order in which they are stored.
    first : tuple of int
        The input's coordinate that is stored first (in residue 0); negative where there is padding.
    size : tuple of int
        Elements of one phase.
    """

    stride: tuple[int, int, int]
    phases: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    first: tuple[int, int, int]
    size: tuple[int, int, int]

    @property
    def channel(self) -> int:
        """Elements of a channel: all its phases."""
        return prod(map(len, self.phases)) * prod(self.size)

    def offset(self, residue: tuple[int, ...], place: tuple[int, ...]) -> int:
        """Where an element of a phase stands in its channel."""
        at = 0
        for found, phases in zip(residue, self.phases, strict=True):
            at = at * len(phases) + phases.index(found)
        for i, size in zip(place, self.size, strict=True):
            at = at * size + i
        return at


@dataclass(frozen=True)
class Part:
    """The outputs that share their taps: all of a convolution, one residue of a transposed one.

    Attributes
    ----------
    taps : ndarray of int32, (taps, 2)
        Offset in the stored channel, and in the filter of one pair of channels; in the order of the filter.
    size : tuple of int
        Outputs an axis.
    first, step : tuple of int
        The first of them, and the distance to the next, an axis of the whole output.
    """

    taps: np.ndarray
    size: tuple[int, int, int]
    first: tuple[int, int, int]
    step: tuple[int, int, int]

    def pixels(self, stored: Stored) -> int:
        """Outputs from the first to the last, counted in the pitch of the stored rows."""
        _, rows, columns = stored.size
        d, h, w = self.size
        return ((d - 1) * rows + h - 1) * columns + w if prod(self.size) else 0


@dataclass(frozen=True)
class Windows:
    """The plan: one stored input, and the parts of the output."""

    stored: Stored
    parts: tuple[Part, ...]
    dense: bool
    """Whether the input as it is given is what would be stored."""


def windows(spec: ConvSpec) -> Windows:
    """The plan of a convolution or a transposed one.

    Examples
    --------
    >>> plan = windows(ConvSpec("conv", (9,), (3,), stride=(2,), padding=((1, 1),)))
    >>> plan.stored.phases[2], plan.stored.first[2], plan.stored.size[2], plan.parts[0].taps[:, 0].tolist()
    ((0, 1), -1, 6, [0, 6, 1])
    """
    lifted = spec.lifted()
    return _transposed(lifted) if spec.op == "conv_transpose" else _conv(lifted)


def _conv(spec: ConvSpec) -> Windows:
    axes = [_Axis(*v) for v in zip(spec.kernel_size, spec.stride, spec.dilation, spec.out_size, spec.padding, strict=True)]
    stored = Stored(*(tuple(v) for v in zip(*((a.stride, a.residues, -a.padding[0], a.length) for a in axes), strict=True)))
    taps = [
        stored.offset(tuple(a.reach(k) % a.stride for a, k in both), tuple(a.reach(k) // a.stride for a, k in both))
        for both in (list(zip(axes, k, strict=True)) for k in product(*map(range, spec.kernel_size)))
    ]
    part = Part(_numbered(taps, spec), spec.out_size, (0, 0, 0), (1, 1, 1))  # type: ignore[arg-type]
    plain = stored.size == spec.in_size and stored.first == (0, 0, 0) and stored.channel == prod(spec.in_size)
    return Windows(stored, (part,), plain and all(s == 1 for s in spec.stride))


@dataclass(frozen=True)
class _Axis:
    taps: int
    stride: int
    dilation: int
    outputs: int
    padding: tuple[int, int]

    def reach(self, tap: int) -> int:
        return tap * self.dilation

    @property
    def residues(self) -> tuple[int, ...]:
        return tuple(sorted({self.reach(k) % self.stride for k in range(self.taps)}))

    @property
    def length(self) -> int:
        """The outputs and the reach of the last tap; a window of one tap needs no more than its outputs."""
        return self.outputs + max(self.reach(k) // self.stride for k in range(self.taps))


def _transposed(spec: ConvSpec) -> Windows:
    """Each residue's shifts, an axis at a time; the input is padded by as much as the furthest of them reaches."""
    lows = [lo for lo, _ in spec.padding]
    shifts: list[list[list[tuple[int, int]]]] = []  # axis, residue, (tap, shift)
    counts: list[list[int]] = []
    for low, k, s, d, out in zip(lows, spec.kernel_size, spec.stride, spec.dilation, spec.out_size, strict=True):
        shifts.append([[(t, (r + low - t * d) // s) for t in range(k) if (r + low - t * d) % s == 0] for r in range(s)])
        counts.append([max(0, -(-(out - r) // s)) for r in range(s)])
    before, size = [], []
    for axis in range(3):
        reached = [(e, count) for taps, count in zip(shifts[axis], counts[axis], strict=True) for _, e in taps if count]
        before.append(max([-e for e, _ in reached], default=0))
        # no smaller than any residue's outputs: those without taps are counted in the same pitch
        size.append(max([*counts[axis], *(e + count + before[-1] for e, count in reached)]))
    stored = Stored((1, 1, 1), ((0,), (0,), (0,)), tuple(-b for b in before), tuple(max(1, n) for n in size))  # type: ignore[arg-type]
    flat = {k: i for i, k in enumerate(product(*map(range, spec.kernel_size)))}
    parts = []
    for residue in product(*map(range, spec.stride)):
        chosen = [shifts[a][r] for a, r in enumerate(residue)]
        number = tuple(counts[a][r] for a, r in enumerate(residue))
        if not prod(number):
            continue
        taps = [
            (
                stored.offset((0, 0, 0), tuple(e + b for (_, e), b in zip(three, before, strict=True))),
                _mirrored(flat[tuple(t for t, _ in three)], spec),
            )
            for three in product(*chosen)
        ]
        parts.append(Part(np.array(taps, np.int32).reshape(-1, 2), number, residue, spec.stride))  # type: ignore[arg-type]
    dense = stored.first == (0, 0, 0) and stored.size == spec.in_size
    return Windows(stored, tuple(parts), dense)


def _numbered(offsets: list[int], spec: ConvSpec) -> np.ndarray:
    return np.array([(at, _mirrored(i, spec)) for i, at in enumerate(offsets)], np.int32)


def _mirrored(tap: int, spec: ConvSpec) -> int:
    """Where the filter holds the tap: a flipped one is read back to front."""
    return prod(spec.kernel_size) - 1 - tap if spec.flip else tap
