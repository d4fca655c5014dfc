"""`opencl-naive`: one general kernel an operation, correct first; runs on any OpenCL 1.2 device.

Geometry goes in as a constant buffer, so that only the operation and the element type make a
build of their own. The kernels are the .cl files beside this module, one an operation.
"""

from __future__ import annotations

from math import prod
from time import perf_counter
from typing import Any, Self

import numpy as np

from backends.opencl import launch, runtime
from backends.opencl.launch import WORK
from harness.backend import LAYOUTS, BackendInfo, Limits, Prepared, Probe, Unsupported
from harness.spec import ConvSpec
from harness.spec.dtypes import dtype
from harness.spec.host import narrow, numpy_dtype, widen

#: What is implemented, by name: a name that the specification gains later is not taken unseen.
OPS = ("conv", "conv_transpose", "max_pool", "avg_pool")
TYPES = ("f32", "f64", "f16", "f16/f16/f16", "f16/f32/f32", "bf16", "bf16/f32/f32", "f32/f64/f32", "i8")
#: `enum` of common.cl
MODES = {"zeros": 0, "circular": 1, "reflect": 2, "replicate": 3}
_GEOMETRY_BYTES = 8 * (8 + 7 * 3)


class OpenCLNaive:
    """The backend object; see the contract in `harness.backend`.

    Examples
    --------
    >>> backend.info.limits.why_not(ConvSpec("conv", (5,), (3,), padding=((1, 1),), padding_mode="reflect")) is None
    True
    """

    info = BackendInfo(
        "opencl-naive",
        "OpenCL, one general kernel an operation",
        Limits(OPS, TYPES, padding_modes=tuple(MODES)),
        extra="opencl",
        version="1",
        nan_max_pool="propagate",
        layouts=LAYOUTS,
    )

    def __init__(self) -> None:
        self.runtime = runtime.Runtime()

    def source(self, op: str) -> str:
        """The OpenCL C of an operation."""
        return runtime.source("common.cl", f"naive_{op}.cl")

    def options(self, spec: ConvSpec, handle: Any) -> tuple[str, ...]:
        """Its build options: those of common.cl, and the device's best division."""
        return launch.options(spec, handle)

    def global_size(self, elements: int, local: int) -> int:
        """Work items for so many outputs: whole groups of `local`."""
        return -(-elements // local) * local

    def probe(self) -> Probe:
        """Every installed driver's devices that ran a trial kernel."""
        return self.runtime.probe()

    def workspace_bytes(self, spec: ConvSpec, /) -> int:
        """The device's copies of the operands, and the host's where types are converted."""
        work = dtype(WORK[spec.acc_dtype]).itemsize
        operands = prod(spec.x_shape) + prod(spec.w_shape or (1,)) + spec.out_channels
        outputs = prod(spec.out_shape)
        total = (operands + outputs) * work + _GEOMETRY_BYTES
        if spec.in_dtype != WORK[spec.acc_dtype]:
            total += operands * work
        if spec.out_dtype != WORK[spec.acc_dtype]:
            total += outputs * (work + spec.out_type.itemsize)
        return total

    def prepare(self, spec: ConvSpec, device: str, /) -> Prepared:
        """Build the operation's kernel for the device, allocate the buffers, upload the geometry."""
        if reason := launch.why_not(spec, launch.handle_of(self.runtime, self.info.name, device)):
            raise Unsupported(reason)
        return _Prepared(spec, device, self, self.runtime)


backend = OpenCLNaive()


def pack_geometry(spec: ConvSpec) -> np.ndarray:
    """The `Geometry` of common.cl, as int64 in the order of its fields."""
    lifted = spec.lifted()
    low, high = zip(*lifted.padding, strict=True)
    return np.array(
        [
            *(spec.batch, spec.in_channels, spec.out_channels, spec.groups),
            *(spec.bias, spec.flip, MODES[spec.padding_mode], spec.count_include_pad),
            *(*lifted.in_size, *lifted.kernel_size, *lifted.stride, *low, *high, *lifted.dilation, *lifted.out_size),
        ],
        np.int64,
    )


class _Prepared:
    """A kernel with its arguments set and the buffers they point at."""

    def __init__(self, spec: ConvSpec, device: str, backend: OpenCLNaive, run_time: runtime.Runtime) -> None:
        self._cl = cl = runtime.import_cl()
        self.spec = spec
        self.phases: dict[str, float] = {}
        self.device_seconds = 0.0
        self._work = numpy_dtype(WORK[spec.acc_dtype])
        self._queue = run_time.queue(device)
        options = backend.options(spec, run_time.handles()[device])
        self._program = run_time.program(device, backend.source(spec.op), options)
        self._kernel = run_time.kernel(self._program, spec.op)
        self._runtime = run_time
        self._local = run_time.local_size(device, self._kernel)
        self._global = backend.global_size(prod(spec.out_shape), self._local)
        self._buffers: dict[str, Any] = {}
        flags = cl.mem_flags
        self._allocate("geometry", _GEOMETRY_BYTES, flags.READ_ONLY)
        self._allocate("x", prod(spec.x_shape) * self._work.itemsize, flags.READ_ONLY)
        if spec.w_shape is not None:
            self._allocate("w", prod(spec.w_shape) * self._work.itemsize, flags.READ_ONLY)
            self._allocate("b", spec.out_channels * self._work.itemsize if spec.bias else 0, flags.READ_ONLY)
        self._allocate("y", prod(spec.out_shape) * self._work.itemsize, flags.WRITE_ONLY)
        for i, buffer in enumerate(self._buffers.values()):
            self._kernel.set_arg(i, buffer)
        self._warm_up()

    def _allocate(self, name: str, size: int, flags: Any) -> None:
        # OpenCL refuses an empty buffer, and a kernel argument must point somewhere.
        try:
            self._buffers[name] = self._cl.Buffer(self._queue.context, flags, max(size, self._work.itemsize))
        except self._cl.MemoryError as error:
            raise MemoryError(f"the device cannot allocate {size} bytes for {name}: {error}") from error

    def _warm_up(self) -> None:
        """Launch over no outputs: drivers finish compiling at the first launch, which belongs here and not in `run`."""
        geometry = self._buffers["geometry"]
        self._cl.enqueue_copy(self._queue, geometry, np.zeros(_GEOMETRY_BYTES // 8, np.int64))
        self._launch()
        self._cl.enqueue_copy(self._queue, geometry, pack_geometry(self.spec))

    def _launch(self) -> Any:
        size = max(self._global, self._local)
        return self._cl.enqueue_nd_range_kernel(self._queue, self._kernel, (size,), (self._local,))

    def run(self, x: np.ndarray, w: np.ndarray | None, b: np.ndarray | None, out: np.ndarray, /) -> None:
        """Copy in, compute, copy out."""
        if out.size == 0:
            return
        start = perf_counter()
        operands = {k: self._operand(a) for k, a in (("x", x), ("w", w), ("b", b)) if a is not None}
        direct = out.dtype == self._work
        y = out if direct else np.empty(out.shape, self._work)
        packed = perf_counter()
        copies = [self._cl.enqueue_copy(self._queue, self._buffers[k], a, is_blocking=False) for k, a in operands.items()]
        launch = self._launch()
        copies.append(self._cl.enqueue_copy(self._queue, y, self._buffers["y"]))  # blocks; the queue is in order
        self.device_seconds = runtime.seconds(launch)
        self.phases = {
            "pack": packed - start,
            "transfer": sum(map(runtime.seconds, copies)),
            "kernel": self.device_seconds,
        }
        if not direct:
            done = perf_counter()
            with np.errstate(over="ignore"):  # a sum beyond the output's range is Inf by definition, not a fault
                out[...] = narrow(y, self.spec)
            self.phases["copy"] = perf_counter() - done

    def _operand(self, a: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(widen(a, self.spec), self._work)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._queue.finish()
        for buffer in self._buffers.values():
            buffer.release()
        if self._buffers:  # once, though it be left twice
            self._runtime.leave(self._program, self.spec.op, self._kernel)
        self._buffers = {}
