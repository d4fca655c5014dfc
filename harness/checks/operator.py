"""Check 3 b: the backend as a matrix, held entry by entry against the one that the case writes out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from harness.backend import BackendInfo
from harness.catalogue import Case, Literal
from harness.catalogue.matrices import tap_row
from harness.checks.base import Check, Problem, Run, has_output
from harness.checks.exact import judge_exact
from harness.data import Operands
from harness.oracle import reference
from harness.records import Status, Verdict
from harness.spec import ConvSpec
from harness.spec.host import numpy_dtype


def judge(problem: Problem, run: Run) -> Verdict:
    """A convolution is a matrix, and unit impulses read it out: T e_j is column j of T.

    With the weights fixed, y = T x, and T is the filter's Toeplitz matrix: constant along its diagonals,
    circulant where the padding is circular, doubly blocked in 2-D, without its skipped rows where there is a
    stride, transposed for a transposed convolution. With the input fixed, y^T = h^T X, and X is the data's
    Toeplitz matrix, row by row the response to a filter of one tap. The case writes the matrix out; the
    backend's is made by running every impulse (in x for T, in w for X), and each entry is one product of a 1,
    exact in every class that does not round; the others meet their bound. The oracle must agree with the page
    first. Holds for every convolution without a bias.

    Examples
    --------
    Column j is the response to impulse j; the matrix times x is the convolution.

    >>> import numpy as np
    >>> from harness.checks.worked import conv
    >>> T = np.array([conv(e, [5, 6]) for e in np.eye(4)]).T
    >>> T.tolist()
    [[5, 6, 0, 0], [0, 5, 6, 0], [0, 0, 5, 6]]
    >>> (T @ [1, 2, 3, 4]).tolist(), conv([1, 2, 3, 4], [5, 6])
    ([17, 28, 39], [17, 28, 39])
    """
    matrix, literal = problem.case.matrix, problem.case.literal
    assert matrix is not None
    assert literal is not None
    want = np.array(matrix.rows, np.float64)
    got = np.full(want.shape, np.nan)
    bad: list[Verdict] = []
    count, compared = 0, 0
    for line, ops in impulses(problem.spec, literal, matrix.view):
        at = (slice(None), line) if matrix.view == "filter" else (line, slice(None))
        ref = reference(problem.spec, ops)
        if not np.array_equal(ref.hi.reshape(-1), want[at]):
            what = f"{'column' if matrix.view == 'filter' else 'row'} {line} of the catalogue's matrix"
            text = f"{what} is {_numbers(want[at])}, the definition gives {_numbers(ref.hi.reshape(-1))}: mend the case"
            return Verdict(Status.ERROR, text)
        y = run(ops)
        got[at] = y.reshape(-1)
        verdict = judge_exact(problem, y, ops, ref)
        compared += verdict.compared
        if verdict.status is not Status.PASS:
            assert verdict.worst_index is not None
            flat = int(np.ravel_multi_index(verdict.worst_index, problem.spec.out_shape))
            entry = (flat, line) if matrix.view == "filter" else (line, flat)
            count += verdict.mismatches or 1
            bad.append(replace(verdict, details={"row": entry[0], "column": entry[1]}))
    if not bad:
        return Verdict(Status.PASS, compared=compared, details={"rows": want.shape[0], "columns": want.shape[1]})
    worst = min(bad, key=lambda v: (v.status is not Status.ERROR, v.details["row"], v.details["column"]))
    r, c = worst.details["row"], worst.details["column"]
    if worst.status is Status.ERROR:
        return worst
    text = (
        f"row {r}, column {c} of the {matrix.view} matrix is {got[r, c]:.9g}, expected {want[r, c]:.9g}; "
        f"{count} of {want.size} entries differ; row {r} is {_numbers(got[r])}, expected {_numbers(want[r])}"
    )
    return replace(worst, message=text, compared=compared, mismatches=count, got=float(got[r, c]), expected=float(want[r, c]))


def impulses(spec: ConvSpec, literal: Literal, view: str) -> Iterator[tuple[int, Operands]]:
    """(column of T or row of X, operands that make the output that line): every unit impulse, in the matrix's order."""
    put = numpy_dtype(spec.in_dtype)
    x, w = np.array(literal.x, put).reshape(spec.x_shape), np.array(literal.w, put).reshape(spec.w_shape or ())
    where = x if view == "filter" else w
    for i, at in enumerate(np.ndindex(*where.shape)):
        one = np.zeros_like(where)
        one[at] = 1
        if view == "filter":
            yield i, Operands(one, w)
        else:
            yield tap_row(spec, at), Operands(x, one)


def _numbers(line: np.ndarray) -> str:
    """A row or a column, in a message."""
    return "[" + " ".join(f"{v:.9g}" for v in line[:24]) + (" ...]" if line.size > 24 else "]")


def _has_matrix(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    return has_output(case, spec, info) or (None if case.matrix is not None else "the case writes out no matrix")


OPERATOR = Check("operator", "is, impulse by impulse, the matrix written in the case", judge, _has_matrix)
