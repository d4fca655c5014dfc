"""Linear convolution by overlap-add: how the input is cut into blocks, and the sum of their transforms.

The plan needs no SciPy, so that a backend can tell its workspace where SciPy is missing.

References
----------
A. V. Oppenheim, R. W. Schafer, Discrete-Time Signal Processing, 3rd ed., 2010, section 8.7.3 (overlap-add).
M. Frigo, S. G. Johnson, "The Design and Implementation of FFTW3", Proc. IEEE 93(2), 2005 (planning by cost).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import log2, prod
from typing import Any

import numpy as np

from backends.fft_phases import Dense, DenseAxis

#: Costs in nanoseconds, measured with scipy 1.17 and OpenBLAS 0.3.31 on one core of a Xeon server:
#: a point and stage of a real transform, a multiply-accumulate of spectra one by one and in a GEMM, a block.
STAGE_NS, LOOP_NS, GEMM_NS, BLOCK_NS = 0.4, 1.1, 0.35, 30_000.0
#: A GEMM a frequency repays its call from so many products on (measured: 0.3 us against 1.1 ns a product).
GEMM_PRODUCTS = 256
#: Blocks whose spectra take more bytes than this are chosen only if there are none that take less.
SPECTRA_BYTES = 256 << 20


@dataclass(frozen=True)
class Plan:
    """How a dense convolution is cut.

    Attributes
    ----------
    block, transform : tuple of int
        Input elements of a block and length of its transform, an axis.
    gemm : bool
        Whether channels are contracted by a GEMM a frequency, or channel by channel.
    spectra_bytes : int
        All that is allocated while a block is transformed.
    """

    block: tuple[int, ...]
    transform: tuple[int, ...]
    gemm: bool
    spectra_bytes: int


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
    """The cut of least cost among 1, 2, 4, ... blocks an axis.

    Parameters
    ----------
    d : Dense
    real_bytes : int
        Bytes of a real number: 4 or 8.
    """
    gemm = d.cols > 1 and d.batch * d.rows * d.cols >= GEMM_PRODUCTS
    best: tuple[tuple[bool, float], Plan] | None = None
    for cut in product(*map(_cuts, d.axes)):
        transform = tuple(t for _, t in cut)
        size, bins = prod(transform), prod(transform[:-1]) * (transform[-1] // 2 + 1)
        blocks = prod(-(-a.n // b) for a, (b, _) in zip(d.axes, cut, strict=True))
        planes, taps = d.batch * d.groups * (d.rows + d.cols), d.groups * d.rows * d.cols
        transforms = (planes * blocks + taps) * size * max(log2(size), 1.0) * STAGE_NS
        products = blocks * d.batch * taps * bins * (GEMM_NS if gemm else LOOP_NS)
        # Each spectrum beside the zero-padded or half-inverted copy that the transform makes of it.
        need = 2 * real_bytes * (2 * bins + size) * (planes + taps)
        over = need > SPECTRA_BYTES
        rank = (over, float(need) if over else transforms + products + blocks * BLOCK_NS)
        if best is None or rank < best[0]:
            best = rank, Plan(tuple(b for b, _ in cut), transform, gemm, need)
    assert best is not None
    return best[1]


def _cuts(a: DenseAxis) -> list[tuple[int, int]]:
    """(block, transform length) of each number of blocks that is worth a thought.

    A single block may wrap around: only [first, first + count) of the n + m - 1 sums is wanted.
    """
    cuts = [(a.n, fast_length(max(a.n, a.m, a.n + a.m - 1 - a.first, a.first + a.count)))]
    blocks = 2
    while (block := -(-a.n // blocks)) * 2 >= max(a.m, 8):
        cuts.append((block, fast_length(block + a.m - 1)))
        blocks *= 2
    return cuts


def overlap_add(x: np.ndarray, h: np.ndarray, d: Dense, plan: Plan, fft: Any) -> np.ndarray:
    """Convolve.

    Parameters
    ----------
    x : ndarray, (batch, groups, cols, n...), float32 or float64
    h : ndarray, (groups, rows, cols, m...), the same dtype
    d : Dense
    plan : Plan
    fft : module
        `scipy.fft`.

    Returns
    -------
    ndarray, (batch, groups, rows, count...), the same dtype
        z[i] = sum_c sum_j h[j] x[i - j] for i in [first, first + count).
    """
    rank = len(d.axes)
    z = np.zeros((d.batch, d.groups, d.rows, *(a.count for a in d.axes)), x.dtype)
    if z.size == 0:
        return z
    into, axes = z, tuple(range(3, 3 + rank))
    if plan.gemm:  # frequencies before channels: the spectra then are GEMM's matrices, with no transposition
        x, into = (v.transpose(1, *axes, 2, 0) for v in (x, z))
        h = h.transpose(0, *axes, 1, 2)
        axes = tuple(range(1, 1 + rank))
    spectrum = fft.rfftn(h, plan.transform, axes)
    lead = (slice(None),) * axes[0]
    for origin in product(*(range(0, a.n, b) for a, b in zip(d.axes, plan.block, strict=True))):
        reach = list(zip(origin, plan.block, d.axes, strict=True))
        low = [max(o, a.first) for o, _, a in reach]
        high = [min(min(o + b, a.n) + a.m - 1, a.first + a.count) for o, b, a in reach]
        if any(lo >= hi for lo, hi in zip(low, high, strict=True)):
            continue  # all sums of this block are cropped
        block = x[(*lead, *(slice(o, o + b) for o, b, _ in reach))]
        part = fft.irfftn(_contract(spectrum, fft.rfftn(block, plan.transform, axes), gemm=plan.gemm), plan.transform, axes)
        target = (slice(lo - a.first, hi - a.first) for lo, hi, a in zip(low, high, d.axes, strict=True))
        source = (slice(lo - o, hi - o) for lo, hi, o in zip(low, high, origin, strict=True))
        into[(*lead, *target)] += part[(*lead, *source)]
    return z


def _contract(h: np.ndarray, x: np.ndarray, *, gemm: bool) -> np.ndarray:
    """Sum over input channels the products of spectra."""
    if gemm:
        return np.matmul(h, x)  # (groups, bins..., rows, cols) (groups, bins..., cols, batch)
    y = h[:, :, 0] * x[:, :, None, 0]  # (groups, rows, bins...) (batch, groups, 1, bins...)
    for c in range(1, h.shape[2]):
        y += h[:, :, c] * x[:, :, None, c]
    return y
