"""Check 7, its first property: translation equivariance, conv(shift(x)) = shift(conv(x)).

The lecture's theorem: a circulant matrix commutes with the shift operator. Where the boundary is not
circular the theorem holds in the interior, for outputs whose windows see data only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from harness.backend import BackendInfo
from harness.catalogue import Case
from harness.checks.base import Check, Problem, Run, has_output
from harness.data import Operands
from harness.data.raw import words
from harness.records import Status, Verdict
from harness.spec import ConvSpec
from harness.spec.geometry import Axis


@dataclass(frozen=True)
class AxisShift:
    """A shift along one axis: of the input by `by`, of the output by `to`, compared for outputs [first, last].

    `by` is 0 where the axis does not shift. On a circular axis output positions wrap.
    """

    by: int
    to: int
    first: int
    last: int

    def before(self, out: int) -> np.ndarray:
        """Output positions of the unshifted problem."""
        return np.arange(self.first, self.last + 1)

    def after(self, out: int) -> np.ndarray:
        """The same outputs' positions after the shift."""
        return (self.before(out) + self.to) % out


def plan_shift(spec: ConvSpec, pick: tuple[int, ...]) -> tuple[AxisShift, ...] | None:
    """The shift for each axis, or None where no axis has one.

    Parameters
    ----------
    spec : ConvSpec
    pick : tuple of int
        A nonnegative number an axis that chooses among the shifts that leave outputs to compare.
    """
    shifts = tuple(_axis_shift(spec, a, o, p) for a, o, p in zip(spec.axes, spec.out_size, pick, strict=True))
    return shifts if any(s.by for s in shifts) else None


def _axis_shift(spec: ConvSpec, a: Axis, out: int, pick: int) -> AxisShift:
    if spec.op == "conv" and spec.padding_mode == "circular" and out * a.s == a.n and out > 1:
        k = 1 + pick % (out - 1)
        return AxisShift(k * a.s, k, 0, out - 1)
    most = _most_shifts(spec, a, out)
    return _interior(spec, a, out, 1 + pick % max(1, most // 2)) if most > 0 else AxisShift(0, 0, 0, out - 1)


def _most_shifts(spec: ConvSpec, a: Axis, out: int) -> int:
    """The largest k for which `_interior` is not empty; below 1 where there is none."""
    one = _interior(spec, a, out, 1)
    if spec.op == "conv_transpose":  # each further k takes s outputs from the last
        return min(1 + (one.last - one.first) // a.s, a.n - 1)
    return 1 + one.last - one.first  # each further k takes one


def _interior(spec: ConvSpec, a: Axis, out: int, k: int) -> AxisShift:
    """Outputs that see only data which the shift moved as a whole."""
    if spec.op == "conv_transpose":
        first = max(0, a.extent - 1 - a.lo)
        return AxisShift(k, k * a.s, first, min((a.n - k) * a.s - 1 - a.lo, out - 1 - k * a.s))
    first = max(0, -(-a.lo // a.s))
    return AxisShift(k * a.s, k, first, min((a.n - k * a.s - a.extent + a.lo) // a.s, out - 1 - k))


def judge(problem: Problem, run: Run) -> Verdict:
    """Convolution is translation equivariant: conv(shift(x)) = shift(conv(x)).

    Shifting x by s k elements (s the stride) shifts y by k; for a transposed convolution x by k and y by s k.
    With circular padding whose output has n/s elements it holds for every output: a circulant matrix commutes
    with the shift, C(w) S^T = S^T C(w). With other padding it holds in the interior: for outputs whose windows
    lie wholly in data that the shift moved. Pools obey it there too. No oracle takes part in the exact form:
    on integers the two outputs are equal (classes that do not round); on real data
    |lhs - rhs| <= tol(lhs) + tol(rhs).

    Examples
    --------
    Shifted by one: with circular padding everywhere, without it where the windows hold what was shifted.

    >>> from harness.checks.worked import conv
    >>> ring = {"padding": ((0, 1),), "padding_mode": "circular"}
    >>> conv([1, 2, 4, 8], [1, -1], **ring), conv([8, 1, 2, 4], [1, -1], **ring)
    ([-1, -2, -4, 7], [7, -1, -2, -4])
    >>> conv([1, 2, 4, 8], [1, -1]), conv([0, 1, 2, 4], [1, -1])
    ([-1, -2, -4], [-1, -1, -2])
    """
    spec = problem.spec
    draw = words(spec.rank, "fixed" if not spec.in_type.is_float else problem.oracle.seed, problem.case.id, "shift")
    shifts = plan_shift(spec, tuple(int(v % np.uint64(2**31)) for v in draw))
    assert shifts is not None
    verdict = Verdict(Status.PASS)
    forms: list[tuple[tuple[object, ...], bool]] = [(problem.exact, problem.is_exact and spec.op != "avg_pool")]
    forms += [(("zero_mean",), spec.op == "max_pool")] if spec.in_type.is_float else []
    compared = 0
    for recipe, equal in forms:
        ops, ref = problem.data(*recipe)
        before = problem.output(run, *recipe)
        moved = np.roll(ops.x, tuple(s.by for s in shifts), tuple(range(2, 2 + spec.rank)))
        after = run(Operands(np.ascontiguousarray(moved), ops.w, ops.b))
        tol = (
            np.zeros(spec.out_shape)
            if equal
            else np.broadcast_to(2.0 * problem.tolerance("zero-mean", ops, ref), spec.out_shape)
        )
        at = tuple(s.before(o) for s, o in zip(shifts, spec.out_size, strict=True))
        to = tuple(s.after(o) for s, o in zip(shifts, spec.out_size, strict=True))
        verdict = _compare(_take(before, at), _take(after, to), _take(tol, at), str(recipe[0]), shifts)
        if verdict.status is not Status.PASS:
            origin = verdict.worst_index
            assert origin is not None
            place = tuple(int(t[i]) for t, i in zip(to, origin[2:], strict=True))
            return replace(verdict, worst_index=(*origin[:2], *place))
        compared += verdict.compared
    return replace(verdict, compared=compared, worst_index=None, got=None, expected=None)


def _take(a: np.ndarray, at: tuple[np.ndarray, ...]) -> np.ndarray:
    for axis, index in enumerate(at):
        a = np.take(a, index, axis=2 + axis)
    return a


def _compare(before: np.ndarray, after: np.ndarray, tol: np.ndarray, recipe: str, shifts: tuple[AxisShift, ...]) -> Verdict:
    lhs, rhs = after.astype(np.float64), before.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        err = np.where(lhs == rhs, 0.0, np.abs(lhs - rhs))
        ok = err <= tol
        ratio = np.where(err == 0, 0.0, err / tol)
    bad = int(ok.size - np.count_nonzero(ok))
    rank = np.where(np.isnan(ratio), np.inf, ratio)
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(rank)), rank.shape))
    by, to = [s.by for s in shifts], [s.to for s in shifts]
    text = (
        f"x shifted by {by} does not shift the output by {to} ({recipe} data): {bad} of {ok.size} outputs differ; "
        f"worst {lhs[index]:.9g} against {rhs[index]:.9g}"
    )
    return Verdict(
        Status.FAIL if bad else Status.PASS,
        text if bad else "",
        compared=int(ok.size),
        mismatches=bad,
        worst_index=index,
        got=float(lhs[index]),
        expected=float(rhs[index]),
        error_bound=float(rank[index]),
    )


def _shifts_somewhere(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    if reason := has_output(case, spec, info):
        return reason
    return None if plan_shift(spec, (0,) * spec.rank) else "no output sees only data that a shift moves whole"


EQUIVARIANCE = Check("equivariance", "shifts its output when its input is shifted", judge, _shifts_somewhere)
