"""Check 8, its first part: the operands' layout in memory does not matter where a backend says so."""

from __future__ import annotations

import numpy as np

from harness.backend import BackendInfo
from harness.catalogue import Case
from harness.checks.base import Check, Problem, Run, has_output
from harness.checks.exact import needs_bound
from harness.checks.metamorphic import same
from harness.records import Status, Verdict
from harness.spec import ConvSpec


def judge(problem: Problem, run: Run) -> Verdict:
    """The output depends on the operands' values, not on their strides or alignment.

    Each layout that the backend declares is tried (Fortran order, every second element, backwards along every axis, one
    element beyond an aligned address). On exact data the output equals that of contiguous, aligned operands; where a
    class or a divisor rounds, both meet the bound, so they differ by at most twice the tolerance. Not bit for bit on
    real data: other strides may well take another path.

    Examples
    --------
    The same numbers lie in another order in memory, and are the same operand.

    >>> import numpy as np
    >>> c = np.array([[1, 2], [3, 4]], np.int8)
    >>> f = np.asfortranarray(c)
    >>> c.ravel("K").tolist(), f.ravel("K").tolist(), bool((c == f).all())
    ([1, 2, 3, 4], [1, 3, 2, 4], True)
    """
    ops, ref = problem.data(*problem.exact)
    first = problem.output(run, *problem.exact)
    tol = 2.0 * problem.tolerance("zero-mean", ops, ref) if needs_bound(problem, shrunk=True) else None
    compared = 0
    for layout in problem.info.layouts:
        if layout != "C":
            other = run(ops, layout=layout)
            verdict = same(other, first, f"operands in layout {layout!r} change the output", tol)
            if verdict.status is not Status.PASS:
                return verdict
            compared += int(np.size(other))
    return Verdict(Status.PASS, compared=compared)


def _declared(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    if set(info.layouts) <= {"C"}:
        return "the backend takes C-contiguous operands only, as the contract promises"
    return has_output(case, spec, info)


LAYOUT = Check("layouts", "gives the same output for every declared memory layout", judge, _declared)
