"""The tolerance: its values by hand, above every right way to sum and below every shortcut."""

from math import log2, sqrt

import numpy as np
import pytest
import scipy.fft
import summations
from hypothesis import given
from hypothesis import strategies as st
from strategies import FLOAT_TRIPLES, examples, specs

from harness.backend import DIRECT, FFT, AlgorithmClass, Device
from harness.checks.compare import compare
from harness.data import Operands, draw
from harness.oracle import fsum_reference, reference, tolerance, toom
from harness.oracle.bound import FFT_FLOOR, RMS_LIMIT, NoBound, unit
from harness.records import Status
from harness.spec import ConvSpec
from harness.spec.host import numpy_dtype

HOST = Device("cpu")
U32, U16, UB16, U64 = 2.0**-24, 2.0**-11, 2.0**-8, 2.0**-53
ETA32, TINY32 = 2.0**-149, 2.0**-126


def ones(spec, x=1.0, w=1.0, b=2.0):
    put = numpy_dtype(spec.in_dtype)
    return Operands(
        np.full(spec.x_shape, x, put),
        None if spec.w_shape is None else np.full(spec.w_shape, w, put),
        np.full(spec.b_shape, b, numpy_dtype(spec.acc_dtype)) if spec.bias else None,
    )


def tol_of(spec, ops=None, data="zero-mean", algorithm=DIRECT, device=HOST):
    ops = ops or ones(spec)
    return np.broadcast_to(tolerance(spec, algorithm, device, data, ops, reference(spec, ops)), spec.out_shape)


# --- values by hand -----------------------------------------------------------------------------
def test_zero_mean_data_are_allowed_8_u_a():
    """K = 6, A = 6; the border outputs of a padded axis have K = 4 and A = 4."""
    spec = ConvSpec("conv", (5,), (3,), in_channels=2, padding=((1, 1),))
    u_sums = [4, 6, 6, 6, 4]
    want = [8 * U32 * k + (k + 1) * ETA32 / 2 for k in u_sums]
    np.testing.assert_allclose(tol_of(spec)[0, 0], want, rtol=1e-14)


def test_the_bias_adds_2_sqrt_k_u_b():
    spec = ConvSpec("conv", (5,), (3,), in_channels=3, bias=True)
    np.testing.assert_allclose(tol_of(spec)[0, 0], 8 * U32 * 9 + 2 * 3 * U32 * 2 + 10 * ETA32 / 2, rtol=1e-14)


@pytest.mark.parametrize(("channels", "c"), [(1, 8.0), (3, 8.0), (100, 40.0), (2**14, 512.0)])
def test_positive_data_are_allowed_4_sqrt_k(channels, c):
    spec = ConvSpec("conv", (1,), (1,), in_channels=channels)
    np.testing.assert_allclose(tol_of(spec, data="positive"), c * U32 * channels + (channels + 1) * ETA32 / 2, rtol=1e-12)


def test_positive_data_meet_the_ceiling_k_where_k_u_passes_a_tenth():
    spec = ConvSpec("conv", (1,), (1,), in_channels=400, in_dtype="f16", acc_dtype="f16", out_dtype="f16")
    assert 400 * U16 > 0.1
    tol = tol_of(spec, ones(spec, x=0.5), data="positive")
    np.testing.assert_allclose(tol, 400 * U16 * 200 + 401 * 2.0**-25, rtol=1e-12)


@pytest.mark.parametrize(("name", "u_out", "eta_out"), [("f16", U16, 2.0**-24), ("bf16", UB16, 2.0**-133)])
def test_a_narrower_output_adds_its_own_rounding_of_y(name, u_out, eta_out):
    spec = ConvSpec("conv", (1,), (1,), in_channels=4, in_dtype=name)
    ops = Operands(np.array([[[1.0], [1], [1], [-1]]]).astype(numpy_dtype(name)), np.ones((1, 4, 1), numpy_dtype(name)))
    e = 8 * U32 * 4 + 5 * ETA32 / 2
    np.testing.assert_allclose(tol_of(spec, ops), e + u_out * (2 + e) + eta_out, rtol=1e-12)


def test_float64_accumulation_of_float32_is_held_to_float64_and_one_rounding():
    spec = ConvSpec("conv", (1,), (1,), in_channels=4, in_dtype="f32", acc_dtype="f64", out_dtype="f32")
    e = 8 * U64 * 4
    np.testing.assert_allclose(tol_of(spec), e + U32 * (4 + e) + ETA32, rtol=1e-12)


def test_an_average_is_allowed_its_sum_and_three_roundings():
    spec = ConvSpec("avg_pool", (5, 5), (5, 5))
    want = max(8, 4 * sqrt(25)) * U32 * 1 + 3 * U32 * 1 + 26 * ETA32 / 2
    np.testing.assert_allclose(tol_of(spec), want, rtol=1e-12)


def test_a_maximum_and_an_integer_sum_are_allowed_nothing():
    assert np.all(tol_of(ConvSpec("max_pool", (5,), (3,))) == 0)
    assert np.all(tol_of(ConvSpec("conv", (5,), (3,), in_dtype="i8", bias=True)) == 0)


def test_truncation_doubles_u_and_grows_with_sqrt_k_or_k():
    spec = ConvSpec("conv", (1,), (1,), in_channels=100)
    rz = Device("rz", rounding="truncate")
    under = 101 * ETA32 / 2
    np.testing.assert_allclose(tol_of(spec, device=rz), 40 * 2 * U32 * 100 + under, rtol=1e-12)
    np.testing.assert_allclose(tol_of(spec, data="positive", device=rz), 100 * 2 * U32 * 100 + under, rtol=1e-12)
    pool = ConvSpec("avg_pool", (2,), (2,))
    assert np.all(tol_of(pool, device=rz) >= 1.99 * tol_of(pool))


def test_flushing_is_granted_where_it_is_declared():
    spec = ConvSpec("conv", (4,), (3,))
    base = 8 * U32 * 3
    flush, inputs = Device("f", denormals="flush"), Device("g", denormals="flush-inputs")
    np.testing.assert_allclose(tol_of(spec, device=flush), base + 4 * TINY32, rtol=1e-12)
    np.testing.assert_allclose(tol_of(spec, device=inputs), base + 4 * TINY32 + TINY32 * (3 + 3), rtol=1e-12)


def test_outputs_that_no_tap_reaches_are_allowed_nothing():
    """They equal the bias exactly; where the output is narrower, the bias rounds once."""
    for name, zero in (("f32", True), ("f64", True), ("f16", False)):
        spec = ConvSpec("conv_transpose", (3,), (1,), stride=(3,), output_padding=(2,), bias=True, in_dtype=name)
        bare = np.array(spec.tap_counts[0]) == 0
        for data in ("zero-mean", "positive"):
            tol = tol_of(spec, data=data)[0, 0]
            assert np.all((tol[bare] == 0) == zero)
            assert np.all(tol[~bare] > 0)


def test_fft_is_held_to_log2_n_times_the_norms_and_to_12_at_least():
    """N = 12 + 3 - 1, log2 N < 4; one channel of twelve ones against three ones: sqrt(12 * 3)."""
    spec = ConvSpec("conv", (12,), (3,))
    under = 4 * ETA32 / 2
    np.testing.assert_allclose(tol_of(spec, algorithm=FFT), 12 * U32 * 6 + under, rtol=1e-12)
    wide = ConvSpec("conv", (200, 200), (3, 3))
    n = 202 * 202
    np.testing.assert_allclose(tol_of(wide, algorithm=FFT), log2(n) * U32 * 600 + 10 * ETA32 / 2, rtol=1e-12)
    np.testing.assert_allclose(
        tol_of(wide, data="positive", algorithm=FFT), 4 * log2(n) * U32 * 600 + 10 * ETA32 / 2, rtol=1e-12
    )


def test_right_ffts_of_short_lengths_with_odd_factors_err_by_more_than_5_and_less_than_the_floor():
    """Length 6, four elements one of which in two is large, three taps: float64 against sums in extended precision."""
    rng = np.random.default_rng(5)
    x, w = (rng.uniform(1, 2, (100_000, n)) * rng.choice([-1, 1], (100_000, n)) for n in (3, 4))
    x[:, ::2] *= 4096
    w[:, ::2] = 0
    y = scipy.fft.irfft(scipy.fft.rfft(x, 6) * scipy.fft.rfft(w, 6), 6)
    exact = np.zeros(y.shape, np.longdouble)
    for j in range(4):
        exact[:, j : j + 3] += x.astype(np.longdouble) * w[:, j : j + 1]
    norms = 2.0**-53 * np.linalg.norm(x, axis=1) * np.linalg.norm(w, axis=1)
    assert 5 < np.max(np.abs(y - exact).max(axis=1) / norms) < FFT_FLOOR


def test_fft_is_held_to_the_norm_of_the_padded_input():
    """An impulse in a corner is copied by the padding: four elements of a replicated border, not 7/3 on average."""
    spec = ConvSpec("conv", (3,), (3,), padding=((3, 1),), padding_mode="replicate")
    x = np.zeros((1, 1, 3), np.float32)
    x[0, 0, 0] = 1
    ops = Operands(x, np.ones((1, 1, 3), np.float32))
    np.testing.assert_allclose(tol_of(spec, ops, algorithm=FFT), 12 * U32 * sqrt(4 * 3) + 4 * ETA32 / 2, rtol=1e-12)


def test_a_class_without_a_bound_judges_nothing():
    spec = ConvSpec("conv", (5,), (3,))
    with pytest.raises(NoBound, match="no error bound"):
        tol_of(spec, algorithm=AlgorithmClass("neural"))


@examples(100)
@given(specs(), st.sampled_from(("zero-mean", "positive")))
def test_every_tolerance_is_finite_and_broadcasts_and_every_unit_is_positive(spec, data):
    ops = draw("zero_mean" if spec.in_type.is_float else "integers", spec, "c", 0)
    ref = reference(spec, ops)
    for algorithm in (DIRECT, FFT) if not spec.is_pool else (DIRECT,):
        for device in (HOST, Device("z", denormals="flush-inputs", rounding="truncate")):
            tol = np.broadcast_to(tolerance(spec, algorithm, device, data, ops, ref), spec.out_shape)
            assert np.all(np.isfinite(tol))
            assert np.all(tol >= 0)
    assert np.all(unit(spec, ref) > 0)


# --- right and wrong ----------------------------------------------------------------------------
TYPES = [t for t in FLOAT_TRIPLES if t not in (("f16", "f32", "f32"), ("f32", "f64", "f32"))]


def judged(ways, types, channels, taps, recipe, seed, outputs=300):
    """Each way's verdict on one draw."""
    names = dict(zip(("in_dtype", "acc_dtype", "out_dtype"), types, strict=True))
    spec = ConvSpec("conv", (outputs + taps - 1,), (taps,), in_channels=channels, bias=True, **names)
    ops = draw(recipe, spec, "bound", seed)
    ref = reference(spec, ops)
    tol = tolerance(spec, DIRECT, HOST, recipe.replace("_", "-"), ops, ref)
    acc = numpy_dtype(spec.acc_dtype)
    v, w = summations.windows(ops.x[0].astype(acc), taps), ops.w[0].reshape(-1).astype(acc)
    for way in ways:
        y = way(v, w, ops.b[0]).astype(numpy_dtype(spec.out_dtype)).reshape(spec.out_shape)
        rms = recipe == "zero_mean" and spec.acc_dtype == spec.out_dtype
        yield way.__name__, compare(spec, y, ops, ref, tol, rms=rms)


@pytest.mark.parametrize("types", TYPES, ids="/".join)
@pytest.mark.parametrize("recipe", ["zero_mean", "positive"])
def test_no_right_way_to_sum_leaves_its_bound(types, recipe):
    """Sequential, backwards, pairwise, in lanes and blocks, fused, GEMM; the bias first or last."""
    for channels, taps in ((1, 1), (1, 2), (1, 3), (4, 5), (16, 9)) + (((64, 9),) if types[1] != "f16" else ()):
        for seed in range(4):
            for name, verdict in judged(summations.RIGHT, types, channels, taps, recipe, seed):
                assert verdict.status is Status.PASS, (name, channels, taps, seed, verdict.message)


@pytest.mark.parametrize("types", [("f32", "f32", "f32"), ("f64", "f64", "f64")], ids="/".join)
@pytest.mark.parametrize("recipe", ["zero_mean", "positive"])
def test_every_precision_shortcut_leaves_it(types, recipe):
    """TF32 and bfloat16 products, float16 and bfloat16 sums: at any K on random signs, on positive data at small K."""
    for channels, taps in ((1, 2), (4, 5)) + (((64, 9), (256, 9)) if recipe == "zero_mean" else ()):
        for seed in range(2):
            for name, verdict in judged(summations.NARROW, types, channels, taps, recipe, seed, outputs=100):
                assert verdict.status is Status.FAIL, (name, channels, taps, seed)
                assert verdict.error_bound > (10 if recipe == "zero_mean" else 1)


def test_float32_sums_for_float64_and_bfloat16_sums_for_float16_leave_it():
    for way, types in ((summations.float32_sums, ("f64", "f64", "f64")), (summations.bfloat16_sums, ("f16", "f16", "f16"))):
        for seed in range(4):
            ((_, verdict),) = judged([way], types, 8, 9, "zero_mean", seed)
            assert verdict.status is Status.FAIL


def test_the_root_mean_square_catches_what_the_maximum_lets_through():
    """Errors of 3 u A everywhere are within 8 u A each, and no right sum makes them."""
    spec = ConvSpec("conv", (300,), (3,), in_channels=4)
    ops = draw("zero_mean", spec, "rms", 0)
    ref = reference(spec, ops)
    tol = tolerance(spec, DIRECT, HOST, "zero-mean", ops, ref)
    y = (ref.hi + 3 * U32 * ref.scale).astype(np.float32)
    assert compare(spec, y, ops, ref, tol).status is Status.PASS
    verdict = compare(spec, y, ops, ref, tol, rms=True)
    assert verdict.status is Status.FAIL
    assert "rms error" in verdict.message
    few = ConvSpec("conv", (200,), (3,))
    ops = draw("zero_mean", few, "rms", 0)
    ref = reference(few, ops)
    y = (ref.hi + 3 * U32 * ref.scale).astype(np.float32)
    assert compare(few, y, ops, ref, tolerance(few, DIRECT, HOST, "zero-mean", ops, ref), rms=True).status is Status.PASS


def test_a_single_tap_with_a_large_bias_is_no_root_mean_square_error():
    """y = w x + b with |w| near 1 and |b| near 4: the sum rounds in units of b, 1.47 u A in the mean of right results."""
    spec = ConvSpec("conv", (4000,), (1,), bias=True)
    x = draw("zero_mean", spec, "one", 0).x
    ops = Operands(
        x,
        np.full((1, 1, 1), np.nextafter(np.float32(1), np.float32(2))),
        np.array([np.nextafter(np.float32(4), np.float32(0))]),
    )
    ref = reference(spec, ops)
    y = x * ops.w[0, 0, 0] + ops.b[0]
    err = np.abs(y - ref.hi) / unit(spec, ref)
    assert np.sqrt(np.mean(err**2)) > 0.8 * RMS_LIMIT
    assert compare(spec, y, ops, ref, tolerance(spec, DIRECT, HOST, "zero-mean", ops, ref), rms=True).status is Status.PASS


def by_fft(spec, ops, spoil=0.0):
    """A float32 FFT convolution in any rank: scipy keeps complex64."""
    x, w = ops.x.astype(np.float32), ops.w.astype(np.float32)
    axes = tuple(range(2, 2 + spec.rank))
    full = [n + m - 1 for n, m in zip(spec.in_size, spec.kernel_size, strict=True)]
    fx, fw = scipy.fft.rfftn(x, full, axes), scipy.fft.rfftn(np.flip(w, axes), full, axes)
    assert fx.dtype == np.complex64
    if spoil:
        fx = fx * (1 + spoil * np.random.default_rng(0).standard_normal(fx.shape)).astype(np.float32)
    y = scipy.fft.irfftn(np.einsum("nc...,mc...->nm...", fx, fw), full, axes)
    at = tuple(slice(m - 1, m - 1 + o) for m, o in zip(spec.kernel_size, spec.out_size, strict=True))
    return np.ascontiguousarray(y[(slice(None), slice(None), *at)]).astype(np.float32)


@pytest.mark.parametrize("recipe", ["zero_mean", "positive", "graded", "integers", "input_impulses", "tap_impulses"])
def test_a_float32_fft_meets_its_bound_and_one_that_errs_by_1e_4_does_not(recipe):
    for n, m, c in (((40,), (5,), 1), ((17, 23), (3, 4), 3), ((9, 8, 7), (3, 3, 3), 2), ((64, 64), (7, 7), 8)):
        spec = ConvSpec("conv", n, m, in_channels=c, out_channels=2)
        ops = draw(recipe, spec, "fft", 1, *([0] if recipe == "tap_impulses" else []))
        ref = reference(spec, ops)
        tol = tolerance(spec, FFT, HOST, "positive" if recipe == "positive" else "zero-mean", ops, ref)
        assert compare(spec, by_fft(spec, ops), ops, ref, tol).status is Status.PASS
        spoiled = compare(spec, by_fft(spec, ops, spoil=1e-4), ops, ref, tol)
        assert spoiled.status is Status.FAIL, (n, spoiled.error_bound)
        # and it is no direct sum
        if recipe == "graded":
            direct = tolerance(spec, DIRECT, HOST, "zero-mean", ops, ref)
            assert compare(spec, by_fft(spec, ops), ops, ref, direct).status is Status.FAIL


def test_the_bound_holds_for_the_exact_result_rounded_once():
    for name in ("f16", "bf16", "f32"):
        spec = ConvSpec("conv", (40,), (3,), in_channels=4, in_dtype=name, bias=True)
        ops = draw("zero_mean", spec, "once", 0)
        ref = reference(spec, ops)
        y = fsum_reference(spec, ops).astype(np.float32).astype(numpy_dtype(name))
        assert compare(spec, y, ops, ref, tolerance(spec, DIRECT, HOST, "zero-mean", ops, ref)).status is Status.PASS


@pytest.mark.parametrize(("m", "points"), [(2, (0.0, 1.0, -1.0)), (4, (0.0, 1.0, -1.0, 2.0, -2.0))])
def test_the_scale_of_winograd_is_its_definition_tile_by_tile(m, points):
    """The largest over the places that an output may have in a tile, by loops."""
    spec = ConvSpec("conv", (9,), (3,), in_channels=2, padding=((1, 2),))
    rng = np.random.default_rng(5)
    x, w = rng.normal(size=spec.x_shape), rng.normal(size=spec.w_shape)
    at, g, bt = toom.matrices(m, 3, points)
    n = m + 2
    line = np.pad(np.abs(x[0]), ((0, 0), (1 + m - 1, 2 + n)))
    want = [
        max(
            sum(at[p] @ ((g @ np.abs(w[0, c])) * (bt @ line[c, o - p + m - 1 : o - p + m - 1 + n])) for c in range(2))
            for p in range(m)
        )
        for o in range(spec.out_size[0])
    ]
    found = toom.scale(spec, AlgorithmClass("winograd", m, 3, points), x, w)
    np.testing.assert_allclose(found[0, 0], want, rtol=1e-13)
