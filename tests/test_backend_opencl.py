"""`opencl-naive` computes what the definition says, and says what it lacks."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from backend_definition import SPECS, define, integers, operands, reals, rounded, run

import backends
from backends.opencl import runtime
from backends.opencl.launch import why_not
from backends.opencl.naive import MODES, OpenCLNaive, backend, pack_geometry
from harness.backend import Prepared, Unsupported
from harness.registry import checked
from harness.spec import ConvSpec

KERNELS = sorted(Path(backends.__file__).parent.glob("opencl/*.cl"))


@pytest.fixture(scope="module")
def device():
    probe = backend.probe()
    if not probe.devices:
        pytest.skip(probe.reason)
    return probe.devices[0].name


@pytest.mark.parametrize("name", SPECS)
def test_integers_come_out_exactly(device, name):
    """Quotients too, where the device can be asked to round division correctly."""
    spec = SPECS[name]
    assert backend.info.limits.why_not(spec) is None
    x, w, b = integers(spec)
    got, want = run(backend, device, spec, x, w, b), rounded(spec, define(spec, x, w, b))
    if spec.op == "avg_pool" and not runtime.divides_exactly(backend.runtime.handles()[device]):
        np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), rtol=4 * spec.out_type.unit_roundoff)
    else:
        np.testing.assert_array_equal(got, want)


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


@pytest.mark.parametrize("seed", range(5))
def test_a_half_accumulator_rounds_every_product_and_sum(device, seed):
    """numpy's own float16 arithmetic, tap by tap, gives the same bits."""
    spec = ConvSpec("conv", (9, 8), (4, 5), out_channels=2, bias=True, in_dtype="f16", acc_dtype="f16")
    x, w, b = reals(spec, seed)
    want = np.zeros(spec.out_shape, np.float16)
    for o in np.ndindex(*spec.out_shape):
        for i, j in np.ndindex(*spec.kernel_size):
            want[o] += w[o[1], 0, i, j] * x[0, 0, o[2] + i, o[3] + j]
        want[o] += b[o[1]]
    np.testing.assert_array_equal(run(backend, device, spec, x, w, b), want)
    assert np.any(want != define(spec, x, w, b).astype(np.float16))


def test_every_half_midpoint_rounds_to_even(device):
    """A float16 plus half its gap to the next is a tie; the largest of all goes to infinity."""
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16)
    whole = halves[halves >= 2.0**-13]  # below, half a gap is no float16
    gap = np.ldexp(1.0, np.frexp(whole)[1] - 12).astype(np.float16)
    spec = ConvSpec("conv", (whole.size,), (1,), in_channels=2, in_dtype="f16", acc_dtype="f16")
    with np.errstate(over="ignore"):
        want = whole + gap
    got = run(backend, device, spec, np.stack([whole, gap])[None], np.ones((1, 2, 1), np.float16))
    np.testing.assert_array_equal(got[0, 0], want)


@pytest.mark.parametrize("tap", [0.3, 1.7e-3, -(2.0**-12), 2.0**-24, 40.0])
def test_every_product_of_a_half_rounds_as_numpy_does(device, tap):
    """Subnormal products and those beyond the largest included."""
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    x = halves[np.isfinite(halves)]
    spec = ConvSpec("conv", (x.size,), (1,), in_dtype="f16", acc_dtype="f16")
    w = np.full((1, 1, 1), tap, np.float16)
    with np.errstate(over="ignore", under="ignore"):
        want = x * w[0, 0, 0]
    np.testing.assert_array_equal(run(backend, device, spec, x.reshape(1, 1, -1), w)[0, 0], want)


def test_a_float64_accumulator_rounds_once(device):
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


def test_a_sum_beyond_the_output_is_infinite_and_warns_of_nothing(device):
    spec = ConvSpec("conv", (2,), (2,), in_dtype="f16")
    x, w = operands(spec, lambda shape: np.full(shape, 60000.0))[:2]
    assert run(backend, device, spec, x, w)[0, 0, 0] == np.inf


def test_subnormals_survive_where_the_device_says_so(device):
    if backend.probe().devices[0].denormals != "gradual":
        pytest.skip("the device flushes subnormals, and says so")
    spec = ConvSpec("conv", (4,), (1,))
    x, w = np.array([[[1e-40, -1e-45, 0, 1]]], np.float32), np.ones((1, 1, 1), np.float32)
    np.testing.assert_array_equal(run(backend, device, spec, x, w), x)


def test_one_prepared_serves_new_weights_and_reports_device_time(device):
    spec = SPECS["2d-groups"]
    with backend.prepare(spec, device) as prepared:
        assert isinstance(prepared, Prepared)
        for seed in (1, 2):
            x, w, b = integers(spec, seed)
            out = np.full(spec.out_shape, np.nan, np.float32)
            prepared.run(x, w, b, out)
            np.testing.assert_array_equal(out, define(spec, x, w, b))
            assert {"transfer", "kernel"} <= set(prepared.phases)
            assert prepared.device_seconds == prepared.phases["kernel"] > 0


def test_shapes_share_a_build_and_types_do_not(device):
    own = OpenCLNaive()
    for name in ("1d-plain", "2d-asymmetric", "3d-circular"):
        own.prepare(SPECS[name], device).__exit__(None, None, None)
    assert len(own.runtime._programs) == 1
    own.prepare(SPECS["3d-all-f64/f64/f64"], device).__exit__(None, None, None)
    assert len(own.runtime._programs) == 2


def test_a_device_is_described(device):
    described = backend.probe().devices[0]
    assert described.kind in ("cpu", "gpu", "accelerator")
    assert int(described.properties["compute_units"]) >= 1
    assert int(described.properties["global_memory_bytes"]) > 0
    names = [d.name for d in backend.probe().devices]
    assert len(set(names)) == len(names)


def test_what_a_device_cannot_do_has_a_reason():
    small = SimpleNamespace(name="toy", extensions="cl_khr_byte_addressable_store", max_mem_alloc_size=100)
    assert why_not(ConvSpec("conv", (5,), (3,), in_dtype="f64"), small) == "toy has no cl_khr_fp64, and the accumulator is f64"
    reason = why_not(ConvSpec("conv", (60,), (3,), in_dtype="f16"), small)
    assert reason == "x [1, 1, 60] takes 240 bytes as f32, toy allocates at most 100 at once"
    assert why_not(ConvSpec("conv", (5,), (3,)), small) is None


def test_it_keeps_the_contract(device):
    assert checked(backend, "opencl-naive=backends.opencl.naive:backend") is backend
    with pytest.raises(Unsupported, match="no device 'abacus': it has "):
        backend.prepare(ConvSpec("conv", (5,), (3,)), "abacus")


@pytest.mark.parametrize("name", SPECS)
def test_the_workspace_covers_the_device_buffers(name):
    spec = SPECS[name]
    elements = int(np.prod(spec.x_shape)) + int(np.prod(spec.w_shape or (0,))) + int(np.prod(spec.out_shape))
    assert backend.workspace_bytes(spec) >= elements * spec.in_type.itemsize + pack_geometry(spec).nbytes


@pytest.mark.parametrize("path", KERNELS, ids=lambda p: p.name)
def test_every_kernel_states_its_arguments_work_size_and_limits(path):
    header = path.read_text().partition("*/")[0]
    wanted = ("Build options",) if path.name == "common.cl" else ("Arguments", "Work size", "Limits")
    assert all(w in header for w in wanted)


def test_geometry_has_the_order_of_the_struct():
    """The struct's fields, read from the source, against a specification whose every number differs."""
    text = (Path(backends.__file__).parent / "opencl" / "common.cl").read_text()
    body = text[text.index("typedef struct {") : text.index("} Geometry;")]
    fields = body.replace("typedef struct {", "").replace("long", "").replace(";", ",").split(",")
    spec = ConvSpec("conv", (50, 60), (2, 3), 4, 10, 15, (7, 8), ((11, 12), (13, 14)), "replicate", (16, 17), 5, flip=True)
    expected = {
        "batch": [4], "in_channels": [10], "out_channels": [15], "groups": [5], "has_bias": [0], "flip": [1],
        "padding_mode": [MODES["replicate"]], "include_pad": [0], "in_size[3]": [1, 50, 60], "kernel_size[3]": [1, 2, 3],
        "stride[3]": [1, 7, 8], "low[3]": [0, 11, 13], "high[3]": [0, 12, 14], "dilation[3]": [1, 16, 17],
        "out_size[3]": [1, *spec.out_size],
    }  # fmt: skip
    flat = [v for f in fields if f.strip() for v in expected[f.strip()]]
    assert pack_geometry(spec).tolist() == flat


def _python(code, **env):
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **env}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


PROBE = "from backends.opencl.naive import backend; p = backend.probe(); print(len(p.devices), '|', p.reason, '|', p.hint)"


def test_reading_info_imports_no_pyopencl():
    code = "import sys; from backends.opencl.naive import backend; backend.info.limits; print('pyopencl' in sys.modules)"
    assert _python(code) == "False"


def test_without_pyopencl_the_probe_says_what_to_install():
    out = _python("import sys; sys.modules['pyopencl'] = None; " + PROBE)
    assert out.startswith("0 | OpenCL backends need pyopencl")
    assert out.endswith("pip install 'convproof[opencl]'")


class _ToyError(Exception):
    pass


def _toy_cl(*platforms):
    """A pyopencl of the given platforms; an exception stands for what listing them raises."""

    def get_platforms():
        for p in platforms:
            if isinstance(p, Exception):
                raise p
        return list(platforms)

    return SimpleNamespace(get_platforms=get_platforms, Error=_ToyError)


def _toy_platform(name, *devices):
    def get_devices():
        if devices and isinstance(devices[0], Exception):
            raise devices[0]
        return [SimpleNamespace(name=d) for d in devices]

    return SimpleNamespace(name=name, get_devices=get_devices)


def test_without_a_driver_the_probe_has_a_reason(monkeypatch):
    monkeypatch.delenv("OCL_ICD_VENDORS", raising=False)
    monkeypatch.setattr(runtime, "import_cl", lambda: _toy_cl(_ToyError("PLATFORM_NOT_FOUND_KHR")))
    probe = OpenCLNaive().probe()
    assert (probe.devices, probe.reason) == ((), "no OpenCL driver answers: PLATFORM_NOT_FOUND_KHR")
    assert probe.hint == "pip install 'convproof[opencl]'"
    monkeypatch.setenv("OCL_ICD_VENDORS", "/nowhere")
    assert OpenCLNaive().probe().hint == f"OCL_ICD_VENDORS=/nowhere: {runtime.VENDORS_HINT}"


def test_the_context_of_a_queue_is_held(device):
    """Intel's runtime frees one that nobody holds, and the queue's next question fails."""
    run_time = runtime.Runtime()
    queue = run_time.queue(device)
    assert run_time._contexts[device] == queue.context


def test_a_driver_without_hardware_is_named(monkeypatch):
    absent = _toy_platform("Toy CUDA", _ToyError("DEVICE_NOT_FOUND"))
    monkeypatch.setattr(runtime, "import_cl", lambda: _toy_cl(absent))
    assert OpenCLNaive().probe().reason == "Toy CUDA offers no device"


def test_equal_device_names_are_numbered(monkeypatch):
    twins, third = _toy_platform("A", "Toy  GPU ", "Toy GPU"), _toy_platform("B", "Toy GPU", "Other")
    monkeypatch.setattr(runtime, "import_cl", lambda: _toy_cl(twins, third))
    assert list(runtime.Runtime().handles()) == ["Toy GPU", "Toy GPU #2", "Toy GPU #3", "Other"]


def test_without_a_linker_pocl_is_not_tried(device, tmp_path):
    """PoCL aborts the process when a kernel's last step finds no `ld`."""
    if backend.probe().devices[0].properties["platform"] != runtime.POCL:
        pytest.skip("the first device is not PoCL's")
    assert shutil.which("ld")
    out = _python(PROBE, PATH=str(tmp_path), POCL_CACHE_DIR=str(tmp_path))
    assert "`ld`" in out
    assert out.endswith("apt-get install binutils")


def test_a_driver_that_offers_no_device_is_named(device):
    """PoCL without a cache directory lists none, silently."""
    if backend.probe().devices[0].properties["platform"] != runtime.POCL:
        pytest.skip("the first device is not PoCL's")
    assert "offers no device" in _python(PROBE, POCL_CACHE_DIR="/proc/nowhere")


def test_it_runs_under_a_data_limit_of_two_gigabytes(device):
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_DATA, (2 << 30, 2 << 30));"
        "import numpy as np; from backends.opencl.naive import backend; from harness.spec import ConvSpec;"
        "d = backend.probe().devices[0].name; s = ConvSpec('conv', (5,), (3,)); out = np.empty(s.out_shape, 'f4');"
        "backend.prepare(s, d).run(np.ones(s.x_shape, 'f4'), np.ones(s.w_shape, 'f4'), None, out); print(out.tolist())"
    )
    assert _python(code) == "[[[3.0, 3.0, 3.0]]]"


def test_a_kernel_that_is_left_serves_the_next_and_two_at_once_have_their_own(device):
    spec = ConvSpec("conv", (5,), (3,))
    with backend.prepare(spec, device) as first, backend.prepare(spec, device) as second:
        assert first._kernel is not second._kernel
        kernels = {id(first._kernel), id(second._kernel)}
    for _ in range(5):
        with backend.prepare(ConvSpec("conv", (7,), (2,)), device) as again:
            assert id(again._kernel) in kernels
    again.__exit__(None, None, None)
    idle = backend.runtime._idle[again._program, "conv"]
    assert len(idle) == len({id(k) for k in idle})
