"""Check 7, strides and dilations: what they leave out, put back as outputs that are dropped and taps that are zero."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from harness.backend import BackendInfo
from harness.catalogue import Case
from harness.checks.base import Check, Problem, Run, kept
from harness.checks.forms import IDENTITY_FLOPS, affordable, agree, evaluate, straight
from harness.checks.symmetry import left_over
from harness.data import Operands
from harness.records import Verdict
from harness.spec import ConvSpec, SpecError


@kept
def unstrided(spec: ConvSpec) -> tuple[ConvSpec, ...]:
    """The problem of stride 1 whose every s-th output it is; nothing where there is no stride or no such problem."""
    ones = (1,) * spec.rank
    if spec.stride == ones:
        return ()
    if spec.op == "conv_transpose":
        size = tuple((a.n - 1) * a.s + 1 + a.op for a in spec.axes)
        return (replace(spec, in_size=size, stride=ones, output_padding=(0,) * spec.rank),)
    if not spec.is_pool:
        return (replace(spec, stride=ones),)
    try:
        return (replace(whole_windows(spec), stride=ones),)
    except SpecError:
        return ()


@kept
def whole_windows(spec: ConvSpec) -> ConvSpec:
    """A pool's windows without `ceil_mode`, its high padding cut off (or grown) to where the last window ends.

    Raises
    ------
    SpecError
        If the divisor of a window that ends beyond the padding says that it does.
    """
    rest = [left_over(spec, axis) for axis in range(spec.rank)]
    if spec.count_include_pad and min(rest) < 0:
        raise SpecError("a window's divisor does not count what lies beyond the padding")
    padding = tuple((a.lo, max(0, a.hi - r)) for a, r in zip(spec.axes, rest, strict=True))
    return replace(spec, padding=padding, ceil_mode=False)


def judge_subsampling(problem: Problem, run: Run) -> Verdict:
    """A stride only drops outputs: stride s is stride 1, of which every s-th output is kept.

    y_s[o] = y_1[s o] along each axis, with the same padding. Holds for convolutions in every padding mode and with any
    dilation, and for pools whose windows of stride 1 all hold an element; not where `count_include_pad` divides a window
    that `ceil_mode` lets end beyond the padding. A transposed convolution is the other way around: its stride is stride 1
    of an input with s - 1 zeros after each element but the last (which has as many as the output padding). A stride that
    is applied from the wrong place, or to an axis whose it is not, breaks it.

    Examples
    --------
    >>> from harness.checks.worked import conv
    >>> conv([1, 2, 4, 8, 16], [1, 10]), conv([1, 2, 4, 8, 16], [1, 10], stride=(2,))
    ([21, 42, 84, 168], [21, 84])
    >>> conv([1, 2], [1, 10, 100], "conv_transpose", stride=(2,)), conv([1, 0, 2], [1, 10, 100], "conv_transpose")
    ([1, 10, 102, 20, 200], [1, 10, 102, 20, 200])
    """
    spec, dense = problem.spec, unstrided(problem.spec)[0]
    if spec.op == "conv_transpose":
        ops, kept = straight(problem, run)
        spread = evaluate(problem, run, replace(ops, x=_spaced(ops.x, spec.stride, dense.x_shape)), dense)
        return agree(kept, spread, "against stride 1 of the input with zeros between")
    posed = problem.on(dense)  # its outputs may sum more: windows that the stride leaves out may lie wholly on data
    ops, every = straight(posed, run)
    want = every.map(lambda y: y[_apart(spec.out_size, spec.stride)])
    return agree(evaluate(posed, run, ops, spec, tol=want.tol), want, "against every s-th output of stride 1")


@kept
def undilated(spec: ConvSpec) -> tuple[ConvSpec, ...]:
    """The problem of dilation 1 with a longer kernel; nothing where there is no dilation, or for a pool."""
    if spec.is_pool or all(a.extent == a.m for a in spec.axes):
        return ()
    return (replace(spec, dilation=(1,) * spec.rank, kernel_size=tuple(a.extent for a in spec.axes)),)


def judge_stuffing(problem: Problem, run: Run) -> Verdict:
    """A dilation only spreads the taps: dilation d is a dense kernel with d - 1 zeros between the taps.

    conv(x; w, d) = conv(x; w'), w'[d k] = w[k] and 0 elsewhere ("a trous"), with the same padding and stride. Holds for
    convolutions and transposed ones in every padding mode; not for pools, whose window has no taps to be zero: the dense
    maximum or mean takes in the elements between. A dilation that is left out of the padding's or the output's
    arithmetic, or taken for another axis, breaks it.

    Examples
    --------
    >>> from harness.checks.worked import conv
    >>> conv([1, 2, 4, 8, 16], [1, 10], dilation=(3,)), conv([1, 2, 4, 8, 16], [1, 0, 0, 10])
    ([81, 162], [81, 162])
    >>> conv([1, 5, 2], [2], "max_pool", dilation=(2,)), conv([1, 5, 2], [3], "max_pool")
    ([2], [5])
    """
    spec, dense = problem.spec, undilated(problem.spec)[0]
    ops, spread = straight(problem, run)
    assert ops.w is not None
    assert dense.w_shape is not None
    stuffed = Operands(ops.x, _spaced(ops.w, spec.dilation, dense.w_shape), ops.b)
    return agree(spread, evaluate(problem, run, stuffed, dense), "against a dense kernel with zeros between the taps")


def _spaced(a: np.ndarray, steps: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    """The elements of `a` `steps` apart on its spatial axes, in zeros of `shape`."""
    wide = np.zeros(shape, a.dtype)
    wide[_apart(a.shape[2:], steps)] = a
    return wide


def _apart(counts: tuple[int, ...], steps: tuple[int, ...]) -> tuple[Any, ...]:
    """An index that selects on each spatial axis `n` elements, `steps` apart, from the first."""
    return (..., *(slice(0, (n - 1) * s + 1, s) for n, s in zip(counts, steps, strict=True)))


#: Why a strided pool has no problem of stride 1.
PARTIAL = "its windows of stride 1 are not all windows"


def comparable(case: Case, spec: ConvSpec, info: BackendInfo, others: tuple[ConvSpec, ...], absent: str) -> str | None:
    """Applies where the case has something to be compared with, `others`, that is not large; `absent` says why it has none."""
    if reason := affordable(case, spec, info):
        return reason
    if not others:
        return absent
    if others[0].flops > IDENTITY_FLOPS:
        return f"what it is compared with has over {IDENTITY_FLOPS / 1e6:g} MFLOP"
    return None


def _strided(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    return comparable(case, spec, info, unstrided(spec), "its stride is 1" if set(spec.stride) == {1} else PARTIAL)


def _dilated(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    return comparable(case, spec, info, undilated(spec), "a pool has no taps" if spec.is_pool else "its taps are dense")


SUBSAMPLING = Check("subsampling", "drops outputs by its stride", judge_subsampling, _strided, related=unstrided)
STUFFING = Check("stuffing", "spreads its taps by its dilation", judge_stuffing, _dilated, related=undilated)
