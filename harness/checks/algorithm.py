"""Check 6 b: what a backend computes with, seen from its errors, against what it declares.

The class decides which bound judges a backend: one that is declared wrongly is judged by the wrong bound. No single
tolerance tells the classes apart, but graded data do by orders of magnitude (measured in u A: direct 0.8 to 3.6, F(2, 3)
377 to 4140, FFT 891 to 5960; TF32 835 to 10800, which fails on zero-mean data too).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.backend import FFT, BackendInfo
from harness.catalogue import Case
from harness.checks.base import Check, Problem, Run, has_output
from harness.checks.compare import error
from harness.data import Operands
from harness.oracle import receptive_field, reference, tolerance
from harness.oracle.bound import unit
from harness.records import Status, Verdict
from harness.spec import ConvSpec

#: Errors, in u A, above which large neighbours have disturbed an output; a right direct sum stays below 8.
DISTURBED = 64.0
#: The exponent by which one element is made larger: so far beyond the rest that many channels do not drown its rounding.
LARGE = 20
#: How many outputs beyond those that read an element a Winograd tile disturbs, at most: m - 1 for F(m, r), m up to 6.
REACH = 5


@dataclass(frozen=True)
class Measured:
    """What one case shows of the class.

    Attributes
    ----------
    kind : str
        `direct`, `fft`, `winograd`, `transform` (one of the two: the output is too small to tell), or `imprecise`:
        neither named nor excluded, since the errors are too large for any class.
    graded, ungraded : float
        Largest error in u A on graded and on zero-mean data.
    disturbed : int
        Outputs that do not read a large element and change when it does, by more than `DISTURBED` u A.
    beyond : int
        How many outputs the furthest of them lies beyond those whose windows hold the element.
    """

    kind: str
    graded: float
    ungraded: float
    disturbed: int = 0
    beyond: int = 0


def judge(problem: Problem, run: Run) -> Verdict:
    """The backend errs like the algorithm class that it declares.

    A sum of products keeps terms apart: what an output does not read (or reads with a weight of 0) cannot disturb it. A
    transform mixes neighbours, and subtracts them again only up to rounding. On graded data, x larger by 2^12 on
    one colour of a chessboard, a direct sum errs by a few u A, FFT and Winograd by hundreds and thousands. Above 64 u, and if
    the errors on ungraded data are within a transform's bound, one element is made larger by 2^20: an FFT disturbs
    outputs all over the image (or block), Winograd those of the tiles that hold the element alone, within 5 outputs, a
    direct sum none. FAIL only where a direct sum is declared and a transform measured: its declaration claims an accuracy
    that it has not. A declared transform that measures as direct is reported, not failed: it may well choose
    a direct sum for a case. Holds for types with the range, and an output as precise as the accumulator.

    Examples
    --------
    F(2, 3) in float16 for the taps 1, 0, 1: the centre, which the output does not read, is added and subtracted again.
    Between numbers of 4096 and more lie 4, and some of that stays.

    >>> import numpy as np
    >>> for centre in (2, 4096):
    ...     d0, d1, d2 = np.float16([1, centre, 5])
    ...     print("direct", int(d0 + d2), "Winograd", int((d0 - d2) + (d1 + d2) + (d2 - d1)))
    direct 6 Winograd 6
    direct 6 Winograd 4
    """
    found = measure(problem, run)
    declared = problem.info.algorithm_for(problem.spec).kind
    details = {
        "declared": declared,
        "measured": found.kind,
        "graded_units": round(found.graded, 3),
        "ungraded_units": round(found.ungraded, 3),
        "disturbed": found.disturbed,
        "beyond": found.beyond,
    }
    count = int(np.prod(problem.spec.out_shape))
    if declared != "direct" or found.kind in ("direct", "imprecise"):
        return Verdict(Status.PASS, compared=count, error_units=found.graded, details=details)
    name = {"fft": "an FFT", "winograd": "Winograd"}.get(found.kind, "a transform (FFT or Winograd)")
    text = (
        f"declared direct, measured {name}: graded data err by {found.graded:.3g} u A (a direct sum by less than 8), and one "
        f"large element disturbs {found.disturbed} outputs that do not read it, up to {found.beyond} away from its windows"
    )
    return Verdict(Status.FAIL, text, count, found.disturbed, error_units=found.graded, details=details)


def measure(problem: Problem, run: Run) -> Measured:
    """The class that the errors show; two runs more than `graded` and `zero_mean` took where they are large."""
    graded, ungraded = (_units(problem, run, recipe) for recipe in ("graded", "zero_mean"))
    if graded <= DISTURBED:
        return Measured("direct", graded, ungraded)
    if not _within_a_transforms_bound(problem, run):
        return Measured("imprecise", graded, ungraded)
    disturbed = _disturbed(problem, run)
    count, beyond = int(np.count_nonzero(disturbed)), _furthest(problem.spec, disturbed)
    if not count:
        return Measured("direct", graded, ungraded)
    room = _furthest(problem.spec, np.ones(problem.spec.out_shape, bool))
    pointwise = max(problem.spec.kernel_size) == 1  # which Winograd has no tiles for
    kind = "fft" if beyond > REACH or pointwise else "transform" if room <= REACH else "winograd"
    return Measured(kind, graded, ungraded, count, beyond)


def _units(problem: Problem, run: Run, recipe: str) -> float:
    """The largest error on a recipe's data in u A + floor; infinite where an output is no number."""
    _, ref = problem.data(recipe)
    err = error(problem.output(run, recipe), ref, problem.spec, equal=False) / unit(problem.spec, ref)
    return float(np.max(np.nan_to_num(err, nan=np.inf)))


def _within_a_transforms_bound(problem: Problem, run: Run) -> bool:
    """Whether zero-mean data err as little as an FFT or the declared class may."""
    ops, ref = problem.data("zero_mean")
    err = error(problem.output(run, "zero_mean"), ref, problem.spec, equal=False)
    fft = tolerance(problem.spec, FFT, problem.device, "zero-mean", ops, ref)
    return bool(np.all(err <= np.maximum(fft, problem.tolerance("zero-mean", ops, ref))))


def _disturbed(problem: Problem, run: Run) -> np.ndarray:
    """Outputs that do not read one place of the input, with a weight other than 0, and change when it is made large."""
    spec = problem.spec
    x, w = problem.data("zero_mean")[0].x, problem.data("graded")[0].w
    assert w is not None
    small = Operands(x, w, problem.data("zero_mean")[0].b)
    one = np.zeros(spec.x_shape)
    one.reshape(spec.batch, spec.in_channels, -1)[0, :, np.ravel_multi_index(_place(spec), spec.in_size)] = 1
    large = np.ldexp(x.astype(np.float64), np.where(one > 0, LARGE, 0)).astype(x.dtype)
    reads = reference(spec, Operands(one, (w != 0).astype(np.float64))).hi > 0
    before, after = (run(ops).astype(np.float64) for ops in (small, Operands(large, w, small.b)))
    limit = DISTURBED * unit(spec, reference(spec, small))
    return ~reads & ~(np.abs(after - before) <= limit)


def _place(spec: ConvSpec) -> tuple[int, ...]:
    """Where the large element stands: far from the other end, and the last of a block of 8, which it then disturbs whole."""
    return tuple(min(n // 2, 7) for n in spec.in_size)


def _furthest(spec: ConvSpec, mask: np.ndarray) -> int:
    """How far, along any axis, the furthest output of `mask` lies from those whose windows hold that place."""
    field = receptive_field(spec, (0, 0, *_place(spec)))
    most = 0
    for axis, (a, out, i) in enumerate(zip(spec.axes, spec.out_size, _place(spec), strict=True), start=2):
        others = tuple(k for k in range(mask.ndim) if k != axis)
        near = np.flatnonzero(np.any(field, others))
        if not near.size:  # the stride leaves it out
            near = np.clip([i * a.s - a.lo if spec.op == "conv_transpose" else (i + a.lo) // a.s], 0, out - 1)
        far = np.flatnonzero(np.any(mask, others))
        apart = np.abs(far[:, None] - near[None, :])
        most = max(most, int(np.max(np.min(apart, 1), initial=0)))
    return most


def _tells(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    if spec.is_pool:
        return "a pool is always direct"
    if reason := has_output(case, spec, info):
        return reason
    if not spec.in_type.is_float:
        return "integers have no rounding"
    if "f16" in spec.dtypes:
        return "f16 has no room for elements that are much larger than others"
    if spec.out_dtype != spec.acc_dtype:
        return "the output's rounding hides that of the sum"
    return None


ALGORITHM_CLASS = Check("algorithm_class", "errs like the algorithm class that it declares", judge, _tells)
