"""Hypotheses about which operand elements are used: kernel, channels, groups, bias, memory layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import prod

import numpy as np

from harness.diagnose.evidence import Evidence, Values
from harness.diagnose.hypothesis import Variant, hypothesis, letters, named, subsets
from harness.diagnose.model import OUTSIDE, taps_of

Map = Callable[[np.ndarray], np.ndarray]

#: Taps of a kernel up to which each one is suspected.
TAPS = 49


@hypothesis("flipped_kernel")
def flipped_kernel(e: Evidence) -> Iterator[Variant]:
    """The kernel is reversed, or `flip` is not read."""
    if e.model.w is None:
        return
    for axes in subsets(e.spec.rank):
        flipped = np.flip(e.model.w, tuple(2 + i for i in axes))
        yield f"the kernel reversed along {named(e.spec.rank, axes)}", replace(e.model, w=flipped)


@hypothesis("kernel_transposed")
def kernel_transposed(e: Evidence) -> Iterator[Variant]:
    """Two spatial axes of the kernel are exchanged."""
    if e.ops.w is None:
        return
    for words, w in _exchanged(e.ops.w, e.spec.rank):
        yield f"the kernel's {words}", e.model.weighted(w)


@hypothesis("input_axes_transposed")
def input_axes_transposed(e: Evidence) -> Iterator[Variant]:
    """Two spatial axes of the input are exchanged, or rows have another pitch."""
    x = e.model.x
    for words, other in _exchanged(x, e.spec.rank):
        yield f"the input's {words}", e.model.on(other)
    if e.spec.rank > 1:
        *_, h, w = x.shape
        plane = x.reshape(*x.shape[:-2], h * w)
        for pitch, words in ((h, "the height"), (w + 1, "one more than the width"), (max(1, w - 1), "one less than the width")):
            if pitch != w:
                at = np.arange(h)[:, None] * pitch + np.arange(w)
                yield f"the input's rows a pitch of {words} apart", e.model.on(plane[..., at % (h * w)])


@hypothesis("output_transposed")
def output_transposed(e: Evidence) -> Iterator[Variant]:
    """Two spatial axes of the output are exchanged."""
    for words, y in _exchanged(e.right, e.spec.rank):
        yield f"the output's {words}", Values(y)


def _exchanged(a: np.ndarray, rank: int) -> Iterator[tuple[str, np.ndarray]]:
    """The array with pairs of spatial axes exchanged: its elements, and its memory."""
    for i in range(rank):
        for j in range(i + 1, rank):
            words = f"axes {letters(rank)[i]} and {letters(rank)[j]} exchanged"
            turned = np.swapaxes(a, 2 + i, 2 + j)
            if turned.shape == a.shape:
                yield words, turned
                continue
            yield f"{words} as it is written", np.ascontiguousarray(turned).reshape(a.shape)
            yield f"{words} as it is read", np.swapaxes(a.reshape(turned.shape), 2 + i, 2 + j)


@hypothesis("flipped_input")
def flipped_input(e: Evidence) -> Iterator[Variant]:
    """The input is mirrored."""
    for axes in subsets(e.spec.rank):
        yield f"the input reversed along {named(e.spec.rank, axes)}", e.model.on(np.flip(e.model.x, tuple(2 + i for i in axes)))


@hypothesis("layout_nhwc")
def layout_nhwc(e: Evidence) -> Iterator[Variant]:
    """Memory of an operand or of the output is taken for channels-last, or the other way round."""
    for words, x in _channels_last(e.model.x):
        yield f"the input {words}", e.model.on(x)
    for words, y in _channels_last(e.right):
        yield f"the output {words}", Values(y)
    if e.ops.w is not None:
        for words, w in _channels_last(e.ops.w):
            yield f"the weights {words}", e.model.weighted(w)
        w, rank = e.ops.w, e.spec.rank
        spatial = tuple(range(2, 2 + rank))
        last = np.transpose(w, (*spatial, 1, 0))  # (taps..., in, out), TensorFlow's
        back = np.argsort((*spatial, 1, 0))
        yield "the weights read as (taps..., in, out)", e.model.weighted(np.transpose(w.reshape(last.shape), back))
        for words, x in _channels_last(e.model.x):
            for too, other in _channels_last(w):
                yield f"the input {words}, and the weights {too}", e.model.on(x).weighted(other)


def _channels_last(a: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    if a.shape[1] == 1 or prod(a.shape[2:]) == 1:
        return
    written = np.moveaxis(a, 1, -1)
    yield "read as channels-last", np.moveaxis(a.reshape(written.shape), -1, 1)
    yield "written as channels-last", np.ascontiguousarray(written).reshape(a.shape)


@hypothesis("weights_io_swapped")
def weights_io_swapped(e: Evidence) -> Iterator[Variant]:
    """Weights are read (in, out, ...) for (out, in, ...)."""
    w = e.ops.w
    if w is None or 1 in w.shape[:2]:
        return
    read = np.swapaxes(w.reshape(w.shape[1], w.shape[0], *w.shape[2:]), 0, 1)
    yield "weights read with input and output channels exchanged", e.model.weighted(read)
    spatial = tuple(range(2, w.ndim))
    yield "weights read with channels exchanged and reversed", e.model.weighted(np.flip(read, spatial))
    groups = e.spec.groups
    if groups > 1:
        part = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
        turned = np.swapaxes(part.reshape(groups, w.shape[1], w.shape[0] // groups, *w.shape[2:]), 1, 2)
        yield "weights of each group read with channels exchanged", e.model.weighted(turned.reshape(w.shape))


@hypothesis("dropped_tap")
def dropped_tap(e: Evidence) -> Iterator[Variant]:
    """Some taps are not read."""
    rank = e.spec.rank
    for i, t in enumerate(e.model.tables):
        taps = t.shape[1]
        along = letters(rank)[i]
        sets = {f"tap {k}": [k] for k in range(taps)} if taps > 1 else {}
        if taps > 2:
            sets |= {"all taps but the first": [*range(1, taps)], "all taps but the last": [*range(taps - 1)]}
            sets |= {"odd taps": [*range(1, taps, 2)], "taps beyond an even number": [*range(taps // 2 * 2, taps)]}
            sets |= {"taps beyond a multiple of 4": [*range(taps // 4 * 4, taps)]} if taps > 4 else {}
            sets |= {"the centre's neighbours": [k for k in range(taps) if k != taps // 2]}
        for words, lost in sets.items():
            if lost:
                short = t.copy()
                short[:, lost] = OUTSIDE
                yield f"{words} left out along {along}", e.model.reading({i: short})
    for words, k in (("first", 0), ("last", -1)):
        if rank > 1:
            found = {i: t.copy() for i, t in enumerate(e.model.tables) if t.shape[1] > 1}
            for table in found.values():
                table[:, k] = OUTSIDE
            yield f"the {words} tap of every axis left out", e.model.reading(found)
    w = e.model.w
    if w is None or prod(w.shape[2:]) > TAPS or rank == 1:
        return
    for tap in np.ndindex(*w.shape[2:]):
        less = w.copy()
        less[(..., *tap)] = 0.0
        yield f"tap {list(tap)} left out", replace(e.model, w=less)


@hypothesis("swapped_taps")
def swapped_taps(e: Evidence) -> Iterator[Variant]:
    """Two taps, or two rows of them, are exchanged."""
    w = e.model.w
    if w is None or max(w.shape[2:]) > 16:
        return
    for i in range(e.spec.rank):
        taps = w.shape[2 + i]
        for k in range(taps):
            for j in range(k + 1, taps):
                order = np.arange(taps)
                order[[k, j]] = order[[j, k]]
                text = f"taps {k} and {j} exchanged along {letters(e.spec.rank)[i]}"
                yield text, replace(e.model, w=np.take(w, order, 2 + i))
        for by in (1, -1):
            if taps > 2:
                yield f"taps rolled by {by} along {letters(e.spec.rank)[i]}", replace(e.model, w=np.roll(w, by, 2 + i))


@hypothesis("window_tap")
def window_tap(e: Evidence) -> Iterator[Variant]:
    """A pool's window is one element longer or shorter."""
    if e.model.w is not None:
        return
    for axes in subsets(e.spec.rank):
        for by in (1, -1):
            found = [replace(a, m=max(1, a.m + by)) if i in axes else a for i, a in enumerate(e.spec.axes)]
            words = "longer" if by > 0 else "shorter"
            yield f"windows one element {words} along {named(e.spec.rank, axes)}", e.model.laid_out(found)


@hypothesis("overwritten")
def overwritten(e: Evidence) -> Iterator[Variant]:
    """Contributions that meet in an output overwrite each other instead of being added."""
    if e.model.kind == "sum" and prod(e.spec.kernel_size) > 1:
        for kind in ("last", "first"):
            yield f"only the {kind} tap that is not zero kept where several meet", replace(e.model, kind=kind)


@hypothesis("transposed_for_conv")
def transposed_for_conv(e: Evidence) -> Iterator[Variant]:
    """A transposed convolution is computed as a convolution of the stretched input with the kernel as it is."""
    w = e.model.w
    if e.spec.op != "conv_transpose" or w is None:
        return
    spatial = tuple(range(2, w.ndim))
    for words, lows in (
        ("", [a.lo for a in e.spec.axes]),
        (" and its padding added", [a.extent - 1 - a.lo for a in e.spec.axes]),
    ):
        model = e.model.laid_out([replace(a, lo=lo) for a, lo in zip(e.spec.axes, lows, strict=True)])
        yield f"the input stretched and correlated with the kernel not reversed{words}", replace(model, w=np.flip(w, spatial))


@hypothesis("integer_reinterpreted")
def integer_reinterpreted(e: Evidence) -> Iterator[Variant]:
    """The bytes of an operand are read as another type."""
    x, w = e.ops.x, e.ops.w
    for words, view in _reinterpretations(e.spec.in_dtype):
        yield f"x read as {words}", e.model.on(view(x))
        if w is not None:
            read = taps_of(e.spec, view(w))
            yield f"w read as {words}", replace(e.model, w=read)
            yield f"x and w read as {words}", replace(e.model.on(view(x)), w=read)


def _reinterpretations(name: str) -> Iterator[tuple[str, Map]]:
    def bits(a: np.ndarray, kind: object) -> np.ndarray:
        with np.errstate(all="ignore"):
            found: np.ndarray = np.ascontiguousarray(a).view(np.dtype(kind)).astype(np.float64)  # type: ignore[call-overload]
        return found

    if name == "i8":
        yield "unsigned bytes", lambda a: bits(a, np.uint8)
        yield "bytes with -128 taken for -127", lambda a: np.maximum(a.astype(np.float64), -127.0)
        yield "sign and magnitude", lambda a: np.where(a < 0, -(a.astype(np.float64) + 128.0), a)
    elif name in ("f16", "bf16"):
        import ml_dtypes

        other, words = (ml_dtypes.bfloat16, "bfloat16") if name == "f16" else (np.float16, "float16")
        yield words, lambda a: bits(a, other)
    if name != "i8":
        yield "the other byte order", lambda a: a.view(f"u{a.itemsize}").byteswap().view(a.dtype).astype(np.float64)
