"""Check 7, the adjoint: the transposed convolution is the transpose of the convolution's matrix."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import fsum, prod, sqrt

import numpy as np

from harness.backend import BackendInfo
from harness.catalogue import Case
from harness.checks.base import Check, Problem, Run, kept
from harness.checks.forms import affordable, agree, evaluate, form
from harness.checks.small import few_bits, room, small_integers
from harness.data import Operands, draw
from harness.data.raw import nonzero_integers, words
from harness.oracle import reference
from harness.oracle.windows import padded
from harness.records import Status, Verdict
from harness.spec import ConvSpec
from harness.spec.host import numpy_dtype

#: Roots of the sum of squares within which a sum of errors of random signs stays; see `_spread_of`.
SIGMAS = 7.0


def judge_adjoint(problem: Problem, run: Run) -> Verdict:
    """<A x, y> = <x, A^T y>: the transpose of a convolution's matrix A is the transposed convolution, and vice versa.

    A^T has A's weights, as they are stored, stride, dilation and padding; what a stride s leaves over at the end, r
    elements, is its output padding. Where padding copies data or crops, A = C P, and <C P x, y> = <P x, C^T y>: A^T is
    then that of the unpadded C, and P x is made beforehand. Both inner products are integers and equal (compared modulo
    2^64) on exact data. On real data each side errs by a sum of errors times random signs, which by Hoeffding's
    inequality stays within 7 times the root of the sum of their squares (but for once in 10^10 times); the plain sum of
    the tolerances would be blind. Holds for every convolution and transposed convolution, without a bias. A gradient
    that is shifted, flipped or misses its last rows breaks it.

    Examples
    --------
    >>> from harness.checks.worked import conv
    >>> x, w, y = [1, 2, 3], [4, 5], [6, 7]
    >>> Ax, Aty = conv(x, w), conv(y, w, op="conv_transpose")
    >>> Ax, Aty
    ([14, 23], [24, 58, 35])
    >>> sum(a * b for a, b in zip(Ax, y)), sum(a * b for a, b in zip(x, Aty))
    (245, 245)
    """
    spec = problem.spec
    (dual,) = transposes(spec)
    pair = _pair(problem, dual)
    whole = spec.op == "conv_transpose" or _plain(spec)
    return _inner_products(problem, run, pair, dual, Operands(pair.y, pair.ops.w), whole=whole)


def judge_adjoint_conv(problem: Problem, run: Run) -> Verdict:
    """<A x, y> = <x, A^T y>, A^T made of a convolution: stride 1, over y with zeros in between, the kernel backwards.

    A^T y = conv(stuffed y; reversed w), with s - 1 zeros between y's elements, the kernel reversed along each axis and
    its channels exchanged, d(m - 1) less the padding around. The same theorem as `adjoint`, for backends without a
    transposed convolution.

    Examples
    --------
    >>> from harness.checks.worked import conv
    >>> conv([1, 2, 3, 4, 5], [4, 5], stride=(2,)), conv([6, 0, 7], [5, 4], padding=((1, 2),))
    ([14, 32], [24, 30, 28, 35, 0])
    >>> 14 * 6 + 32 * 7, 1 * 24 + 2 * 30 + 3 * 28 + 4 * 35 + 5 * 0
    (308, 308)
    """
    spec = problem.spec
    (dual,) = stuffed_duals(spec)
    pair = _pair(problem, dual)
    assert pair.ops.w is not None
    turned = Operands(stuffed(spec, pair.y, spec.out_size), swapped(spec, pair.ops.w))
    return _inner_products(problem, run, pair, dual, turned, whole=_plain(spec) and _fits(spec))


def judge_transposed(problem: Problem, run: Run) -> Verdict:
    """A transposed convolution is a convolution: of stride 1, over x with zeros in between, the kernel backwards.

    conv_transpose(x; w) = conv(stuffed x; reversed w), element by element: s - 1 zeros between x's elements, the kernel
    reversed and its channels exchanged, padding d(m - 1) - lo and d(m - 1) - hi + op (where one is negative, the outputs
    there are dropped instead). Holds for every transposed convolution. Outputs that overlap and are overwritten instead
    of added, or an output padding that is zeros instead of computed, break it.

    Examples
    --------
    >>> from harness.checks.worked import conv
    >>> conv([6, 7], [4, 5], op="conv_transpose", stride=(2,))
    [24, 30, 28, 35]
    >>> conv([6, 0, 7], [5, 4], padding=((1, 1),))
    [24, 30, 28, 35]
    """
    spec = problem.spec
    ops = small_integers(problem, "transposed") if form(problem) == "exact" else few_bits(problem, "transposed", 0)
    assert ops.w is not None
    (other,) = as_convs(spec)
    starts = [a.lo if a.lo > a.extent - 1 else 0 for a in spec.axes]
    kept = tuple(slice(i, i + n) for i, n in zip(starts, spec.out_size, strict=True))

    def cut(a: np.ndarray) -> np.ndarray:
        return a[(slice(None), slice(None), *kept)]

    moved = Operands(stuffed(spec, ops.x, spec.in_size), swapped(spec, ops.w))
    rhs = evaluate(problem, run, moved, other).map(cut)
    return agree(evaluate(problem, run, ops), rhs, "not the convolution of the stuffed input with the reversed kernel")


@kept
def transposes(spec: ConvSpec) -> tuple[ConvSpec, ...]:
    """The transpose of the specification's matrix; none for a pool."""
    if spec.is_pool:
        return ()
    back = spec.op == "conv_transpose"
    return (
        replace(
            spec,
            op="conv" if back else "conv_transpose",
            in_size=spec.out_size,
            in_channels=spec.out_channels,
            out_channels=spec.in_channels,
            padding=spec.padding if back or _plain(spec) else (),
            padding_mode="zeros",
            output_padding=() if back else _left_over(spec),
            bias=False,
        ),
    )


@kept
def stuffed_duals(spec: ConvSpec) -> tuple[ConvSpec, ...]:
    """The transpose of a convolution's matrix as a convolution."""
    if spec.op != "conv":
        return ()
    full = [(a.extent - 1, a.extent - 1 + r) for a, r in zip(spec.axes, _left_over(spec), strict=True)]
    inner = [(t - a.lo, u - a.hi) for (t, u), a in zip(full, spec.axes, strict=True)]
    padding = tuple(inner if _plain(spec) and _fits(spec) else full)
    return (_unit_stride(spec, spec.out_size, padding, spec.out_channels, spec.in_channels),)


@kept
def as_convs(spec: ConvSpec) -> tuple[ConvSpec, ...]:
    """A transposed convolution as a convolution; none for other operations."""
    if spec.op != "conv_transpose":
        return ()
    padding = tuple(
        (t - a.lo if a.lo <= t else t, t - a.hi + a.op if a.hi <= t + a.op else t + a.op)
        for a, t in ((a, a.extent - 1) for a in spec.axes)
    )
    return (_unit_stride(spec, spec.in_size, padding, spec.in_channels, spec.out_channels),)


def stuffed(spec: ConvSpec, y: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """`y`, of the spatial sizes `size`, with stride - 1 zeros between its elements."""
    out = np.zeros((*y.shape[:2], *_spread(spec, size)), y.dtype)
    out[(slice(None), slice(None), *(slice(None, None, s) for s in spec.stride))] = y
    return out


def swapped(spec: ConvSpec, w: np.ndarray) -> np.ndarray:
    """The weights with the roles of a group's channels exchanged and every axis of the kernel reversed."""
    lead = w.reshape(spec.groups, -1, *w.shape[1:])
    turned = np.swapaxes(lead, 1, 2).reshape(spec.groups * w.shape[1], -1, *w.shape[2:])
    return np.ascontiguousarray(np.flip(turned, tuple(range(2, w.ndim))))


def _unit_stride(
    spec: ConvSpec, size: tuple[int, ...], padding: tuple[tuple[int, int], ...], inputs: int, outputs: int
) -> ConvSpec:
    return replace(
        spec,
        op="conv",
        in_size=_spread(spec, size),
        in_channels=inputs,
        out_channels=outputs,
        stride=(),
        padding=padding,
        padding_mode="zeros",
        output_padding=(),
        bias=False,
    )


def _spread(spec: ConvSpec, size: tuple[int, ...]) -> tuple[int, ...]:
    return tuple((n - 1) * s + 1 for n, s in zip(size, spec.stride, strict=True))


def _plain(spec: ConvSpec) -> bool:
    """Whether padding is zeros around the whole input."""
    return spec.padding_mode == "zeros" and all(min(p) >= 0 for p in spec.padding)


def _fits(spec: ConvSpec) -> bool:
    """Whether no padding is wider than what the kernel reaches over."""
    return all(max(a.lo, a.hi) <= a.extent - 1 for a in spec.axes)


def _left_over(spec: ConvSpec) -> tuple[int, ...]:
    """Elements at the high end that the stride leaves over."""
    return tuple((a.n + a.lo + a.hi - a.extent) % a.s for a in spec.axes)


@dataclass(frozen=True, eq=False)
class _Pair:
    """Operands of A x, and y, shaped like the output; `exact` where both products are exact integers."""

    ops: Operands
    y: np.ndarray
    exact: bool


def _pair(problem: Problem, dual: ConvSpec) -> _Pair:
    """The data: integers if the transpose, which sums other products than A, is as exact on some; else real numbers."""
    spec, put = problem.spec, numpy_dtype(problem.spec.in_dtype)
    if form(problem) == "exact":
        ops = small_integers(problem, "adjoint")
        assert ops.w is not None
        inputs = np.abs(ops.w.astype(np.float64)).reshape(spec.groups, -1, *ops.w.shape[1:])
        most = int(np.max(np.sum(inputs, (1, *range(3, inputs.ndim)) if spec.op == "conv" else tuple(range(2, inputs.ndim)))))
        top = min(spec.in_type.exact_limit, room(problem, dual) // max(most, 1))
        if top >= 1:
            w = words(prod(spec.out_shape), "fixed", problem.case.id, "adjoint", "y")
            return _Pair(ops, nonzero_integers(w, -top, top).astype(put).reshape(spec.out_shape), True)
    y = draw("zero_mean", dual, problem.case.id, problem.oracle.seed, "adjoint y").x
    if y.shape != spec.out_shape:  # the dual takes y stuffed with zeros
        y = np.ascontiguousarray(y[(slice(None), slice(None), *(slice(None, None, s) for s in spec.stride))])
    return _Pair(few_bits(problem, "adjoint", 0), y, False)


def _inner_products(problem: Problem, run: Run, pair: _Pair, dual: ConvSpec, turned: Operands, *, whole: bool) -> Verdict:
    """Compare <A x, y> with <P x, A^T y>.

    `turned` is what the dual runs on; `whole` says that its output is shaped like x, that P is the identity.
    """
    # Where each element of P x comes from, counted from 1; 0 for a zero.
    places = np.arange(1, pair.ops.x.size + 1).reshape(pair.ops.x.shape)
    places = places if whole else padded(problem.spec, places.astype(np.float64), 0.0).astype(np.int64)
    x = np.concatenate([np.zeros(1, pair.ops.x.dtype), pair.ops.x.reshape(-1)])[places]
    Ax, Aty = run(pair.ops, spec=problem.spec), run(turned, spec=dual)
    lhs: int | float | None
    rhs: int | float | None
    if pair.exact:
        lhs, rhs, limit = _integer_product(Ax, pair.y), _integer_product(Aty, x), 0.0
    else:
        lhs, rhs = _product(Ax, pair.y), _product(Aty, x)
        signs = np.arange(1, Ax.size + 1).reshape(Ax.shape)
        limit = _spread_of(problem, pair.ops, Ax, pair.y, signs) + _spread_of(problem.on(dual), turned, Aty, x, places)
    count = int(Ax.size + Aty.size)
    if lhs is not None and rhs is not None and abs(lhs - rhs) <= limit:
        return Verdict(Status.PASS, compared=count, error_bound=abs(lhs - rhs) / limit if limit else 0.0)
    text = (
        "A x or A^T y is not whole numbers" if lhs is None or rhs is None else f"<A x, y> is {lhs:.17g}, <x, A^T y> {rhs:.17g}"
    )
    return Verdict(
        Status.FAIL,
        f"{text}: {dual.op} is not the transpose",
        compared=count,
        mismatches=1,
        got=None if lhs is None else float(lhs),
        expected=None if rhs is None else float(rhs),
    )


def _product(a: np.ndarray, b: np.ndarray) -> float:
    return fsum((a.astype(np.float64) * b.astype(np.float64)).reshape(-1))


def _spread_of(problem: Problem, ops: Operands, a: np.ndarray, b: np.ndarray, places: np.ndarray) -> float:
    """How far <a, b> may err, where `a` is the output on `ops` and `b` has random signs that `a` does not depend on.

    With |errors| e_i and independent signs s_i, P(|sum e_i |b_i| s_i| > 7 sqrt(sum (e_i b_i)^2)) <= 2 exp(-49/2) =
    5e-11 (Hoeffding, JASA 58, 1963, theorem 2). Elements with one place share a sign, and their errors are added first.
    """
    tol = problem.tolerance("zero-mean", ops, reference(problem.spec, ops))
    products = np.abs(b.astype(np.float64)) * (np.broadcast_to(tol, a.shape) + 2.0**-53 * np.abs(a.astype(np.float64)))
    errors = np.bincount(places.reshape(-1), products.reshape(-1))[1:]
    return SIGMAS * sqrt(fsum(np.square(errors)))


def _integer_product(a: np.ndarray, b: np.ndarray) -> int | None:
    """<a, b> modulo 2^64, None if `a` holds what is no integer."""
    wide = a.astype(np.float64)
    if not bool(np.all(np.isfinite(wide) & (np.rint(wide) == wide))):
        return None
    return int(np.sum(wide.astype(np.int64) * b.astype(np.int64)))


def _transposable(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    if spec.is_pool:
        return "a pool has no weights"
    return affordable(case, spec, info)


def _no_transposed_op(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    if spec.op != "conv":
        return "only a convolution is transposed by another convolution here"
    if info.limits.ops is None or "conv_transpose" in info.limits.ops:
        return "the backend has a transposed convolution: see `adjoint`"
    return affordable(case, spec, info)


def _is_transposed(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    return affordable(case, spec, info) if spec.op == "conv_transpose" else f"{spec.op} is no transposed convolution"


ADJOINT = Check("adjoint", "is the transpose of its transpose", judge_adjoint, _transposable, related=transposes)
ADJOINT_CONV = Check(
    "adjoint_conv", "is transposed by a convolution backwards", judge_adjoint_conv, _no_transposed_op, related=stuffed_duals
)
TRANSPOSED = Check(
    "transposed", "is a convolution over stuffed input if transposed", judge_transposed, _is_transposed, related=as_convs
)
