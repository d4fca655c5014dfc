"""Check 6, infinities: they reach what reads them, with the right sign, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from harness.checks.base import Check, Problem, Run
from harness.checks.metamorphic import same
from harness.checks.real import is_float
from harness.checks.taint import allowed
from harness.data import Operands
from harness.data.raw import signs, words
from harness.oracle import receptive_field, reference
from harness.records import Status, Verdict
from harness.spec import ConvSpec


def judge_infinity(problem: Problem, run: Run) -> Verdict:
    """One Inf in x gives sign(w) Inf on its receptive field, one in w sign(x) Inf where its tap reads data; nothing else.

    The weights of an output channel are nonzero and of one sign, so that no two infinities of opposite sign meet.
    For a class that spreads what it reads (tiles, images) outputs inside its taint may be anything that is not finite;
    for all, outputs outside it are those without the Inf. Where the tap that is Inf reads padding the product is Inf times
    zero or none, by how padding is done: such outputs of its channel are not compared. A maximum of -Inf alone is -Inf.

    Examples
    --------
    Weights of 1, x of five elements: outputs 1 and 2 read the Inf. Clipped to the largest finite number they would not say so.

    >>> import numpy as np
    >>> x = np.array([1, 2, np.inf, 4, 5])
    >>> [float(x[i : i + 2].sum()) for i in range(4)]
    [3.0, inf, inf, 9.0]
    """
    spec = problem.spec
    ops, _ = problem.data("zero_mean")
    sign = np.ones(spec.out_channels)
    w = ops.w
    if w is not None:
        sign = signs(words(spec.out_channels, "fixed", problem.case.id, "sign"))
        w = _one_sign(spec, w, sign)
    pick = words(len(spec.x_shape), problem.oracle.seed, problem.case.id, "inf")
    place = tuple(int(v % np.uint64(n)) for v, n in zip(pick, spec.x_shape, strict=True))
    plain = Operands(ops.x, w, ops.b)
    before = run(plain)
    x = ops.x.copy()
    x[place] = np.inf
    after = run(Operands(x, w, ops.b)).astype(np.float64)
    field, may = receptive_field(spec, place), allowed(spec, problem.info, place)
    want = np.where(field, np.broadcast_to((sign * np.inf).reshape(1, -1, *(1,) * spec.rank), spec.out_shape), np.nan)
    right = after[field] == want[field] if problem.info.taint_for(spec) == "exact" else ~np.isfinite(after[field])
    if not bool(np.all(right)):
        index = tuple(int(i) for i in np.argwhere(field)[int(np.flatnonzero(~right)[0])])
        text = f"with Inf at x{list(place)}, output {list(index)} reads it and is {after[index]:g}, expected {want[index]:g}"
        return Verdict(Status.FAIL, text, int(after.size), int(np.count_nonzero(~right)), index)
    tol = None
    if not problem.info.deterministic:
        tol = 2.0 * problem.tolerance("zero-mean", *problem.data("zero_mean"))
    untouched = np.where(may, before.astype(np.float64), after)
    verdict = same(untouched, before, f"an Inf at x{list(place)} changes outputs that do not read it", tol)
    if verdict.status is not Status.PASS or spec.op == "avg_pool":
        return verdict
    last = _all_lowest(problem, run) if spec.is_pool else _weight_is_inf(problem, run, plain, before, tol)
    return last if last.status is not Status.PASS else replace(verdict, compared=verdict.compared + last.compared)


def _all_lowest(problem: Problem, run: Run) -> Verdict:
    """The maximum of -Inf alone."""
    y = run(Operands(np.full_like(problem.data("zero_mean")[0].x, -np.inf)))
    return same(y, np.full_like(y, -np.inf), "of an input of -Inf alone the maximum is something else")


def _weight_is_inf(problem: Problem, run: Run, ops: Operands, before: np.ndarray, tol: np.ndarray | None) -> Verdict:
    """One weight Inf: its tap's reads are Inf, other channels are as before."""
    spec = problem.spec
    assert ops.w is not None
    pick = words(ops.w.ndim, problem.oracle.seed, problem.case.id, "inf weight")
    at = tuple(int(v % np.uint64(n)) for v, n in zip(pick, ops.w.shape, strict=True))
    inputs, outputs = spec.in_channels // spec.groups, spec.out_channels // spec.groups
    if spec.op == "conv":
        group, out = at[0] // outputs, at[0]
        channel = group * inputs + at[1]
    else:
        group, channel = at[0] // inputs, at[0]
        out = group * outputs + at[1]
    one = replace(spec, in_channels=1, out_channels=1, groups=1, bias=False)
    tap = np.zeros((1, 1, *spec.kernel_size), ops.w.dtype)
    tap[(0, 0, *at[2:])] = 1
    read = reference(one, Operands(np.ascontiguousarray(ops.x[:, channel : channel + 1]), tap)).hi[:, 0]  # 0: padding
    w = ops.w.copy()
    w[at] = np.inf
    after = run(Operands(ops.x, w, ops.b)).astype(np.float64)
    mine = after[:, out]
    exact = problem.info.taint_for(problem.spec) == "exact"
    right = np.where(exact, mine == np.copysign(np.inf, read), ~np.isfinite(mine)) | (read == 0)
    if not bool(np.all(right)):
        n, *rest = (int(i) for i in np.argwhere(~right)[0])
        text = f"with Inf at w{list(at)}, output {[n, out, *rest]} reads it and is {mine[(n, *rest)]:g}"
        want = f"expected {np.copysign(np.inf, read[(n, *rest)]):g}"
        return Verdict(Status.FAIL, f"{text}, {want}", int(mine.size), int(np.count_nonzero(~right)), (n, out, *rest))
    touched = np.zeros(spec.out_channels, bool)
    touched[out if exact else slice(group * outputs, (group + 1) * outputs)] = True
    kept = np.where(touched.reshape(-1, *(1,) * spec.rank), before.astype(np.float64), after)
    return same(kept, before, f"an Inf at w{list(at)} changes outputs of other channels", tol)


def _one_sign(spec: ConvSpec, w: np.ndarray, sign: np.ndarray) -> np.ndarray:
    """|w| with the sign of its output channel."""
    if spec.op == "conv":
        shape = (-1, *(1,) * (w.ndim - 1))
        return np.ascontiguousarray((np.abs(w.astype(np.float64)) * sign.reshape(shape)).astype(w.dtype))
    per = spec.out_channels // spec.groups
    group = np.arange(spec.in_channels) // (spec.in_channels // spec.groups)
    table = sign[group[:, None] * per + np.arange(per)]
    return np.ascontiguousarray((np.abs(w.astype(np.float64)) * table.reshape(*table.shape, *(1,) * spec.rank)).astype(w.dtype))


INFINITY = Check("infinity", "gives Inf where an Inf is read and nowhere else", judge_infinity, is_float)
