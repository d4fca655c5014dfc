"""Check 7, factors: a convolution made of two, one run on what the other gave.

The operands are integers so small that what is between is one of the input's type. A class that rounds gives it with an
error, within its tolerance; the second convolution carries that on like data, by the absolute values of its weights.
"""

from __future__ import annotations

from dataclasses import replace
from math import gcd, prod

import numpy as np

from harness.backend import BackendInfo
from harness.catalogue import Case
from harness.checks.base import Check, Problem, Run, kept
from harness.checks.forms import Side, affordable, agree, evaluate, straight
from harness.checks.resampling import comparable, whole_windows
from harness.checks.splitting import blocks, stored
from harness.data import Operands, draw
from harness.data.raw import nonzero_integers, words
from harness.data.real import typed
from harness.data.recipes import exact_budget
from harness.oracle import reference
from harness.records import Verdict
from harness.spec import ConvSpec
from harness.spec.host import numpy_dtype

#: The largest weight of the second convolution in `composition`, which has two taps.
TAP = 2


def chained(problem: Problem, run: Run, first: Side, spec: ConvSpec, w: np.ndarray | None, b: np.ndarray | None) -> Side:
    """The output under `spec` on what was given as `first`, and how far it may err for that too.

    |conv(z + e; w) - conv(z; w)| <= conv(|e|; |w|), and a maximum or a mean moves by no more than that of |e|.
    """
    x = first.value.astype(numpy_dtype(spec.in_dtype))
    side = evaluate(problem, run, Operands(x, w, b), spec, data="positive")
    if not np.any(first.tol):
        return side
    tol = np.broadcast_to(first.tol, x.shape)
    if spec.in_dtype != spec.out_dtype:  # rounded once more, to be an input
        tol = tol + spec.in_type.unit_roundoff * np.abs(first.value) + spec.in_type.eta
    plain = replace(spec, bias=False)
    carried = reference(plain, Operands(tol, None if w is None else np.abs(w.astype(np.float64)))).hi
    return Side(side.value, side.tol + (1 + 2.0**-30) * carried)


@kept
def alone_on(spec: ConvSpec, axes: tuple[int, ...], in_size: tuple[int, ...]) -> ConvSpec:
    """The problem with its kernel on `axes` only; on the others it has one tap and nothing else."""

    def kept(values: tuple, neutral: object) -> tuple:
        return tuple(v if i in axes else neutral for i, v in enumerate(values))

    return replace(
        spec,
        in_size=in_size,
        kernel_size=kept(spec.kernel_size, 1),
        stride=kept(spec.stride, 1),
        padding=kept(spec.padding, (0, 0)),
        dilation=kept(spec.dilation, 1),
        output_padding=kept(spec.output_padding, 0),
    )


@kept
def passes(spec: ConvSpec) -> tuple[ConvSpec, ...]:
    """A pass along the axis of the longest kernel, channel by channel, and one along the others; nothing where one does."""
    if sum(m > 1 for m in spec.kernel_size) < 2:
        return ()
    axis = _longest(spec)
    first = alone_on(spec, (axis,), spec.in_size)
    if not spec.is_pool:
        first = replace(first, groups=spec.in_channels, out_channels=spec.in_channels, bias=False)
    between = tuple(first.out_size[i] if i == axis else n for i, n in enumerate(spec.in_size))
    return first, alone_on(spec, tuple(i for i in range(spec.rank) if i != axis), between)


def judge_separable(problem: Problem, run: Run) -> Verdict:
    """A kernel that is a product of one on an axis and one on the others is two passes.

    With w[m, c, i, j] = u[c, i] v[m, c, j], conv(x; w) = conv(conv(x; u), v): first each channel along one axis, with
    that axis' padding, stride and dilation, then all along the others with theirs; j may stand for two axes. Holds for
    convolutions and transposed ones in every padding mode, since each pads axis by axis, and for pools, whose maximum is
    one of maxima and whose mean one of means (also at a border: the divisor is a product over the axes). Kernels of more
    than one tap on at least two axes. A border, stride or dilation of one axis that leaks into another breaks it.

    Examples
    --------
    >>> from harness.checks.worked import conv
    >>> conv([[1, 2, 4], [8, 16, 32]], [[1, 10], [-2, -20]])  # (1, -2) along the columns, (1, 10) along the rows
    [[-315, -630]]
    >>> conv([[1, 2, 4], [8, 16, 32]], [[1], [-2]])
    [[-15, -30, -60]]
    >>> conv([[-15, -30, -60]], [[1, 10]])
    [[-315, -630]]
    """
    spec = problem.spec
    first, second = passes(spec)
    if spec.is_pool:
        ops = _small(problem, min(spec.in_type.exact_limit, exact_budget(spec)))
        u = v = None
    else:
        ops, u, v = _product(problem, first, second)
    once = evaluate(problem, run, ops)
    between = evaluate(problem, run, Operands(ops.x, u), first)
    return agree(chained(problem, run, between, second, v, ops.b), once, "in two passes")


@kept
def composed(spec: ConvSpec) -> tuple[ConvSpec, ...]:
    """A depthwise convolution of two taps along an axis, and the problem that does both at once; nothing if neither fits."""
    if spec.op == "avg_pool":
        return ()
    for axis in reversed(range(spec.rank)):
        a = spec.axes[axis]
        apart, shift = _spread(spec, axis)
        if spec.out_size[axis] > apart and (spec.op != "max_pool" or shift <= a.m):
            return _second(spec, axis, apart), _composite(spec, axis, shift)
    return ()


def judge_composition(problem: Problem, run: Run) -> Verdict:
    """Two convolutions in turn are one with the convolution of their kernels: conv(conv(x; w), h) = conv(x; w * h).

    h has two taps along one axis, for each channel its own, and reads no padding, so that this holds in every padding mode
    of the first. Where that has stride s and dilation d, h is dilated by d / gcd(d, s): its second tap then reads the
    first's taps moved by lcm(d, s), a multiple q = s / gcd(d, s) of d, so that (w * h)[k] = h[0] w[k] + h[1] w[k - q] has
    m + q taps, the same stride, dilation and paddings. A bias b becomes (h[0] + h[1]) b. After a transposed convolution h
    is transposed too, dilated by d and cropped by d, and q = 1: the paddings of the composite are larger by d. For
    max_pool the two maxima are that of the joint window, which has no gap where q <= m. Not for avg_pool, where the mean
    of overlapping means weighs what they share twice. Wrong borders, strides or taps of the first, which the composite
    meets at other places of its kernel, break it.

    Examples
    --------
    >>> from harness.checks.worked import conv
    >>> conv([1, 2, 4, 8, 16], [1, 10], stride=(2,)), conv([21, 84], [1, 3])
    ([21, 84], [273])
    >>> conv([1, 2, 4, 8, 16], [1, 10, 3, 30], stride=(2,))  # (1, 10) and 3 (1, 10), two further on
    [273]
    >>> conv(conv([1, 5, 2, 4], [2], "max_pool"), [2], "max_pool"), conv([1, 5, 2, 4], [3], "max_pool")
    ([5, 5], [5, 5])
    """
    spec = problem.spec
    second, whole = composed(spec)
    if spec.op == "max_pool":
        ops, first = straight(problem, run)
        after = chained(problem, run, first, second, None, None)
        return agree(after, evaluate(problem, run, ops, whole), "in two steps")
    ops = _small(problem, min(spec.in_type.exact_limit, exact_budget(spec) // (2 * TAP)))
    h = nonzero_integers(words(2 * spec.out_channels, "fixed", problem.case.id, "composition"), -TAP, TAP)
    h = h.reshape(second.w_shape or ())
    after = chained(problem, run, evaluate(problem, run, ops), second, h.astype(ops.x.dtype), None)
    return agree(after, evaluate(problem, run, _joint(spec, ops, h, whole), whole), "in two steps")


def _spread(spec: ConvSpec, axis: int) -> tuple[int, int]:
    """How far apart the second kernel's taps are, in outputs of the first, and how many of the first's taps that is."""
    a = spec.axes[axis]
    if spec.op == "conv_transpose":
        return a.d, 1
    return a.d // gcd(a.d, a.s), a.s // gcd(a.d, a.s)


@kept
def _second(spec: ConvSpec, axis: int, apart: int) -> ConvSpec:
    """The convolution (or the pool) of two taps on the outputs of `spec`."""

    def on(value: object, neutral: object) -> tuple:
        return tuple(value if i == axis else neutral for i in range(spec.rank))

    return replace(
        spec,
        in_size=spec.out_size,
        kernel_size=on(2, 1),
        stride=(),
        dilation=on(apart, 1),
        padding=on((apart, apart), (0, 0)) if spec.op == "conv_transpose" else (),
        padding_mode="zeros",
        output_padding=(),
        in_channels=spec.out_channels,
        groups=1 if spec.is_pool else spec.out_channels,
        bias=False,
        ceil_mode=False,
    )


@kept
def _composite(spec: ConvSpec, axis: int, shift: int) -> ConvSpec:
    """Both at once."""
    one = whole_windows(spec) if spec.is_pool else spec
    size = tuple(m + shift if i == axis else m for i, m in enumerate(spec.kernel_size))
    d = spec.dilation[axis] if spec.op == "conv_transpose" else 0
    padding = tuple((lo + d, hi + d) if i == axis else (lo, hi) for i, (lo, hi) in enumerate(one.padding))
    return replace(one, kernel_size=size, padding=padding)


def _joint(spec: ConvSpec, ops: Operands, h: np.ndarray, whole: ConvSpec) -> Operands:
    """The operands of both at once: w * h, and the bias times the sum of h."""
    assert ops.w is not None
    axis = 2 + next(i for i in range(spec.rank) if whole.kernel_size[i] != spec.kernel_size[i])
    w = blocks(spec, ops.w.astype(np.float64))
    h = h.reshape(*w.shape[:2], 1, *h.shape[2:])
    first, last = np.split(h, 2, 1 + axis)
    room = [(0, 0)] * w.ndim
    shift = whole.kernel_size[axis - 2] - spec.kernel_size[axis - 2]
    room[1 + axis] = (0, shift)
    joint = np.pad(w, room) * first
    room[1 + axis] = (shift, 0)
    joint += np.pad(w, room) * last
    b = None if ops.b is None else ops.b.astype(np.float64) * h.reshape(spec.out_channels, -1).sum(1)
    return typed(whole, ops.x, stored(whole, joint), b)


def _small(problem: Problem, most: int) -> Operands:
    """Integers whose outputs are at most `most`: the recipe `integers` for a budget that is smaller."""
    factor = -(-exact_budget(problem.spec) // most)
    return draw("integers", problem.spec, problem.case.id, problem.oracle.seed, factor)


def _longest(spec: ConvSpec) -> int:
    return spec.kernel_size.index(max(spec.kernel_size))


def _taps(spec: ConvSpec) -> int:
    return spec.channel_taps * prod(spec.kernel_size)


def _product(problem: Problem, first: ConvSpec, second: ConvSpec) -> tuple[Operands, np.ndarray, np.ndarray]:
    """Integers x, w = u v and b, and the two factors: each sum within the budget, each output between an input."""
    spec = problem.spec
    assert first.w_shape is not None
    assert second.w_shape is not None

    def draw_up_to(most: int, shape: tuple[int, ...], name: str) -> np.ndarray:
        return nonzero_integers(words(prod(shape), "fixed", problem.case.id, "separable", name), -most, most).reshape(shape)

    bias = exact_budget(spec) // 8 if spec.bias else 0
    most, taps = spec.in_type.exact_limit, max(spec.kernel_size)
    each = (exact_budget(spec) - bias) // _taps(spec)
    x = min(7, each, most // taps)
    u = min(3, each // x, most // (taps * x))
    v = min(7, each // (x * u), most // u)
    left, right = draw_up_to(u, first.w_shape, "u"), draw_up_to(v, second.w_shape, "v")
    w = left.reshape(spec.groups, 1, -1, *first.kernel_size) * blocks(second, right)
    b = draw_up_to(min(bias, 100), (spec.out_channels,), "b") if spec.bias else None
    ops = typed(spec, draw_up_to(x, spec.x_shape, "x"), stored(spec, w), b)
    return ops, left.astype(ops.x.dtype), right.astype(ops.x.dtype)


def _separates(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    if reason := affordable(case, spec, info):
        return reason
    if not passes(spec):
        return "its kernel has more than one tap on fewer than two axes"
    room = exact_budget(spec) - (exact_budget(spec) // 8 if spec.bias else 0)
    if not spec.is_pool and (_taps(spec) > room or max(spec.kernel_size) > spec.in_type.exact_limit):
        return "its sums are too long for integers of its types"
    return None


def _composes(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    absent = "a mean of overlapping means is none" if spec.op == "avg_pool" else "its output has no room for a second kernel"
    return comparable(case, spec, info, composed(spec)[1:], absent)


SEPARABLE = Check("separable", "is two passes where its kernel is a product", judge_separable, _separates, related=passes)
COMPOSITION = Check("composition", "is one with the convolution after it", judge_composition, _composes, related=composed)
