"""Hypotheses about padding: how much, on which side, and what it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import permutations

import numpy as np

from harness.diagnose.evidence import Evidence
from harness.diagnose.hypothesis import Variant, hypothesis, letters, named, subsets
from harness.diagnose.model import OUTSIDE, Model, pad
from harness.spec.geometry import Axis, same_padding


def changed(e: Evidence, changes: Sequence[tuple[int, dict[str, int]]], mode: str | None = None) -> Model:
    """The model with other numbers on some axes."""
    axes = list(e.spec.axes)
    for i, fields in changes:
        axes[i] = replace(axes[i], **fields)
    return e.model.laid_out(axes, mode)


def low_padded(e: Evidence, lows: Sequence[int]) -> Model:
    """The model with other low padding, an entry an axis."""
    return changed(e, [(i, {"lo": lo}) for i, lo in enumerate(lows)])


@hypothesis("pads_swapped")
def pads_swapped(e: Evidence) -> Iterator[Variant]:
    """Low and high padding are exchanged."""
    for axes in subsets(e.spec.rank):
        if any(e.spec.axes[i].lo != e.spec.axes[i].hi for i in axes):
            swap = [(i, {"lo": e.spec.axes[i].hi, "hi": e.spec.axes[i].lo}) for i in axes]
            yield f"low and high padding exchanged along {named(e.spec.rank, axes)}", changed(e, swap)


@hypothesis("pads_of_axes_swapped")
def pads_of_axes_swapped(e: Evidence) -> Iterator[Variant]:
    """Paddings of two axes are exchanged, or the list of pads is read in another order."""
    rank, pads = e.spec.rank, e.spec.padding
    if rank == 1 or (len({lo for lo, _ in pads}) == len({hi for _, hi in pads}) == 1 and pads[0][0] == pads[0][1]):
        return
    for order in permutations(range(rank)):
        if order != tuple(range(rank)):
            text = f"padding of axes {named(rank, order)} used for {named(rank, tuple(range(rank)))}"
            yield text, low_padded(e, [pads[j][0] for j in order])
            yield f"{text}, and zeros beyond it", _limited(e, [pads[j] for j in order])
    pairs = [p for pair in pads for p in pair]
    split = [lo for lo, _ in pads] + [hi for _, hi in pads]
    yield "pads listed (low, low, high, high) read as (low, high) pairs", low_padded(e, split[::2])
    yield "pads listed as (low, high) pairs read as (low, low, high, high)", low_padded(e, pairs[:rank])
    yield "pads listed last axis first read first axis first", low_padded(e, pairs[::-1][1::2])


def _limited(e: Evidence, pads: Sequence[tuple[int, int]]) -> Model:
    """Padding by the mode as far as `pads` go, zeros beyond."""
    found = {}
    for i, (a, t, (lo, hi)) in enumerate(zip(e.spec.axes, e.model.tables, pads, strict=True)):
        if e.spec.op != "conv_transpose":
            at = coordinates(a, len(t))
            found[i] = np.where((at >= -lo) & (at < a.n + hi), t, OUTSIDE)
    return e.model.reading(found)


def coordinates(a: Axis, out: int) -> np.ndarray:
    """Where every (output, tap) pair reads, before padding is resolved."""
    at: np.ndarray = np.arange(out)[:, None] * a.s - a.lo + np.arange(a.m) * a.d
    return at


@hypothesis("same_side")
def same_side(e: Evidence) -> Iterator[Variant]:
    """`same_lower` and `same_upper` are exchanged: the odd element of padding stands on the other side."""
    for axes in subsets(e.spec.rank):
        if all(_is_same(e.spec.axes[i]) for i in axes):
            swap = [(i, {"lo": e.spec.axes[i].hi, "hi": e.spec.axes[i].lo}) for i in axes]
            yield f"the odd element of `same` padding on the other side along {named(e.spec.rank, axes)}", changed(e, swap)


def _is_same(a: Axis) -> bool:
    """Whether the padding is `same` padding with an odd total."""
    both = [same_padding(a.n, a.m, a.s, a.d, upper=upper) for upper in (False, True)]
    return a.lo != a.hi and (a.lo, a.hi) in both


@hypothesis("symmetric_padding")
def symmetric_padding(e: Evidence) -> Iterator[Variant]:
    """Both sides are padded alike."""
    if all(a.lo == a.hi for a in e.spec.axes):
        return
    ways: dict[str, Callable[[Axis], int]] = {
        "the larger": lambda a: max(a.lo, a.hi),
        "the smaller": lambda a: min(a.lo, a.hi),
        "half the total": lambda a: (a.lo + a.hi) // 2,
        "half the total, rounded up,": lambda a: -(-(a.lo + a.hi) // 2),
    }
    for words, amount in ways.items():
        for axes in subsets(e.spec.rank):
            lows = [amount(a) if i in axes else a.lo for i, a in enumerate(e.spec.axes)]
            yield f"{words} padding on both sides along {named(e.spec.rank, axes)}", low_padded(e, lows)


@hypothesis("padding_ignored")
def padding_ignored(e: Evidence) -> Iterator[Variant]:
    """No padding: outputs are counted from the first element; or a crop is taken for none."""
    for axes in subsets(e.spec.rank):
        if any(e.spec.axes[i].lo for i in axes):
            what = "the crop (negative padding)" if all(e.spec.axes[i].lo < 0 for i in axes) else "the padding"
            yield f"{what} ignored along {named(e.spec.rank, axes)}", changed(e, [(i, {"lo": 0}) for i in axes])
    lows = [abs(a.lo) for a in e.spec.axes]
    if lows != [a.lo for a in e.spec.axes]:
        yield "negative padding taken for positive", low_padded(e, lows)


@hypothesis("transpose_padding")
def transpose_padding(e: Evidence) -> Iterator[Variant]:
    """A transposed convolution's padding is not cropped, or applied to the stretched input."""
    if e.spec.op != "conv_transpose":
        return
    ways: dict[str, Callable[[Axis], int]] = {
        "padding cropped from the high end alone": lambda a: 0,
        "padding added to the stretched input in place of being cropped": lambda a: a.extent - 1 - a.lo,
        "twice the padding cropped from the low end": lambda a: 2 * a.lo,
        "padding multiplied by the stride": lambda a: a.lo * a.s,
        "padding counted in the other direction": lambda a: -a.lo,
        "padding and output padding cropped from the low end": lambda a: a.lo + a.op,
        "output padding added at the low end": lambda a: a.lo - a.op,
    }
    for words, low in ways.items():
        for axes in subsets(e.spec.rank):
            lows = [low(a) if i in axes else a.lo for i, a in enumerate(e.spec.axes)]
            yield f"{words} along {named(e.spec.rank, axes)}", low_padded(e, lows)


@hypothesis("output_padding_zero")
def output_padding_zero(e: Evidence) -> Iterator[Variant]:
    """Outputs that output padding adds are not computed."""
    for axes in subsets(e.spec.rank):
        if all(e.spec.output_padding[i] for i in axes):
            found = {i: e.model.tables[i].copy() for i in axes}
            for i in axes:
                found[i][-e.spec.output_padding[i] :] = OUTSIDE
            yield f"outputs that output padding adds along {named(e.spec.rank, axes)} not computed", e.model.reading(found)


@hypothesis("padding_mode")
def padding_mode(e: Evidence) -> Iterator[Variant]:
    """Padding by another mode."""
    spec = e.spec
    if spec.op == "conv_transpose" or not any(a.lo > 0 or a.hi > 0 for a in spec.axes):
        return
    words = {
        "zeros": "zeros",
        "circular": "circular",
        "reflect": "reflect",
        "replicate": "replicate",
        "symmetric": "reflect with the edge repeated",
        "replicate-one-in": "replicate of the element next to the edge",
        "circular-one-off": "circular with one element left out",
    }
    for mode, text in words.items():
        if mode == spec.padding_mode:
            continue
        other = e.model.laid_out(spec.axes, mode).tables
        beyond = {i: coordinates(a, len(t)) for i, (a, t) in enumerate(zip(spec.axes, other, strict=True))}
        for axes in subsets(spec.rank):
            along = f" along {named(spec.rank, axes)}" if spec.rank > 1 else ""
            yield f"padding by {text} in place of {spec.padding_mode}{along}", e.model.reading({i: other[i] for i in axes})
            for side, low in (("low", True), ("high", False)):
                found = {
                    i: np.where(beyond[i] < 0 if low else beyond[i] >= spec.axes[i].n, other[i], e.model.tables[i])
                    for i in axes
                }
                yield f"padding by {text} in place of {spec.padding_mode} at the {side} end{along}", e.model.reading(found)


@hypothesis("padding_constant")
def padding_constant(e: Evidence) -> Iterator[Variant]:
    """Padding holds another constant than 0."""
    if e.model.kind not in ("sum", "mean") or not any(bool(np.any(t == OUTSIDE)) for t in e.model.tables):
        return
    ones = replace(e.model, padded=pad(e.model.x, 1.0))
    points = e.suspects[:40]
    share = ones.at(points) - e.model.at(points)
    live = np.flatnonzero(share != 0)
    if len(live):
        p = points[live[0]]
        value = float((e.got[tuple(p)] - e.right[tuple(p)]) / share[live[0]])
        if np.isfinite(value) and abs(value) > 1e-3 * float(np.max(np.abs(e.model.x))):
            yield f"padding that holds {value:.6g} in place of 0", replace(e.model, padded=pad(e.model.x, value))


@hypothesis("edge_masked")
def edge_masked(e: Evidence) -> Iterator[Variant]:
    """An element at the edge of the input is taken for padding: i > 0 where i >= 0 is meant."""
    for axes in subsets(e.spec.rank):
        for words, at in (("first", 0), ("last", None)):
            found = {}
            for i in axes:
                edge = e.spec.axes[i].n - 1 if at is None else at
                found[i] = np.where(e.model.tables[i] == edge, OUTSIDE, e.model.tables[i])
            yield f"the {words} input element along {named(e.spec.rank, axes)} taken for padding", e.model.reading(found)


@hypothesis("empty_window")
def empty_window(e: Evidence) -> Iterator[Variant]:
    """A window wholly in the padding gives what its neighbour gives."""
    for i, t in enumerate(e.model.tables):
        empty = (t == OUTSIDE).all(1)
        if not empty.any() or empty.all():
            continue
        before, after = t.copy(), t.copy()
        for o in range(1, len(t)):
            before[o] = before[o - 1] if empty[o] else before[o]
            after[-o - 1] = after[-o] if empty[-o - 1] else after[-o - 1]
        along = letters(e.spec.rank)[i]
        yield f"windows wholly in the padding along {along} repeating the output before", e.model.reading({i: before})
        yield f"windows wholly in the padding along {along} repeating the output after", e.model.reading({i: after})
