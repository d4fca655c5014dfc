"""The simulator Oclgrind as a sanitizer: planted kernel faults are found with their line, the built-in kernels are clean."""

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from opencl_kernels import reference

from harness.backend import Device
from harness.catalogue import load_catalogue
from harness.catalogue.case import Case
from harness.checks import CHECKS
from harness.records import Status
from harness.run.arena import Arena
from harness.run.campaign import Campaign
from harness.run.limits import Limits
from harness.run.oclgrind import MOST_FLOPS, Findings, NotSimulated, told, too_large
from harness.run.probe import probe_all
from harness.run.runner import Options
from harness.spec import ConvSpec

DIRECT = "backends.opencl.naive:backend"
AS_GPU = Path(__file__).with_name("opencl_as_gpu.py")
SPEC = ConvSpec("conv", (20,), (3,))
LOG = """
Oclgrind - OpenCL runtime error detected
    Function: clGetDeviceInfo
    Error:    CL_INVALID_VALUE
    For argument 'param_name'


Read-write data race at local memory address 0x1000000000004
    Kernel: f

    First entity:  Global(1,0,0) Local(1,0,0) Group(0,0,0)
      store i32 %0, i32 addrspace(3)* %arrayidx4, align 4, !dbg !47, !tbaa !42
    At line 4 (column 7) of input.cl:
      s[l]=x[i+1];

    Second entity: Global(0,0,0) Local(0,0,0) Group(0,0,0)
      %1 = load i32, i32 addrspace(3)* %arrayidx7, align 4, !dbg !50, !tbaa !42
    At line 5 (column 8) of input.cl:
      y[i]=s[(l+1)%4];


Invalid write of size 4 at global memory address 0x1000000000020
    Kernel: f
"""


@cache
def simulator():
    """Its name, as a worker finds it; empty where it is not installed."""
    (report,) = probe_all([DIRECT], Limits(load_seconds=60.0))
    return next((d.name for d in report.devices if "Oclgrind" in d.name), "")


@pytest.fixture
def simulated():
    if not simulator():
        pytest.skip("Oclgrind is not installed: pip install 'convproof[oclgrind]'")


def verdicts(ref, cases, checks=("contract",)):
    """(case, check) to verdict, in the simulator."""
    options = Options(jobs=1, limits=Limits(seconds=60.0))
    with Campaign(cases, [ref], [c for c in CHECKS if c.name in checks], options) as campaign:
        plan = campaign.plan(device="oclgrind", refusals=False)
        return {(r.job.case, r.job.check): r.verdict for batch in campaign.records(plan) for r in batch}


def test_a_log_is_told_in_a_sentence_and_the_questions_of_pyopencl_are_none():
    assert told(LOG) == (
        "Read-write data race at local memory address 0x1000000000004, kernel f, line 4: s[l]=x[i+1];, "
        "line 5: y[i]=s[(l+1)%4]; (and 1 more findings)"
    )
    assert told(LOG.partition("Read")[0]) == told("\n\n") == ""


def test_what_the_simulator_cannot_run_is_no_finding():
    with pytest.raises(NotSimulated, match="cannot run it: Unsupported instruction: freeze"):
        told("\nOCLGRIND FATAL ERROR (/deps/Uninitialized.cpp:1805)\nUnsupported instruction: freeze\n\tKernel: conv\n")


def test_findings_are_told_once_and_a_log_begun_anew_is_read_from_its_start(monkeypatch):
    for name in [n for n in os.environ if n.startswith("OCLGRIND_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OCLGRIND_LOG", "kept by monkeypatch")
    for name in ("CHECK_API", "DATA_RACES", "UNINITIALIZED", "MAX_ERRORS", "BUILD_OPTIONS"):
        monkeypatch.setenv(f"OCLGRIND_{name}", "of the user")
    findings = Findings.watched()
    assert os.environ["OCLGRIND_DATA_RACES"] == "of the user"
    assert findings.new() == ""
    with open(os.environ["OCLGRIND_LOG"], "w") as log:
        log.write("Invalid read of size 4\n")
    assert findings.new() == "Invalid read of size 4"
    assert findings.new() == ""
    with open(os.environ["OCLGRIND_LOG"], "w") as log:
        log.write("Invalid\n")
    assert findings.new() == "Invalid"
    os.close(findings.fd)


def test_large_problems_are_not_simulated_and_other_devices_take_any():
    assert too_large(Device("Oclgrind Simulator"), MOST_FLOPS) is None
    assert too_large(Device("pthread-cpu"), 10**9) is None
    assert too_large(Device("Oclgrind Simulator"), 10**6) == (
        f"1,000 kFLOP, the simulator Oclgrind Simulator is given at most {MOST_FLOPS / 1e3:g}"
    )


def test_an_anonymous_log_can_be_opened_by_its_name():
    arena = Arena()
    assert os.path.exists(f"/proc/self/fd/{arena.fd}")
    arena.close()


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("no_barrier", r"(Read-write|Write-write) data race at local memory .*kernel tiled, line \d+: .*tile\["),
        ("reads_one_too_many", r"Invalid read of size 4 at global memory .*kernel tiled, line 8: tile\[t\] = x\[first \+ t\];"),
        ("fills_one_too_few", r"[Uu]ninitialized value .*kernel tiled, line \d+: .*"),
    ],
)
def test_a_planted_fault_is_found_with_its_line(simulated, name, pattern):
    cases = [Case("a-case", "a", SPEC, "a fact", "hand: a test")]
    (verdict,) = verdicts(reference(name), cases).values()
    assert verdict.status is Status.FAIL
    assert re.search(f"Oclgrind: {pattern}", verdict.message), verdict.message


def test_the_right_kernel_is_clean_and_large_cases_are_left_out(simulated):
    cases = [Case(f"a-{n}", "a", ConvSpec("conv", (n,), (3,)), "a fact", "hand: a test") for n in (20, 5000)]
    found = verdicts(reference("right"), cases, ("contract", "integers", "stale_weights"))
    assert {v.status for (case, _), v in found.items() if case == "a-20"} == {Status.PASS}
    assert {v.status for (case, _), v in found.items() if case == "a-5000"} == {Status.NOT_RUN}


def test_the_built_in_kernels_are_clean(simulated):
    """On a few cases of every operation; all of smoke takes minutes."""
    small = [c for c in load_catalogue().select(["smoke"]) if c.spec and 0 < c.spec.flops <= 300]
    chosen = {(c.spec.op, c.spec.padding_mode, c.spec.in_dtype): c for c in small}
    found = verdicts(DIRECT, list(chosen.values()), ("contract",))
    assert {op for op, *_ in chosen} == {"conv", "conv_transpose", "max_pool", "avg_pool"}
    assert {(k, v.message) for k, v in found.items() if v.status is not Status.PASS} == set()


SAME = ((1, 1), (1, 1))
#: A kernel each, with tails of rows, of vectors and of groups.
SUMS = {
    "blocked": ConvSpec("conv", (4, 5), (3, 2), 1, 2, 3, (1, 1), SAME, bias=True),
    "blocked-in-place": ConvSpec("conv", (19,), (1,), 1, 2, 3),
    "strided": ConvSpec("conv", (5, 6), (3, 3), 1, 2, 2, (2, 2), SAME, "circular"),
    "transposed": ConvSpec("conv_transpose", (3, 4), (3, 3), 1, 2, 2, (2, 2), SAME),
}
DIRECT_SUMS = SUMS | {
    "depthwise": ConvSpec("conv", (5, 7), (3, 3), 1, 2, 2, (1, 1), SAME, groups=2, bias=True),
    "depthwise-strided": ConvSpec("conv", (6, 21), (3, 3), 1, 1, 1, (2, 2), SAME, "reflect"),
    "dense": ConvSpec("conv", (3, 7), (3, 7), 1, 2, 5),
}
TILES = {
    "gathered": ConvSpec("conv", (5, 5), (3, 3), 1, 1, 2, (1, 1), SAME, bias=True),
    "stored": ConvSpec("conv", (3, 37), (3, 3), 1, 1, 1, (1, 1), ((1, 0), (1, 1))),
}
#: Backend, the specifications that reach each of its kernels.
SIMULATED = {
    "backends.opencl.direct:backend": DIRECT_SUMS,
    f"{AS_GPU}:direct": DIRECT_SUMS,
    "backends.opencl.im2col:backend": SUMS,
    f"{AS_GPU}:im2col": SUMS,
    "backends.opencl.winograd:backend": TILES,
    f"{AS_GPU}:f43": TILES,
    "backends.opencl.winograd:backend_f23": TILES,
    f"{AS_GPU}:f23": TILES,
}


@pytest.mark.parametrize("ref", SIMULATED, ids=lambda ref: Path(ref).name)
def test_the_kernels_of_processors_and_of_gpus_are_clean(simulated, ref):
    """No race, no access out of bounds, nothing stored that comes from memory that nobody wrote."""
    cases = [Case(f"a-{name}", "a", spec, "a fact", "hand: a test") for name, spec in SIMULATED[ref].items()]
    assert all(spec.flops <= MOST_FLOPS for spec in SIMULATED[ref].values())
    found = verdicts(ref, cases, ("contract",))
    assert {(k, v.message) for k, v in found.items() if v.status is not Status.PASS} == set()
    assert len(found) == len(cases)


KNOWN = """
import sys
from harness.run.oclgrind import Findings, told
findings = Findings.watched()
import numpy as np, pyopencl as cl
platform = next(p for p in cl.get_platforms() if p.name == "Oclgrind")
context = cl.Context(platform.get_devices())
queue, flags, ones = cl.CommandQueue(context), cl.mem_flags, np.ones(8, np.float32)
program = cl.Program(context, "__kernel void copy(__global const float *x, __global float *y)"
                     "{ y[get_global_id(0)] = x[get_global_id(0)]; }").build()
kernel, out = cl.Kernel(program, "copy"), cl.Buffer(context, flags.READ_WRITE, 32)

def clean(x, items=8, y=out):
    kernel.set_args(x, y)
    cl.enqueue_nd_range_kernel(queue, kernel, (items,), (1,)).wait()
    return not findings.new()

assert clean(cl.Buffer(context, flags.READ_ONLY | flags.USE_HOST_PTR, hostbuf=ones)), "memory of the host"
halves, filled, mapped = (cl.Buffer(context, flags.READ_WRITE, 32) for _ in range(3))
for start in (0, 4):
    cl.enqueue_copy(queue, halves, ones[start:start + 4], dst_offset=4 * start)
assert clean(halves), "written in two parts"
cl.enqueue_fill_buffer(queue, filled, np.float32(1), 0, 32)
assert clean(filled), "filled"
array, _ = cl.enqueue_map_buffer(queue, mapped, cl.map_flags.READ | cl.map_flags.WRITE, 0, 8, np.float32)
array[...] = 1
array.base.release(queue)
assert clean(mapped), "mapped"
small = cl.Buffer(context, flags.READ_WRITE, 16)
assert clean(filled, 4, small)
small.release()
large = cl.Buffer(context, flags.READ_WRITE, 32)
assert clean(filled, 8, large) and clean(large), "larger than what had been in its place"
missing = cl.Buffer(context, flags.READ_WRITE, 32)
assert clean(filled, 7, missing) and clean(missing, 7)
assert not clean(missing), "the last element was never written"
import harness.run.shadow as shadow
shadow.MOST_BYTES = 64
for size in (16, 32, 16, 32, 64, 32, 64):
    assert clean(cl.Buffer(context, flags.READ_WRITE, size), size // 4, cl.Buffer(context, flags.READ_WRITE, size)), size
"""


def test_what_the_host_wrote_is_known_and_what_nobody_wrote_is_found(simulated):
    done = subprocess.run([sys.executable, "-c", KNOWN], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_simulator_is_never_the_device_that_is_taken_unasked(simulated):
    (report,) = probe_all([DIRECT], Limits(load_seconds=60.0))
    assert [d.name for d in report.devices][-1] == simulator()
