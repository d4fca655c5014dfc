"""Hypotheses about what becomes of a right result: moved, scaled, clipped, mixed up over the batch; and pools."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.diagnose.evidence import Evidence, Values
from harness.diagnose.hypothesis import Variant, hypothesis, letters, named, subsets
from harness.diagnose.sums import ORDERS, TERMS, Sums
from harness.diagnose.where import axis_names


@hypothesis("flipped_output")
def flipped_output(e: Evidence) -> Iterator[Variant]:
    """The output is mirrored."""
    for axes in subsets(e.spec.rank):
        yield f"the output reversed along {named(e.spec.rank, axes)}", Values(np.flip(e.right, tuple(2 + i for i in axes)))


@hypothesis("shifted_output")
def shifted_output(e: Evidence) -> Iterator[Variant]:
    """Right outputs are stored a few places off."""
    y, rank = e.right, e.spec.rank
    for by in (1, -1, 2, -2, 3, -3):
        places = "place" if abs(by) == 1 else "places"
        for i in range(rank):
            if abs(by) < y.shape[2 + i]:
                words = f"the output stored {abs(by)} {places} {'later' if by > 0 else 'earlier'} along {letters(rank)[i]}"
                yield words, Values(_shifted(y, by, 2 + i))
                yield f"{words}, going round", Values(np.roll(y, by, 2 + i))
        if abs(by) < y.size:
            flat = _shifted(y.reshape(-1), by, 0).reshape(y.shape)
            yield f"the output stored {abs(by)} {places} {'later' if by > 0 else 'earlier'} in memory", Values(flat)


@hypothesis("misplaced_output")
def misplaced_output(e: Evidence) -> Iterator[Variant]:
    """Some outputs hold what belongs elsewhere on an axis: a remainder begins at the wrong place."""
    p = e.suspects[0]
    for axis in range(1, e.right.ndim):
        line = np.moveaxis(e.right, axis, 0)[(slice(None), *np.delete(p, axis))]
        for source in np.flatnonzero(line == e.got[tuple(p)])[:4]:
            by = int(p[axis] - source)
            name = axis_names(e.spec.rank)[axis]
            words = f"{name} {p[axis]} holding what belongs at {source}, and so on"
            yield words, Values(_shifted(e.right, by, axis))
            yield f"{words}, going round", Values(np.roll(e.right, by, axis))


def _shifted(y: np.ndarray, by: int, axis: int) -> np.ndarray:
    """Moved along an axis; what comes from nowhere is what it was."""
    moved = np.moveaxis(np.roll(y, by, axis), axis, 0).copy()
    there = np.moveaxis(y, axis, 0)
    edge = slice(0, by) if by > 0 else slice(by, None)
    moved[edge] = there[edge]
    return np.moveaxis(moved, 0, axis)


@hypothesis("batch_items")
def batch_items(e: Evidence) -> Iterator[Variant]:
    """Items of the batch are exchanged or repeated."""
    n = e.spec.batch
    if n < 2:
        return
    i = np.arange(n)
    orders = {
        "the first item's output for every item": 0 * i,
        "the last item's output for every item": 0 * i + n - 1,
        "items of the batch in reverse order": i[::-1],
        "the output of the next item": (i + 1) % n,
        "the output of the item before": (i - 1) % n,
        "items of the batch exchanged in pairs": np.minimum(i ^ 1, n - 1),
    }
    for words, order in orders.items():
        yield words, Values(e.right[order])
    x = e.model.x
    yield "batch and channels of the input exchanged", e.model.on(np.swapaxes(x.reshape(x.shape[1], n, *x.shape[2:]), 0, 1))
    yield "the sum over the batch in every item", Values(np.broadcast_to(e.right.sum(0, keepdims=True), e.right.shape))


@hypothesis("saturated")
def saturated(e: Evidence) -> Iterator[Variant]:
    """Integers saturate where they have room."""
    yield from _limited(e, "saturating at", lambda y, bits: np.clip(y, -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1))
    if e.spec.in_dtype == "i8" and e.model.w is not None:
        yield from _saturated_pairs(e)
        for order, text in ORDERS.items() if e.model.taps <= TERMS else ():
            yield f"sums saturating at 16 bits after every addition{text}", Sums(e.model, _to_16_bits, order)


@hypothesis("wrapped")
def wrapped(e: Evidence) -> Iterator[Variant]:
    """Integers wrap where they have room."""
    yield from _limited(e, "wrapping at", lambda y, bits: (y + 2.0 ** (bits - 1)) % 2.0**bits - 2.0 ** (bits - 1))


def _limited(e: Evidence, words: str, change: object) -> Iterator[Variant]:
    assert callable(change)
    if e.spec.out_type.is_float or not e.finite:
        return
    bias = 0.0 if e.model.bias is None else e.model.bias.reshape(1, -1, *(1,) * e.spec.rank)
    for bits in (8, 16, 24):
        yield f"results {words} {bits} bits", Values(change(e.right, bits))
        if e.model.bias is not None:
            yield f"sums {words} {bits} bits before the bias is added", Values(change(e.right - bias, bits) + bias)


def _to_16_bits(a: np.ndarray) -> np.ndarray:
    return np.clip(a, -(2.0**15), 2.0**15 - 1)


def _saturated_pairs(e: Evidence) -> Iterator[Variant]:
    """Sums of two products saturating at 16 bits, as pmaddubsw's do."""
    few = e.points if e.out.size * e.model.taps <= 4_000_000 else e.points[:0]
    if not len(few):
        return
    terms = e.model.terms(few)
    right = e.model.at(few)
    flat = terms.reshape(len(few), terms.shape[1], -1)
    for words, a in (("input channels", flat), ("taps", np.swapaxes(flat, 1, 2))):
        if a.shape[1] > 1:
            even = a.shape[1] // 2 * 2
            pairs = a[:, 0:even:2] + a[:, 1:even:2]
            lost = (np.clip(pairs, -(2.0**15), 2.0**15 - 1) - pairs).sum((1, 2))
            yield f"sums of two neighbouring {words} saturating at 16 bits", Values((right + lost).reshape(e.out.shape))
