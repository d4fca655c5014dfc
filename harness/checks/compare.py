"""Comparison of an output with its reference: one function for equality and bound, NaN-safe.

Also the third opinion: before a mismatch is reported, the worst element is computed once more, exactly,
from the definition. A harness that accuses a right backend is worthless.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from math import isfinite

import numpy as np

from harness.data import Operands
from harness.oracle import Reference, exact_element
from harness.oracle.bound import RMS_COUNT, RMS_LIMIT, unit
from harness.records import Status, Verdict
from harness.spec import ConvSpec
from harness.spec.host import numpy_dtype

#: Products that the third opinion may cost.
CONFIRM_LIMIT = 200_000


def compare(
    spec: ConvSpec, y: np.ndarray, ops: Operands, ref: Reference, tol: np.ndarray | None, *, rms: bool = False
) -> Verdict:
    """Judge `y`.

    Parameters
    ----------
    spec : ConvSpec
    y : ndarray, `spec.out_shape`, the output's dtype
    ops : Operands
    ref : Reference
    tol : ndarray or None
        Elementwise tolerance; None asks equality with the reference rounded to the output's dtype.
    rms : bool
        Whether rms(err / (u (A + |b|))) is held to `RMS_LIMIT` too (direct sums on zero-mean data).

    Returns
    -------
    Verdict
        PASS or FAIL with the worst element; ERROR if the two oracles disagree about that element.
        An empty output passes with nothing compared.
    """
    if y.size == 0:
        return Verdict(Status.PASS)
    err = error(y, ref, spec, equal=tol is None)
    if tol is None and not np.any(err):  # NaN is not 0
        return Verdict(Status.PASS, compared=int(y.size), error_bound=0.0, error_units=0.0)
    limit = np.zeros(()) if tol is None else tol
    ok = err <= limit
    with np.errstate(over="ignore"):  # where A is 0 the unit is tiny
        units = err / unit(spec, ref)
    bad = int(ok.size - np.count_nonzero(ok))
    index, ratio = _worst(err, limit, ok)
    verdict = Verdict(
        Status.FAIL if bad else Status.PASS,
        compared=int(y.size),
        mismatches=bad,
        worst_index=index,
        got=float(y[index]),
        expected=float(ref.hi[index]),
        error_bound=ratio,
        error_units=_largest(units),
    )
    if bad:
        verdict = replace(verdict, message=_describe(verdict, tol is None))
        return _confirm(spec, y, ops, np.broadcast_to(limit, y.shape), verdict)
    if rms and y.size >= RMS_COUNT:
        value = float(np.sqrt(np.mean(np.square(err / _unit_with_bias(spec, ops, ref)))))
        if not value <= RMS_LIMIT:
            text = f"rms error is {value:.3g} u (A + |b|) over {y.size} outputs; right direct sums stay below {RMS_LIMIT}"
            verdict = replace(verdict, status=Status.FAIL, message=text, mismatches=int(y.size))
    return verdict


def error(y: np.ndarray, ref: Reference, spec: ConvSpec, *, equal: bool) -> np.ndarray:
    """|y - reference|, float64; NaN where y is NaN."""
    with np.errstate(invalid="ignore", over="ignore"):
        if equal:
            want = ref.hi.astype(numpy_dtype(spec.out_dtype)).astype(np.float64)
            got = y.astype(np.float64)
            return np.where(got == want, 0.0, np.abs(got - want) + np.finfo(np.float64).tiny)
        diff = y.astype(np.float64) - ref.hi
        return np.abs(diff if ref.lo is None else diff - ref.lo)


def _unit_with_bias(spec: ConvSpec, ops: Operands, ref: Reference) -> np.ndarray:
    """U (A + |b|): adding the bias rounds in its own size, which a kernel of one tap does not drown."""
    if ops.b is None:
        return unit(spec, ref)
    bias = np.abs(ops.b.astype(np.float64)).reshape(1, -1, *(1,) * spec.rank)
    return unit(spec, ref) + spec.acc_type.unit_roundoff * bias


def _worst(err: np.ndarray, limit: np.ndarray, ok: np.ndarray) -> tuple[tuple[int, ...], float]:
    """The index of the largest err/limit, failures and NaN first, and that ratio."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        ratio = np.where(err == 0, 0.0, err / limit)
    rank = np.where(np.isnan(ratio), np.inf, ratio)
    rank = np.where(ok, np.minimum(rank, 1.0), rank)
    best = np.flatnonzero(rank == np.max(rank))
    flat = int(best[np.argmax(np.nan_to_num(err.reshape(-1)[best], nan=np.inf))])
    index = tuple(int(i) for i in np.unravel_index(flat, err.shape))
    return index, float(rank[index])


def _largest(units: np.ndarray) -> float:
    top = float(np.max(units))
    return top if isfinite(top) else float("inf")


def _describe(v: Verdict, equal: bool) -> str:
    share = f"{v.mismatches} of {v.compared} outputs"
    where = f"worst at {list(v.worst_index or ())}: got {v.got:.9g}, expected {v.expected:.9g}"
    if equal:
        return f"{share} differ from the exact result; {where}"
    return f"{share} are out of bound; {where}, error {v.error_bound:.3g} x the bound"


def _confirm(spec: ConvSpec, y: np.ndarray, ops: Operands, limit: np.ndarray, verdict: Verdict) -> Verdict:
    """Ask the second oracle about the worst element; ERROR of the harness if it sides with the backend."""
    index = verdict.worst_index
    if index is not None and not (isfinite(limit[index]) and isfinite(verdict.expected or 0.0)) and _finite(ops):
        text = f"the reference at {list(index)} is {verdict.expected!r} within {float(limit[index])!r}: a defect of Convproof"
        return replace(verdict, status=Status.ERROR, message=text)
    if index is None or verdict.got is None or not isfinite(verdict.got):
        return verdict
    if spec.accumulation_length > CONFIRM_LIMIT or not _finite(ops):
        return replace(verdict, details={"confirmed": "not tried"})
    exact = exact_element(spec, ops, index)
    if limit[index] > 0:
        right = abs(Fraction(verdict.got) - exact) <= Fraction(float(limit[index]))
    else:
        right = float(np.float64(float(exact)).astype(y.dtype)) == verdict.got
    if right:
        text = (
            f"the two oracles disagree at {list(index)}: {verdict.expected!r} against {float(exact)!r}; "
            "this is a defect of Convproof, please report it"
        )
        return replace(verdict, status=Status.ERROR, message=text)
    details: Mapping[str, str] = {**verdict.details, "confirmed": "exact rational arithmetic"}
    return replace(verdict, details=details)


def _finite(ops: Operands) -> bool:
    return all(bool(np.all(np.isfinite(a.astype(np.float64)))) for a in ops.arrays if a is not None)
