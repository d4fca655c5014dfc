"""Check 7, the lecture's matrices of the backend itself: Toeplitz, circulant, diagonal in the Fourier basis.

`operator` holds the matrix against one that a case prints. Here no page is needed: the structure is a theorem. All unit
impulses go into one run, an image each, so that image j of the output is column j of the matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from math import prod

import numpy as np

from harness.backend import BackendInfo
from harness.catalogue import Case
from harness.checks.base import Check, Problem, Run, has_output, kept
from harness.checks.forms import Side, agree, evaluate, rounded
from harness.checks.small import small_integers
from harness.data import Operands, draw
from harness.records import Verdict
from harness.spec import ConvSpec
from harness.spec.geometry import Axis
from harness.spec.host import numpy_dtype

#: Inputs (columns), and entries, of the largest matrix that is materialised.
COLUMNS = 256
ENTRIES = 1 << 16
#: Operations of the one call that materialises it: as many images as inputs.
MATRIX_FLOPS = 4_000_000


def judge_toeplitz(problem: Problem, run: Run) -> Verdict:
    """The operator's matrix is block Toeplitz: entry (o, i) depends on i - s o alone, and is 0 off the kernel's diagonals.

    Axis by axis, and for each pair of an output and an input channel of a group; 0 for pairs of different groups. With
    padding lo and dilation d the nonzero diagonals are i - s o = k d - lo for the taps k; zero padding and crops only cut
    the matrix out of an infinite one. Circular padding makes them i - s o = k d - lo modulo n: block circulant. For a
    transposed convolution o - s i stands in place of i - s o. Neither the oracle nor the weights take part. Not for
    reflected or replicated borders, which add what is no Toeplitz matrix. A border, tile or tail that is computed
    otherwise than the rest breaks it; a kernel that is reversed everywhere does not.

    Examples
    --------
    Column j is the response to impulse j; down the diagonals the numbers stay the same.

    >>> from harness.checks.worked import conv
    >>> columns = [conv([int(i == j) for i in range(4)], [5, 6, 7], padding=((1, 1),)) for j in range(4)]
    >>> [list(row) for row in zip(*columns)]
    [[6, 7, 0, 0], [5, 6, 7, 0], [0, 5, 6, 7], [0, 0, 5, 6]]
    """
    spec = problem.spec
    side, _ = materialised(problem, run)
    label = reduce(_both, (_diagonals(spec, a, out) for a, out in zip(spec.axes, spec.out_size, strict=True)))
    expected = Side(_along(spec, label, side.value), _along(spec, label, np.broadcast_to(side.tol, side.value.shape)))
    return agree(side, expected, "the matrix is not constant along its diagonals, or not 0 beside them")


def judge_circulant(problem: Problem, run: Run) -> Verdict:
    """Circular convolution's matrix commutes with the shift operator: C S = S C.

    S shifts by one element along an axis and around its end: S S^T = S^T S = I, so that C S^T = S^T C holds too. The
    matrix C is the backend's own, materialised by impulses; multiplication by S from the right moves its columns, from
    the left its rows. It holds along each axis for stride 1 and as many outputs as inputs. A border that reads zeros in
    place of the other end breaks it.

    Examples
    --------
    >>> import numpy as np
    >>> from harness.checks.worked import conv
    >>> C = np.array([conv(e, [5, 6, 7], padding=((1, 1),), padding_mode="circular") for e in np.eye(4)]).T
    >>> C.tolist()
    [[6, 7, 0, 5], [5, 6, 7, 0], [0, 5, 6, 7], [7, 0, 5, 6]]
    >>> S = np.roll(np.eye(4, dtype=int), 1, axis=0)
    >>> S.tolist()
    [[0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
    >>> (C @ S).tolist()
    [[7, 0, 5, 6], [6, 7, 0, 5], [5, 6, 7, 0], [0, 5, 6, 7]]
    >>> (S @ C).tolist() == (C @ S).tolist(), (S @ S.T).tolist() == np.eye(4).tolist()
    (True, True)
    """
    spec = problem.spec
    side, _ = materialised(problem, run)
    verdict = None
    for axis in range(spec.rank):
        verdict = agree(
            side.map(lambda c, at=axis: _columns(spec, c, lambda m: np.roll(m, -1, 1 + at))),  # type: ignore[misc]
            side.map(lambda c, at=axis: np.roll(c, 1, 2 + at)),  # type: ignore[misc]
            f"C S is not S C, S the shift along axis {axis}",
        )
        if verdict.mismatches:
            return verdict
    assert verdict is not None
    return verdict


def judge_eigenvalues(problem: Problem, run: Run) -> Verdict:
    """The Fourier modes are the eigenvectors of a circular convolution, the DFT of its filter the eigenvalues.

    C v_f = lambda_f v_f, with v_f[i] = exp(2 pi j f i / n) and lambda_f = sum_k w_k exp(2 pi j f (k d - lo) / n), for every
    pair of an output and an input channel (0 between groups), multiplied out over the axes in 2-D and 3-D: the filter
    extended by zeros to n, spread by its dilation, reversed if the specification says so, and shifted by its padding.
    That is the convolution theorem, C = F^-1 diag(lambda) F. For stride 1 and as many outputs as inputs. C is the
    backend's own matrix. Besides what breaks `circulant`, a kernel that is reversed, shifted or spread by other than its
    dilation breaks it.

    Examples
    --------
    The constant and the alternating mode, f = 0 and f = n/2: the sum of the taps, and their alternating sum.

    >>> from harness.checks.worked import conv
    >>> conv([1, 1, 1, 1], [5, 6, 7], padding=((1, 1),), padding_mode="circular")
    [18, 18, 18, 18]
    >>> conv([1, -1, 1, -1], [5, 6, 7], padding=((1, 1),), padding_mode="circular")
    [-6, 6, -6, 6]
    >>> 5 + 6 + 7, -5 + 6 - 7
    (18, -6)
    """
    spec = problem.spec
    raw, w = materialised(problem, run)
    side = rounded(problem, raw)
    got = _columns(spec, side.value, lambda m: _modes(spec, m))
    filters = np.flip(w, tuple(range(2, w.ndim))) if spec.flip else w
    expected = _eigen_images(spec, filters.astype(np.float64))
    # Sums of n products by numbers of absolute value 1: (n + 16) 2^-52 of the sum of absolute values, on either side.
    rows = np.sum(np.abs(side.value), 0, keepdims=True)
    slack = 2.0**-52 * (prod(spec.in_size) + prod(spec.kernel_size) + 32) * (rows + np.sum(np.abs(w.astype(np.float64))))
    tol = np.sum(np.broadcast_to(side.tol, side.value.shape), 0, keepdims=True) + slack
    verdict = agree(Side(got.real, tol), Side(expected.real, np.zeros(())), "C v is not lambda v in its real part")
    if verdict.mismatches:
        return verdict
    return agree(Side(got.imag, tol), Side(expected.imag, np.zeros(())), "C v is not lambda v in its imaginary part")


def materialised(problem: Problem, run: Run) -> tuple[Side, np.ndarray]:
    """Every column of the matrix, (inputs, out_channels, out_size...), and the weights.

    The weights are nonzero integers, all different in a class that keeps an impulse's response exact.
    """
    spec = problem.spec
    (whole,) = bases(spec)
    w = draw("input_impulses", spec, problem.case.id, 0).w if problem.is_direct else small_integers(problem, "matrix").w
    assert w is not None
    x = np.eye(whole.batch, dtype=numpy_dtype(spec.in_dtype)).reshape(whole.x_shape)
    return evaluate(problem, run, Operands(x, w), whole), w


@kept
def bases(spec: ConvSpec) -> tuple[ConvSpec, ...]:
    """The specification with an image for every input; none where that is too many."""
    columns = spec.in_channels * prod(spec.in_size)
    entries = columns * spec.out_channels * prod(spec.out_size)
    if spec.is_pool or columns > COLUMNS or entries > ENTRIES:
        return ()
    return (replace(spec, batch=columns, bias=False),)


def _columns(spec: ConvSpec, c: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """`change` applied to the matrix with its columns laid out as (in_channels, in_size..., rest)."""
    apart = c.reshape(spec.in_channels, *spec.in_size, -1)
    return change(apart).reshape(c.shape)


def _diagonals(spec: ConvSpec, a: Axis, out: int) -> np.ndarray:
    """(inputs, outputs) of one axis: the number of the diagonal, -1 where no tap lies."""
    i, o = np.arange(a.n)[:, None], np.arange(out)[None, :]
    at = o + a.lo - i * a.s if spec.op == "conv_transpose" else i + a.lo - o * a.s
    if spec.padding_mode == "circular":
        reached = np.arange(a.m) * a.d % a.n
        return np.where(np.isin(at % a.n, reached), at % a.n, -1)
    k, off = np.divmod(at, a.d)
    return np.where((off == 0) & (k >= 0) & (k < a.m), k, -1)


def _both(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The diagonals of two axes taken together: (inputs, outputs) of the product."""
    p4, q4 = p[:, None, :, None], q[None, :, None, :]
    label = np.where((p4 < 0) | (q4 < 0), -1, p4 * (np.max(q) + 1) + q4)
    return label.reshape(p.shape[0] * q.shape[0], p.shape[1] * q.shape[1])


def _along(spec: ConvSpec, label: np.ndarray, c: np.ndarray) -> np.ndarray:
    """The matrix with the first entry of every diagonal all along it, and zeros elsewhere."""
    apart = c.reshape(spec.in_channels, label.shape[0], spec.out_channels, label.shape[1])
    _, first, inverse = np.unique(label, return_index=True, return_inverse=True)
    row, column = np.divmod(first, label.shape[1])
    spread = apart[:, row, :, column][inverse.reshape(label.shape)]  # (inputs, outputs, in_channels, out_channels)
    spread = np.where((label >= 0)[:, :, None, None] & _same_group(spec), spread, 0.0)
    return np.ascontiguousarray(spread.transpose(2, 0, 3, 1)).reshape(c.shape)


def _same_group(spec: ConvSpec) -> np.ndarray:
    """(in_channels, out_channels): whether both belong to one group."""
    inputs, outputs = (np.arange(n) // (n // spec.groups) for n in (spec.in_channels, spec.out_channels))
    return inputs[:, None] == outputs[None, :]


def _waves(frequencies: int, steps: np.ndarray, n: int) -> np.ndarray:
    """exp(2 pi j f t / n) for every f and step t, the exponent reduced exactly first."""
    turns = np.arange(frequencies)[:, None] * steps[None, :] % n
    return np.exp(2j * np.pi * turns / n)


def _modes(spec: ConvSpec, c: np.ndarray) -> np.ndarray:
    """C V: the columns combined with each Fourier mode's values, an axis at a time."""
    for axis, n in enumerate(spec.in_size):
        c = np.moveaxis(np.tensordot(_waves(n, np.arange(n), n), c, (1, 1 + axis)), 0, 1 + axis)
    return c


def _eigen_images(spec: ConvSpec, w: np.ndarray) -> np.ndarray:
    """V diag(lambda): every mode multiplied by its eigenvalue, (inputs, out_channels, out_size...)."""
    values = np.zeros((spec.out_channels, spec.in_channels, *spec.kernel_size), complex)
    outputs, inputs = spec.out_channels // spec.groups, spec.in_channels // spec.groups
    for g in range(spec.groups):
        rows = slice(g * outputs, (g + 1) * outputs)
        values[rows, g * inputs : (g + 1) * inputs] = w[rows]
    waves = np.ones((1,) * (2 * spec.rank), complex)  # (frequencies..., outputs...)
    for axis, a in enumerate(spec.axes):
        taps = _waves(a.n, np.arange(a.m) * a.d - a.lo, a.n)
        values = np.moveaxis(np.tensordot(taps, values, (1, 2 + axis)), 0, 2 + axis)
        shape = [1] * (2 * spec.rank)
        shape[axis] = shape[spec.rank + axis] = a.n
        waves = waves * _waves(a.n, np.arange(a.n), a.n).reshape(shape)
    eigenvalues = np.moveaxis(values, 0, -1)  # (in_channels, frequencies..., out_channels)
    images = eigenvalues.reshape(*eigenvalues.shape, *(1,) * spec.rank) * waves.reshape(1, *spec.in_size, 1, *spec.out_size)
    return images.reshape(-1, spec.out_channels, *spec.out_size)


def _materialises(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    if spec.is_pool:
        return "a pool has no weights"
    if not bases(spec):
        return f"its matrix is larger than {COLUMNS} columns or {ENTRIES} entries"
    if bases(spec)[0].flops > MATRIX_FLOPS:
        return f"materialising its matrix takes more than {MATRIX_FLOPS / 1e6:g} MFLOP"
    return has_output(case, spec, info)


def _toeplitz(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    if spec.padding_mode in ("reflect", "replicate"):
        return "a border that is reflected or replicated adds what is no Toeplitz matrix"
    return _materialises(case, spec, info)


def _circulant(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    if spec.padding_mode != "circular":
        return "its padding is not circular"
    if any(a.s != 1 for a in spec.axes) or spec.out_size != spec.in_size:
        return "its matrix is not square, row for row the same shifted"
    return _materialises(case, spec, info)


TOEPLITZ = Check("toeplitz", "is a Toeplitz matrix", judge_toeplitz, _toeplitz, related=bases)
CIRCULANT = Check("circulant", "commutes with the shift operator", judge_circulant, _circulant, related=bases)
EIGENVALUES = Check("eigenvalues", "has the DFT of its filter for eigenvalues", judge_eigenvalues, _circulant, related=bases)
