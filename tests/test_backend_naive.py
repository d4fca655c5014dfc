"""`naive` computes what the definition says, and is honest about itself."""

import os
import subprocess
import sys

import numpy as np
import pytest
from backend_definition import SPECS, define, integers, operands, reals, rounded, run

from backends.naive import WORK, backend
from harness.backend import Prepared, Unsupported
from harness.registry import checked
from harness.spec import ConvSpec
from harness.spec.host import numpy_dtype


@pytest.fixture(scope="module")
def device():
    probe = backend.probe()
    if not probe.devices:
        pytest.skip(probe.reason)
    return probe.devices[0].name


@pytest.mark.parametrize("name", SPECS)
def test_integers_come_out_exactly(device, name):
    spec = SPECS[name]
    assert backend.info.limits.why_not(spec) is None
    x, w, b = integers(spec)
    np.testing.assert_array_equal(run(backend, device, spec, x, w, b), rounded(spec, define(spec, x, w, b)))


@pytest.mark.parametrize("name", SPECS)
def test_real_data_stay_within_the_direct_bound(device, name):
    spec = SPECS[name]
    if not spec.acc_type.is_float:
        pytest.skip("integers have no rounding")
    x, w, b = reals(spec)
    got = run(backend, device, spec, x, w, b).astype(np.float64)
    want = define(spec, x, w, b)
    scale = define(spec, *(None if a is None else np.abs(a) for a in (x, w, b)))
    roundings = 8 * max(1.0, spec.accumulation_length**0.5) * spec.acc_type.unit_roundoff
    assert np.all(np.abs(got - want) <= roundings * scale + spec.out_type.unit_roundoff * np.abs(want))


def test_every_conversion_rounds_to_half_as_numpy_does(device):
    """Every float16, every midpoint between two and its neighbours, and random float32."""
    from backends.naive_loops import to_half

    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = np.unique(halves[np.isfinite(halves)].astype(np.float32))
    middle = (finite[1:] + finite[:-1]) / 2
    beside = [np.nextafter(middle, np.float32(s * np.inf)) for s in (-1, 1)]
    special = np.array([65519.996, 65520, 65536, 1e30, -1e30, 1e-45, 2.0**-25, np.inf, -np.inf, np.nan], np.float32)
    noise = np.random.default_rng(0).integers(0, 2**32, 10_000, dtype=np.uint32).view(np.float32)
    v = np.concatenate([halves.astype(np.float32), middle, *beside, special, noise])
    with np.errstate(over="ignore", invalid="ignore"):
        want = v.astype(np.float16).astype(np.float32)
    got = np.array([to_half(e) for e in v])
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(np.signbit(got[~np.isnan(want)]), np.signbit(want[~np.isnan(want)]))


@pytest.mark.parametrize("seed", range(5))
def test_a_half_accumulator_rounds_every_product_and_sum(device, seed):
    """numpy's own float16 arithmetic, tap by tap, gives the same bits; its float32 does not."""
    spec = ConvSpec("conv", (7, 6), (3, 3), in_channels=3, out_channels=2, bias=True, in_dtype="f16", acc_dtype="f16")
    x, w, b = reals(spec, seed)
    want = np.zeros(spec.out_shape, np.float16)
    for o in np.ndindex(*spec.out_shape):
        for c, i, j in np.ndindex(*w.shape[1:]):
            want[o] += w[o[1], c, i, j] * x[0, c, o[2] + i, o[3] + j]
        want[o] += b[o[1]]
    np.testing.assert_array_equal(run(backend, device, spec, x, w, b), want)
    assert np.any(want != define(spec, x, w, b).astype(np.float16))


def test_a_float64_accumulator_rounds_once(device):
    """1 + 2**-30 - 1 keeps 2**-30 in float64, and loses it in float32."""
    spec = ConvSpec("conv", (3,), (3,), in_dtype="f32", acc_dtype="f64", out_dtype="f32")
    x, w = np.array([[[1, 2.0**-30, -1]]], np.float32), np.ones((1, 1, 3), np.float32)
    assert run(backend, device, spec, x, w)[0, 0, 0] == 2.0**-30


def test_an_i32_sum_wraps(device):
    taps = 2**31 // 128**2 + 1
    spec = ConvSpec("conv", (taps,), (taps,), in_dtype="i8")
    x, w = operands(spec, lambda shape: np.full(shape, -128))[:2]
    assert run(backend, device, spec, x, w)[0, 0, 0] == taps * 128**2 - 2**32


def test_max_pool_propagates_nan_and_never_reads_its_padding(device):
    spec = ConvSpec("max_pool", (5,), (3,), padding=((1, 1),))
    x = np.array([[[-3, -2, np.nan, -5, -np.inf]]], np.float32)
    np.testing.assert_array_equal(run(backend, device, spec, x)[0, 0], [-2, np.nan, np.nan, np.nan, -5])
    assert backend.info.nan_max_pool == "propagate"
    x = np.full((1, 1, 5), -np.inf, np.float32)
    np.testing.assert_array_equal(run(backend, device, spec, x), x)


def test_a_sum_beyond_the_output_is_infinite_and_warns_of_nothing(device):
    spec = ConvSpec("conv", (2,), (2,), in_dtype="f16")
    x, w = operands(spec, lambda shape: np.full(shape, 60000.0))[:2]
    assert run(backend, device, spec, x, w)[0, 0, 0] == np.inf


def test_subnormals_survive(device):
    spec = ConvSpec("conv", (4,), (1,))
    x, w = np.array([[[1e-40, -1e-45, 0, 1]]], np.float32), np.ones((1, 1, 1), np.float32)
    np.testing.assert_array_equal(run(backend, device, spec, x, w), x)


def test_one_prepared_serves_new_weights_and_reports_its_phases(device):
    spec = SPECS["2d-groups"]
    with backend.prepare(spec, device) as prepared:
        assert isinstance(prepared, Prepared)
        for seed in (1, 2):
            x, w, b = integers(spec, seed)
            out = np.full(spec.out_shape, np.nan, np.float32)
            prepared.run(x, w, b, out)
            np.testing.assert_array_equal(out, define(spec, x, w, b))
            assert set(prepared.phases) == {"pack", "kernel", "copy"}


def test_it_keeps_the_contract():
    assert checked(backend, "naive=backends.naive:backend") is backend
    with pytest.raises(Unsupported, match="no device 'gpu': its device is 'cpu'"):
        backend.prepare(ConvSpec("conv", (5,), (3,)), "gpu")


@pytest.mark.parametrize("name", SPECS)
def test_the_workspace_covers_every_widened_operand(name):
    spec = SPECS[name]
    work = numpy_dtype(WORK[spec.acc_dtype]).itemsize
    least = int(np.prod(spec.x_shape)) * work if spec.in_dtype not in ("f32", "f64", "i32") else 0
    assert backend.workspace_bytes(spec) >= least


def _python(code, **env):
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **env}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_reading_info_imports_no_numba():
    code = "import sys; from backends.naive import backend; backend.info.limits; print('numba' in sys.modules)"
    assert _python(code) == "False"


def test_without_numba_the_probe_says_what_to_install():
    code = "import sys; sys.modules['numba'] = None; from backends.naive import backend; p = backend.probe();"
    out = _python(code + "print(p.devices, p.reason, p.hint)")
    assert out.startswith("() backend 'naive' needs numba")
    assert out.endswith("pip install 'convproof[naive]'")


def test_compiled_loops_are_cached_where_the_environment_says(device, tmp_path):
    code = "from backends.naive import backend; from harness.spec import ConvSpec;"
    _python(code + "backend.prepare(ConvSpec('max_pool', (5,), (3,)), 'cpu')", NUMBA_CACHE_DIR=str(tmp_path))
    assert list(tmp_path.rglob("naive_loops.max_pool*.nbc"))
