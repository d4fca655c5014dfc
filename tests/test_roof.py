"""The roof is what a device does at most; a time beyond it is refused."""

import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec

import numpy as np
import pytest

from harness.backend import DIRECT, FFT, AlgorithmClass, Device
from harness.timing import roof_host, roof_kernels
from harness.timing.machine import Cache
from harness.timing.roof import MARGIN, Roof, RoofError, measure_roof, refusal

ROOF = Roof("cpu", 1, {"f32": 1e11, "f64": 5e10}, ((24576, 4e11), (1 << 20, 1e11), (1 << 29, 2e10)), {"f32": "a loop"})
numba = pytest.mark.skipif(find_spec("llvmlite") is None, reason="needs numba, which brings LLVM")


@pytest.fixture(scope="module")
def host():
    """This machine's, on one thread."""
    return measure_roof(Device("cpu"), 1)


def environment_without(tmp_path, *names):
    """An environment in which importing `names` fails."""
    for name in names:
        (tmp_path / f"{name}.py").write_text(f'raise ImportError("No module named {name!r}")\n')
    return {**os.environ, "PYTHONPATH": str(tmp_path)}


# --- what a roof says -------------------------------------------------------------------------


def test_a_roof_survives_json():
    assert Roof.from_data(json.loads(json.dumps(ROOF.as_data()))) == ROOF


def test_only_what_was_measured_has_a_peak():
    assert ROOF.peak("f32") == 1e11
    assert [ROOF.peak(dtype) for dtype in ("f16", "bf16", "i8")] == [None, None, None]


@pytest.mark.parametrize(
    ("size", "rate"), [(1, 4e11), (49152, 4e11), (49153, 1e11), (2 << 20, 1e11), (2**22, 2e10), (2**40, 2e10)]
)
def test_a_working_set_has_the_rate_of_the_cache_that_holds_it(size, rate):
    assert ROOF.triad(size) == rate


@pytest.mark.parametrize("change", [{"bandwidth": []}, {"flops": {"f32": 0.0}}, {"bandwidth": [[4096, -1.0]]}])
def test_a_roof_without_rates_is_no_roof(change):
    with pytest.raises(ValueError, match="rates are above 0"):
        Roof.from_data({**ROOF.as_data(), **change})


# --- what is refused --------------------------------------------------------------------------


def test_a_direct_sum_at_the_peak_is_believed_and_above_the_margin_refused():
    assert refusal(1.0, 1e11, 1e6, "f32", DIRECT, 2, ROOF) is None
    assert refusal(1.0, 1e11 * MARGIN * 1.01, 1e6, "f32", DIRECT, 2, ROOF)
    assert refusal(1.0, 1e11 * MARGIN * 1.01, 1e6, "f32", DIRECT, 2, ROOF, roof_margin=2.0) is None


@pytest.mark.parametrize(("m", "r", "rank", "gain"), [(2, 3, 1, 1.5), (2, 3, 2, 2.25), (4, 3, 2, 4.0), (4, 3, 3, 8.0)])
def test_winograd_may_exceed_the_peak_by_the_products_that_it_saves(m, r, rank, gain):
    winograd = AlgorithmClass("winograd", m, r)
    assert refusal(1.0, gain * 1e11 * 1.05, 1e6, "f32", winograd, rank, ROOF) is None
    reason = refusal(1.0, gain * 1e11 * 1.15, 1e6, "f32", winograd, rank, ROOF)
    assert reason is not None
    assert f"winograd F({m},{r})" in reason


def test_the_operations_of_an_fft_have_no_roof_but_its_bytes_do():
    assert refusal(1.0, 1e15, 1e6, "f32", FFT, 2, ROOF) is None
    assert "GB/s" in (refusal(1.0, 0, 5e11, "f32", FFT, 2, ROOF) or "")


@pytest.mark.parametrize("algorithm", [DIRECT, FFT, AlgorithmClass("winograd", 2, 3)], ids=str)
def test_every_class_moves_its_operands_once(algorithm):
    assert refusal(1.0, 0, 4e11, "f32", algorithm, 2, ROOF) is None
    assert refusal(1.0, 0, 4.5e11, "f32", algorithm, 2, ROOF)


def test_an_element_type_without_a_peak_is_judged_by_its_bytes_alone():
    assert refusal(1.0, 1e15, 1e6, "bf16", DIRECT, 2, ROOF) is None
    assert refusal(1.0, 1e15, 1e12, "bf16", DIRECT, 2, ROOF)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_no_time_is_not_a_time(seconds):
    assert "above 0" in (refusal(seconds, 1.0, 1.0, "f32", DIRECT, 2, ROOF) or "")


def test_nothing_is_refused_by_what_compiled_code_may_exceed():
    roof = Roof.from_data({**ROOF.as_data(), "compiled": False})
    assert refusal(1.0, 1e15, 1e15, "f32", DIRECT, 2, roof) is None


# --- how it is measured -----------------------------------------------------------------------


def test_the_rate_of_threads_is_that_of_their_common_time():
    """One thread runs while the other waits, then they run together: neither is counted twice."""
    alone = np.array([[t, t + 1.0] for t in range(20)])
    together = np.array([[0.0, 10.0], *([t, t + 1.0] for t in range(10, 20))])
    assert roof_host.joint_rate([alone, together], 1.0) == (2.0, 14)
    assert roof_host.joint_rate([alone, together + 100], 1.0) == (1.0, 0)
    assert roof_host.sum_of_best([alone, together], 1.0) == 2.0
    assert roof_host.sum_of_best([alone, together + 100], 1.0) == 0.0


def test_working_sets_lie_within_the_caches_and_one_beyond():
    levels = [
        Cache(1, "Data", 32 << 10),
        Cache(1, "Instruction", 1 << 30),
        Cache(2, "Unified", 1 << 20),
        Cache(3, "Unified", 1 << 23),
    ]
    assert roof_host.working_sets(1, levels) == [16 << 10, 512 << 10, 4 << 20, 32 << 20]
    assert len(roof_host.working_sets(1, [])) == 1


@pytest.mark.parametrize("features", [{"avx512f": True}, {"avx": True, "fma": True}, {"fma": False}])
@numba
def test_the_loops_are_valid_for_every_width(features):
    import llvmlite.binding as llvm

    module = llvm.parse_assembly(roof_kernels.source(*roof_kernels.shape(features)))
    module.verify()


@numba
def test_the_loops_keep_their_vectors_in_registers():
    """Between the label of the multiply-add loop and its branch stand that many fused instructions, and no load or store."""
    loops = roof_kernels.compile_loops()
    if not loops.fused or "vfmadd" not in loops.assembly:
        pytest.skip("read for x86 with FMA")
    body = loops.assembly.partition("fma_f32:")[2].partition(".size")[0]
    blocks = [[line.strip() for line in block.splitlines()[1:]] for block in body.split("\n.LBB")]
    block = max(blocks, key=lambda b: sum(line.startswith("vfmadd") for line in b))
    fused = [line for line in block if line.startswith("vfmadd")]
    assert len(fused) == loops.chains
    assert all(f"%{'zmm' if loops.vector_bytes == 64 else 'ymm'}" in line and "(" not in line for line in fused)


@numba
def test_the_triad_computes_what_it_says():
    loops = roof_kernels.compile_loops()
    step = roof_kernels.UNROLL * loops.vector_bytes
    for name in ("triad_plain", "triad_streaming"):
        a, b, c = roof_host._triple(4 * step)
        b[:], c[:] = np.arange(b.size), 2
        stamps = np.zeros((8, 2, 2), np.int64)
        arrays = (x.ctypes.data for x in (a, b, c))
        rounds = loops.functions[name](8, 2**62, stamps.ctypes.data, 1, step, 4 * step, *arrays, 3.0)
        assert rounds == 8
        np.testing.assert_array_equal(a, b + 6)
        times = stamps[..., 0] * 10**9 + stamps[..., 1]
        assert (np.diff(times.ravel()) >= 0).all()


@numba
def test_the_host_does_more_than_numpy_alone(host):
    """The roof lies above a sum of two arrays that NumPy makes, and below what no processor does."""
    a, b, c = (np.ones(1 << 20, np.float32) for _ in range(3))
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        np.add(a, b, out=c)
        seconds.append(time.perf_counter() - start)
    assert a.size / min(seconds) < host.peak("f32") < 1e13
    assert 3 * a.nbytes / min(seconds) < host.best_bandwidth < 1e14
    assert host.peak("f64") < 1.2 * host.peak("f32")
    assert host.threads == 1
    assert host.compiled


@numba
def test_memory_is_slower_than_the_first_cache(host):
    sizes = [size for size, _ in host.bandwidth]
    assert sizes == sorted(sizes)
    assert host.bandwidth[-1][1] < host.bandwidth[0][1]
    assert set(host.how) == {"f32", "f64", "bandwidth"}


def test_without_numba_numpy_tells_less_and_says_so(tmp_path):
    code = "import json; from harness.timing import roof_host as r; r.SECONDS, r.LARGEST = 0.01, 1 << 22; r.SIDES = (128,)"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print(json.dumps(r.measure(1)))"],
        env=environment_without(tmp_path, "llvmlite"),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found = json.loads(done.stdout)
    assert not found["compiled"]
    assert min(found["flops"].values()) > 0
    assert all("numba, which brings LLVM, is missing" in how for how in found["how"].values())


def test_a_measurement_prints_one_line_of_json_or_says_why_not(tmp_path):
    run = [sys.executable, "-m", "harness.timing.roof", "--device", "no such device"]
    environment = environment_without(tmp_path, "pyopencl")
    done = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("pip install 'convproof[opencl]'")


def test_a_device_that_is_not_there_is_named():
    pytest.importorskip("pyopencl", reason="needs pyopencl")
    with pytest.raises(RoofError, match="'no such device'"):
        measure_roof(Device("no such device", "gpu"), 1)


def test_cores_that_are_not_there_are_said():
    with pytest.raises(RoofError, match="cannot be measured"):
        measure_roof(Device("cpu"), 1, cores=[100_000])
    with pytest.raises(RoofError, match="one thread or more"):
        measure_roof(Device("cpu"), 0)


def test_importing_the_roof_imports_neither_numpy_nor_a_driver():
    code = "import sys, harness.timing.roof; sys.exit(bool({'numpy', 'pyopencl', 'numba', 'llvmlite'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_an_opencl_device_has_a_roof(host):
    cl = pytest.importorskip("pyopencl", reason="needs pyopencl")
    try:
        names = [" ".join(d.name.split()) for p in cl.get_platforms() if p.name != "Oclgrind" for d in p.get_devices()]
    except cl.Error as e:
        pytest.skip(f"no OpenCL driver answers: {e}")
    if not names:
        pytest.skip("there is no OpenCL device")
    code = "import sys; from harness.timing import roof, roof_host, roof_opencl as o; "
    code += "o.SECONDS = 0.05; roof_host.SECONDS, roof_host.LARGEST = 0.01, 1 << 26; sys.exit(roof.main(sys.argv[1:]))"
    run = [sys.executable, "-c", code, "--device", names[0]]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120, check=True)
    roof = Roof.from_data(json.loads(done.stdout))
    assert roof.device == names[0]
    assert roof.peak("f32") > 1e9
    if roof.threads:  # the host's processor: OpenCL makes it neither faster nor, as a roof, slower
        assert 1 / 3 < roof.peak("f32") / host.peak("f32") < 3
