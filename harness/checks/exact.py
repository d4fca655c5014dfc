"""Checks 2 and 3: data on which a right sum is exact, so that the judgement is equality."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from harness.backend import BackendInfo
from harness.catalogue import Case, Photo
from harness.checks.base import Check, Problem, Run, has_output
from harness.checks.compare import compare
from harness.checks.weak import passing
from harness.data import Operands
from harness.oracle import Reference, reference
from harness.records import Status, Verdict
from harness.spec import ConvSpec
from harness.spec.host import numpy_dtype

#: Runs with one-tap kernels that a case may cost; beyond, the walk over the taps is a sample.
TAP_ROUNDS = 3


def judge_integers(problem: Problem, run: Run) -> Verdict:
    """On integers with sum |w||x| + |b| <= 2^p of the accumulator, every order of summation is exact.

    Every product and partial sum is an integer that the accumulator holds, so a direct sum, a GEMM or a
    Toeplitz product equals the exact result rounded once to the output's type. Averages are equal where
    the divisor is a power of two. Winograd with dyadic matrices (F(2, 3)) is exact on integers that are smaller by what
    its transforms amplify. Classes that round in between (FFT, F(4, 3)) meet their bound, and round to the exact integer
    where that bound is below 1/4. Bytes are tried at -128 and 127 too, in pairs whose sum leaves 16 bits.

    Examples
    --------
    In float32 every integer up to 2^24 is a number: added in any order, integers below it give one result. Beyond it, not.

    >>> import numpy as np
    >>> f = np.float32
    >>> int(f(2**23) + f(5) + f(-7)), int(f(5) + f(-7) + f(2**23))
    (8388606, 8388606)
    >>> int(f(2**24) + f(1) + f(1)), int(f(1) + f(1) + f(2**24))
    (16777216, 16777218)
    """
    ops, ref = problem.data(*problem.exact)
    verdict = judge_exact(problem, problem.output(run, *problem.exact), ops, ref, shrunk=True)
    if verdict.status is not Status.PASS or problem.spec.in_dtype != "i8" or not _room_to_saturate(problem.spec):
        return verdict
    extreme = judge_exact(problem, problem.output(run, "saturating"), *problem.data("saturating"), shrunk=True)
    if extreme.status is not Status.PASS:
        return replace(extreme, message=f"on bytes of -128 and 127: {extreme.message}")
    shared = sorted(set(verdict.details["decoys"]) & set(extreme.details["decoys"]))
    return replace(verdict, compared=verdict.compared + extreme.compared, details={"decoys": shared})


def judge_impulses(problem: Problem, run: Run) -> Verdict:
    """The response to an impulse is the kernel; the response of a one-tap kernel is the input, shifted.

    First x holds isolated ones, too far apart to meet in an output: the output shows every weight once, at
    o = (i + lo - k d)/s. Then each output channel has a single tap of 1 and x holds distinct integers: the
    output is x shifted by that tap. Both are exact in every class that does not round. Holds for every
    convolution; for a pool the first form alone.

    Examples
    --------
    An impulse shows the kernel backwards in a cross-correlation; a kernel of one tap shows the input, shifted.

    >>> from harness.checks.worked import conv
    >>> conv([0, 0, 1, 0, 0], [5, 6, 7])
    [7, 6, 5]
    >>> conv([1, 2, 3, 4, 5], [0, 0, 1])
    [3, 4, 5]
    """
    verdict = judge_exact(problem, problem.output(run, "input_impulses"), *problem.data("input_impulses"))
    if verdict.status is not Status.PASS or problem.spec.is_pool:
        return verdict
    taps = prod(problem.spec.kernel_size) * problem.spec.channel_taps
    rounds = min(TAP_ROUNDS, -(-taps // problem.spec.out_channels))
    shared = set(verdict.details["decoys"])
    compared = verdict.compared
    for i in range(rounds):
        one = judge_exact(problem, problem.output(run, "tap_impulses", i), *problem.data("tap_impulses", i))
        if one.status is not Status.PASS:
            return replace(one, message=f"one tap an output channel, round {i}: {one.message}")
        shared &= set(one.details["decoys"])
        compared += one.compared
    seen = min(taps, rounds * problem.spec.out_channels)
    return replace(verdict, compared=compared, details={"decoys": sorted(shared), "taps": taps, "taps_seen": seen})


def judge_literal(problem: Problem, run: Run) -> Verdict:
    """The case's own numbers, worked by hand or printed in its source, come out as printed.

    The numbers are integers or dyadic fractions that every sum holds exactly. The oracle must agree with
    the page before a backend is judged by it. For a photograph no output is printed: its grey values are
    integers and the weights dyadic, so that the oracle's result is exact and takes the page's place.

    Examples
    --------
    The lecture's sum y[i] = sum_j h_j x_{i+j-1}, with h = (1, 0, -1).

    >>> from harness.checks.worked import conv
    >>> conv([1, 2, 4, 7, 11], [1, 0, -1])
    [-3, -5, -7]
    >>> 1 - 4, 2 - 7, 4 - 11
    (-3, -5, -7)
    """
    photo, literal = problem.case.photo, problem.case.literal
    if photo is not None:
        ops = photo_arrays(problem.spec, photo)
        ref = reference(problem.spec, ops)
        tol = problem.tolerance("positive", ops, ref) if needs_bound(problem, shrunk=False) else None
        verdict = compare(problem.spec, run(ops), ops, ref, tol)
        return replace(verdict, details={**verdict.details, "decoys": list(passing(problem.spec, ops, ref, tol))})
    assert literal is not None
    ops, want = _literal_arrays(problem.spec, literal)
    ref = reference(problem.spec, ops)
    if not np.array_equal(ref.hi, want):
        at = tuple(int(i) for i in np.argwhere(ref.hi != want)[0])
        text = f"the catalogue's y is {want[at]} at {list(at)}, the definition gives {ref.hi[at]}: mend the case"
        return Verdict(Status.ERROR, text)
    return judge_exact(problem, run(ops), ops, ref)


def judge_exact(problem: Problem, y: np.ndarray, ops: Operands, ref: Reference, *, shrunk: bool = False) -> Verdict:
    """Equality where the class and the divisor allow it, else the bound; decoys are scored beside.

    `shrunk` says that the data are `Problem.exact`, small enough for transforms by dyadic matrices too.
    """
    spec = problem.spec
    tol = problem.tolerance("zero-mean", ops, ref) if needs_bound(problem, shrunk=shrunk) else None
    verdict = compare(spec, y, ops, ref, tol)
    if verdict.status is Status.PASS and tol is not None and not problem.is_direct and float(np.max(tol, initial=0.0)) < 0.25:
        off = (np.rint(y.astype(np.float64)) != ref.hi) & (np.rint(ref.hi) == ref.hi)  # a page's halves are no integers
        if bool(np.any(off)):
            index = tuple(int(i) for i in np.argwhere(off)[0])
            text = f"{int(np.count_nonzero(off))} outputs do not round to the exact integer, the first at {list(index)}"
            return replace(verdict, status=Status.FAIL, message=text, worst_index=index)
    return replace(verdict, details={**verdict.details, "decoys": list(passing(spec, ops, ref, tol))})


def needs_bound(problem: Problem, *, shrunk: bool) -> bool:
    """Whether exact data may come out rounded: by the class, by a divisor that is no power of two, by a cut output."""
    exact = problem.is_exact if shrunk else problem.is_direct
    return not exact or problem.cuts_output or (problem.spec.op == "avg_pool" and not _dyadic(problem.spec))


def _room_to_saturate(spec: ConvSpec) -> bool:
    """Whether every sum of extreme products stays within i32."""
    return not spec.is_pool and spec.accumulation_length * 2**14 + 100 < 2**31


def _dyadic(spec: ConvSpec) -> bool:
    return all(c & (c - 1) == 0 for axis in spec.divisor_counts for c in axis)


def _literal_arrays(spec: ConvSpec, literal: object) -> tuple[Operands, np.ndarray]:
    """The page's numbers as arrays; lists may omit leading batch and channel axes of length 1."""

    def array(name: str, shape: tuple[int, ...] | None, dtype: str) -> np.ndarray | None:
        value = getattr(literal, name)
        return None if value is None or shape is None else np.array(value, numpy_dtype(dtype)).reshape(shape)

    x, w = array("x", spec.x_shape, spec.in_dtype), array("w", spec.w_shape, spec.in_dtype)
    assert x is not None
    want = np.array(literal.y, np.float64).reshape(spec.out_shape)  # type: ignore[attr-defined]
    return Operands(x, w, array("b", spec.b_shape, spec.acc_dtype)), want


def photo_arrays(spec: ConvSpec, photo: Photo) -> Operands:
    """The picture and its filter as arrays."""
    put = numpy_dtype(spec.in_dtype)
    return Operands(np.array(photo.x, put), np.array(photo.w, put))


def _has_literal(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    return has_output(case, spec, info) or (
        None if case.literal is not None or case.photo is not None else "the case prints no numbers of its own"
    )


INTEGERS = Check("integers", "equals the exact result on integers", judge_integers, has_output, data=True)
IMPULSES = Check("impulses", "finds each tap once, at its place", judge_impulses, has_output, data=True)
LITERAL = Check("literal", "gives the numbers printed in the case", judge_literal, _has_literal, data=True)
