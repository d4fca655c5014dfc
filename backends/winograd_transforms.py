"""The matrices of Winograd's minimal filtering F(m, r), exactly, from the interpolation points.

F(m, r) gives m outputs of an r-tap correlation from n = m + r - 1 inputs with n products:
y = A^T [(G g) o (B^T d)]. It is the transpose of Toom and Cook's product of polynomials, which evaluates
both factors at n - 1 finite points and at infinity, multiplies, and interpolates: A^T holds the powers of
the points, G the evaluation divided by Lagrange's denominators, B^T the coefficients of Lagrange's numerators.

References
----------
S. Winograd, Arithmetic Complexity of Computations, SIAM, 1980; A. Lavin, S. Gray, "Fast algorithms for
convolutional neural networks", CVPR 2016 (the same matrices, up to signs); B. Barabasz, A. Anderson,
K. M. Soodhalter, D. Gregg, "Error analysis and improving the accuracy of Winograd convolution for deep
neural networks", ACM TOMS 46(4), 2020, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import prod

Matrix = tuple[tuple[Fraction, ...], ...]


def transforms(m: int, r: int, points: Sequence[float | Fraction]) -> tuple[Matrix, Matrix, Matrix]:
    """A^T (m, n), G (n, r) and B^T (n, n) of F(m, r), n = m + r - 1.

    Parameters
    ----------
    m, r : int
        Outputs of a tile, and taps.
    points : sequence of float or Fraction
        The n - 1 finite interpolation points, distinct; the one at infinity is implied and comes last.

    Returns
    -------
    tuple of tuple of tuple of Fraction
        Signs are such that each row of G begins with a number that is not negative.

    Raises
    ------
    ValueError
        If the points are too few, too many or not distinct.

    Examples
    --------
    >>> AT, G, BT = transforms(2, 3, (0, 1, -1))
    >>> [[str(v) for v in row] for row in G]
    [['1', '0', '0'], ['1/2', '1/2', '1/2'], ['1/2', '-1/2', '1/2'], ['0', '0', '1']]
    >>> [[int(v) for v in row] for row in BT]
    [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, -1, 0, 1]]
    """
    p = [Fraction(v) for v in points]
    n = m + r - 1
    if len(p) != n - 1 or len(set(p)) != n - 1:
        raise ValueError(f"F({m},{r}) takes {n - 1} distinct finite points: got {', '.join(map(str, p)) or 'none'}")
    others = [[q for q in p if q != v] for v in p]
    below = [prod((v - q for q in rest), start=Fraction(1)) for v, rest in zip(p, others, strict=True)]
    sign = [-1 if d < 0 else 1 for d in below]
    last = Fraction(1)
    at = tuple((*(v**i for v in p), last if i == m - 1 else 0 * last) for i in range(m))
    g = tuple(tuple(v**k / abs(d) for k in range(r)) for v, d in zip(p, below, strict=True))
    bt = tuple((*(s * c for c in _from_roots(rest)), 0 * last) for s, rest in zip(sign, others, strict=True))
    return at, (*g, (*(0 * last,) * (r - 1), last)), (*bt, tuple(_from_roots(p)))


def _from_roots(roots: Sequence[Fraction]) -> list[Fraction]:
    """Coefficients, lowest first, of the monic polynomial with these roots."""
    c = [Fraction(1)]
    for root in roots:
        c = [up - root * here for up, here in zip((Fraction(0), *c), (*c, Fraction(0)), strict=True)]
    return c
