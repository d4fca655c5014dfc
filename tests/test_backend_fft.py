"""`fft` computes what the definition says within the bound of its class, by blocks and phases that lose nothing."""

import os
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from math import log2, prod

import numpy as np
import pytest
from backend_definition import SPECS, define, integers, operands, reals, rounded, run

from backends import fft_blocks, fft_phases
from backends.fft import backend, integer_error, planned
from backends.fft_blocks import Plan, fast_length, make_plan, overlap_save
from backends.fft_phases import Dense, DenseAxis
from harness.backend import Prepared, Unsupported
from harness.registry import checked
from harness.spec import ConvSpec
from harness.spec.host import numpy_dtype

scipy_fft = pytest.importorskip("scipy.fft")

TAKEN = {name: spec for name, spec in SPECS.items() if backend.info.limits.why_not(spec) is None}


def normwise(spec, x, w):
    """max(log2 N, 4) u |x|_2 |w|_2, of the largest image and kernel: what a transform may err by."""
    u = spec.acc_type.unit_roundoff
    x, w = x.astype(np.float64), w.astype(np.float64)
    if spec.padding_mode != "zeros":
        x = np.repeat(x, 4, 1)  # no padding here makes more than three copies
    kernel = tuple(i for i in range(w.ndim) if i != (spec.op == "conv_transpose"))
    power = np.max(np.sum(x**2, tuple(range(1, x.ndim))), initial=0) * np.max(np.sum(w**2, kernel))
    size = prod(a.n * a.s + a.extent + abs(a.lo) + abs(a.hi) for a in spec.axes)
    return max(log2(size), 4.0) * u * power**0.5


def test_it_takes_every_convolution_but_those_with_a_half_accumulator():
    left = {(s.op, "/".join(s.dtypes)) for s in SPECS.values() if backend.info.limits.why_not(s) is not None}
    assert {types for op, types in left if not op.endswith("pool")} == {"f16/f16/f16"}
    assert backend.info.limits.why_not(SPECS["avg-1d"]) == "op avg_pool is not among conv, conv_transpose"


@pytest.mark.parametrize("name", TAKEN)
def test_integers_round_to_the_exact_result(name):
    spec = TAKEN[name]
    x, w, b = integers(spec)
    got, want = run(backend, "cpu", spec, x, w, b), define(spec, x, w, b)
    assert got.dtype == rounded(spec, want).dtype
    np.testing.assert_array_equal(np.rint(got.astype(np.float64)), rounded(spec, want).astype(np.float64))


@pytest.mark.parametrize("name", TAKEN)
def test_real_data_stay_within_the_bound_of_the_transform(name):
    spec = TAKEN[name]
    if not spec.acc_type.is_float:
        pytest.skip("integers have no rounding")
    x, w, b = reals(spec)
    got = run(backend, "cpu", spec, x, w, b).astype(np.float64)
    want = define(spec, x, w, b)
    bias = 0.0 if b is None else 2.0 * float(np.max(np.abs(b)))
    tol = normwise(spec, x, w) + bias * spec.acc_type.unit_roundoff
    assert np.all(np.abs(got - want) <= tol + spec.out_type.unit_roundoff * (np.abs(want) + tol))


@pytest.mark.parametrize(
    "name", ["1d-kernel-exceeds-input", "2d-output-in-padding", "t1d-holes", "t2d-output-padding", "t3d-all"]
)
def test_outputs_that_no_tap_reaches_are_the_bias_itself(name):
    spec = ConvSpec.from_dict({**SPECS[name].to_dict(), "bias": True})
    x, w, b = reals(spec)
    reached = define(spec, np.ones_like(x), np.ones_like(w)) != 0
    got = run(backend, "cpu", spec, x, w, b)
    want = np.broadcast_to(b.reshape(-1, *(1,) * spec.rank), got.shape)
    np.testing.assert_array_equal(got[~reached], want[~reached])
    assert np.all(got[reached] != want[reached])


# --- blocks ---------------------------------------------------------------------------------


def linear(x, h, d):
    """The dense convolution, term by term."""
    full = np.zeros((d.batch, d.groups, d.rows, *(max(a.n + a.m - 1, a.first + a.count) for a in d.axes)))
    for j in np.ndindex(*(a.m for a in d.axes)):
        at = tuple(slice(k, k + a.n) for k, a in zip(j, d.axes, strict=True))
        taps = h[(slice(None), slice(None), slice(None), *j)]
        full[(slice(None), slice(None), slice(None), *at)] += np.einsum("grc,bgc...->bgr...", taps, x)
    return full[(slice(None), slice(None), slice(None), *(slice(a.first, a.first + a.count) for a in d.axes))]


PROBLEMS = {
    "valid": (DenseAxis(23, 4, 3, 20),),
    "full": (DenseAxis(23, 4, 0, 26),),
    "middle": (DenseAxis(23, 9, 11, 5),),
    "beyond": (DenseAxis(7, 3, 1, 11),),
    "long kernel": (DenseAxis(5, 17, 2, 15),),
    "plane": (DenseAxis(9, 3, 2, 7), DenseAxis(12, 5, 1, 13)),
    "volume": (DenseAxis(5, 2, 1, 4), DenseAxis(6, 3, 0, 8), DenseAxis(4, 4, 3, 1)),
}


@pytest.mark.parametrize("gemm", [False, True], ids=["channel by channel", "a GEMM a frequency"])
@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("block", [1, 3, 8, None])
def test_the_sum_over_blocks_is_the_whole_convolution(name, block, gemm):
    axes = PROBLEMS[name]
    d = Dense(2, 2, 3, 4, axes, ())
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 2, 4, *(a.n for a in axes)))
    h = rng.normal(size=(2, 3, 4, *(a.m for a in axes)))
    if block is None:
        plan = Plan(tuple(a.n for a in axes), tuple(fft_blocks._cuts(a)[0][1] for a in axes), gemm, 0)
    else:
        plan = Plan((block,) * len(axes), tuple(fast_length(block + a.m - 1) for a in axes), gemm, 0)
    z = overlap_save(x, h, d, plan, scipy_fft)
    assert z.flags.c_contiguous
    np.testing.assert_allclose(z, linear(x, h, d), atol=1e-12)


def test_a_single_block_wraps_around_where_the_sums_are_cropped():
    """Of 1,000 + 24 sums a valid convolution wants 976: a transform of 1,000 will do, and 1,024 would not be worth it."""
    assert fft_blocks._cuts(DenseAxis(1000, 25, 24, 976))[0] == (1000, 1000)
    assert fft_blocks._cuts(DenseAxis(1000, 25, 0, 1024))[0] == (1000, 1024)


def test_fast_lengths_are_scipys():
    got = [fast_length(n) for n in range(1, 3000)]
    assert got == [scipy_fft.next_fast_len(n, real=True) for n in range(1, 3000)]


def test_long_inputs_are_cut_and_short_ones_are_not():
    long = Dense(1, 1, 1, 1, (DenseAxis(1_000_000, 31, 30, 999_970),), ())
    short = Dense(1, 1, 1, 1, (DenseAxis(500, 31, 30, 470),), ())
    assert make_plan(long, 4).transform[0] < 100_000
    assert make_plan(short, 4).block == (500,)


def test_spectra_that_take_too_much_memory_are_cut():
    d = Dense(8, 1, 64, 64, (DenseAxis(64, 3, 2, 62),) * 3, ())
    assert make_plan(d, 8).spectra_bytes < 2 * fft_blocks.SPECTRA_BYTES
    assert make_plan(d, 8).block < (64, 64, 64)


# --- phases ---------------------------------------------------------------------------------


def test_merging_undoes_splitting():
    a = np.arange(2 * 3 * 6 * 12).reshape(2, 3, 6, 12)
    phases = ((0, 1, 2), (0, 1, 2, 3))
    parts = fft_phases.split(a, (3, 4), phases)
    assert parts.shape == (2, 3, 12, 2, 3)
    np.testing.assert_array_equal(parts[:, :, 1 * 4 + 2], a[:, :, 1::3, 2::4])
    np.testing.assert_array_equal(fft_phases.merge(parts, (3, 4), phases), a)


def test_phases_that_no_tap_reaches_drop_out():
    """Stride 2 with dilation 2 reads even positions; stride 3 with one tap reads every third."""
    assert fft_phases.dense(ConvSpec("conv", (20,), (3,), stride=(2,), dilation=(2,))).phases == ((0,),)
    assert fft_phases.dense(ConvSpec("conv", (20,), (1,), stride=(3,), in_channels=5)).cols == 5
    assert fft_phases.dense(ConvSpec("conv", (20,), (3,), stride=(5,), dilation=(2,))).phases == ((0, 2, 4),)


# --- types ----------------------------------------------------------------------------------


class Recorder:
    """`scipy.fft`, with the types of what it returns."""

    def __init__(self):
        self.types = set()

    def rfftn(self, *args):
        y = scipy_fft.rfftn(*args)
        self.types.add(y.dtype.name)
        return y

    def irfftn(self, *args):
        y = scipy_fft.irfftn(*args)
        self.types.add(y.dtype.name)
        return y


@pytest.mark.parametrize(
    ("triple", "types"),
    [
        ("f32/f32/f32", {"complex64", "float32"}),
        ("bf16/f32/bf16", {"complex64", "float32"}),
        ("f64/f64/f64", {"complex128", "float64"}),
        ("f32/f64/f32", {"complex128", "float64"}),
        ("i8/i32/i32", {"complex128", "float64"}),
    ],
)
def test_transforms_are_of_the_accumulators_precision(triple, types, monkeypatch):
    kinds = dict(zip(("in_dtype", "acc_dtype", "out_dtype"), triple.split("/"), strict=True))
    spec = ConvSpec.from_dict({**SPECS["2d-groups"].to_dict(), **kinds})
    recorder = Recorder()
    with backend.prepare(spec, "cpu") as prepared:
        monkeypatch.setattr(prepared, "_fft", recorder)
        prepared.run(*integers(spec), np.empty(spec.out_shape, numpy_dtype(spec.out_dtype)))
    assert recorder.types == types


def test_sums_of_bytes_are_exact_at_their_largest():
    spec = ConvSpec("conv", (300, 40), (5, 5), in_channels=600, in_dtype="i8")
    x, w = operands(spec, lambda shape: np.full(shape, -128))[:2]
    assert integer_error(spec) < 0.25
    assert set(run(backend, "cpu", spec, x, w).ravel()) == {15000 * 128**2}


def test_an_i32_sum_wraps():
    taps = 2**31 // 128**2 + 1
    spec = ConvSpec("conv", (taps,), (taps,), in_dtype="i8")
    x, w = operands(spec, lambda shape: np.full(shape, -128))[:2]
    assert run(backend, "cpu", spec, x, w)[0, 0, 0] == taps * 128**2 - 2**32


def test_sums_of_bytes_that_could_err_by_a_quarter_are_refused_with_the_number():
    spec = ConvSpec("conv", (60_000, 60_000), (5_000, 5_000), in_channels=64, in_dtype="i8")
    assert backend.info.limits.why_not(spec).startswith("sums of 1600000000 products of bytes may err by ")


def test_a_sum_beyond_the_output_is_infinite_and_warns_of_nothing():
    spec = ConvSpec("conv", (2,), (2,), in_dtype="f16")
    x, w = operands(spec, lambda shape: np.full(shape, 60000.0))[:2]
    assert run(backend, "cpu", spec, x, w)[0, 0, 0] == np.inf


@pytest.mark.parametrize("name", ["2d-bias-batch", "2d-groups", "t3d-all"])
def test_a_nan_stays_in_its_image_and_group(name):
    spec = ConvSpec.from_dict({**SPECS[name].to_dict(), "batch": 2})
    x, w, b = reals(spec)
    clean = run(backend, "cpu", spec, x.copy(), w, b)
    x = x.copy()
    x[1, 0].flat[-1] = np.nan
    got = run(backend, "cpu", spec, x, w, b)
    np.testing.assert_array_equal(got[0], clean[0])
    per_group = spec.out_channels // spec.groups
    np.testing.assert_array_equal(got[1, per_group:], clean[1, per_group:])
    assert np.isnan(got[1, :per_group]).any()


# --- the contract ---------------------------------------------------------------------------


def test_it_keeps_the_contract():
    assert checked(backend, "fft=backends.fft:backend") is backend
    with pytest.raises(Unsupported, match="no device 'gpu': its device is 'cpu'"):
        backend.prepare(ConvSpec("conv", (5,), (3,)), "gpu")


def test_one_prepared_serves_new_weights_and_reports_its_phases():
    spec = SPECS["2d-groups"]
    with backend.prepare(spec, "cpu") as prepared:
        assert isinstance(prepared, Prepared)
        for seed in (1, 2):
            x, w, b = integers(spec, seed)
            out = np.full(spec.out_shape, np.nan, np.float32)
            prepared.run(x, w, b, out)
            np.testing.assert_array_equal(np.rint(out), define(spec, x, w, b))
            assert set(prepared.phases) == {"pack", "kernel", "copy"}


def test_equal_calls_give_equal_bits_in_any_thread():
    spec = ConvSpec("conv", (40, 30), (5, 5), batch=2, in_channels=16, out_channels=16)
    x, w, b = reals(spec)
    with backend.prepare(spec, "cpu") as prepared, ThreadPoolExecutor(4) as pool:
        outs = [np.empty(spec.out_shape, np.float32) for _ in range(8)]
        list(pool.map(lambda out: prepared.run(x, w, b, out), outs))
    for out in outs[1:]:
        np.testing.assert_array_equal(out, outs[0])


LARGE = {
    "long": ConvSpec("conv", (300_000,), (31,)),
    "plane": ConvSpec("conv", (160, 170), (31, 31), batch=2, in_channels=3, out_channels=4, stride=(2, 1)),
    "channels": ConvSpec("conv", (20, 24), (3, 3), in_channels=96, out_channels=80, in_dtype="f16"),
    "up": ConvSpec("conv_transpose", (40, 50), (4, 4), in_channels=8, out_channels=12, stride=(2, 2)),
    "volume": ConvSpec("conv", (24, 26, 28), (3, 5, 3), in_channels=4, out_channels=6, padding=((1, 1), (2, 2), (1, 1))),
    "bytes": ConvSpec("conv", (100, 90), (7, 7), in_channels=8, out_channels=4, in_dtype="i8", dilation=(3, 2)),
    "one by one": ConvSpec("conv", (60, 60), (1, 1), in_channels=64, out_channels=128, stride=(4, 4)),
}


@pytest.mark.parametrize("name", LARGE)
def test_the_workspace_is_what_it_allocates_at_most_and_not_much_more(name):
    spec = LARGE[name]
    x, w, b = reals(spec)
    out = np.empty(spec.out_shape, numpy_dtype(spec.out_dtype))
    with backend.prepare(spec, "cpu") as prepared:
        prepared.run(x, w, b, out)
        tracemalloc.start()
        try:
            prepared.run(x, w, b, out)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak <= backend.workspace_bytes(spec) <= 4 * peak + 100_000, planned(spec)


def _python(code):
    done = subprocess.run([sys.executable, "-c", code], env=dict(os.environ), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_reading_info_and_workspace_imports_no_scipy():
    code = (
        "import sys; from backends.fft import backend; from harness.spec import ConvSpec; s = ConvSpec('conv', (50,), (3,));"
        "backend.info.limits.why_not(s); backend.workspace_bytes(s); print('scipy' in sys.modules)"
    )
    assert _python(code) == "False"


def test_without_scipy_the_probe_says_what_to_install():
    code = "import sys; sys.modules['scipy'] = None; from backends.fft import backend; p = backend.probe();"
    out = _python(code + "print(p.devices, p.reason, p.hint)")
    assert out.startswith("() backend 'fft' needs scipy")
    assert out.endswith("pip install 'convproof[fft]'")
