"""No right backend is accused by the checks on real numbers, nor by those beside them, whatever its arithmetic."""

from collections import Counter
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from right_numpy import Right
from strategies import FLOAT_TRIPLES, examples, specs

from backends.winograd import backend_f43
from harness.backend import FFT, BackendInfo, Device
from harness.catalogue.case import Case
from harness.checks import CHECKS, Problem
from harness.checks.real import headroom
from harness.data import draw
from harness.oracle.cache import OracleCache
from harness.records import Status
from harness.registry import load
from harness.run.campaign import Campaign
from harness.run.runner import Options
from harness.spec import DTYPES, ConvSpec
from harness.spec.host import numpy_dtype

CHECK = {c.name: c for c in CHECKS}
HOST = Device("cpu")
CUT = Device("cut", rounding="truncate")
DAZ = Device("daz", denormals="flush-inputs")


def judged(check, fn, spec, device=HOST, seed=0, **info):
    """The verdict of one check on a function, None where it does not apply."""
    case = Case(f"fuzz-{spec.digest[:8]}", "fuzz", spec, "a fact", "hand: a test")
    problem = Problem(case, spec, BackendInfo("b", **{"nan_max_pool": "propagate", **info}), device, OracleCache(seed))

    def run(ops, *, poison=0, guard="ones", layout="C", spec=spec, fresh=False):
        return fn(spec, ops.x, ops.w, ops.b)

    run.last = None
    return CHECK[check].judge(problem, run) if CHECK[check].applies(case, spec, problem.info) is None else None


def passes(check, fn, spec, **more):
    verdict = judged(check, fn, spec, **more)
    return verdict is None or (verdict.status is Status.PASS or verdict.message)


class Flushing(Right):
    """Reads and writes subnormal numbers as zeros, in every type on the way."""

    def flushed(self, a, name):
        return np.where(np.abs(a.astype(np.float64)) < DTYPES[name].tiny, a.dtype.type(0), a)

    def load(self, spec, a):
        return self.flushed(super().load(spec, self.flushed(a, spec.in_dtype)), spec.acc_dtype)

    def add(self, spec, y, term):
        return self.flushed(super().add(spec, y, term), spec.acc_dtype)

    def finish(self, spec, y, b):
        return self.flushed(super().finish(spec, self.flushed(y, spec.acc_dtype), b), spec.out_dtype)


class Cutting(Right):
    """Sums in float64, and rounds what it delivers toward zero."""

    def load(self, spec, a):
        return a.astype(np.float64) if spec.in_type.is_float else super().load(spec, a)

    def finish(self, spec, y, b):
        y = y if b is None else y + self.per_channel(spec, b)
        if not spec.out_type.is_float:
            return super().finish(spec, y, None)
        put = numpy_dtype(spec.out_dtype)
        with np.errstate(over="ignore"):
            near = y.astype(put)
        down = np.abs(near.astype(np.float64)) > np.abs(y)
        return np.where(down, np.nextafter(near, put.type(0)), near).astype(put)


class CutSums(Cutting):
    """Averages whose every addition rounds toward zero, in float32."""

    def load(self, spec, a):
        return a

    def avg_pool(self, spec, x, _):
        y = np.float32(0)
        for _, view in self.views(spec, x):
            total = y + view.astype(np.float64)
            near = total.astype(np.float32)
            y = np.where(np.abs(near) > np.abs(total), np.nextafter(near, np.float32(0)), near)
        return y / self.divisor(spec).astype(np.float32)


class Reciprocal(Right):
    """Averages by multiplication."""

    def avg_pool(self, spec, x, _):
        total = sum(view for _, view in self.views(spec, x))
        return total * (1 / self.divisor(spec)).astype(total.dtype)


class Fused(Right):
    """Multiply-adds that round once, an element at a time."""

    def contract(self, spec, x, w):
        y = np.zeros(spec.out_shape, numpy_dtype(spec.acc_dtype))
        for tap, view in self.views(spec, x):
            grouped = self.grouped(spec, view)
            for c in range(grouped.shape[2]):
                one = self.product(spec, grouped[:, :, c : c + 1].astype(np.float64), w[:, :, c : c + 1, ...][(..., *tap)])
                y = (y + one.reshape(y.shape)).astype(y.dtype)
        return y


class Internal(Right):
    """Sums in float64, whatever the accumulator, and rounds to it at the end."""

    def contract(self, spec, x, w):
        return (
            super()
            .contract(replace(spec, in_dtype="f64", acc_dtype="f64", out_dtype="f64"), x, w)
            .astype(numpy_dtype(spec.acc_dtype))
        )


class Sparse(Right):
    """Skips products with a weight of zero."""

    def product(self, spec, view, w):
        y = super().product(spec, np.where(np.isnan(view), 0, view), w)
        reads = super().product(spec, np.isnan(view).astype(np.float64), (w != 0).astype(np.float64)) > 0
        return np.where(reads, np.nan, y)


class SaturatingPairs(Right):
    """Wrong: sums of the products of two neighbouring input channels saturate at 16 bits."""

    def product(self, spec, view, w):
        pairs = [slice(c, c + 2) for c in range(0, view.shape[2], 2)]
        return sum(
            np.clip(super(SaturatingPairs, self).product(spec, view[:, :, p], w[:, :, p]), -(2**15), 2**15 - 1) for p in pairs
        )


NAMES = ["integers", "nan_taint", "read_guards", "zero_input", "negation", "scaling", "zero_mean", "identity", "positive"]
NAMES += ["graded", "wide_range", "denormal", "near_overflow", "infinity", "layouts"]


@pytest.mark.parametrize("right", [Reciprocal, Fused, Internal, Sparse], ids=lambda r: r.__name__)
def test_a_right_backend_of_another_arithmetic_passes(right):
    bad = Counter()

    @given(specs(triples=FLOAT_TRIPLES, most=120))
    @examples(40)
    def fuzz(spec):
        for name in NAMES:
            if (found := passes(name, right(), spec)) is not True:
                bad[name, found, repr(spec)] += 1

    fuzz()
    assert not bad


@pytest.mark.parametrize(("right", "device"), [(Flushing, DAZ), (Cutting, CUT)], ids=["flush-inputs", "truncate"])
def test_a_device_is_granted_the_arithmetic_that_it_declares(right, device):
    bad = Counter()

    @given(specs(most=120))
    @examples(60)
    def fuzz(spec):
        for name in [*NAMES, "impulses"]:
            if (found := passes(name, right(), spec, device=device)) is not True:
                bad[name, found, repr(spec)] += 1

    fuzz()
    assert not bad


# --- each was accused once ----------------------------------------------------------------------
def test_a_long_average_of_halves_in_one_order_passes():
    """Beyond K u = 0.1 the additions' errors are of one sign: 2025 halves erred by 1.28 times 4 sqrt(K) u."""
    spec = ConvSpec("avg_pool", (45, 45), (45, 45), in_channels=4, out_channels=4, in_dtype="f16", acc_dtype="f16")
    assert spec.dtypes == ("f16", "f16", "f16")
    assert passes("positive", Right(), spec) is True


def test_a_long_average_that_truncates_passes_where_that_is_declared():
    spec = ConvSpec("avg_pool", (45, 45), (45, 45), in_channels=4, out_channels=4)
    assert passes("positive", CutSums(), spec, device=CUT) is True
    assert passes("positive", CutSums(), spec) is not True


@pytest.mark.parametrize("mode", ["circular", "replicate"])
def test_graded_allows_for_padding_that_copies_a_large_element_among_small_ones(mode):
    """A right sum of 150 terms, one of them large, errs by 12 u A."""
    spec = ConvSpec("conv", (401,), (301,), padding=((150, 150),), padding_mode=mode)
    assert [passes("graded", Right(), spec, seed=seed) for seed in range(4)] == [True] * 4


def test_scaling_allows_for_outputs_that_are_subnormal_before_or_after():
    """F(4, 3) leaves 3e-8 where terms cancel: 0 in f16, and not 0 once it is scaled by 8."""
    spec = ConvSpec(
        "conv", (9, 1), (3, 3), batch=2, in_channels=2, out_channels=2, padding=((0, 2), (3, 3)), flip=True,
        in_dtype="f16", acc_dtype="f32", out_dtype="f16",
    )  # fmt: skip

    def winograd(spec, x, w, b):
        out = np.empty(spec.out_shape, numpy_dtype(spec.out_dtype))
        with backend_f43.prepare(spec, "cpu") as prepared:
            prepared.run(x, w, b, out)
        return out

    info = backend_f43.info
    for seed in range(40):
        assert passes("scaling", winograd, spec, seed=seed, algorithm=info.algorithm, taint=info.taint) is True


def test_nan_taint_asks_nothing_of_products_with_a_weight_of_zero():
    """A sum that is too long for integers of its accumulator has zeros among the weights."""
    spec = ConvSpec("conv", (9,), (3,), in_channels=800, in_dtype="f16", acc_dtype="f16", out_dtype="f16")
    assert np.any(draw("integers", spec, "a", 0).w == 0)
    assert passes("nan_taint", Sparse(), spec) is True
    assert passes("nan_taint", lambda s, x, w, b: Right()(s, np.nan_to_num(x), w, b), spec) is not True


def test_a_transposed_fft_gets_headroom_for_its_zeros():
    near, far = (ConvSpec("conv_transpose", (9, 9), (3, 3), stride=(s, s)) for s in (1, 6))
    bits = [headroom(Problem(None, s, BackendInfo("b", algorithm=FFT), Device("cpu"), OracleCache(0))) for s in (near, far)]
    assert bits[1] >= bits[0] + 4


@given(specs(ops=("conv", "conv_transpose"), triples=(("i8", "i32", "i32"),)), st.integers(0, 9))
@examples(30)
def test_sixteen_bits_that_saturate_show_wherever_a_sum_holds_two_channels(spec, seed):
    """(-128)(-128) twice: 32768."""
    ops = draw("saturating", spec, f"case-{seed}", 0)
    worst = replace(ops, x=np.full_like(ops.x, -128), w=np.full_like(ops.w, -128))

    def shows(ops):
        arrays = spec, ops.x, ops.w, ops.b
        return bool(np.any(SaturatingPairs()(*arrays) != Right()(*arrays)))

    assert shows(ops) or not shows(worst)


# --- all of them --------------------------------------------------------------------------------
RIGHT = [f"backends.{m}" for m in ("naive:backend", "im2col:backend", "toeplitz:backend", "fft:backend", "winograd:backend")]


def test_right_backends_pass_every_check_on_random_specifications():
    """A WEAK case is one that the input, zeros or the bias would pass: windows of one element, or sums of none."""
    drawn = []

    @given(specs(most=100))
    @examples(60)
    def draw_one(spec):
        drawn.append(spec)

    draw_one()
    cases = [Case(f"fuzz-{i}", "fuzz", s, "a fact", "hand: a test") for i, s in enumerate(islice(drawn, 60))]
    references = ["right_numpy:backend", *RIGHT, "backends.winograd:backend_f43"]
    with Campaign(cases, references, CHECKS, Options(jobs=1), in_process=True) as campaign:
        records = [r for batch in campaign.records(campaign.plan(refusals=False)) for r in batch]
    fine = (Status.PASS, Status.UNSUPPORTED, Status.WEAK)
    assert [(r.job, r.verdict.message) for r in records if r.verdict.status not in fine] == []
    weak = {r.job.case for r in records if r.verdict.status is Status.WEAK}
    assert all(
        c.spec.is_pool or c.spec.accumulation_length == 0 or not any(map(max, c.spec.tap_counts)) for c in cases if c.id in weak
    )
    assert len({r.job.case for r in records if r.verdict.status is Status.PASS} - weak) > 40


@pytest.mark.parametrize(
    ("fault", "spec", "said"),
    [
        ("infinity_is_split_w", ConvSpec("conv", (6, 7), (3, 2), in_channels=2, out_channels=3), "with Inf at w["),
        ("max_starts_from_lowest_finite", ConvSpec("max_pool", (6, 7), (3, 2)), "of an input of -Inf alone"),
    ],
)
def test_an_infinite_weight_and_a_maximum_of_minus_infinity_are_looked_at(fault, spec, said):
    def call(spec, x, w, b):
        out = np.empty(spec.out_shape, numpy_dtype(spec.out_dtype))
        with load(f"backends.planted:{fault}").prepare(spec, "cpu") as prepared:
            prepared.run(x, w, b, out)
        return out

    verdict = judged("infinity", call, spec)
    assert verdict.status is Status.FAIL
    assert said in verdict.message
