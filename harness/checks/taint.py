"""Check 4: what must not be read is not read. NaN as a dye, in the data and around the buffers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from harness.backend import BackendInfo
from harness.catalogue import Case
from harness.checks.base import GUARDS, Check, Problem, Run, has_output
from harness.checks.compare import compare
from harness.checks.exact import needs_bound
from harness.checks.metamorphic import same
from harness.data import Operands
from harness.data.raw import words
from harness.oracle import Reference, receptive_field
from harness.records import Status, Verdict
from harness.spec import ConvSpec


def judge_nan(problem: Problem, run: Run) -> Verdict:
    """One NaN in x reaches exactly the outputs whose receptive field holds it.

    All weights are nonzero, so every output that reads the element is NaN and no other is. A class that computes tiles
    may spread it to the tiles that touch it (`taint: tile`), one that transforms whole images to its image and group
    (`taint: image`); never to another image or group. Outputs outside are equal to (or within the bound of) the
    reference. The NaN stands at the last element once and at a random one once. max_pool: where NaN is declared to
    propagate.

    Examples
    --------
    With x of five elements and a kernel of two, outputs 1 and 2 read element 2.

    >>> import numpy as np
    >>> x, w = np.array([1, 2, np.nan, 4, 5]), np.array([1, 1])
    >>> [float(x[i : i + 2] @ w) for i in range(4)]
    [3.0, nan, nan, 9.0]
    """
    spec = problem.spec
    ops, ref = problem.data(*problem.exact)
    if thinned := ops.w is not None and not np.all(ops.w):  # too long a sum for integers: a sparse product skips zeros
        ops, ref = problem.data("zero_mean")
    pick = words(spec.x_shape.__len__(), "fixed", problem.case.id, "nan")
    places = (tuple(n - 1 for n in spec.x_shape), tuple(int(v % np.uint64(n)) for v, n in zip(pick, spec.x_shape, strict=True)))
    compared = 0
    for place in dict.fromkeys(places):
        x = ops.x.copy()
        x[place] = np.nan
        y = run(Operands(x, ops.w, ops.b))
        must, may = receptive_field(spec, place), allowed(spec, problem.info, place)
        got = np.isnan(y.astype(np.float64))
        if bool(np.any(wrong := (got & ~may) | (must & ~got))):
            index = tuple(int(i) for i in np.argwhere(wrong)[0])
            what = "is NaN but does not read it" if got[index] else "reads it but is no NaN"
            text = f"with a NaN at x{list(place)}, output {list(index)} {what} ({int(np.count_nonzero(wrong))} such outputs)"
            return Verdict(Status.FAIL, text, int(y.size), int(np.count_nonzero(wrong)), index)
        bound = thinned or needs_bound(problem, shrunk=True)
        verdict = _elsewhere(problem, y, ops, ref, may, bound)
        if verdict.status is not Status.PASS:
            return replace(verdict, message=f"with a NaN at x{list(place)}, which they do not read: {verdict.message}")
        compared += int(y.size)
    return Verdict(Status.PASS, compared=compared)


def allowed(spec: ConvSpec, info: BackendInfo, place: tuple[int, ...]) -> np.ndarray:
    """Outputs that may be NaN by the declared taint, bool of `spec.out_shape`."""
    field = receptive_field(spec, place)
    taint = info.taint_for(spec)
    if taint == "exact":
        return field
    group = place[1] // (spec.in_channels // spec.groups)
    per = spec.out_channels // spec.groups
    whole = np.zeros(spec.out_shape, bool)
    whole[place[0], group * per : (group + 1) * per] = True
    if taint == "image":
        return whole
    # A tile that holds the element also holds outputs up to m - 1 beyond those that read it, wherever tiles begin.
    for axis, (a, out) in enumerate(zip(spec.axes, spec.out_size, strict=True)):
        reads = np.flatnonzero(np.any(field, axis=tuple(i for i in range(field.ndim) if i != 2 + axis)))
        spread = np.zeros(out, bool)
        width = info.algorithm_for(spec).m - 1
        reach = range(-(a.extent - 1) - width, width + 1) if reads.size == 0 else range(-width, width + 1)
        base = reads if reads.size else np.array([place[2 + axis] + a.lo])
        for d in reach:
            at = base + d
            spread[at[(at >= 0) & (at < out)]] = True
        whole = whole & spread.reshape(tuple(out if i == axis + 2 else 1 for i in range(whole.ndim)))
    return whole | field


def _elsewhere(problem: Problem, y: np.ndarray, ops: Operands, ref: Reference, may: np.ndarray, bound: bool) -> Verdict:
    """Judge the outputs that may not be NaN as if nothing had happened."""
    spec = problem.spec
    tol = problem.tolerance("zero-mean", ops, ref) if bound else None
    clean = np.where(may, ref.hi.astype(y.dtype), y)
    if tol is not None:
        tol = np.where(may, np.inf, np.broadcast_to(tol, spec.out_shape))
    return compare(spec, clean, ops, ref, tol)


def judge_guards(problem: Problem, run: Run) -> Verdict:
    """What lies around x, w and b in memory does not matter.

    The same call with zeros, NaN and the largest finite number beside the buffers (for max_pool the largest of both
    signs, for integers two byte patterns) gives the same bits: a read beyond the end that is multiplied by 0 shows too.

    Examples
    --------
    A vector of four is loaded for three elements; the weight of 0 does not hide what was read beyond.

    >>> import numpy as np
    >>> w = np.array([1.0, 1.0, 1.0, 0.0])
    >>> [float(np.array([1, 2, 3, beyond]) @ w) for beyond in (0.0, np.nan)]
    [6.0, nan]
    """
    recipe = "zero_mean" if problem.spec.in_type.is_float else "integers"
    ops, ref = problem.data(recipe)
    tol = None if problem.info.deterministic else 2.0 * problem.tolerance("zero-mean", ops, ref)
    first = run(ops, guard="zeros")
    compared = 0
    for guard in GUARDS[1:]:
        verdict = same(
            run(ops, guard=guard), first, f"{guard} around the buffers changes the output (a read out of bounds)", tol
        )
        if verdict.status is not Status.PASS:
            return verdict
        compared += verdict.compared
    return Verdict(Status.PASS, compared=compared)


def _floats(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    if reason := has_output(case, spec, info):
        return reason
    if not spec.in_type.is_float:
        return "integers have no NaN"
    if spec.op == "max_pool" and info.nan_max_pool != "propagate":
        return "the backend does not declare what max_pool does with NaN"
    return None


NAN_TAINT = Check("nan_taint", "lets a NaN reach its receptive field and nothing else", judge_nan, _floats)
READ_GUARDS = Check("read_guards", "reads nothing beyond its operands", judge_guards, has_output)
