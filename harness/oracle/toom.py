"""The scale of Winograd's rounding errors: its transforms with every sign made positive.

F(m, r) computes m outputs of an r-tap correlation as A^T [(G w) o (B^T x)]. Its error is proportional not to
|w| * |x| but to W = |A^T| sum_c (|G||w|) o (|B^T||x|), nested an axis: a zero tap gives |w| * |x| = 0 where the
transforms still round. Toom-Cook matrices from the interpolation points, exactly: Barabasz, Anderson, Soodhalter &
Gregg, "Error analysis and improving the accuracy of Winograd convolution for deep neural networks", ACM TOMS 46(4),
2020, sec. 3. W does not depend on how a row's factor is shared between G and B^T.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import prod

import numpy as np

from harness.backend import AlgorithmClass
from harness.oracle.windows import padded
from harness.spec import ConvSpec


def matrices(m: int, r: int, points: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """|A^T| (m, n), |G| (n, r) and |B^T| (n, n) of F(m, r), n = m + r - 1, float64.

    Parameters
    ----------
    m, r : int
        Outputs a tile and taps.
    points : tuple of float
        The n - 1 finite points, distinct.

    Examples
    --------
    >>> at, g, bt = matrices(2, 3, (0.0, 1.0, -1.0))
    >>> at.tolist()
    [[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 1.0]]
    """
    n = m + r - 1
    a = [Fraction(p) for p in points]
    if len(a) != n - 1 or len(set(a)) != n - 1:
        raise ValueError(f"F({m},{r}) takes {n - 1} distinct finite points, got {points}")
    at = [[abs(p) ** j for p in a] + [Fraction(int(j == m - 1))] for j in range(m)]
    g, bt = [], []
    for i, p in enumerate(a):
        rest = [q for k, q in enumerate(a) if k != i]
        scale = Fraction(1)
        for q in rest:
            scale *= p - q
        g.append([abs(p**k / scale) for k in range(r)])
        bt.append([abs(c) for c in _polynomial(rest)] + [Fraction(0)])
    g.append([Fraction(int(k == r - 1)) for k in range(r)])
    bt.append([abs(c) for c in _polynomial(a)])
    at_, g_, bt_ = (np.array([[float(v) for v in row] for row in rows]) for rows in (at, g, bt))
    return at_, g_, bt_


def exact_factor(algorithm: AlgorithmClass, rank: int) -> int | None:
    """How much smaller integers must be for F(m, r) to be exact on them; None if its matrices are not dyadic.

    With every divisor a power of two, transforms of integers are dyadic fractions. The sums grow by the
    amplification (F(2, 3): 8/3 an axis) and need as many bits below the point as the divisors have.
    """
    at, g, bt = matrices(algorithm.m, algorithm.r, algorithm.points)
    fractions = g[g > 0]
    if np.any(np.frexp(fractions)[0] != 0.5):
        return None
    grow = float(np.max(at @ (g.sum(1) * bt.sum(1)))) / algorithm.r
    return int(np.ceil((grow / float(np.min(fractions))) ** rank))


def scale(spec: ConvSpec, algorithm: AlgorithmClass, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """W for every output, the maximum over where its tile may begin.

    Parameters
    ----------
    spec : ConvSpec
        A convolution of kernel r an axis, stride and dilation 1.
    algorithm : AlgorithmClass
        Of kind winograd.
    x, w : ndarray of float64
        Magnitudes matter only.

    Returns
    -------
    ndarray of float64, `spec.out_shape`
    """
    m, n, rank = algorithm.m, algorithm.m + algorithm.r - 1, spec.rank
    at, g, bt = matrices(algorithm.m, algorithm.r, algorithm.points)
    groups, cg, mg = spec.groups, spec.in_channels // spec.groups, spec.out_channels // spec.groups
    if spec.flip:
        w = np.flip(w, tuple(range(2, w.ndim)))
    kernels = np.abs(w).reshape(groups, mg, cg, *spec.kernel_size)
    tiles = np.pad(padded(spec, np.abs(x), 0.0), ((0, 0), (0, 0), *((m - 1, n - 1),) * rank))
    starts = tuple(o + m - 1 for o in spec.out_size)
    tiles = np.lib.stride_tricks.sliding_window_view(tiles, (n,) * rank, tuple(range(2, 2 + rank)))
    tiles = tiles[(slice(None), slice(None), *(slice(s) for s in starts))]
    for _ in range(rank):  # each turn transforms the axis that stands last in the windows and puts it first of all
        kernels = np.moveaxis(np.tensordot(kernels, g, (-1, 1)), -1, 0)
        tiles = np.moveaxis(np.tensordot(tiles, bt, (-1, 1)), -1, 0)
    kernels = kernels.reshape(n**rank, 1, groups, mg, cg)
    products = kernels @ tiles.reshape(n**rank, spec.batch, groups, cg, prod(starts))
    sums = products.reshape(*(n,) * rank, -1)
    for axis in range(rank):
        sums = np.moveaxis(np.tensordot(at, sums, (1, axis)), 0, axis)
    sums = sums.reshape(*(m,) * rank, spec.batch, spec.out_channels, *starts)
    # Output o lies at place p of the tile that begins at o - p, which is entry o - p + m - 1.
    found = np.zeros(spec.out_shape)
    for place in product(range(m), repeat=rank):
        tile = (slice(m - 1 - q, m - 1 - q + o) for q, o in zip(place, spec.out_size, strict=True))
        np.maximum(found, sums[(*place, slice(None), slice(None), *tile)], out=found)
    return found


def _polynomial(roots: list[Fraction]) -> list[Fraction]:
    """Coefficients of prod (t - root), lowest first."""
    c = [Fraction(1)]
    for root in roots:
        c = [(c[i - 1] if i else Fraction(0)) - (root * c[i] if i < len(c) else Fraction(0)) for i in range(len(c) + 1)]
    return c
