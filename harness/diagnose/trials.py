"""From a failed check to the evidence of its last trial, and to words that a verdict carries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from harness.checks import Problem, Trial
from harness.checks.contract import unwritten
from harness.checks.exact import needs_bound
from harness.data import Operands
from harness.diagnose.engine import diagnose
from harness.diagnose.evidence import Evidence, Finding
from harness.oracle import Reference
from harness.oracle.bound import NoBound
from harness.records import Verdict
from harness.spec import ConvSpec

#: Findings that a verdict carries.
KEPT = 3


def findings(
    problem: Problem,
    trial: Trial,
    verdict: Verdict,
    check: str,
    *,
    passed: frozenset[str] = frozenset(),
    earlier: tuple[Operands, ...] = (),
    again: Callable[..., np.ndarray] | None = None,
) -> tuple[Finding, ...]:
    """What is wrong with the output on which `check` failed; empty where nothing reproduces it.

    Parameters
    ----------
    problem : Problem
        The case's.
    trial : Trial
        The call that the check looked at last.
    verdict : Verdict
    check : str
    passed : frozenset of str
        Checks of the same case that passed.
    earlier : tuple of Operands
        Of earlier calls, the latest first; those of other shapes are passed over.
    again : callable, optional
        (ops, **how) -> output: calls the backend once more.
    """
    e = evidence_of(problem, trial, verdict, check)
    if e is None:
        return ()
    alike = tuple(o for o in earlier if _shapes(o) == _shapes(e.ops))  # a check may call on other specifications too
    e = replace(e, passed=passed, earlier=alike, again=again)
    missing = None
    if "never written" in verdict.message:
        missing = unwritten(e.out, e.spec.out_dtype, int(str(e.how.get("poison", 0))))
    return diagnose(e, unwritten=missing)


def evidence_of(problem: Problem, trial: Trial, verdict: Verdict, check: str) -> Evidence | None:
    """The evidence of a failed trial, with the tolerance that holds for it; None where it left no output."""
    if trial.out is None or not trial.out.size:
        return None
    e = Evidence(trial.spec, trial.ops, trial.out, None, check, verdict.message, how=trial.how)
    return replace(e, tol=tolerance_of(problem.on(trial.spec), e, verdict))


def tolerance_of(problem: Problem, e: Evidence, verdict: Verdict) -> np.ndarray | None:
    """The bound by which the output is right or wrong; None where equality holds for the class on such operands.

    Of the two bounds the one with as many elements beyond as the verdict counts.
    """
    spec = problem.spec
    if not spec.out_type.is_float or (spec.op == "max_pool" and problem.device.denormals == "gradual"):
        return None
    if not e.finite:
        size = np.abs(np.nan_to_num(e.right, posinf=0.0, neginf=0.0))
        return np.full(spec.out_shape, 64.0 * spec.acc_type.unit_roundoff * float(np.max(size, initial=1.0)))
    if exact(spec, e.ops, e.reference) and not needs_bound(problem, shrunk=False):
        return None
    try:
        kinds = ("zero-mean", "positive")
        bounds = [np.broadcast_to(problem.tolerance(data, e.ops, e.reference), spec.out_shape) for data in kinds]
    except NoBound:  # a class that says nothing of this specification: errors of a direct sum, generously
        return np.full(spec.out_shape, 64.0 * spec.acc_type.unit_roundoff * float(np.max(e.reference.scale, initial=0.0)))
    with np.errstate(all="ignore"):
        beyond = [int(np.count_nonzero(~(np.abs(e.got - e.right) <= tol))) for tol in bounds]
    return bounds[1] if beyond[1] == verdict.mismatches else bounds[0]


def exact(spec: ConvSpec, ops: Operands, ref: Reference) -> bool:
    """Whether every order of summation gives the same: integers within what the accumulator holds exactly."""
    whole = all(np.array_equal(v := a.astype(np.float64), np.rint(v)) for a in ops.arrays if a is not None)
    bias = 0.0 if ops.b is None else float(np.max(np.abs(ops.b.astype(np.float64)), initial=0.0))
    return whole and float(np.max(ref.scale, initial=0.0)) * _count(spec) + bias <= spec.acc_type.exact_limit


def _shapes(ops: Operands) -> tuple[tuple[int, ...] | None, ...]:
    return tuple(None if a is None else a.shape for a in ops.arrays)


def _count(spec: ConvSpec) -> float:
    """What the scale of an average was divided by, at most."""
    if spec.op != "avg_pool":
        return 1.0
    most = 1.0
    for counts in spec.divisor_counts:
        most *= max(counts)
    return most


def carried(found: tuple[Finding, ...]) -> list[dict[str, str]]:
    """Findings in JSON's types, as `verdict.details['diagnosis']` holds them."""
    return [{"id": f.id, "text": f.text} | ({"place": f.place} if f.place else {}) for f in found[:KEPT]]
