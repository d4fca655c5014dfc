"""The two forms of an identity, lhs = rhs: equality on exact data, the sum of both tolerances on real data.

An identity relates outputs of one backend on several problems; no oracle takes part in the exact form. Where the
class (or a divisor, or a device that cuts) rounds, each side may err by its own tolerance: |lhs - rhs| <= tol(lhs) +
tol(rhs), never bitwise. A side made by arithmetic on outputs carries the tolerances through it: `rounded`, `added`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from harness.backend import BackendInfo
from harness.catalogue import Case
from harness.checks.base import Problem, Run, has_output, kept
from harness.checks.exact import needs_bound
from harness.data import Operands
from harness.oracle import reference
from harness.records import Status, Verdict
from harness.spec import ConvSpec

#: Operations of the largest case on which the identities of the algebra are tried: they hold at any size.
IDENTITY_FLOPS = 400_000


@dataclass(frozen=True, eq=False)
class Side:
    """One side of an identity: float64 values (exact: i32 sums and binary integers fit) and how far each may err."""

    value: np.ndarray
    tol: np.ndarray

    def map(self, move: Callable[[np.ndarray], np.ndarray]) -> Side:
        """Both moved alike: a permutation, a slice, a reversal."""
        return Side(move(self.value), move(np.broadcast_to(self.tol, self.value.shape)))


def form(problem: Problem) -> str:
    """`exact` where integers come out exact in the class (and for bytes), else `real`: zero-mean data and bounds."""
    return "real" if problem.spec.in_type.is_float and needs_bound(problem, shrunk=True) else "exact"


def straight(problem: Problem, run: Run) -> tuple[Operands, Side]:
    """The case's data in its `form`, and the backend's output on them; run once, then kept for the checks that follow."""
    exact = form(problem) == "exact"
    recipe = problem.exact if exact else ("zero_mean",)
    ops, y = problem.data(*recipe)[0], problem.output(run, *recipe).astype(np.float64)
    return ops, Side(
        y, np.zeros(()) if exact and not needs_bound(problem, shrunk=True) else problem.bound("zero-mean", *recipe)
    )


def evaluate(
    problem: Problem,
    run: Run,
    ops: Operands,
    spec: ConvSpec | None = None,
    *,
    data: str = "zero-mean",
    tol: np.ndarray | None = None,
    **how: object,
) -> Side:
    """The backend's output on `ops` under `spec` (the case's, if not given), and its tolerance.

    `data` names the bound on real data: `positive` for operands that are sums, whose tails are heavier than those of
    the zero-mean fill. `tol` is the tolerance where it is known, because the operands and the problem are those of another
    side that were only moved: every bound depends on magnitudes, which move alike. `how` goes to `run`.
    """
    here = problem.on(spec or problem.spec)
    y = run(ops, spec=here.spec, **how).astype(np.float64)  # type: ignore[arg-type]
    if tol is not None:
        return Side(y, tol)
    if form(problem) == "exact" and not needs_bound(here, shrunk=True):
        return Side(y, np.zeros(()))
    return Side(y, here.tolerance(data, ops, reference(here.spec, ops)))


def rounded(problem: Problem, side: Side) -> Side:
    """`side` before it is added to another: what its own rounding to a narrower output type may have cost."""
    spec = problem.spec
    if spec.out_dtype == spec.acc_dtype or not spec.out_type.is_float:
        return side
    u = spec.out_type.unit_roundoff
    return Side(side.value, side.tol + u * (1 + 2 * u) * np.abs(side.value) + spec.out_type.eta)


def added(problem: Problem, *sides: Side) -> Side:
    """The sum of sides, formed in float64."""
    parts = [rounded(problem, s) for s in sides]
    value = np.sum([p.value for p in parts], axis=0)
    tol = np.sum([np.broadcast_to(p.tol, value.shape) for p in parts], axis=0)
    slack = 0.0 if form(problem) == "exact" else 2.0**-50 * np.sum([np.abs(p.value) for p in parts], axis=0)
    return Side(value, tol + slack)


def agree(lhs: Side, rhs: Side, text: str) -> Verdict:
    """PASS where |lhs - rhs| <= tol(lhs) + tol(rhs) everywhere; FAIL says `text` and names the worst element.

    NaN agrees with nothing: operands are finite and nothing overflows.
    """
    a, b = lhs.value, rhs.value
    with np.errstate(invalid="ignore", divide="ignore"):
        err = np.where(a == b, 0.0, np.abs(a - b))
        limit = np.broadcast_to(lhs.tol + rhs.tol, err.shape)
        ok = err <= limit
        ratio = np.where(err == 0, 0.0, err / limit)
    bad = int(ok.size - np.count_nonzero(ok))
    if not ok.size:
        return Verdict(Status.PASS)
    rank = np.where(np.isnan(ratio), np.inf, ratio)
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(np.where(ok, np.minimum(rank, 1.0), rank))), ok.shape))
    if not bad:
        return Verdict(Status.PASS, compared=int(ok.size), error_bound=float(rank[index]))
    return Verdict(
        Status.FAIL,
        f"{text}: {bad} of {ok.size} outputs differ, worst at {list(index)}: {a[index]:.9g} against {b[index]:.9g}",
        compared=int(ok.size),
        mismatches=bad,
        worst_index=index,
        got=float(a[index]),
        expected=float(b[index]),
        error_bound=float(rank[index]),
    )


@kept
def _large(spec: ConvSpec) -> bool:
    return spec.flops > IDENTITY_FLOPS


def affordable(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    """Applies where there is an output and the case is not large."""
    if _large(spec):
        return f"the identities of the algebra are tried on cases up to {IDENTITY_FLOPS / 1e6:g} MFLOP"
    return has_output(case, spec, info)
