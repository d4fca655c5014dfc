"""Hypotheses about where taps are read: strides, dilation, offsets, indices that are too short."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import permutations

import numpy as np

from harness.diagnose.evidence import Evidence
from harness.diagnose.hypothesis import Variant, hypothesis, letters, named, subsets
from harness.diagnose.model import resolve
from harness.diagnose.padding import changed, coordinates, low_padded


@hypothesis("stride_dilation_swapped")
def stride_dilation_swapped(e: Evidence) -> Iterator[Variant]:
    """The stride is used as the dilation, and the dilation as the stride."""
    for axes in subsets(e.spec.rank):
        if any(e.spec.stride[i] != e.spec.dilation[i] for i in axes):
            swap = [(i, {"s": e.spec.dilation[i], "d": e.spec.stride[i]}) for i in axes]
            yield f"stride and dilation exchanged along {named(e.spec.rank, axes)}", changed(e, swap)


def _of_other_axes(e: Evidence, field: str, values: Sequence[int], what: str) -> Iterator[Variant]:
    rank = e.spec.rank
    if len(set(values)) == 1:
        return
    for j in range(rank):
        yield (
            f"the {what} of {letters(rank)[j]} used for every axis",
            changed(e, [(i, {field: values[j]}) for i in range(rank)]),
        )
    for order in permutations(range(rank)):
        if order != tuple(range(rank)):
            text = f"the {what}s of {named(rank, order)} used for {named(rank, tuple(range(rank)))}"
            yield text, changed(e, [(i, {field: values[j]}) for i, j in enumerate(order)])


@hypothesis("stride_of_axis")
def stride_of_axis(e: Evidence) -> Iterator[Variant]:
    """The stride of another axis is used."""
    yield from _of_other_axes(e, "s", e.spec.stride, "stride")


@hypothesis("dilation_of_axis")
def dilation_of_axis(e: Evidence) -> Iterator[Variant]:
    """The dilation of another axis is used."""
    yield from _of_other_axes(e, "d", e.spec.dilation, "dilation")


@hypothesis("dilation_ignored")
def dilation_ignored(e: Evidence) -> Iterator[Variant]:
    """The kernel is taken for a dense one."""
    for axes in subsets(e.spec.rank):
        if any(e.spec.dilation[i] > 1 for i in axes):
            dense = [(i, {"d": 1}) for i in axes]
            yield f"the dilation ignored along {named(e.spec.rank, axes)}", changed(e, dense)
            centred = [(i, {"d": 1, "lo": (e.spec.kernel_size[i] - 1) // 2}) for i in axes]
            yield f"the dilation ignored along {named(e.spec.rank, axes)}, padding too", changed(e, centred)


@hypothesis("stride_ignored")
def stride_ignored(e: Evidence) -> Iterator[Variant]:
    """The stride is taken for 1."""
    for axes in subsets(e.spec.rank):
        if any(e.spec.stride[i] > 1 for i in axes):
            yield f"the stride ignored along {named(e.spec.rank, axes)}", changed(e, [(i, {"s": 1}) for i in axes])


@hypothesis("dilation_off_by_one")
def dilation_off_by_one(e: Evidence) -> Iterator[Variant]:
    """The dilation is one larger or smaller."""
    for axes in subsets(e.spec.rank):
        for by in (1, -1):
            other = [(i, {"d": e.spec.dilation[i] + by}) for i in axes]
            yield f"the dilation {'one more' if by > 0 else 'one less'} along {named(e.spec.rank, axes)}", changed(e, other)
            yield (
                f"the stride {'one more' if by > 0 else 'one less'} along {named(e.spec.rank, axes)}",
                changed(e, [(i, {"s": max(1, e.spec.stride[i] + by)}) for i in axes]),
            )


@hypothesis("ceil_floor")
def ceil_floor(e: Evidence) -> Iterator[Variant]:
    """Windows are laid out for an output size rounded the other way: from the high end."""
    if e.spec.op == "conv_transpose":
        return
    left = [(a.n + a.lo + a.hi - a.extent) % a.s for a in e.spec.axes]
    if any(left):
        for words, shift in (
            ("from the high end", left),
            ("centred in what the stride leaves over", [v // 2 for v in left]),
            ("one element late where the stride does not divide", [int(v > 0) for v in left]),
        ):
            yield f"windows laid out {words}", low_padded(e, [a.lo - v for a, v in zip(e.spec.axes, shift, strict=True)])


@hypothesis("shifted_taps")
def shifted_taps(e: Evidence) -> Iterator[Variant]:
    """Every output reads its taps a few elements off."""
    reach = max(3, *e.spec.stride, *e.spec.dilation)
    for by in [v for k in range(1, min(reach, 8) + 1) for v in (k, -k)]:
        for axes in subsets(e.spec.rank):
            places = "place" if abs(by) == 1 else "places"
            text = f"taps read {abs(by)} {places} too {'far' if by > 0 else 'early'} along {named(e.spec.rank, axes)}"
            yield text, changed(e, [(i, {"lo": e.spec.axes[i].lo - by}) for i in axes])


@hypothesis("index_limit")
def index_limit(e: Evidence) -> Iterator[Variant]:
    """Coordinates are kept in a type that is too small."""
    if e.spec.op == "conv_transpose":
        return
    kinds: tuple[tuple[str, Callable[[np.ndarray], np.ndarray]], ...] = (
        ("float16", lambda at: at.astype(np.float16).astype(int)),
        ("8 bits, signed", lambda at: at.astype(np.int8).astype(int)),
        ("8 bits", lambda at: at & 255),
        ("16 bits, signed", lambda at: at.astype(np.int16).astype(int)),
        ("16 bits", lambda at: at & 65535),
    )
    for words, kept in kinds:
        found = {}
        for i, (a, t) in enumerate(zip(e.spec.axes, e.model.tables, strict=True)):
            at = coordinates(a, len(t))
            if np.any(kept(at) != at):
                found[i] = resolve(kept(at), a.n, e.spec.padding_mode)
        if found:
            yield f"coordinates of the input in {words}", e.model.reading(found)
