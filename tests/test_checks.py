"""Comparison, the third opinion, decoys, equivariance and the contract: no right output fails, no wrong one slips through."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples, specs

from harness.backend import DIRECT, FFT, BackendInfo, Device
from harness.catalogue.case import Case, Literal
from harness.checks import CHECKS, Problem, weaken
from harness.checks.compare import compare, error
from harness.checks.contract import CONTRACT, POISONS, pattern, unwritten, unwritten_verdict
from harness.checks.equivariance import EQUIVARIANCE, AxisShift, plan_shift
from harness.checks.exact import IMPULSES, INTEGERS, LITERAL
from harness.checks.real import ZERO_MEAN
from harness.checks.weak import decoys, passing
from harness.data import Operands, draw
from harness.oracle import Reference, fsum_reference, reference
from harness.oracle.cache import OracleCache
from harness.records import Status, Verdict
from harness.spec import ConvSpec
from harness.spec.host import narrow, numpy_dtype

SPEC = ConvSpec("conv", (5, 6), (2, 3), in_channels=2, out_channels=2)


def problem(spec, algorithm=DIRECT, literal=None, **info):
    case = Case("a-case", "a", spec, "a fact", "hand: a test", literal=literal)
    return Problem(case, spec, BackendInfo("b", algorithm=algorithm, **info), Device("cpu"), OracleCache(0))


def right(spec):
    """A backend that rounds the exact result to the accumulator and then to the output."""

    def run(ops, *, poison=0, guard="ones", layout="C", spec=spec, fresh=False):
        return narrow(fsum_reference(spec, ops).astype(numpy_dtype(spec.acc_dtype)), spec)

    return run


def data(spec=SPEC, recipe="zero_mean"):
    ops = draw(recipe, spec, "a-case", 0)
    return ops, reference(spec, ops)


# --- compare ------------------------------------------------------------------------------------
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("tol", [None, 1e-3, 1e300])
def test_a_value_that_is_no_number_fails_and_is_the_worst(value, tol):
    ops, ref = data()
    y = ref.hi.astype(np.float32)
    ref = replace(ref, hi=y.astype(np.float64), lo=None)
    y[0, 1, 2, 3] = value
    verdict = compare(SPEC, y, ops, ref, None if tol is None else np.full(SPEC.out_shape, tol))
    assert verdict.status is Status.FAIL
    assert (verdict.mismatches, verdict.worst_index, verdict.compared) == (1, (0, 1, 2, 3), y.size)
    assert verdict.error_units == np.inf


def test_nan_is_worse_than_infinity_and_infinity_than_any_number():
    ops, ref = data()
    y = ref.hi.astype(np.float32)
    y[0, 0, 0, 0], y[0, 1, 1, 1] = 1e30, np.inf
    assert compare(SPEC, y, ops, ref, np.full(SPEC.out_shape, 1e-3)).worst_index == (0, 1, 1, 1)
    y[0, 0, 2, 2] = np.nan
    assert compare(SPEC, y, ops, ref, np.full(SPEC.out_shape, 1e-3)).worst_index in ((0, 1, 1, 1), (0, 0, 2, 2))


def test_minus_zero_equals_zero():
    spec = ConvSpec("max_pool", (4,), (2,))
    ops = Operands(np.zeros((1, 1, 4), np.float32))
    y = np.full(spec.out_shape, -0.0, np.float32)
    assert compare(spec, y, ops, reference(spec, ops), None).status is Status.PASS


@given(st.integers(0, 31), st.sampled_from((1e-6, 1.0, 1e5)))
@examples(40)
def test_the_worst_index_is_that_of_the_largest_error_over_its_tolerance(at, size):
    ops, ref = data()
    y, tol = ref.hi.copy(), np.full(SPEC.out_shape, 1e-7)
    other, at = (tuple(int(v) for v in np.unravel_index(i % y.size, y.shape)) for i in (at + 1, at))
    tol[at] = 1e-9
    y[other] += 2e-7
    y[at] += size
    verdict = compare(SPEC, y, ops, ref, tol)
    assert verdict.worst_index == at
    assert verdict.error_bound == pytest.approx(size / 1e-9, rel=1e-3)
    assert verdict.mismatches == 2
    assert (verdict.got, verdict.expected) == (y[at], ref.hi[at])


def test_an_empty_output_passes_with_nothing_compared():
    spec = ConvSpec("conv", (5,), (3,), batch=0)
    ops, ref = data(spec)
    for tol in (None, np.zeros(spec.out_shape)):
        verdict = compare(spec, np.zeros(spec.out_shape, np.float32), ops, ref, tol, rms=True)
        assert (verdict.status, verdict.compared) == (Status.PASS, 0)


def test_equality_is_with_the_reference_rounded_once():
    spec = ConvSpec("conv", (1,), (1,), in_channels=4, in_dtype="bf16")
    ops = Operands(np.array([[[256], [1], [1], [1]]]).astype(numpy_dtype("bf16")), np.ones((1, 4, 1), numpy_dtype("bf16")))
    ref = reference(spec, ops)
    assert ref.hi[0, 0, 0] == 259
    put = numpy_dtype("bf16")
    assert compare(spec, np.full((1, 1, 1), 260).astype(put), ops, ref, None).status is Status.PASS
    assert compare(spec, np.full((1, 1, 1), 258).astype(put), ops, ref, None).status is Status.FAIL


@examples(80)
@given(specs())
def test_the_exact_result_rounded_passes_every_comparison_and_a_changed_element_fails(spec):
    p, run = problem(spec), right(spec)
    for check in (CONTRACT, INTEGERS, IMPULSES) + ((ZERO_MEAN,) if spec.in_type.is_float else ()):
        verdict = check.judge(p, run)
        assert verdict.status is Status.PASS, (check.name, verdict.message)
        assert verdict.compared >= np.prod(spec.out_shape)
    ops, ref = p.data("integers")
    y = run(ops).copy()
    y.reshape(-1)[-1] = 1 if y.reshape(-1)[-1] == 0 else 0
    assert compare(spec, y, ops, ref, None).status is Status.FAIL


# --- the third opinion --------------------------------------------------------------------------
@pytest.mark.parametrize("equal", [True, False])
@pytest.mark.parametrize("defect", [1.0, np.nan, np.inf])
def test_a_defect_of_the_oracle_is_an_error_and_accuses_nobody(equal, defect):
    ops, ref = data(recipe="integers" if equal else "zero_mean")
    y = right(SPEC)(ops)
    wrong = ref.hi.copy()
    wrong[0, 1, 0, 2] += defect
    tol = None if equal else np.full(SPEC.out_shape, 1e-5)
    verdict = compare(SPEC, y, ops, replace(ref, hi=wrong), tol)
    assert verdict.status is Status.ERROR
    assert verdict.worst_index == (0, 1, 0, 2)
    assert "defect of Convproof" in verdict.message


def test_a_tolerance_that_is_no_number_is_an_error_too():
    ops, ref = data()
    tol = np.full(SPEC.out_shape, 1e-3)
    tol[0, 0, 1, 1] = np.nan
    assert compare(SPEC, right(SPEC)(ops), ops, ref, tol).status is Status.ERROR


def test_a_failure_is_confirmed_by_rational_arithmetic():
    ops, ref = data()
    y = right(SPEC)(ops)
    y[0, 0, 0, 0] += 1
    verdict = compare(SPEC, y, ops, ref, np.full(SPEC.out_shape, 1e-5))
    assert verdict.details["confirmed"] == "exact rational arithmetic"
    assert verdict.status is Status.FAIL


def test_an_error_is_nan_where_the_output_is():
    _, ref = data()
    y = ref.hi.copy()
    y[0, 0, 0, 0] = np.nan
    assert np.isnan(error(y, ref, SPEC, equal=False)[0, 0, 0, 0])
    assert not error(y, ref, SPEC, equal=True)[0, 0, 0, 0] <= 0
    two = Reference(ref.hi, np.full_like(ref.hi, 0.25), ref.scale)
    np.testing.assert_array_equal(error(ref.hi + 0.25, two, SPEC, equal=False), np.abs((ref.hi + 0.25 - ref.hi) - 0.25))


# --- decoys -------------------------------------------------------------------------------------
def judged(spec, run=None):
    p, run = problem(spec), run or right(spec)
    checks = [c for c in CHECKS if c.applies(p.case, spec, p.info) is None and c in (CONTRACT, INTEGERS, IMPULSES, ZERO_MEAN)]
    verdicts = {c.name: c.judge(p, run) for c in checks}
    return weaken(verdicts, frozenset(c.name for c in checks if c.data))


@pytest.mark.parametrize(
    "spec",
    [
        ConvSpec("max_pool", (5, 6), (1, 1), in_channels=2),
        ConvSpec("avg_pool", (5,), (1,)),
        ConvSpec("max_pool", (1,), (3,), padding=((1, 1),)),
        ConvSpec("avg_pool", (1, 1), (2, 2), padding=((1, 0), (0, 1))),
    ],
    ids=str,
)
def test_a_case_that_the_input_itself_answers_is_weak(spec):
    verdicts = judged(spec)
    assert verdicts["integers"].status is Status.WEAK
    assert "the input itself" in verdicts["integers"].message
    assert verdicts["contract"].status is Status.PASS


def test_a_case_that_reads_only_padding_is_weak():
    spec = ConvSpec("conv", (2,), (2,), stride=(9,), padding=((5, 5),), bias=True)
    assert spec.accumulation_length == 0
    message = judged(spec)["integers"].message
    assert "the bias alone" in message


@pytest.mark.parametrize(
    "spec",
    [
        SPEC,
        ConvSpec("conv", (5,), (1,)),
        ConvSpec("max_pool", (5, 6), (2, 2)),
        ConvSpec("avg_pool", (3,), (3,)),
        ConvSpec("conv_transpose", (3, 4), (2, 2), stride=(2, 2), bias=True),
        ConvSpec("conv", (5,), (3,), in_dtype="i8"),
    ],
    ids=str,
)
def test_an_ordinary_case_is_not_weak(spec):
    assert {v.status for v in judged(spec).values()} == {Status.PASS}


def test_a_decoy_must_pass_every_data_check_to_weaken():
    def verdict(status, *names):
        return Verdict(status, details={"decoys": list(names)})

    both = frozenset("ab")
    assert weaken({"a": verdict(Status.PASS, "zeros"), "b": verdict(Status.PASS)}, both)["a"].status is Status.PASS
    found = weaken({"a": verdict(Status.PASS, "zeros"), "b": verdict(Status.FAIL, "zeros"), "c": Verdict(Status.PASS)}, both)
    assert [found[n].status for n in "abc"] == [Status.WEAK, Status.FAIL, Status.PASS]
    assert weaken({"a": Verdict(Status.ERROR)}, both)["a"].status is Status.ERROR


@examples(60)
@given(specs())
def test_decoys_have_the_outputs_shape_and_type(spec):
    ops, ref = data(spec, "integers")
    for _, y in decoys(spec, ops):
        assert (y.shape, y.dtype) == (spec.out_shape, numpy_dtype(spec.out_dtype))
    assert set(passing(spec, ops, ref, np.full(spec.out_shape, np.inf))) == {n for n, _ in decoys(spec, ops)}


# --- equivariance -------------------------------------------------------------------------------
@examples(200)
@given(specs(), st.integers(0, 10**6))
def test_the_theorem_of_equivariance_holds_exactly(spec, pick):
    """The exact oracle is the backend: where a shift is planned, the compared outputs are equal."""
    shifts = plan_shift(spec, (pick, pick // 7, pick // 11)[: spec.rank])
    if shifts is None:
        return
    ops = draw("zero_mean" if spec.in_type.is_float else "integers", spec, "c", pick)
    moved = Operands(np.roll(ops.x, tuple(s.by for s in shifts), tuple(range(2, 2 + spec.rank))), ops.w, ops.b)
    before, after = fsum_reference(spec, ops), fsum_reference(spec, moved)
    for axis, (s, out) in enumerate(zip(shifts, spec.out_size, strict=True)):
        assert 0 <= s.first <= s.last < out
        before = np.take(before, s.before(out), axis=2 + axis)
        after = np.take(after, s.after(out), axis=2 + axis)
    np.testing.assert_array_equal(before, after)


def reach(spec, axis, o):
    """The input positions that output `o` reads along an axis, None among them for a tap on nothing."""
    a = spec.axes[axis]
    if spec.op == "conv_transpose":
        at = [divmod(o + a.lo - k * a.d, a.s) for k in range(a.m)]
        return [q for q, r in at if r == 0]
    return [o * a.s - a.lo + k * a.d for k in range(a.m)]


@examples(200)
@given(specs())
def test_no_shift_is_missed_and_little_of_the_interior_is(spec):
    """The smallest shift has, on every axis, the outputs that see only data which it moves."""
    for axis, (a, out) in enumerate(zip(spec.axes, spec.out_size, strict=True)):
        up, to = (1, a.s) if spec.op == "conv_transpose" else (a.s, 1)
        kept = []
        for o in range(out - to):
            at = reach(spec, axis, o)
            virtual = {q for q in at if not 0 <= q < a.n - up}
            if not virtual:
                kept.append(o)
        pads = {
            "padding": ((a.lo, a.hi),),
            "padding_mode": spec.padding_mode,
            "output_padding": (a.op,),
            "ceil_mode": spec.ceil_mode,
        }
        line = ConvSpec(spec.op, (a.n,), (a.m,), stride=(a.s,), dilation=(a.d,), **pads)
        shifts = plan_shift(line, (0,))
        if shifts is None:
            # a transposed output that happens to read nothing, or few of its taps, is passed over
            assert not kept or spec.op == "conv_transpose"
        elif spec.op != "conv_transpose" and not (spec.padding_mode == "circular" and out * a.s == a.n):
            assert shifts == (AxisShift(up, to, kept[0], kept[-1]),)


@pytest.mark.parametrize("s", [1, 2, 3])
def test_a_circulant_commutes_with_the_shift_at_every_output(s):
    """Circular padding with n/s outputs: nothing is left out."""
    spec = ConvSpec("conv", (12,), (3,), stride=(s,), padding=((1, 2 - s),) if s < 3 else ((0, 0),), padding_mode="circular")
    (shift,) = plan_shift(spec, (5,))
    assert (shift.first, shift.last) == (0, 12 // s - 1)
    assert EQUIVARIANCE.judge(problem(spec), right(spec)).status is Status.PASS


def test_planning_a_shift_of_a_huge_axis_takes_no_time():
    spec = ConvSpec("conv", (2**31,), (3,))
    assert plan_shift(spec, (10**9,)) is not None
    assert plan_shift(ConvSpec("conv_transpose", (2**30,), (3,), stride=(2,)), (10**9,)) is not None


@examples(60)
@given(specs())
def test_a_right_backend_passes_equivariance_and_a_position_dependent_one_fails(spec):
    p = problem(spec)
    if EQUIVARIANCE.applies(p.case, spec, p.info):
        return
    run = right(spec)
    assert EQUIVARIANCE.judge(p, run).status is Status.PASS

    def uneven(ops, **_):
        """Right but for what grows along every axis."""
        ramp = 1e5 * sum(np.indices(spec.out_size))
        return (run(ops).astype(np.float64) + ramp).astype(numpy_dtype(spec.out_dtype))

    if spec.out_type.is_float and spec.out_dtype != "f16":
        verdict = EQUIVARIANCE.judge(problem(spec), uneven)
        assert verdict.status is Status.FAIL
        assert len(verdict.worst_index) == 2 + spec.rank
        assert all(0 <= i < n for i, n in zip(verdict.worst_index, spec.out_shape, strict=True))


# --- contract, literals, theorems ---------------------------------------------------------------
@pytest.mark.parametrize("name", POISONS)
def test_poison_is_found_where_nothing_was_written(name):
    put = numpy_dtype(name)
    for poison in (0, 1):
        out = np.full((2, 3), pattern(name, poison)).view(put)
        assert np.all(unwritten(out, name, poison))
        assert not np.any(unwritten(out, name, 1 - poison))
        out[1, 2] = 1
        mask = unwritten(out, name, poison)
        assert mask.sum() == 5
        assert not mask[1, 2]
        if put.kind != "i":
            assert np.all(np.isnan(out.astype(np.float64)[mask]))
    verdict = unwritten_verdict(mask)
    assert (verdict.status, verdict.mismatches, verdict.worst_index) == (Status.FAIL, 5, (0, 0))
    assert "5 of 6 outputs were never written" in verdict.message


def test_an_integer_that_equals_the_poison_is_no_failure_and_an_unwritten_one_is():
    spec = ConvSpec("conv", (3,), (1,), in_dtype="i8")
    value = int(pattern("i32", 0).view(np.int32))

    def constant(ops, *, poison=0, **_):
        return np.full(spec.out_shape, value, np.int32)

    def lazy(ops, *, poison=0, **_):
        out = np.full(spec.out_shape, pattern("i32", poison)).view(np.int32)
        out[0, 0, 0] = 1
        return out

    assert CONTRACT.judge(problem(spec), constant).status is Status.PASS
    verdict = CONTRACT.judge(problem(spec), lazy)
    assert (verdict.status, verdict.mismatches, verdict.worst_index) == (Status.FAIL, 2, (0, 0, 1))


def test_a_page_is_compared_with_the_definition_before_a_backend_is():
    spec = ConvSpec("conv", (4,), (2,))
    page = Literal(x=(((1, 2, 3, 4),),), w=(((0.5, 1),),), b=None, y=(((2.5, 4, 5.5),),))
    run = right(spec)
    assert LITERAL.judge(problem(spec, literal=page), run).status is Status.PASS
    wrong_page = replace(page, y=(((2.5, 4, 6),),))
    verdict = LITERAL.judge(problem(spec, literal=wrong_page), run)
    assert verdict.status is Status.ERROR
    assert "the catalogue's y is 6.0 at [0, 0, 2], the definition gives 5.5" in verdict.message
    verdict = LITERAL.judge(problem(spec, literal=page), lambda ops, **_: run(ops) + np.float32(0.5))
    assert verdict.status is Status.FAIL


def test_a_page_of_halves_accuses_no_fft():
    """An output of 2.5 does not round to an integer, and need not."""
    spec = ConvSpec("conv", (4,), (2,))
    page = Literal(x=(((1, 2, 3, 4),),), w=(((0.5, 1),),), b=None, y=(((2.5, 4, 5.5),),))
    p = problem(spec, algorithm=FFT, literal=page)
    assert LITERAL.judge(p, right(spec)).status is Status.PASS
    assert LITERAL.judge(p, lambda ops, **_: right(spec)(ops) * np.float32(1 + 1e-7)).status is Status.PASS
    assert LITERAL.judge(p, lambda ops, **_: right(spec)(ops) + np.float32(0.01)).status is Status.FAIL


def test_an_fft_rounds_to_the_exact_integer():
    """Within a bound below 1/4, an output off by less passes; one that leaves the bound does not."""
    spec = ConvSpec("conv", (9,), (3,), in_channels=2)
    run = right(spec)
    for off, status in ((1e-7, Status.PASS), (0.3, Status.FAIL)):
        verdict = IMPULSES.judge(problem(spec, algorithm=FFT), lambda ops, off=off, **_: run(ops) + np.float32(off))
        assert verdict.status is status


def test_every_check_states_its_theorem():
    assert len({c.name for c in CHECKS}) == len(CHECKS)
    for check in CHECKS:
        assert len(check.theorem) > 80, check.name
        assert check.title


def test_no_check_but_the_contract_applies_to_an_empty_output():
    spec = ConvSpec("conv", (5,), (3,), batch=0)
    p = problem(spec)
    assert [c.name for c in CHECKS if c.applies(p.case, spec, p.info) is None] == ["contract"]
    assert CONTRACT.judge(p, right(spec)) == Verdict(Status.PASS, compared=0)
