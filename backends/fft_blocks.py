"""Linear convolution by overlap-save: how the outputs are cut into blocks, and the blocks' transforms, many in one call.

The plan needs no SciPy, so that a backend can tell its workspace where SciPy is missing.

References
----------
A. V. Oppenheim, R. W. Schafer, Discrete-Time Signal Processing, 3rd ed., 2010, section 8.7.3 (overlap-save).
M. Frigo, S. G. Johnson, "The Design and Implementation of FFTW3", Proc. IEEE 93(2), 2005 (planning by cost).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import log2, prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from backends.fft_phases import Dense, DenseAxis

#: Costs in nanoseconds, measured with scipy 1.17 and OpenBLAS 0.3.31 on one core of a Xeon server: a point and stage of a
#: real transform, a multiply-accumulate of spectra one by one and in a GEMM, an element brought into GEMM's order, a call.
STAGE_NS, LOOP_NS, GEMM_NS, ORDER_NS, CALL_NS = 0.25, 0.8, 0.2, 1.5, 25_000.0
#: A matrix product costs as much as so many of its products; fewer are not worth a call.
GEMM_PRODUCTS = 1500
#: Blocks whose spectra take more bytes than this are chosen only if there are none that take less.
SPECTRA_BYTES = 256 << 20
#: Spectra that are transformed, multiplied and transformed back at once: what a processor's cache holds.
CHUNK_BYTES = 1 << 20
#: A chunk of filters, of which several multiply the same spectra.
FILTER_BYTES = 4 << 20


@dataclass(frozen=True)
class Plan:
    """How a dense convolution is cut.

    Attributes
    ----------
    block, transform : tuple of int
        Outputs of a block and length of its transform, an axis; a block no shorter than the input is all of it.
    gemm : bool
        Whether channels are contracted by a GEMM a frequency, or channel by channel.
    spectra_bytes : int
        All that is allocated between input and output.
    """

    block: tuple[int, ...]
    transform: tuple[int, ...]
    gemm: bool
    spectra_bytes: int


@dataclass(frozen=True)
class _Layout:
    """What follows from a plan: blocks, and how many of them, and of the filters, are taken at once.

    Attributes
    ----------
    count, step : tuple of int
        Blocks and outputs of one, an axis.
    first : tuple of int
        Where a block's outputs begin in its transform, an axis.
    whole : tuple of bool
        Whether an axis is one block, that begins at the input's first element and may wrap around.
    slab : int
        Blocks along the first axis in a chunk.
    rows : int
        Rows of a group's filters in a chunk.
    """

    count: tuple[int, ...]
    step: tuple[int, ...]
    first: tuple[int, ...]
    whole: tuple[bool, ...]
    slab: int
    rows: int

    @property
    def chunks(self) -> int:
        """Chunks of a sample."""
        return -(-self.count[0] // self.slab)


def _layout(d: Dense, block: tuple[int, ...], transform: tuple[int, ...], real_bytes: int) -> _Layout:
    whole = tuple(b >= a.n and t >= _single(a) for a, b, t in zip(d.axes, block, transform, strict=True))
    step = tuple(a.count if w else t - a.m + 1 for a, t, w in zip(d.axes, transform, whole, strict=True))
    count = tuple(-(-a.count // max(s, 1)) for a, s in zip(d.axes, step, strict=True))
    first = tuple(a.first if w else a.m - 1 for a, w in zip(d.axes, whole, strict=True))
    spectrum = 2 * real_bytes * bins(transform)
    slab = max(1, min(count[0], CHUNK_BYTES // max(1, prod(count[1:]) * d.groups * d.cols * spectrum)))
    slab = -(-count[0] // -(-count[0] // slab)) if count[0] else 1  # chunks of equal size
    rows = max(1, min(d.rows, FILTER_BYTES // (d.groups * d.cols * spectrum)))
    return _Layout(count, step, first, whole, slab, rows)


def bins(transform: tuple[int, ...]) -> int:
    """Frequencies of a real transform."""
    return prod(transform[:-1]) * (transform[-1] // 2 + 1)


def fast_length(n: int) -> int:
    """The smallest 2^a 3^b 5^c that is at least `n`: what `scipy.fft.next_fast_len(n, real=True)` returns.

    Examples
    --------
    >>> [fast_length(n) for n in (1, 7, 13, 97, 1021)]
    [1, 8, 15, 100, 1024]
    """
    best, five = 1 << max(n - 1, 0).bit_length(), 1
    while five < best:
        odd = five
        while odd < best:
            best = min(best, odd << max(-(-n // odd) - 1, 0).bit_length())
            odd *= 3
        five *= 5
    return best


def make_plan(d: Dense, real_bytes: int) -> Plan:
    """The cut of least cost.

    Parameters
    ----------
    d : Dense
    real_bytes : int
        Bytes of a real number: 4 or 8.
    """
    best: tuple[tuple[bool, float], Plan] | None = None
    for cut in product(*map(_cuts, d.axes)):
        block, transform = tuple(b for b, _ in cut), tuple(t for _, t in cut)
        for gemm in (False, True) if d.cols > 1 else (False,):
            need = _need(d, _layout(d, block, transform, real_bytes), transform, real_bytes, gemm=gemm)
            over = need > SPECTRA_BYTES
            rank = (over, float(need) if over else _cost(d, block, transform, real_bytes, gemm=gemm))
            if best is None or rank < best[0]:
                best = rank, Plan(block, transform, gemm, need)
    assert best is not None
    return best[1]


def _cost(d: Dense, block: tuple[int, ...], transform: tuple[int, ...], real_bytes: int, *, gemm: bool) -> float:
    """Nanoseconds on one core."""
    at, size, points = _layout(d, block, transform, real_bytes), prod(transform), bins(transform)
    blocks, taps = d.batch * prod(at.count), d.groups * d.rows * d.cols
    slab = at.slab * prod(at.count[1:])
    # short of four transforms at once, SciPy uses no vectors
    alone = 3.0 if len(transform) == 1 and slab * d.groups * d.cols < 4 else 1.0
    moved = (d.groups * (d.rows + d.cols) * blocks + taps) * size
    total = moved * (max(log2(size), 1.0) * STAGE_NS * alone + 1.0)
    calls = d.batch * at.chunks * (-(-d.rows // at.rows))
    if gemm:
        order = (taps + d.groups * (d.rows + d.cols) * blocks) * points * ORDER_NS
        products = d.rows * d.cols * slab
        total += order + d.batch * at.chunks * d.groups * points * max(products, GEMM_PRODUCTS) * GEMM_NS
    else:
        total += blocks * taps * points * LOOP_NS
        calls *= max(d.rows, 1) if d.cols > 1 else 1
    return total + (calls + (not all(at.whole))) * CALL_NS


def _need(d: Dense, at: _Layout, transform: tuple[int, ...], real_bytes: int, *, gemm: bool) -> int:
    """Bytes at most: spectra of filters, input and output, what each is made of or ordered into, and a row's products."""
    spectrum = 2 * real_bytes * bins(transform)
    beside = max(real_bytes * prod(transform), spectrum if gemm else 0)
    slab, chunk = at.slab * prod(at.count[1:]), d.groups * at.rows * d.cols
    filters = chunk if d.batch * at.chunks == 1 else d.groups * d.rows * d.cols
    moved = d.groups * (d.cols + at.rows) * slab
    products = d.groups * d.cols * slab if d.cols > 1 and not gemm else 0
    return (filters + moved + products) * spectrum + (chunk + moved) * beside


def _cuts(a: DenseAxis) -> list[tuple[int, int]]:
    """(block, transform length) of each number of blocks that is worth a thought."""
    cuts = [(a.n, fast_length(_single(a)))]
    blocks = 2
    while (block := -(-a.count // blocks)) * 2 >= max(a.m, 8):
        length = fast_length(block + a.m - 1)
        if length < cuts[-1][1] and length - a.m + 1 < a.n:
            cuts.append((length - a.m + 1, length))
        blocks = blocks + 1 if blocks < 8 else blocks * 5 // 4
    return cuts


def _single(a: DenseAxis) -> int:
    """The length at which one block may wrap around: only [first, first + count) of the n + m - 1 sums is wanted."""
    return max(a.n, a.m, a.n + a.m - 1 - a.first, a.first + a.count)


def lengths(d: Dense, plan: Plan, real_bytes: int = 4) -> list[int]:
    """Elements an axis that `overlap_save` reads of an input that begins where the outputs do: zeros behind the input."""
    at = _layout(d, plan.block, plan.transform, real_bytes)
    return [a.n if w else max(a.n, c * s + a.m - 1) for a, c, s, w in zip(d.axes, at.count, at.step, at.whole, strict=True)]


def overlap_save(
    x: np.ndarray, h: np.ndarray, d: Dense, plan: Plan, fft: Any, z: np.ndarray | None = None, workers: int = 1
) -> np.ndarray:
    """Convolve.

    Parameters
    ----------
    x : ndarray, (batch, groups, cols, n...), float32 or float64
        An axis may be as long as `lengths` says, with zeros behind its n elements.
    h : ndarray, (groups, rows, cols, m...), the same dtype
    d : Dense
    plan : Plan
    fft : module
        `scipy.fft`.
    z : ndarray, (batch, groups, rows, count...), the same dtype, optional
        Where the result is written.
    workers : int
        Threads of the transforms; which of them takes one changes no bit of it.

    Returns
    -------
    ndarray, (batch, groups, rows, count...), the same dtype
        z[i] = sum_c sum_j h[j] x[i - j] for i in [first, first + count).
    """
    if z is None:
        z = np.empty((d.batch, d.groups, d.rows, *(a.count for a in d.axes)), x.dtype)
    if z.size == 0:
        return z
    at = _layout(d, plan.block, plan.transform, x.dtype.itemsize)
    x = _extended(x, d, at)
    rank, transform = len(d.axes), plan.transform
    axes = tuple(range(-rank, 0))

    def filters(first: int) -> np.ndarray:
        spectrum = fft.rfftn(h[:, first : first + at.rows], transform, axes, None, False, workers)
        return _ordered(spectrum, rank) if plan.gemm else spectrum

    single = d.batch * at.chunks == 1
    kept = [] if single else [filters(first) for first in range(0, d.rows, at.rows)]
    for sample in range(d.batch):
        for begin in range(0, at.count[0], at.slab):
            count = (min(at.slab, at.count[0] - begin), *at.count[1:])
            blocks = _blocks(x[sample], d, at, transform, begin, count)
            spectrum = fft.rfftn(blocks, transform, axes, None, False, workers)
            spectrum = spectrum.reshape(d.groups, d.cols, prod(count), *spectrum.shape[2 + rank :])
            if plan.gemm:
                spectrum = _ordered(spectrum, rank)
            for i, first in enumerate(range(0, d.rows, at.rows)):
                part = _contract(
                    filters(first) if single else kept[i], spectrum, rank, gemm=plan.gemm, last=first + at.rows >= d.rows
                )
                y = fft.irfftn(part, transform, axes, None, True, workers)
                y = y.reshape(*y.shape[:2], *count, *transform)
                _store(y, z[sample, :, first : first + at.rows], at, begin)
    return z


def _extended(x: np.ndarray, d: Dense, at: _Layout) -> np.ndarray:
    """`x` where the axes that are cut begin m - 1 before their first output and hold as many elements as blocks read."""
    source, target, shape = [slice(None)] * 3, [slice(None)] * 3, list(x.shape[:3])
    for i, (a, count, step, whole) in enumerate(zip(d.axes, at.count, at.step, at.whole, strict=True)):
        have, begin = x.shape[3 + i], 0 if whole else a.first - a.m + 1
        need = have if whole else count * step + a.m - 1
        low, high = max(begin, 0), min(have, begin + need)
        source.append(slice(low, max(low, high)))
        target.append(slice(low - begin, low - begin + max(0, high - low)))
        shape.append(max(need, have) if begin == 0 else need)
    if tuple(shape) == x.shape:
        return x
    longer = np.zeros(shape, x.dtype)
    longer[tuple(target)] = x[tuple(source)]
    return longer


def _blocks(x: np.ndarray, d: Dense, at: _Layout, transform: tuple[int, ...], begin: int, count: tuple[int, ...]) -> np.ndarray:
    """A view of overlapping blocks, (groups, cols, count..., elements...); an axis of one block is not yet zero-padded."""
    strides, rank = x.strides[2:], len(count)
    sizes = [x.shape[2 + i] if w else t for i, (w, t) in enumerate(zip(at.whole, transform, strict=True))]
    steps = [s * n for s, n in zip(strides, at.step, strict=True)]
    start = (slice(None),) * 2 + (slice(0 if at.whole[0] else begin * at.step[0], None),)
    return as_strided(x[start], (*x.shape[:2], *count, *sizes), (*x.strides[:2], *steps, *strides[:rank]), writeable=False)


def _ordered(a: np.ndarray, rank: int) -> np.ndarray:
    """(i, j, k, bins...) to (i, bins..., j, k): the spectra as matrices."""
    return np.ascontiguousarray(a.transpose(0, *range(3, 3 + rank), 1, 2))


def _contract(h: np.ndarray, x: np.ndarray, rank: int, *, gemm: bool, last: bool) -> np.ndarray:
    """Sum over input channels the products of spectra, (groups, rows, blocks, bins...); `x` is not needed after the last."""
    if gemm:  # (groups, bins..., rows, cols) (groups, bins..., cols, blocks)
        y = np.matmul(h, x)
        return np.ascontiguousarray(y.transpose(0, 1 + rank, 2 + rank, *range(1, 1 + rank)))
    if h.shape[2] == 1:  # (groups, rows, 1, bins...) (groups, 1, blocks, bins...)
        return np.multiply(h, x, out=x) if last and h.shape[1] == 1 else h * x
    y = np.empty((x.shape[0], h.shape[1], *x.shape[2:]), x.dtype)
    for r in range(h.shape[1]):
        np.add.reduce(h[:, r, :, None] * x, 1, out=y[:, r])
    return y


def _store(y: np.ndarray, z: np.ndarray, at: _Layout, begin: int) -> None:
    """Write the outputs of blocks, (groups, rows, blocks..., elements...), into z, (groups, rows, count...)."""
    rank = len(at.count)
    for pieces in product(*(_pieces(i, y.shape[2 + i], z.shape[2 + i], at, begin) for i in range(rank))):
        shape = [n for _, blocks, size in pieces for n in (blocks.stop - blocks.start, size)]
        place = tuple(slice(o, o + (b.stop - b.start) * n) for o, b, n in pieces)
        target = z[(slice(None), slice(None), *place)].reshape(*z.shape[:2], *shape, copy=False)
        elements = (slice(f, f + n) for f, (_, _, n) in zip(at.first, pieces, strict=True))
        order = (0, 1, *range(2, 2 + 2 * rank, 2), *range(3, 3 + 2 * rank, 2))
        target.transpose(order)[...] = y[(slice(None), slice(None), *(b for _, b, _ in pieces), *elements)]


def _pieces(axis: int, blocks: int, outputs: int, at: _Layout, begin: int) -> Iterator[tuple[int, slice, int]]:
    """(first output, blocks, outputs of each) of the full blocks and of the one that is not."""
    step, origin = at.step[axis], (begin if axis == 0 else 0) * at.step[axis]
    full = min(blocks, (outputs - origin) // step)
    if full:
        yield origin, slice(0, full), step
    if full < blocks:
        yield origin + full * step, slice(full, full + 1), outputs - origin - full * step
