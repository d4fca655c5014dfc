"""Check 7, independence: what lies in other images, channels and groups does not matter, nor does their order.

Each splits the problem along an axis that is not spatial, or orders it anew, and puts the outputs together again.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from harness.backend import BackendInfo
from harness.catalogue import Case
from harness.checks.base import Check, Problem, Run, kept
from harness.checks.forms import IDENTITY_FLOPS, added, affordable, agree, evaluate, straight
from harness.data import Operands
from harness.records import Verdict
from harness.spec import ConvSpec


@kept
def one_image(spec: ConvSpec) -> tuple[ConvSpec, ...]:
    """The problem for a single image, where there are several."""
    return (replace(spec, batch=1),) if spec.batch > 1 else ()


def judge_batch(problem: Problem, run: Run) -> Verdict:
    """Images do not know of each other: in another order they give the same outputs in that order, each alone its own.

    y(x_p(1), ..., x_p(N)) = (y_p(1), ..., y_p(N)) and y(x_n) = y_n. The order is turned by one image, and the first and
    the last image are run alone. Holds for every operation with two images or more. An index that overflows, a tile that
    runs over from one image into the next, or a batch whose remainder is forgotten breaks it.

    Examples
    --------
    >>> from harness.checks.worked import conv
    >>> conv([[[1, 2, 4]], [[8, 16, 64]]], [[[-1, 1]]], batch=2)
    [[[1, 2]], [[8, 48]]]
    >>> conv([[[8, 16, 64]], [[1, 2, 4]]], [[[-1, 1]]], batch=2)
    [[[8, 48]], [[1, 2]]]
    >>> conv([[8, 16, 64]], [[[-1, 1]]])
    [[8, 48]]
    """
    spec = problem.spec
    ops, together = straight(problem, run)
    order = np.roll(np.arange(spec.batch), 1)
    for images, other, text in (
        (order, spec, "the images in another order"),
        (order[1:2], one_image(spec)[0], "the first image alone"),
        (order[:1], one_image(spec)[0], "the last image alone"),
    ):
        want = together.map(lambda y, at=images: y[at])  # type: ignore[misc]
        verdict = agree(evaluate(problem, run, replace(ops, x=ops.x[images]), other, tol=want.tol), want, text)
        if verdict.mismatches:
            break
    return verdict


def blocks(spec: ConvSpec, w: np.ndarray) -> np.ndarray:
    """Weights as (groups, outputs of a group, inputs of a group, taps...), however they are stored."""
    if spec.op == "conv_transpose":
        return w.reshape(spec.groups, spec.in_channels // spec.groups, -1, *spec.kernel_size).swapaxes(1, 2)
    return w.reshape(spec.groups, -1, spec.in_channels // spec.groups, *spec.kernel_size)


def stored(spec: ConvSpec, w: np.ndarray) -> np.ndarray:
    """The weights of `spec` as they are stored; undoes `blocks`."""
    return np.ascontiguousarray(w.swapaxes(1, 2) if spec.op == "conv_transpose" else w).reshape(spec.w_shape or ())


def selected(spec: ConvSpec, ops: Operands, inputs: slice, outputs: slice, groups: slice = slice(None)) -> Operands:
    """Some input and output channels of every group, or all of some groups, in an order: a slice of each.

    `spec` is the problem of `ops`; the operands returned are those of its part with these numbers of channels.
    """
    g, n = spec.groups, ops.x.shape[0]
    x = ops.x.reshape(n, g, -1, *spec.in_size)[:, groups, inputs]
    x = np.ascontiguousarray(x.reshape(n, -1, *spec.in_size))
    b = None if ops.b is None else np.ascontiguousarray(ops.b.reshape(g, -1)[groups, outputs].reshape(-1))
    if ops.w is None:
        return Operands(x)
    w = blocks(spec, ops.w)[groups, outputs, inputs]
    return Operands(x, stored(_resized(spec, w.shape[0], w.shape[2], w.shape[1]), w), b)


def rows(spec: ConvSpec, y: np.ndarray, outputs: slice, groups: slice = slice(None)) -> np.ndarray:
    """Some output channels of every group, or all of some groups."""
    part = y.reshape(y.shape[0], spec.groups, -1, *y.shape[2:])[:, groups, outputs]
    return part.reshape(y.shape[0], -1, *y.shape[2:])


@kept
def _resized(spec: ConvSpec, groups: int, inputs: int, outputs: int) -> ConvSpec:
    """The problem with other numbers of groups and of channels of a group."""
    return replace(spec, groups=groups, in_channels=groups * inputs, out_channels=groups * outputs)


def _per_group(spec: ConvSpec) -> tuple[int, int]:
    """(inputs, outputs) of a group; a pool's channels are independent, each input one output."""
    return spec.in_channels // spec.groups, spec.out_channels // spec.groups


@kept
def channel_parts(spec: ConvSpec) -> tuple[ConvSpec, ...]:
    """Half of the outputs, then the two halves of the inputs; for a pool half of its channels."""
    c, m = _per_group(spec)
    if spec.is_pool:
        return (replace(spec, in_channels=c // 2, out_channels=c // 2),) if c > 1 else ()
    outputs = [_resized(spec, spec.groups, c, m // 2)] if m > 1 else []
    inputs = [_resized(spec, spec.groups, size, m) for size in (c // 2, c - c // 2)] if c > 1 else []
    return (*outputs, *inputs)


def judge_channels(problem: Problem, run: Run) -> Verdict:
    """Channels are a matrix product: their order does not matter, and a split of them splits the sum or the result.

    With y_m = sum_c w_mc * x_c + b_m in each group: an order of the inputs (of w alike) leaves y, an order of the outputs
    orders y; some outputs alone are those rows of y; and y is the sum over two parts of the inputs, the bias in one of
    them. Orders are reversals and parts are halves. A pool's channels are independent: they are ordered and split like
    images. Holds for every operation with two channels in or out of a group. The remainder of a vector of channels that
    is left out or read twice, or a bias of the wrong channel breaks it.

    Examples
    --------
    >>> from harness.checks.worked import conv
    >>> conv([[1, 2, 4], [3, 5, 7]], [[[1, 1], [10, 0]], [[2, 0], [0, 1]]])
    [[33, 56], [7, 11]]
    >>> conv([[3, 5, 7], [1, 2, 4]], [[[0, 1], [2, 0]], [[10, 0], [1, 1]]])  # both in the other order
    [[7, 11], [33, 56]]
    >>> conv([[1, 2, 4]], [[[1, 1]], [[2, 0]]]), conv([[3, 5, 7]], [[[10, 0]], [[0, 1]]])  # y is their sum
    ([[3, 6], [2, 4]], [[30, 50], [5, 7]])
    """
    spec = problem.spec
    ops, whole = straight(problem, run)
    back, half = slice(None, None, -1), slice(spec.out_channels // spec.groups // 2)
    want = whole.map(lambda y: rows(spec, y, back))
    moved = evaluate(problem, run, selected(spec, ops, back, back), tol=want.tol)
    verdict = agree(moved, want, "the channels in another order")
    parts = list(channel_parts(spec))
    if not verdict.mismatches and _per_group(spec)[1] > 1:
        want = whole.map(lambda y: rows(spec, y, half))
        inputs = half if spec.is_pool else slice(None)
        some = evaluate(problem, run, selected(spec, ops, inputs, half), parts.pop(0), tol=want.tol)
        verdict = agree(some, want, "half of the output channels alone")
    if not verdict.mismatches and parts:
        c = _per_group(spec)[0]
        first = selected(spec, ops, slice(c // 2), slice(None))
        rest = selected(spec, ops, slice(c // 2, None), slice(None))
        rest = rest if rest.b is None else replace(rest, b=np.zeros_like(rest.b))
        sides = [evaluate(problem, run, part, other) for part, other in zip((first, rest), parts, strict=True)]
        verdict = agree(added(problem, *sides), added(problem, whole), "the sum over two halves of the input channels")
    return verdict


@kept
def group_parts(spec: ConvSpec) -> tuple[ConvSpec, ...]:
    """One group alone, and all as one dense convolution where that is not large."""
    if spec.groups == 1:
        return ()
    alone, dense = _resized(spec, 1, *_per_group(spec)), replace(spec, groups=1)
    return (alone, dense) if dense.flops <= IDENTITY_FLOPS else (alone,)


def judge_groups(problem: Problem, run: Run) -> Verdict:
    """Groups are the blocks on the diagonal of a dense convolution.

    With w = diag(w_1, ..., w_g) in its two axes of channels, conv(x; w, groups=1) = conv(x; w_1, ..., w_g, groups=g);
    the groups in another order give the outputs in that order, and a group alone is a dense convolution of its own
    channels. The order is turned by one group, and the last group is run alone; the dense convolution has groups times
    the operations, and is tried where it is not large. Holds for convolutions and transposed ones; a pool has no groups.
    An output that reads another group's channels, m % groups for m // (M / groups), breaks it.

    Examples
    --------
    >>> from harness.checks.worked import conv
    >>> conv([[1, 2, 4], [3, 5, 7]], [[[-1, 1]], [[1, 1]]], groups=2)
    [[1, 2], [8, 12]]
    >>> conv([[1, 2, 4], [3, 5, 7]], [[[-1, 1], [0, 0]], [[0, 0], [1, 1]]])
    [[1, 2], [8, 12]]
    """
    spec = problem.spec
    ops, whole = straight(problem, run)
    assert ops.w is not None
    order = np.roll(np.arange(spec.groups), 1)
    want = whole.map(lambda y: _grouped(y, spec.groups)[:, order].reshape(y.shape))
    moved = evaluate(problem, run, _ordered(spec, ops, order), tol=want.tol)
    verdict = agree(moved, want, "the groups in another order")
    if verdict.mismatches:
        return verdict
    every, last = slice(None), slice(spec.groups - 1, None)
    other, *dense = group_parts(spec)
    want = whole.map(lambda y: rows(spec, y, every, last))
    alone = evaluate(problem, run, selected(spec, ops, every, every, last), other, tol=want.tol)
    verdict = agree(alone, want, "the last group alone")
    if verdict.mismatches or not dense:
        return verdict
    full = evaluate(problem, run, replace(ops, w=_diagonal(spec, ops.w)), dense[0])
    return agree(full, whole, "as one dense convolution of block-diagonal weights")


def _grouped(a: np.ndarray, groups: int) -> np.ndarray:
    """The channels of (batch, channels, ...) as (batch, groups, channels of a group, ...)."""
    return a.reshape(a.shape[0], groups, -1, *a.shape[2:])


def _ordered(spec: ConvSpec, ops: Operands, order: np.ndarray) -> Operands:
    """The operands with the groups in another order."""
    assert ops.w is not None
    x = np.ascontiguousarray(_grouped(ops.x, spec.groups)[:, order]).reshape(ops.x.shape)
    b = None if ops.b is None else ops.b.reshape(spec.groups, -1)[order].reshape(-1)
    return Operands(x, stored(spec, blocks(spec, ops.w)[order]), b)


def _diagonal(spec: ConvSpec, w: np.ndarray) -> np.ndarray:
    """The weights of the dense convolution: every group's block on the diagonal, zeros beside it."""
    c, m = _per_group(spec)
    full = np.zeros((spec.groups, m, spec.groups, c, *spec.kernel_size), w.dtype)
    at = np.arange(spec.groups)
    full[at, :, at] = blocks(spec, w)
    one = replace(spec, groups=1)
    return stored(one, full.reshape(1, spec.out_channels, spec.in_channels, *spec.kernel_size))


def _several_images(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    return affordable(case, spec, info) or (None if spec.batch > 1 else "it has one image")


def _several_channels(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    return affordable(case, spec, info) or (None if channel_parts(spec) else "it has one channel in and out (of a group)")


def _several_groups(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    return affordable(case, spec, info) or (None if spec.groups > 1 else "it has one group")


BATCH = Check("batch", "treats every image alike and alone", judge_batch, _several_images, related=one_image)
CHANNELS = Check("channels", "sums its channels in any order", judge_channels, _several_channels, related=channel_parts)
GROUPS = Check("groups", "is a dense convolution by blocks", judge_groups, _several_groups, related=group_parts)
