"""Check 8: a call's output depends on its operands alone, not on earlier calls, on calls beside it, on threads.

What a backend keeps from call to call (packed weights, plans, scratch memory) must be kept under a key that tells
apart what differs. All data are integers on which the class is exact, or those of other exact recipes: most
references are those of earlier checks, moved as the operands were, and cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from harness.backend import BackendInfo
from harness.catalogue import Case
from harness.checks.base import Check, Problem, Run, Trial, has_output, kept
from harness.checks.compare import compare
from harness.checks.exact import needs_bound
from harness.checks.forms import IDENTITY_FLOPS, affordable, form
from harness.checks.metamorphic import same
from harness.data import Operands
from harness.oracle import Reference
from harness.records import Status, Verdict
from harness.spec import ConvSpec

#: How often the threads of the concurrency check are released together. A race that shows in one round of ten escapes a
#: case two times in three, and fifty cases once in two hundred.
ROUNDS = 4
#: Operations of the largest case for that: it costs three calls a round, and what threads share they share in small cases too.
CONCURRENT_FLOPS = 1_000_000


def judge_weights(problem: Problem, run: Run) -> Verdict:
    """A call uses its own weights, bias and input, whatever was called before at the same addresses.

    With x, w and b one of conv(x; -w) + b, conv(x; w) - b, conv(-x; w) + b, which one prepared object gives one after
    the other, each differing from the call before in one operand alone; then a newly prepared object with the output
    channels of every group (weights, not bias) moved round by one, so that a checksum which ignores order finds nothing
    new. Of integers these outputs are exact, and known from the first: with r = conv(x; w) + b they are 2b - r, r - 2b,
    2b - r, and r - b moved round, plus b. Equality or the bound, as for `integers`. Holds wherever there are weights.

    Examples
    --------
    >>> from harness.checks.worked import conv
    >>> conv([1, 2, 4, 8], [1, -3]), conv([1, 2, 4, 8], [-1, 3]), conv([-1, -2, -4, -8], [1, -3])
    ([-5, -10, -20], [5, 10, 20], [5, 10, 20])
    """
    ops, ref = problem.data(*problem.exact)
    compared = 0
    before: np.ndarray | None = None
    tolerances: dict[int, np.ndarray | None] = {}
    for text, other, there, fresh in _successors(problem.spec, ops, ref):
        y = run(other, fresh=fresh)
        if id(there) not in tolerances:
            tolerances[id(there)] = _tolerance(problem, other, there)
        verdict = compare(problem.spec, y, other, there, tolerances[id(there)])
        if verdict.status is not Status.PASS:
            stale = "; the call before gave the same" if before is not None and np.array_equal(y, before) else ""
            return replace(verdict, message=f"{text}: {verdict.message}{stale}")
        compared += verdict.compared
        before = y
    return Verdict(Status.PASS, compared=compared)


def judge_bias_key(problem: Problem, run: Run) -> Verdict:
    """A specification that differs only in having a bias is another one.

    The same x and w without and with a bias, then as at first: each output is that of its own specification, by equality
    or the bound, as for `integers`. A plan or packed weights kept under a key that lacks the bias break it. Holds wherever
    there are weights.

    Examples
    --------
    >>> from harness.checks.worked import conv
    >>> conv([1, 2, 4, 8], [1, -3]), conv([1, 2, 4, 8], [1, -3], bias=True)  # a bias of 0: the same values
    ([-5, -10, -20], [-5, -10, -20])
    """
    return _there_and_back(problem, run, other_bias(problem.spec), "bias")


def judge_flip_key(problem: Problem, run: Run) -> Verdict:
    """A specification that differs only in the kernel's direction is another one.

    The same x and w correlated and convolved, then as at first: each output is that of its own specification, by equality
    or the bound, as for `integers`. A plan or packed weights kept under a key that lacks the direction break it. Holds for
    every kernel of more than one tap.

    Examples
    --------
    >>> from harness.checks.worked import conv
    >>> conv([1, 2, 4, 8], [1, -3]), conv([1, 2, 4, 8], [1, -3], flip=True)
    ([-5, -10, -20], [-1, -2, -4])
    """
    return _there_and_back(problem, run, other_flip(problem.spec), "flip")


def judge_concurrency(problem: Problem, run: Run) -> Verdict:
    """Calls of one prepared object at the same time, each on operands of its own, give what they give alone.

    As many threads as there are exact recipes (three; two for a pool) are released together, several times; each output
    is right for its own operands: equal to the exact result where the class is exact, else within the bound. Not bit for
    bit what the call gives alone: a library may take fewer threads for each of several callers. Asked only of backends
    that declare `thread_safe`.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> from harness.checks.worked import conv
    >>> with ThreadPoolExecutor(2) as threads:
    ...     list(threads.map(conv, [[1, 2, 4], [8, 4, 2]], [[1, -3], [1, 1]]))
    [[-5, -10], [12, 6]]
    """
    recipes: list[tuple[object, ...]] = [problem.exact, ("input_impulses",)]
    if not problem.spec.is_pool:
        recipes.append(("tap_impulses", 0))
    sets = [problem.data(*recipe) for recipe in recipes]
    tolerances = [_tolerance(problem, *sets[0]), *(_tolerance(problem, *s, shrunk=False) for s in sets[1:])]
    compared = 0
    for turn in range(ROUNDS):
        outs = run.together([ops for ops, _ in sets])
        for recipe, (ops, ref), tol, y in zip(recipes, sets, tolerances, outs, strict=True):
            verdict = compare(problem.spec, y, ops, ref, tol)
            if verdict.status is not Status.PASS:
                run.last = Trial(problem.spec, ops, y)
                text = f"{len(sets)} calls at once, round {turn + 1}, the one on {recipe[0]}: {verdict.message}"
                return replace(verdict, message=text)
            compared += verdict.compared
    return Verdict(Status.PASS, compared=compared)


def judge_threads(problem: Problem, run: Run) -> Verdict:
    """The number of threads that the libraries are given does not matter.

    The same call in another worker, whose `OMP_NUM_THREADS` and its like say another number: on exact data the output is
    equal, since every order of summation gives it; where the class or a divisor rounds, real data agree within twice the
    tolerance. Never bit for bit on real data: PyTorch's 1x1 convolution differs in nine of ten outputs between one thread
    and two, and is right. On cases of every size, because libraries share out the large ones alone.

    Examples
    --------
    >>> (1 + 2) + 3 == 1 + (2 + 3), (0.1 + 0.2) + 0.3 == 0.1 + (0.2 + 0.3)
    (True, False)
    """
    exact = form(problem) == "exact"
    recipe: tuple[object, ...] = problem.exact if exact else ("zero_mean",)
    ops, ref = problem.data(*recipe)
    here = problem.output(run, *recipe)
    there = run.elsewhere(ops)
    tol = None if exact else 2.0 * problem.tolerance("zero-mean", ops, ref)
    return same(there, here, "another number of threads changes the output", tol)


@kept
def other_bias(spec: ConvSpec) -> ConvSpec:
    """The same problem with a bias, or without."""
    return replace(spec, bias=not spec.bias)


@kept
def other_flip(spec: ConvSpec) -> ConvSpec:
    """The same problem with the kernel read in the other direction."""
    return replace(spec, flip=not spec.flip)


def _related(spec: ConvSpec, other: Callable[[ConvSpec], ConvSpec]) -> tuple[ConvSpec, ...]:
    return () if spec.is_pool or spec.flops > IDENTITY_FLOPS else (other(spec),)


def _successors(spec: ConvSpec, ops: Operands, ref: Reference) -> list[tuple[str, Operands, Reference, bool]]:
    """What is called one after the other: (in words, operands, reference, on a newly prepared object)."""
    assert ops.w is not None
    column = (1, -1, *(1,) * spec.rank)
    b = np.zeros(1).reshape(column) if ops.b is None else ops.b.astype(np.float64).reshape(column)
    r, scale = ref.hi, ref.scale  # exact data: lo is 0

    def moved(y: np.ndarray) -> np.ndarray:
        groups = y.reshape(spec.batch, spec.groups, -1, *spec.out_size)
        return np.roll(groups, 1, 2).reshape(y.shape)

    mirrored = Reference(2 * b - r, None, scale)
    calls = [
        ("integers", ops, ref, False),
        ("other weights, the rest as before", Operands(ops.x, -ops.w, ops.b), mirrored, False),
        ("the first weights again", ops, ref, False),
    ]
    if ops.b is not None:
        calls.append(
            ("another bias, the rest as before", Operands(ops.x, ops.w, -ops.b), Reference(r - 2 * b, None, scale), False)
        )
        calls.append(("the first bias again", ops, ref, False))
    calls.append(("another input, the rest as before", Operands(-ops.x, ops.w, ops.b), mirrored, False))
    round_ = Operands(ops.x, _moved_weights(spec, ops.w), ops.b)
    calls.append(("other weights, prepared anew", round_, Reference(moved(r - b) + b, None, moved(scale)), True))
    return calls


def _moved_weights(spec: ConvSpec, w: np.ndarray) -> np.ndarray:
    """The weights with the output channels of every group moved round by one."""
    if spec.op == "conv_transpose":  # (inputs, outputs a group, ...)
        return np.ascontiguousarray(np.roll(w, 1, 1))
    return np.ascontiguousarray(np.roll(w.reshape(spec.groups, -1, *w.shape[1:]), 1, 1).reshape(w.shape))


def _there_and_back(problem: Problem, run: Run, other: ConvSpec, name: str) -> Verdict:
    """Run the case, `other`, and the case again, on the same x and w; judge each by its own specification."""
    compared = 0
    tolerances: dict[ConvSpec, np.ndarray | None] = {}
    for spec, text in (
        (problem.spec, "at first"),
        (other, f"with {name}: {str(getattr(other, name)).lower()}"),
        (problem.spec, f"with {name}: {str(getattr(problem.spec, name)).lower()} again"),
    ):
        here = problem.on(spec)
        ops, ref = here.data(*here.exact)
        y = run(ops, spec=spec)
        if spec not in tolerances:
            tolerances[spec] = _tolerance(here, ops, ref)
        verdict = compare(spec, y, ops, ref, tolerances[spec])
        if verdict.status is not Status.PASS:
            return replace(verdict, message=f"{text}: {verdict.message}")
        compared += verdict.compared
    return Verdict(Status.PASS, compared=compared)


def _tolerance(problem: Problem, ops: Operands, ref: Reference, *, shrunk: bool = True) -> np.ndarray | None:
    """None, equality, where the class is exact on such data; else the bound."""
    return problem.tolerance("zero-mean", ops, ref) if needs_bound(problem, shrunk=shrunk) else None


def _weights(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    return "a pool has no weights" if spec.is_pool else has_output(case, spec, info)


def _keys(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    """Keys do not depend on the size, and each of these checks prepares twice: the smaller cases do."""
    return _weights(case, spec, info) or affordable(case, spec, info)


def _directed(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    if all(k == 1 for k in spec.kernel_size):
        return "a kernel of one tap reads the same in both directions"
    return _keys(case, spec, info)


def _declared(case: Case, spec: ConvSpec, info: BackendInfo) -> str | None:
    if not info.thread_safe:
        return "the backend does not declare that it is thread-safe"
    if spec.flops > CONCURRENT_FLOPS:
        return f"calls at once are tried on cases up to {CONCURRENT_FLOPS / 1e6:g} MFLOP"
    return has_output(case, spec, info)


STALE_WEIGHTS = Check("stale_weights", "uses the operands of this call, not those of an earlier one", judge_weights, _weights)
STALE_BIAS = Check(
    "stale_bias", "tells apart what differs by a bias alone", judge_bias_key, _keys, related=lambda s: _related(s, other_bias)
)
STALE_FLIP = Check(
    "stale_flip", "tells apart what differs by the kernel's direction alone", judge_flip_key, _directed,
    related=lambda s: _related(s, other_flip),
)  # fmt: skip
CONCURRENCY = Check("concurrency", "gives the same when several threads call it at once", judge_concurrency, _declared)
THREADS = Check("threads", "gives the same with another number of threads", judge_threads, has_output, workers=True)
