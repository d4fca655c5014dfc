"""Check 7, its geometric half: symmetries, splitting, resampling and factors. Right backends pass, wrong ones do not."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from right_numpy import Right
from strategies import examples, specs
from test_checks_real import CUT, DAZ, HOST, Cutting, Flushing, Fused, Internal, Reciprocal, Sparse, judged

from backends.fft import backend as fft
from backends.planted.channels import EveryGroupReadsGroup0, GroupIsModulo
from backends.winograd import backend as f23
from backends.winograd import backend_f43 as f43
from harness.backend import FFT, BackendInfo
from harness.catalogue.case import Case
from harness.checks import CHECKS, Problem
from harness.checks.factoring import composed
from harness.checks.forms import form
from harness.checks.resampling import undilated, unstrided
from harness.checks.splitting import blocks, selected, stored
from harness.checks.symmetry import left_over, reversed_spec, rotated_spec
from harness.data import Operands, draw
from harness.data.recipes import exact_budget
from harness.oracle import reference
from harness.oracle.bound import tolerance
from harness.oracle.cache import OracleCache
from harness.oracle.windows import outer
from harness.records import Status
from harness.spec import ConvSpec
from harness.spec.convspec import DTYPE_TRIPLES
from harness.spec.host import numpy_dtype

GEOMETRIC = (
    "reversal", "transposition", "rotation", "batch", "channels", "groups",
    "subsampling", "stuffing", "separable", "composition",
)  # fmt: skip
CHECK = {c.name: c for c in CHECKS if c.name in GEOMETRIC}
ARITHMETIC = [(r, HOST) for r in (Right, Reciprocal, Fused, Internal, Sparse)] + [(Flushing, DAZ), (Cutting, CUT)]


def failures(names, fn, spec, **more):
    """(check, message) of those that apply and do not pass."""
    found = ((name, judged(name, fn, spec, **more)) for name in names)
    return [(name, v.message) for name, v in found if v is not None and v.status is not Status.PASS]


# --- right backends -----------------------------------------------------------------------------
@pytest.mark.parametrize(("right", "device"), ARITHMETIC, ids=[r.__name__ for r, _ in ARITHMETIC])
def test_a_right_backend_passes_every_identity_whatever_its_arithmetic(right, device):
    @given(specs(most=120))
    @examples(40)
    def fuzz(spec):
        assert failures(GEOMETRIC, right(), spec, device=device) == []

    fuzz()


@pytest.mark.parametrize("backend", [fft, f23, f43], ids=lambda b: b.info.name)
def test_a_transform_passes_where_it_takes_the_specifications(backend):
    """Among them tolerances that are carried through a second convolution, and smaller integers for F(2, 3)."""
    passed = Counter()
    info = backend.info

    def run(spec, x, w, b):
        out = np.empty(spec.out_shape, numpy_dtype(spec.out_dtype))
        with backend.prepare(spec, "cpu") as prepared:
            prepared.run(x, w, b, out)
        return out

    @given(specs(ops=("conv", "conv_transpose"), most=150), st.booleans())
    @examples(50)
    def fuzz(spec, three):
        if three:
            spec = tiled(spec)
        for name, check in CHECK.items():
            if all(info.limits.why_not(s) is None for s in (spec, *check.related(spec))):
                verdict = judged(name, run, spec, algorithm=info.algorithm, taint=info.taint)
                passed[name] += verdict is not None
                assert verdict is None or (verdict.status is Status.PASS or verdict.message) is True

    fuzz()
    tiles = {"reversal", "transposition", "rotation", "batch", "channels", "groups"}
    assert set(passed) >= (set(GEOMETRIC) if backend is fft else tiles)


def tiled(spec):
    """A convolution like `spec` that Winograd takes."""
    rank = min(spec.rank, 2)
    return ConvSpec(
        "conv", (9, 7)[:rank], (3,) * rank, spec.batch, spec.in_channels, spec.out_channels, groups=spec.groups,
        padding=((1, 2),) * rank, padding_mode=spec.padding_mode, bias=spec.bias, flip=spec.flip, in_dtype=spec.in_dtype,
        acc_dtype=spec.acc_dtype, out_dtype=spec.out_dtype,
    )  # fmt: skip


def test_a_backend_that_errs_by_its_tolerance_passes_the_identities():
    """Errors of either sign near the bound, in the first convolution of two too: the bounds add up as they are said to."""
    applied = Counter()

    def noisy(spec, x, w, b):
        ops = Operands(x, w, b)
        ref = reference(spec, ops)
        tol = np.broadcast_to(tolerance(spec, FFT, HOST, "zero-mean", ops, ref), spec.out_shape)
        sign = np.where(np.arange(tol.size).reshape(tol.shape) % 2, 1, -1)  # the rest is left to the rounding to the type
        return (ref.hi + 0.7 * sign * tol).astype(numpy_dtype(spec.out_dtype))

    triples = (("f32", "f32", "f32"), ("f64", "f64", "f64"), ("f16", "f32", "f32"), ("bf16", "f32", "f32"))

    @given(specs(ops=("conv", "conv_transpose"), triples=triples, most=150))
    @examples(60)
    def fuzz(spec):
        for name in GEOMETRIC:
            verdict = judged(name, noisy, spec, algorithm=FFT)
            applied[name] += verdict is not None
            assert verdict is None or (verdict.status is Status.PASS or verdict.message) is True

    fuzz()
    assert all(applied[name] > 5 for name in GEOMETRIC)


# --- what they run ------------------------------------------------------------------------------
def posed(spec):
    """The problem of a right direct backend."""
    return Problem(Case("a", "fuzz", spec, "a fact", "hand: a test"), spec, BackendInfo("b"), HOST, OracleCache(0))


def runs(name, spec):
    """What a check runs on a right direct backend: (specification, operands, output)."""
    seen = []

    def run(s, x, w, b):
        y = Right()(s, x, w, b)
        seen.append((s, Operands(x, w, b), y))
        return y

    judged(name, run, spec)
    return seen


@pytest.mark.parametrize("name", GEOMETRIC)
def test_a_check_runs_few_specifications_and_only_those_that_it_names(name):
    @given(specs(most=150))
    @examples(60)
    def fuzz(spec):
        found = runs(name, spec)
        assert len(found) <= 5
        assert {s for s, _, _ in found} <= {spec, *CHECK[name].related(spec)}
        for s, ops, _ in found:
            assert [None if a is None else a.shape for a in ops.arrays] == [s.x_shape, s.w_shape, s.b_shape]
            types = (s.in_dtype, s.in_dtype, s.acc_dtype)
            assert all(a is None or a.dtype == numpy_dtype(t) for a, t in zip(ops.arrays, types, strict=True))
            assert all(a is None or a.flags.c_contiguous for a in ops.arrays)

    fuzz()


@pytest.mark.parametrize("name", GEOMETRIC)
def test_exact_data_are_integers_whose_sums_stay_within_the_budget_in_every_derived_problem(name):
    """sum |w||x| + |b| is the output on absolute values; an average's is its mean times its divisor."""
    tried = Counter()

    @given(specs(ops=("conv", "conv_transpose", "avg_pool"), most=150))
    @examples(60)
    def fuzz(spec):
        if form(posed(spec)) == "real":
            return
        for s, ops, _ in runs(name, spec):
            x, w, b = (None if a is None else np.abs(a.astype(np.float64)) for a in ops.arrays)
            unit = 2.0**-20 if s.is_pool and s != spec else 1.0  # the second of two averages reads means
            assert all(a is None or np.array_equal(a / unit, np.rint(a / unit)) for a in (x, w, b))
            sums = reference(s, Operands(x, w, b)).hi * (outer(s.divisor_counts) if s.is_pool else 1)
            assert np.max(sums, initial=0) <= exact_budget(s)
            tried[s.op] += 1

    fuzz()
    assert sum(tried.values()) > 10


@pytest.mark.parametrize("name", ["separable", "composition"])
def test_what_goes_into_the_second_convolution_is_what_came_out_of_the_first(name):
    """Exactly: integers that fit the input's type, however narrow, and averages by powers of two."""
    compared = Counter()
    narrow = [t for t in DTYPE_TRIPLES if t[0] in ("f16", "bf16", "i8")]

    @given(specs(triples=narrow, most=150))
    @examples(80)
    def fuzz(spec):
        found = runs(name, spec)
        if not found or form(posed(spec)) == "real":
            return
        first, second = (1, 2) if name == "separable" else (0, 1)  # of the runs
        assert np.array_equal(found[first][2].astype(np.float64), found[second][1].x.astype(np.float64))
        compared[spec.in_dtype] += 1

    fuzz()
    assert set(compared) == {"f16", "bf16", "i8"}


# --- wrong backends -----------------------------------------------------------------------------
class StrideOfFirstAxis(Right):
    """The stride of the first axis is taken for all (s_h for both axes)."""

    def positions(self, spec, axis):
        a = spec.axes[axis]
        return super().positions(spec, axis) + np.arange(spec.out_size[axis])[:, None] * (spec.stride[0] - a.s)


class ColumnsUnchecked(Right):
    """Rows are masked at the border, columns are not: they run on into the next row."""

    def beyond(self, spec, axis, at, n):
        return at % n if axis == spec.rank - 1 else super().beyond(spec, axis, at, n)


class LastImageForgotten(Right):
    """Only the first N - 1 images are computed (pytorch#96225 at N = 65536)."""

    def finish(self, spec, y, b):
        y = super().finish(spec, y, b)
        if spec.batch > 1:
            y[-1] = 0
        return y


class TailOfEightForgotten(Right):
    """Output channels from 8 (M // 8) are left at 0 where M > 8."""

    def finish(self, spec, y, b):
        y = super().finish(spec, y, b)
        if spec.out_channels > 8:
            y[:, 8 * (spec.out_channels // 8) :] = 0
        return y


class OddInputChannelForgotten(Right):
    """Input channels are read in pairs, and an odd last one not at all."""

    def grouped(self, spec, view):
        view = super().grouped(spec, view).copy()
        if view.shape[2] % 2 and view.shape[2] > 1:
            view[:, :, -1] = 0
        return view


class KeepsFromTheSecond(Right):
    """The convolution of stride 1 is computed, and of it [1::s] kept for [::s]."""

    def positions(self, spec, axis):
        return super().positions(spec, axis) + (spec.op != "conv_transpose" and spec.stride[axis] > 1)


class ExtraRowsAreZero(Right):
    """The rows of a transposed convolution that its output padding adds are zero instead of computed (ORT#2518)."""

    def finish(self, spec, y, b):
        for axis, extra in enumerate(spec.output_padding):
            if extra:
                y[(slice(None),) * (2 + axis) + (slice(-extra, None),)] = 0
        return super().finish(spec, y, b)


class DilationOfFirstAxis(Right):
    """The dilation of the first axis is taken for all (d_h for both axes)."""

    def positions(self, spec, axis):
        a = spec.axes[axis]
        step = spec.dilation[0] if any(s > 1 for s in spec.dilation) else a.d
        return super().positions(spec, axis) + np.arange(a.m) * (step - a.d)


class SquareKernelTransposed(Right):
    """The kernel is packed with its two axes exchanged, which shows only where it is square: others take another path."""

    def weights(self, spec, w):
        w = super().weights(spec, w)
        square = spec.rank == 2 and spec.kernel_size[0] == spec.kernel_size[1]
        return w.swapaxes(-1, -2) if square else w


class TransposedMaxima(SquareKernelTransposed):
    """A square window is one column wider than it should be."""

    def max_pool(self, spec, x, w):
        wide = spec.rank == 2 and spec.kernel_size == (2, 2)
        y = super().max_pool(spec, x, w)
        return np.maximum(y, np.roll(y, -1, -1)) if wide else y


class OddTapForgotten(Right):
    """Taps are read in pairs, and an odd last one of an axis not at all (burn#5626)."""

    def views(self, spec, x, fill=0):
        for tap, view in super().views(spec, x, fill):
            odd = spec.kernel_size[-1] % 2 and spec.kernel_size[-1] > 1 and tap[-1] == spec.kernel_size[-1] - 1
            yield tap, np.full_like(view, fill) if odd else view


def spec2(**more):
    """A convolution in two dimensions."""
    fields = {"op": "conv", "in_size": (9, 8), "kernel_size": (3, 2), "in_channels": 2, "out_channels": 2, **more}
    return ConvSpec(**fields)


PADDED = ((1, 1), (1, 1))
FAULTS = [
    ("transposition", StrideOfFirstAxis, spec2(stride=(2, 1))),
    ("transposition", StrideOfFirstAxis, spec2(op="max_pool", stride=(2, 1))),
    ("transposition", ColumnsUnchecked, spec2(padding=PADDED)),
    ("rotation", ColumnsUnchecked, spec2(padding=PADDED)),
    ("rotation", ColumnsUnchecked, spec2(padding=PADDED, in_dtype="i8")),
    ("rotation", OddTapForgotten, spec2(op="avg_pool", kernel_size=(3, 3))),
    ("batch", LastImageForgotten, spec2(batch=3)),
    ("batch", LastImageForgotten, spec2(op="max_pool", batch=2)),
    ("channels", TailOfEightForgotten, spec2(out_channels=12)),
    ("channels", TailOfEightForgotten, spec2(op="avg_pool", in_channels=12, out_channels=12)),
    ("channels", OddInputChannelForgotten, spec2(in_channels=3)),
    ("channels", OddInputChannelForgotten, spec2(in_channels=3, out_channels=1, in_dtype="bf16")),
    ("channels", OddInputChannelForgotten, spec2(op="conv_transpose", in_channels=6, out_channels=2, groups=2)),
    ("groups", EveryGroupReadsGroup0, spec2(groups=2)),
    ("groups", EveryGroupReadsGroup0, spec2(op="conv_transpose", in_channels=4, out_channels=4, groups=2)),
    ("groups", GroupIsModulo, spec2(in_channels=4, out_channels=8, groups=4)),
    ("subsampling", KeepsFromTheSecond, spec2(stride=(2, 2))),
    ("subsampling", KeepsFromTheSecond, spec2(op="avg_pool", stride=(1, 3), ceil_mode=True)),
    ("subsampling", ExtraRowsAreZero, spec2(op="conv_transpose", stride=(2, 3), padding=PADDED, output_padding=(1, 2))),
    ("stuffing", DilationOfFirstAxis, spec2(dilation=(1, 2))),
    ("stuffing", DilationOfFirstAxis, spec2(op="conv_transpose", dilation=(3, 1))),
    ("separable", SquareKernelTransposed, spec2(kernel_size=(3, 3))),
    ("separable", SquareKernelTransposed, spec2(op="conv_transpose", kernel_size=(3, 3), in_dtype="i8")),
    ("separable", TransposedMaxima, spec2(op="max_pool", kernel_size=(2, 2))),
    ("composition", OddTapForgotten, spec2(kernel_size=(2, 3))),
    ("composition", OddTapForgotten, spec2(kernel_size=(2, 3), in_dtype="i8", bias=True)),
    ("composition", OddTapForgotten, spec2(op="conv_transpose", kernel_size=(2, 3), stride=(1, 2))),
    ("composition", OddTapForgotten, spec2(op="max_pool", kernel_size=(2, 3))),
]


@pytest.mark.parametrize(("name", "wrong", "spec"), FAULTS, ids=[f"{n}-{w.__name__}-{s.op}" for n, w, s in FAULTS])
def test_a_fault_breaks_the_identity_that_is_meant_for_it(name, wrong, spec):
    assert judged(name, Right(), spec).status is Status.PASS
    verdict = judged(name, wrong(), spec)
    assert verdict.status is Status.FAIL
    assert verdict.mismatches
    assert verdict.worst_index is not None


@pytest.mark.parametrize("name", GEOMETRIC)
def test_one_output_that_is_wrong_in_its_sixth_bit_breaks_the_identity_within_tolerances(name):
    """Where the class rounds the comparison is by bounds; it must not be blind for that."""
    count = [0]

    def off(spec, x, w, b):
        y = Right()(spec, x, w, b)
        count[0] += 1
        if count[0] == 2:  # one of the runs that are compared
            y.reshape(-1)[y.size // 2] += np.max(np.abs(y)) / 64
        return y

    spec = spec2(
        kernel_size=(2, 2), batch=2, in_channels=4, out_channels=4, groups=2, stride=(2, 2), dilation=(2, 1), padding=PADDED
    )
    assert failures([name], Right(), spec, algorithm=FFT) == []
    assert [n for n, _ in failures([name], off, spec, algorithm=FFT)] == [name]


# --- where they apply ---------------------------------------------------------------------------
REASONS = [
    ("transposition", ConvSpec("conv", (9,), (3,)), "it has one axis"),
    ("rotation", ConvSpec("conv", (9,), (3,)), "it has one axis"),
    ("rotation", spec2(op="max_pool", in_size=(6, 6), kernel_size=(3, 3), stride=(4, 4), ceil_mode=True), "mirrored grid"),
    ("reversal", spec2(op="max_pool", in_size=(6, 6), kernel_size=(3, 3), stride=(4, 4), ceil_mode=True), "mirrored grid"),
    ("batch", spec2(), "it has one image"),
    ("channels", spec2(in_channels=2, out_channels=2, groups=2), "one channel in and out"),
    ("groups", spec2(), "it has one group"),
    ("groups", spec2(op="max_pool"), "it has one group"),
    ("subsampling", spec2(), "its stride is 1"),
    (
        "subsampling",
        spec2(op="avg_pool", in_size=(6, 6), stride=(4, 4), ceil_mode=True, count_include_pad=True),
        "not all windows",
    ),
    ("stuffing", spec2(), "its taps are dense"),
    ("stuffing", spec2(op="max_pool", dilation=(2, 2)), "a pool has no taps"),
    ("stuffing", spec2(in_channels=64, out_channels=32, dilation=(1, 6), in_size=(60, 60)), "MFLOP"),
    ("separable", spec2(kernel_size=(1, 5)), "fewer than two axes"),
    (
        "separable",
        spec2(in_channels=600, in_size=(3, 4), kernel_size=(3, 3), in_dtype="f16", acc_dtype="f16", out_dtype="f16"),
        "too long",
    ),
    ("composition", spec2(op="avg_pool"), "mean of overlapping means"),
    ("composition", spec2(in_size=(3, 2)), "no room"),
    ("composition", spec2(op="max_pool", kernel_size=(2, 2), stride=(3, 3)), "no room"),
]


@pytest.mark.parametrize(("name", "spec", "reason"), REASONS, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(REASONS)])
def test_a_check_says_where_its_theorem_does_not_hold(name, spec, reason):
    case = Case("a", "fuzz", spec, "a fact", "hand: a test")
    assert reason in CHECK[name].applies(case, spec, BackendInfo("b"))


# --- the derived problems -----------------------------------------------------------------------
def test_a_mirrored_pool_keeps_the_windows_that_ceil_mode_drops():
    """The last window would begin in the padding: it is dropped, and so the mirrored grid begins a stride later."""
    spec = ConvSpec("avg_pool", (5,), (4,), stride=(4,), padding=((3, 3),), ceil_mode=True)
    assert spec.out_size == (2,)
    assert reversed_spec(spec, 0).padding == ((0, 3),)
    assert failures(["reversal"], Right(), spec) == []


def test_a_window_that_reads_padding_only_has_no_mirror():
    """Its mirrored problem would crop the whole input."""
    assert reversed_spec(ConvSpec("conv", (1,), (2,), stride=(2,), padding=((2, 0),)), 0) is None


def test_four_quarter_turns_are_none_where_the_windows_leave_nothing_over():
    turned = Counter()

    @given(specs(most=150))
    @examples(80)
    def fuzz(spec):
        over = spec.output_padding if spec.op == "conv_transpose" else [left_over(spec, i) for i in range(spec.rank)]
        if spec.rank == 1 or any(over):
            return
        four = spec
        for _ in range(4):
            four, direction = rotated_spec(four)
            assert direction == 1
        assert four == spec
        turned[spec.op] += 1

    fuzz()
    assert len(turned) > 2


@given(specs(ops=("conv", "conv_transpose"), most=150))
@examples(60)
def test_weights_by_blocks_are_stored_as_they_were(spec):
    w = draw("integers", spec, "a", 0).w
    by_block = blocks(spec, w)
    assert by_block.shape[:3] == (spec.groups, spec.out_channels // spec.groups, spec.in_channels // spec.groups)
    assert np.array_equal(stored(spec, by_block), w)


def test_a_slice_of_the_channels_takes_the_bias_along():
    spec = ConvSpec("conv", (3,), (1,), in_channels=4, out_channels=4, groups=2, bias=True)
    x, w, b = np.arange(12.0).reshape(1, 4, 3), np.arange(8.0).reshape(4, 2, 1), np.arange(4.0)
    part = selected(spec, Operands(x, w, b), slice(1), slice(1, 2))
    assert part.x[0, :, 0].tolist() == [0, 6]
    assert part.w.tolist() == [[[2]], [[6]]]
    assert part.b.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("derived", "fields", "want"),
    [
        (unstrided, {"op": "conv", "stride": (3,), "padding": ((2, 1),)}, {"stride": (1,), "padding": ((2, 1),)}),
        (unstrided, {"op": "max_pool", "stride": (4,), "ceil_mode": True}, {"stride": (1,), "padding": ((0, 2),)}),
        (unstrided, {"op": "conv_transpose", "stride": (3,), "output_padding": (2,)}, {"in_size": (27,), "stride": (1,)}),
        (undilated, {"op": "conv", "dilation": (4,)}, {"kernel_size": (9,), "dilation": (1,)}),
        (composed, {"op": "conv", "stride": (2,), "dilation": (3,)}, None),
    ],
)
def test_the_derived_problem_is_the_one_of_the_theorem(derived, fields, want):
    spec = ConvSpec(**{"in_size": (9,), "kernel_size": (3,), **fields})
    found = derived(spec)
    if want is None:  # h dilated by 3 / gcd(3, 2), the composite with 3 + 2 / gcd taps
        assert (found[0].dilation, found[1].kernel_size) == ((3,), (5,)) if found else spec.out_size[0] <= 3
    else:
        assert found[0] == replace(spec, **{"ceil_mode": False, "output_padding": (0,), **want})
