"""An OpenCL device's roofline, by the kernels of `roof.cl` and the device's own clock.

Runs in a process of its own. pyopencl is imported inside functions; the harness imports no backend, so that the rule
by which devices are named is written here once more.
"""

from __future__ import annotations

import os
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.timing import roof_host
from harness.timing.roof_host import LARGEST, working_sets
from harness.timing.roof_kernels import FLOATS

#: Seconds for each measurement, best of the launches in it.
SECONDS = 0.25
#: Elements of a vector on a processor (its widest registers), and on anything else, where a work item is a lane.
WIDTHS = {"f32": (16, 4), "f64": (8, 2)}
#: Independent multiply-adds in the kernel.
CHAINS = 12
#: Work items a group on a processor, where each is a thread's loop, and on anything else.
GROUPS = (1, 128)
#: Work items for each compute unit: on a GPU enough to hide its latencies.
ITEMS = (1, 2048)
#: Turns of the multiply-add loop in a launch; bytes that each compute unit moves in one.
TURNS, MOVED = (10_000, 2_000), 12 << 20


@dataclass(frozen=True)
class _Target:
    """A device, its queue, and the index of its kind in the tables above: 0 for a processor, 1 for others."""

    handle: Any
    queue: Any
    kind: int

    @property
    def items(self) -> int:
        return int(self.handle.max_compute_units) * ITEMS[self.kind]

    def seconds(self, kernel: Any) -> float:
        """Of the fastest launch, by the device's clock."""
        import pyopencl as cl

        best, end = float("inf"), time.perf_counter() + SECONDS
        while time.perf_counter() < end:
            event = cl.enqueue_nd_range_kernel(self.queue, kernel, (self.items,), (GROUPS[self.kind],))
            event.wait()
            best = min(best, max(1, event.profile.end - event.profile.start) * 1e-9)
        return best

    def buffer(self, elements: int, dtype: Any) -> Any:
        """A buffer of ones."""
        import pyopencl as cl

        buffer = cl.Buffer(self.queue.context, cl.mem_flags.READ_WRITE, elements * np.dtype(dtype).itemsize)
        cl.enqueue_fill_buffer(self.queue, buffer, np.ones(1, dtype), 0, buffer.size).wait()
        return buffer


def measure(name: str, threads: int) -> dict[str, Any]:
    """`Roof`'s fields but the device's name.

    Parameters
    ----------
    name : str
        As backends name their devices.
    threads : int
        As the thread variables say; recorded for processors only.

    Raises
    ------
    ImportError, LookupError
        Without pyopencl; without the device.
    RuntimeError
        Of the driver.
    """
    os.environ.setdefault("PYOPENCL_NO_CACHE", "1")  # its lock would stay held if this process were killed
    import pyopencl as cl

    handle = _handle(cl, name)
    context = cl.Context([handle])  # held: Intel's runtime frees a context of which only a queue is left
    queue = cl.CommandQueue(context, properties=cl.command_queue_properties.PROFILING_ENABLE)
    target = _Target(handle, queue, 0 if handle.type & cl.device_type.CPU else 1)
    flops, how, programs = {}, {}, {}
    for dtype in FLOATS:
        if dtype == "f64" and "cl_khr_fp64" not in handle.extensions.split():
            continue
        programs[dtype] = _program(cl, target, dtype)
        flops[dtype] = _multiply_add(cl, target, programs[dtype], dtype)
        how[dtype] = f"OpenCL multiply-add loop, {CHAINS} vectors of {WIDTHS[dtype][target.kind]} elements a work item"
    sets = working_sets(threads) if target.kind == 0 else _device_sets(handle)
    rates = [_triad(cl, target, programs["f32"], size) for size in sets]
    how["bandwidth"] = f"OpenCL triad in float32, vectors of {WIDTHS['f32'][target.kind]} elements"
    if target.kind == 0:
        return _with_host(flops, rates, how, threads)
    return {"threads": 0, "flops": flops, "bandwidth": rates, "how": how, "compiled": True}


def _with_host(flops: dict[str, float], rates: list[tuple[int, float]], how: dict[str, str], threads: int) -> dict[str, Any]:
    """The larger of each figure and the host's own, for it is the same processor.

    A launch waits for the slowest thread, so that on a crowded machine the best of many launches is still short of
    what all threads do at once; the host's loops tell that from the rounds of each.
    """
    host = roof_host.measure(threads)
    for dtype, rate in tuple(flops.items()):
        if host["flops"][dtype] > rate:
            flops[dtype], how[dtype] = host["flops"][dtype], f"without OpenCL: {host['how'][dtype]}"
    best = [max(pair, key=lambda p: p[1]) for pair in zip(rates, host["bandwidth"], strict=True)]
    if best != rates:
        how["bandwidth"] += f", or without OpenCL: {host['how']['bandwidth']}"
    return {"threads": threads, "flops": flops, "bandwidth": best, "how": how, "compiled": True}


def _handle(cl: Any, name: str) -> Any:
    """The device of that name, by the built-in OpenCL backends' rule: a name met again gets a number, Oclgrind comes last."""
    named: dict[str, Any] = {}
    for platform in sorted(cl.get_platforms(), key=lambda p: p.name == "Oclgrind"):
        try:
            devices = platform.get_devices()
        except cl.Error:  # DEVICE_NOT_FOUND: a driver without its hardware
            continue
        for device in devices:
            plain = " ".join(device.name.split())
            number = 1 + sum(n == plain or n.startswith(f"{plain} #") for n in named)
            named[plain if number == 1 else f"{plain} #{number}"] = device
    if name not in named:
        raise LookupError(f"no OpenCL device is called {name!r}; there is {', '.join(map(repr, named)) or 'none'}")
    return named[name]


def _program(cl: Any, target: _Target, dtype: str) -> Any:
    scalar = "float" if dtype == "f32" else "double"
    options = ["-cl-std=CL1.2", "-cl-mad-enable", f"-DSCALAR={scalar}", f"-DVECTOR={scalar}{WIDTHS[dtype][target.kind]}"]
    source = Path(__file__).with_name("roof.cl").read_text(encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cl.CompilerWarning)  # remarks of the driver's compiler, not faults
        return cl.Program(target.queue.context, source).build(options, cache_dir=None)


def _multiply_add(cl: Any, target: _Target, program: Any, dtype: str) -> float:
    width, turns = WIDTHS[dtype][target.kind], TURNS[target.kind]
    scalar = np.float32 if dtype == "f32" else np.float64
    kernel = cl.Kernel(program, "multiply_add")
    y = target.buffer(target.items * width, scalar)  # named, for a kernel keeps no buffer alive
    # x -> x / 2 + 1 stays near 2: no infinities, no subnormals.
    kernel.set_args(y, np.uint32(turns), scalar(0.5), scalar(1.0))
    return 2.0 * CHAINS * width * turns * target.items / target.seconds(kernel)


def _triad(cl: Any, target: _Target, program: Any, size: int) -> tuple[int, float]:
    width = WIDTHS["f32"][target.kind]
    items = target.items
    span = max(1, size // (3 * 4 * width * items))
    count = span * items
    first, step = (span, 1) if target.kind == 0 else (1, items)
    moved = 3 * 4 * width * count
    passes = max(1, MOVED * int(target.handle.max_compute_units) // moved)
    arrays = [target.buffer(count * width, np.float32) for _ in range(3)]
    numbers = map(np.uint32, (count, first, span if target.kind == 0 else count, step, passes))
    kernel = cl.Kernel(program, "triad")
    kernel.set_args(*arrays, np.float32(3.0), *numbers)
    return moved, moved * passes / target.seconds(kernel)


def _device_sets(handle: Any) -> list[int]:
    """Half of the device's cache, and a set well beyond it."""
    cache = int(handle.global_mem_cache_size)
    room = min(int(handle.global_mem_size) // 8, 3 * int(handle.max_mem_alloc_size))
    beyond = min(max(4 * cache, LARGEST // 4), LARGEST, room)
    return sorted({cache // 2, beyond} if cache else {beyond})
