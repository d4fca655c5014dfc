"""Linearity, adjoint, matrices, pools and the class: no right backend is accused, and a wrong function fails each check."""

from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from right_numpy import NOWHERE, Right
from strategies import examples, specs

from backends.fft import backend as fft
from backends.winograd import backend as winograd
from backends.winograd import backend_f43
from harness.backend import FFT, BackendInfo, Device, Limits
from harness.catalogue.case import Case
from harness.checks import CHECKS, Problem
from harness.checks.adjoint import as_convs, stuffed, stuffed_duals, swapped, transposes
from harness.checks.matrices import bases
from harness.cli.classes import class_lines
from harness.cli.list import explanation, worked
from harness.data import Operands, draw
from harness.oracle import reference
from harness.oracle.cache import OracleCache
from harness.oracle.windows import padded
from harness.records import Status
from harness.spec import ConvSpec, SpecError
from harness.spec.host import numpy_dtype

CHECK = {c.name: c for c in CHECKS}
LINEAR = ("linear_input", "linear_weights", "adjoint", "adjoint_conv", "transposed")
MATRICES = ("toeplitz", "circulant", "eigenvalues")
POOLS = ("pool_convolution", "pool_order", "monotone", "global_pool")
OURS = (*LINEAR, *MATRICES, *POOLS, "algorithm_class")
NO_TRANSPOSE = Limits(("conv", "max_pool", "avg_pool"))
ONLY_CONV = Limits(("conv",))


def judged(check, fn, spec, seed=0, device=None, limits=None, **info):
    """The verdict of a check on a function; None where it does not apply, or the function does not take what it needs."""
    case = Case(f"algebra-{spec.digest[:8]}", "algebra", spec, "a fact", "hand: a test")
    taken = limits or Limits()
    problem = Problem(case, spec, BackendInfo("b", limits=taken, **info), device or Device("cpu"), OracleCache(seed))

    def run(ops, *, poison=0, guard="ones", layout="C", spec=spec, fresh=False):
        return fn(spec, ops.x, ops.w, ops.b)

    run.last = None
    if CHECK[check].applies(case, spec, problem.info) is not None or any(map(taken.why_not, CHECK[check].related(spec))):
        return None
    return CHECK[check].judge(problem, run)


def alarms(fn, names, cases, **more):
    """Failed verdicts, and how often each check was tried."""
    bad, tried = [], Counter()
    for spec, name in product(cases, names):
        verdict = judged(name, fn, spec, **more)
        tried[name] += verdict is not None
        if verdict is not None and verdict.status is not Status.PASS:
            bad.append((name, verdict.message, repr(spec)))
    return bad, tried


def as_type(spec, in_dtype, acc_dtype="", out_dtype=""):
    """The specification in other element types."""
    return replace(spec, in_dtype=in_dtype, acc_dtype=acc_dtype, out_dtype=out_dtype)


def random_specs(n, **kinds):
    """`n` specifications of the shared strategy."""
    found = []

    @given(specs(most=120, **kinds))
    @examples(n)
    def collect(spec):
        found.append(spec)

    collect()
    return found


def dense_specs():
    """Kernels of 3 and stride 1: what Winograd takes."""
    modes = ("zeros", "circular", "reflect", "replicate")
    types = ("f32", "f64", "bf16", "f16")
    for i, (mode, rank, pad) in enumerate(product(modes, (1, 2), ((0, 0), (1, 1), (2, 1)))):
        yield ConvSpec(
            "conv", (9, 6)[:rank], (3, 3)[:rank], batch=1 + i % 2, in_channels=2 * (1 + i % 2), out_channels=2, flip=i % 3 == 0,
            padding=(pad,) * rank, padding_mode=mode, groups=1 + i % 2, bias=i % 2 == 0, in_dtype=types[i % 4],
        )  # fmt: skip


def called(module):
    """A backend as a function."""

    def fn(spec, x, w, b):
        out = np.empty(spec.out_shape, numpy_dtype(spec.out_dtype))
        with module.prepare(spec, "cpu") as prepared:
            prepared.run(x, w, b, out)
        return out

    return fn


# --- right backends -----------------------------------------------------------------------------
def test_a_direct_sum_passes_on_every_kind_of_specification():
    bad, tried = alarms(Right(), OURS, random_specs(120))
    assert bad == []
    assert min(tried[name] for name in (*LINEAR[:3], "transposed", "toeplitz", *POOLS, "algorithm_class")) >= 10


def test_a_direct_sum_without_a_transposed_convolution_passes():
    bad, tried = alarms(Right(), ("adjoint", "adjoint_conv"), random_specs(60, ops=("conv",)), limits=NO_TRANSPOSE)
    assert bad == []
    assert tried["adjoint"] == 0
    assert tried["adjoint_conv"] >= 40


def test_a_strided_fft_without_a_transposed_convolution_passes():
    """Its class is exact on no integers: y is drawn from real numbers, in the shape of the output."""
    cases = [s for s in random_specs(80, ops=("conv",)) if max(s.stride) > 1 and fft.info.limits.why_not(s) is None]
    bad, tried = alarms(called(fft), ("adjoint_conv",), cases, limits=NO_TRANSPOSE, algorithm=FFT)
    assert bad == []
    assert tried["adjoint_conv"] >= 5


def test_a_direct_sum_passes_the_checks_of_circular_matrices():
    circular = [s for s in dense_specs() if s.padding_mode == "circular" and s.out_size == s.in_size]
    circular += [
        ConvSpec("conv", (7,), (3,), dilation=(2,), padding=((3, 1),), padding_mode="circular", in_channels=4, out_channels=6,
                 groups=2, flip=True),
        ConvSpec("conv", (3, 4), (5, 2), padding=((3, 1), (0, 1)), padding_mode="circular"),
        ConvSpec("conv", (3, 2, 4), (3, 1, 3), padding=((1, 1), (0, 0), (2, 0)), padding_mode="circular", in_dtype="i8"),
    ]  # fmt: skip
    bad, tried = alarms(Right(), MATRICES, circular)
    assert bad == []
    assert set(tried.values()) == {len(circular)}
    assert len(circular) >= 5


@pytest.mark.parametrize("module", [winograd, backend_f43, fft], ids=lambda m: m.info.name)
def test_a_class_that_rounds_in_between_passes_within_its_bounds(module):
    cases = list(dense_specs())
    if module is fft:
        cases = cases[::2] + random_specs(25, ops=("conv", "conv_transpose"))
    info = {"algorithm": module.info.algorithm, "limits": replace(module.info.limits, rule=None)}
    cases = [s for s in cases if module.info.limits.why_not(s) is None]
    bad, tried = alarms(called(module), (*LINEAR, *MATRICES, "algorithm_class"), cases, **info)
    assert bad == []
    assert min(tried[n] for n in ("linear_input", "toeplitz", "algorithm_class")) >= 5


def test_a_device_that_truncates_passes_where_it_says_so():
    class Cutting(Right):
        def finish(self, spec, y, b):
            near = super().finish(spec, y, b)
            wide = y if b is None else y + self.per_channel(spec, b)
            down = np.abs(near.astype(np.float64)) > np.abs(wide.astype(np.float64))
            return np.where(down, np.nextafter(near, near.dtype.type(0)), near).astype(near.dtype)

    narrow = random_specs(60, triples=(("f16", "f32", "f16"), ("bf16", "f32", "bf16")))
    bad, tried = alarms(Cutting(), OURS, narrow, device=Device("cut", rounding="truncate"))
    assert bad == []
    assert tried["linear_input"] >= 20


# --- related specifications ---------------------------------------------------------------------
def float_conv(spec, seed=0):
    ops = draw("zero_mean", replace(spec, bias=False), "case", seed)
    return ops.x, ops.w


def by_oracle(spec, x, w):
    return reference(spec, Operands(x, w)).hi


@given(specs(ops=("conv", "conv_transpose"), triples=(("f64", "f64", "f64"),), most=80, bias=False))
@examples(40)
def test_the_transpose_of_a_specification_transposes_its_matrix(spec):
    x, w = float_conv(spec)
    (dual,) = transposes(spec)
    y = draw("zero_mean", dual, "case", 1).x
    wide = x if dual.out_size == spec.in_size and min(min(p) for p in spec.padding) >= 0 else padded(spec, x, 0.0)
    if wide.shape == dual.out_shape:
        lhs, rhs = np.sum(by_oracle(spec, x, w) * y), np.sum(wide * by_oracle(dual, y, w))
        assert lhs == pytest.approx(rhs, rel=1e-9, abs=1e-6)
    assert dual.x_shape == spec.out_shape
    assert dual.w_shape == spec.w_shape


@given(specs(ops=("conv_transpose",), triples=(("f64", "f64", "f64"),), most=80, bias=False))
@examples(40)
def test_a_transposed_convolution_is_a_convolution_of_stuffed_input(spec):
    x, w = float_conv(spec)
    (other,) = as_convs(spec)
    y = by_oracle(other, stuffed(spec, x, spec.in_size), swapped(spec, w))
    starts = [max(0, a.lo) if a.lo > a.extent - 1 else 0 for a in spec.axes]
    y = y[(..., *(slice(i, i + n) for i, n in zip(starts, spec.out_size, strict=True)))]
    np.testing.assert_allclose(y, by_oracle(spec, x, w), rtol=1e-9, atol=1e-9)
    assert other.stride == (1,) * spec.rank


def test_specifications_without_relatives_have_none():
    pool = ConvSpec("max_pool", (8,), (2,))
    assert transposes(pool) == stuffed_duals(pool) == as_convs(pool) == bases(pool) == ()
    assert bases(ConvSpec("conv", (300,), (3,))) == ()


# --- wrong functions ----------------------------------------------------------------------------
CONV = ConvSpec("conv", (9, 10), (3, 2), in_channels=2, out_channels=3, stride=(2, 1), padding=((1, 0), (1, 1)))
UP = ConvSpec("conv_transpose", (5, 4), (3, 2), in_channels=2, out_channels=3, stride=(2, 3), padding=((1, 1), (0, 2)),
              output_padding=(1, 2))  # fmt: skip
RING = ConvSpec("conv", (6, 5), (3, 3), in_channels=2, out_channels=2, padding=((1, 1), (1, 1)), padding_mode="circular")
AVG = ConvSpec("avg_pool", (7, 8), (3, 2), in_channels=2, padding=((1, 1), (0, 0)), stride=(2, 2))
MAX = replace(AVG, op="max_pool")


class SmallBecomesZero(Right):
    """Outputs much smaller than the largest are flushed."""

    def finish(self, spec, y, b):
        y = super().finish(spec, y, b)
        return np.where(np.abs(y.astype(np.float64)) < np.abs(y.astype(np.float64)).max() / 4, 0, y).astype(y.dtype)


class StaleWeights(Right):
    """The first weights of a shape are kept."""

    def __init__(self):
        self.kept = {}

    def weights(self, spec, w):
        return self.kept.setdefault(w.shape, super().weights(spec, w).copy())


class LevelsOfWeights(Right):
    """Weights are quantised to seven levels of the largest."""

    def weights(self, spec, w):
        top = np.abs(w).max()
        return super().weights(spec, (np.rint(w / top * 7) / 7 * top).astype(w.dtype))


class FlipsTransposed(Right):
    """A transposed convolution has its kernel reversed."""

    def conv_transpose(self, spec, x, w):
        return super().conv_transpose(spec, x, np.flip(w, tuple(range(2, w.ndim))))


class ZerosInOutputPadding(Right):
    """Output padding is zeros instead of computed."""

    def conv_transpose(self, spec, x, w):
        y = super().conv_transpose(spec, x, w)
        for axis, extra in enumerate(spec.output_padding):
            y[(slice(None),) * (2 + axis) + (slice(y.shape[2 + axis] - extra, None),)] = 0
        return y


class LowPadMissing(Right):
    """A convolution starts at the input's first element."""

    def positions(self, spec, axis):
        at = super().positions(spec, axis)
        return at + (max(0, spec.axes[axis].lo) if spec.op == "conv" and spec.padding_mode == "zeros" else 0)


class LastColumnTwice(Right):
    """The last column of the output repeats the one before."""

    def finish(self, spec, y, b):
        y = super().finish(spec, y, b)
        y[..., -1] = y[..., -2]
        return y


class NotCircular(Right):
    """Circular padding reads zeros."""

    def beyond(self, spec, axis, at, n):
        return np.full_like(at, NOWHERE)


class Reversed(Right):
    """The kernel is reversed."""

    def weights(self, spec, w):
        return super().weights(spec, np.flip(w, tuple(range(2, w.ndim))))


class WholeDivisor(Right):
    """An average is always divided by the kernel's size."""

    def divisor(self, spec):
        return np.full(spec.out_size, np.prod(spec.kernel_size))


class SumForAverage(Right):
    """An average is not divided."""

    def divisor(self, spec):
        return np.ones(spec.out_size)


class FirstForMaximum(Right):
    """A maximum is the first element of its window."""

    def max_pool(self, spec, x, w):
        return next(view for _, view in self.views(spec, x, self.lowest(spec)))


class Loudest(Right):
    """The element of the largest absolute value, plus a constant."""

    def max_pool(self, spec, x, w):
        return super().max_pool(spec, np.abs(x), w) + x.dtype.type(1)


class DropsTheLast(Right):
    """A reduction of the whole input leaves its last element out."""

    def views(self, spec, x, fill=0):
        seen = list(super().views(spec, x, fill))
        return iter(seen[:-1] if spec.kernel_size == spec.in_size else seen)


class ThroughFloat16(Right):
    """Operands are rounded to eleven bits, as TF32 does."""

    def load(self, spec, a):
        return a.astype(np.float16).astype(np.float32)


@pytest.mark.parametrize(
    ("check", "wrong", "spec"),
    [
        ("linear_input", SmallBecomesZero, CONV),
        ("linear_input", SmallBecomesZero, AVG),
        ("linear_weights", StaleWeights, CONV),
        ("linear_weights", LevelsOfWeights, CONV),
        ("linear_weights", LevelsOfWeights, UP),
        ("adjoint", FlipsTransposed, CONV),
        ("adjoint", ZerosInOutputPadding, UP),
        ("adjoint", FlipsTransposed, RING),
        ("adjoint", NotCircular, RING),
        ("adjoint_conv", LowPadMissing, CONV),
        ("adjoint_conv", NotCircular, RING),
        ("transposed", FlipsTransposed, UP),
        ("transposed", ZerosInOutputPadding, UP),
        ("toeplitz", LastColumnTwice, CONV),
        ("toeplitz", LastColumnTwice, UP),
        ("toeplitz", NotCircular, RING),
        ("circulant", NotCircular, RING),
        ("circulant", LastColumnTwice, RING),
        ("eigenvalues", Reversed, RING),
        ("eigenvalues", NotCircular, RING),
        ("pool_convolution", WholeDivisor, AVG),
        ("pool_order", FirstForMaximum, AVG),
        ("pool_order", SumForAverage, AVG),
        ("monotone", Loudest, MAX),
        ("global_pool", DropsTheLast, MAX),
        ("global_pool", DropsTheLast, AVG),
    ],
    ids=lambda v: getattr(v, "__name__", None),
)
@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
def test_a_wrong_function_fails_the_check(check, wrong, spec, dtype):
    spec = as_type(spec, dtype)
    limits = NO_TRANSPOSE if check == "adjoint_conv" else None
    assert judged(check, Right(), spec, limits=limits).status is Status.PASS
    verdict = judged(check, wrong(), spec, limits=limits)
    assert verdict.status is Status.FAIL
    assert verdict.message
    assert verdict.mismatches >= 1


@pytest.mark.parametrize(
    ("check", "fault"),
    [
        ("toeplitz", LastColumnTwice),
        ("eigenvalues", Reversed),
        ("adjoint", FlipsTransposed),
        ("linear_input", SmallBecomesZero),
    ],
)
def test_a_wrong_fft_fails_beyond_its_bounds(check, fault):
    """The real form: a fault shows although the class rounds."""
    assert judged(check, Right(), RING, algorithm=FFT).status is Status.PASS
    assert judged(check, fault(), RING, algorithm=FFT).status is Status.FAIL


def test_a_not_a_number_fails_every_identity():
    class Broken(Right):
        def finish(self, spec, y, b):
            y = super().finish(spec, y, b)
            y.reshape(-1)[-1] = np.nan
            return y

    for check, spec in (("linear_input", CONV), ("adjoint", CONV), ("toeplitz", CONV), ("eigenvalues", RING)):
        for info in ({}, {"algorithm": FFT}):
            assert judged(check, Broken(), spec, **info).status is Status.FAIL
    assert judged("pool_order", Broken(), AVG).status is Status.FAIL


# --- the algorithm class ------------------------------------------------------------------------
WIDE = ConvSpec("conv", (40, 40), (3, 3), in_channels=2, out_channels=2, padding=((1, 1), (1, 1)))


@pytest.mark.parametrize(("module", "kind"), [(fft, "fft"), (winograd, "winograd"), (backend_f43, "winograd")])
@pytest.mark.parametrize("spec", [WIDE, ConvSpec("conv", (64,), (3,)), as_type(WIDE, "f64")], ids=str)
def test_a_transform_is_named_and_refutes_a_declared_direct_sum(module, kind, spec):
    for seed in range(3):
        right = judged("algorithm_class", called(module), spec, seed=seed, algorithm=module.info.algorithm)
        wrong = judged("algorithm_class", called(module), spec, seed=seed)
        assert (right.status, right.details["measured"]) == (Status.PASS, kind)
        assert (wrong.status, wrong.details["declared"]) == (Status.FAIL, "direct")
        assert "measured" in wrong.message


@pytest.mark.parametrize("channels", [1, 16, 128])
def test_winograd_is_told_from_fft_at_many_channels(channels):
    spec = replace(WIDE, in_size=(20, 20), in_channels=channels, out_channels=1)
    found = {m.info.name: judged("algorithm_class", called(m), spec).details["measured"] for m in (fft, winograd, backend_f43)}
    assert found == {"fft": "fft", "winograd": "winograd", "winograd-f43": "winograd"}


def test_a_backend_that_chooses_is_not_blamed_for_a_direct_sum():
    info = BackendInfo(
        "both", algorithm=backend_f43.info.algorithm, transforms=((Limits(("conv",)), backend_f43.info.algorithm),)
    )
    assert class_lines({"both": info}, {"both": {"direct": 5}}) == []
    assert class_lines({"both": info}, {"both": {"fft": 5}}) == ["both: declared winograd F(4,3), measured fft on 5 of 5 cases"]


def test_a_direct_sum_confirms_its_declaration_and_a_declared_fft_that_sums_is_no_fault():
    for spec in (WIDE, replace(WIDE, kernel_size=(1, 1)), replace(WIDE, padding_mode="circular"), replace(UP, bias=True)):
        for algorithm in (BackendInfo("b").algorithm, FFT):
            verdict = judged("algorithm_class", Right(), spec, algorithm=algorithm)
            assert (verdict.status, verdict.details["measured"]) == (Status.PASS, "direct")


def test_low_precision_is_no_transform():
    verdict = judged("algorithm_class", ThroughFloat16(), WIDE)
    assert verdict.details["graded_units"] > 64
    assert (verdict.status, verdict.details["measured"]) in [(Status.PASS, "direct"), (Status.PASS, "imprecise")]


@pytest.mark.parametrize(
    "spec",
    [AVG, as_type(WIDE, "i8"), as_type(WIDE, "bf16"),
     as_type(WIDE, "f16", "f32", "f32")],
    ids=["pool", "integers", "narrow-output", "f16"],
)  # fmt: skip
def test_the_class_is_not_measured_where_rounding_or_range_hides_it(spec):
    assert judged("algorithm_class", Right(), spec) is None


def test_verify_names_a_class_that_differs_from_the_declared_one(tmp_path, monkeypatch):
    from harness.cli import main as command

    monkeypatch.setenv("CONVPROOF_STORE", str(tmp_path / "runs.sqlite"))
    plugin = tmp_path / "plugins.py"
    plugin.write_text(
        "from dataclasses import replace\n"
        "from copy import copy\n"
        "from backends.im2col import backend as sums\n"
        "from backends.winograd import backend as tiles\n"
        "from harness.backend import DIRECT, FFT\n"
        "boaster, sly = copy(sums), copy(tiles)\n"
        "boaster.info = replace(sums.info, name='boaster', algorithm=FFT)\n"
        "sly.info = replace(tiles.info, name='sly', algorithm=DIRECT)\n"
    )
    words = ["verify", "basic-bias", "--check", "algorithm_class", "--in-process", "--seed", "1"]
    result = CliRunner().invoke(command, [*words, *(w for n in ("boaster", "sly") for w in ("-b", f"{plugin}:{n}"))])
    assert result.exit_code == 1, result.output
    lines = result.stdout.splitlines()
    assert "boaster: declared fft, measured direct on 1 of 1 cases" in lines
    assert "sly: declared direct, measured transform on 1 of 1 cases" in lines
    assert "FAIL basic-bias  sly  algorithm_class" in lines


# --- theorems and examples ----------------------------------------------------------------------
@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.name)
def test_every_check_has_a_theorem_and_a_worked_example(check):
    assert len(check.theorem) > 80
    assert "Examples" not in check.theorem
    assert ">>> " in check.example
    prose, heading, example = explanation(check.name, 72).partition("\n\nWorked example\n\n")
    assert prose.startswith(f"{check.name}: ")
    assert max(map(len, prose.splitlines())) <= 72
    assert heading
    assert "    -> " in example
    assert ">>>" not in example


def test_an_example_shows_inputs_and_results_without_imports():
    assert worked(CHECK["reversal"].example).splitlines()[:2] == [
        "  conv([1, 2, 4, 8], [1, -3], padding=((1, 0),))",
        "    -> [-3, -5, -10, -20]",
    ]


def test_list_checks_explain_prints_the_example_in_a_pipe():
    from harness.cli import main as command

    result = CliRunner().invoke(command, ["list", "checks", "--explain", "adjoint"])
    assert result.exit_code == 0
    assert "Worked example" in result.stdout
    assert "-> (245, 245)" in result.stdout


def test_a_specification_that_is_related_is_always_valid():
    """`related` is asked of every case before any check is known to apply: it must not raise."""
    for spec in random_specs(100):
        for check in CHECKS:
            try:
                check.related(spec)
            except SpecError as e:
                pytest.fail(f"{check.name}: {e} for {spec}")
