"""A sequence of kernels behind the contract's `run`: operands to the device, launches, the output back, the phases.

On a device that shares the host's memory (a processor, an integrated GPU) the operands' own memory is used; elsewhere
they are copied to buffers that are kept. Types that the device does not compute in are converted by the host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Self

import numpy as np

from backends.opencl import runtime
from harness.backend import Unsupported
from harness.spec import ConvSpec
from harness.spec.dtypes import dtype
from harness.spec.host import narrow, numpy_dtype, widen

#: The operands' type on the device, by accumulator: f16 and bf16 are widened and rounded by the host.
WORK = {"f16": "f32", "bf16": "f32", "f32": "f32", "f64": "f64", "i8": "i32", "i32": "i32"}
_C_NAMES = {"f32": "float", "f64": "double", "i32": "int"}


def options(spec: ConvSpec, handle: Any) -> tuple[str, ...]:
    """The build options of common.cl for `spec`, and the device's best division."""
    work = WORK[spec.acc_dtype]
    name = "uint" if work == "i32" and not spec.is_pool else _C_NAMES[work]
    found = [f"-DTYPE={name}"]
    if work == "f64":
        found.append("-DDOUBLE")
    if spec.acc_dtype == "f16" and spec.op != "max_pool":
        found.append("-DHALF")
    if runtime.divides_exactly(handle):
        found.append("-cl-fp32-correctly-rounded-divide-sqrt")
    return tuple(found)


def handle_of(run_time: runtime.Runtime, name: str, device: str) -> Any:
    """The device's handle; `Unsupported` where there is none."""
    try:
        handles = run_time.handles()
    except ImportError as error:
        raise Unsupported(f"backend {name!r} needs pyopencl ({error}): {runtime.EXTRA_HINT}") from error
    if device not in handles:
        raise Unsupported(f"backend {name!r} has no device {device!r}: it has {', '.join(handles) or 'none'}")
    return handles[device]


def why_not(spec: ConvSpec, handle: Any, shapes: Mapping[str, tuple[int, ...]] | None = None) -> str | None:
    """The reason why the device cannot hold or compute `spec`, or None; `shapes` are of what it allocates besides."""
    work = dtype(WORK[spec.acc_dtype])
    if work.name == "f64" and not runtime.has_double(handle):
        return f"{handle.name} has no cl_khr_fp64, and the accumulator is f64"
    arrays = {"x": spec.x_shape, "w": spec.w_shape, "out": spec.out_shape, **(shapes or {})}
    for name, shape in arrays.items():
        size = int(np.prod(shape, dtype=np.int64)) * work.itemsize if shape else 0
        if size > handle.max_mem_alloc_size:
            return (
                f"{name} {list(shape or ())} takes {size} bytes as {work.name}, "
                f"{handle.name} allocates at most {handle.max_mem_alloc_size} at once"
            )
    return None


@dataclass
class Step:
    """A kernel's launch.

    Attributes
    ----------
    phase : str
        Of the contract: `pack` or `kernel`.
    kernel : pyopencl.Kernel
        With all arguments set but the operands.
    size, local : tuple of int
        Work items, and of them a group.
    operands : mapping of str to int
        `x`, `w`, `b`, `y` to the number of the argument.
    values : mapping of int to object
        Other arguments that are set before each launch, of a kernel that several steps share.
    """

    phase: str
    kernel: Any
    size: tuple[int, ...]
    local: tuple[int, ...]
    operands: Mapping[str, int] = field(default_factory=dict)
    values: Mapping[int, Any] = field(default_factory=dict)


class Launches:
    """What a `Prepared` of several kernels is; subclasses add their steps as they are made."""

    def __init__(self, spec: ConvSpec, device: str, run_time: runtime.Runtime) -> None:
        self._cl = runtime.import_cl()
        self.spec, self.device = spec, device
        self.runtime = run_time
        self.handle = run_time.handles()[device]
        self.queue = run_time.queue(device)
        self.work = numpy_dtype(WORK[spec.acc_dtype])
        self._last: tuple[list[Any], list[Any], dict[str, float]] = ([], [], {})
        self.steps: list[Step] = []
        self._unmapping: Any = None
        self._shared = runtime.shares_memory(self.handle)
        self._kept: dict[str, Any] = {}
        self._owned: list[Any] = []
        self._kernels: list[tuple[Any, str, Any]] = []
        self._constants: dict[bytes, Any] = {}
        self._sharing: dict[int, list[tuple[Step, tuple[Any, ...]]]] = {}

    def scratch(self, elements: int, itemsize: int | None = None) -> Any:
        """A buffer of so many elements of the working type, for kernels alone."""
        return self._allocate(elements * (itemsize or self.work.itemsize), self._cl.mem_flags.READ_WRITE)

    def constant(self, values: np.ndarray) -> Any:
        """A buffer that holds `values` from now on; the same for equal ones."""
        flags, content = self._cl.mem_flags, values.tobytes()
        if content not in self._constants:
            held = np.frombuffer(content, np.uint8)
            buffer = self._cl.Buffer(self.queue.context, flags.READ_ONLY | flags.COPY_HOST_PTR, hostbuf=held)
            self._owned.append(buffer)
            self._constants[content] = buffer
        return self._constants[content]

    def local(self, size: int) -> Any:
        """An argument of so many bytes of local memory."""
        return self._cl.LocalMemory(size)

    def kernel(self, files: Sequence[str], name: str, extra: Sequence[str], *arguments: Any, prelude: str = "") -> Any:
        """The kernel `name` of `files` behind common.cl; an argument that is None is an operand, set by `run`."""
        source = prelude + runtime.source("common.cl", *files)
        program = self.runtime.program(self.device, source, (*options(self.spec, self.handle), *extra))
        kernel = self.runtime.kernel(program, name)
        self._kernels.append((program, name, kernel))
        for i, argument in enumerate(arguments):
            if argument is not None:
                kernel.set_arg(i, argument)
        return kernel

    def share(self, step: Step, arguments: Sequence[Any]) -> None:
        """Add a step; `settle` gives all that use its kernel the arguments in which they differ."""
        self.steps.append(step)
        self._sharing.setdefault(id(step.kernel), []).append((step, tuple(arguments)))

    def settle(self) -> None:
        """Have each step of a shared kernel set what another one sets otherwise."""
        for sharing in self._sharing.values():
            columns = zip(*(arguments for _, arguments in sharing), strict=True)
            varied = [i for i, column in enumerate(columns) if not all(_same(column[0], other) for other in column)]
            for step, arguments in sharing:
                step.values = {i: arguments[i] for i in varied}
        self._sharing = {}

    def _allocate(self, size: int, flags: Any) -> Any:
        # OpenCL refuses an empty buffer, and a kernel argument must point somewhere.
        try:
            buffer = self._cl.Buffer(self.queue.context, flags, max(size, 16))
        except self._cl.MemoryError as error:
            raise MemoryError(f"the device cannot allocate {size} bytes: {error}") from error
        self._owned.append(buffer)
        return buffer

    def run(self, x: np.ndarray, w: np.ndarray | None, b: np.ndarray | None, out: np.ndarray, /) -> None:
        """Hand over the operands, launch every step, wait for the output."""
        if out.size == 0:
            return
        start = perf_counter()
        arrays = {name: self._operand(a) for name, a in (("x", x), ("w", w), ("b", b)) if a is not None}
        direct = out.dtype == self.work
        y = out if direct else np.empty(out.shape, self.work)
        packed = perf_counter()
        buffers, copies = self._hand_over(arrays, y)
        events = []
        for step in self.steps:
            for name, at in step.operands.items():
                step.kernel.set_arg(at, buffers[name])
            for at, value in step.values.items():
                step.kernel.set_arg(at, value)
            events.append(self._cl.enqueue_nd_range_kernel(self.queue, step.kernel, step.size, step.local))
        if self._shared:
            mapped, event = self._cl.enqueue_map_buffer(
                self.queue, buffers["y"], self._cl.map_flags.READ, 0, y.shape, y.dtype, is_blocking=False
            )
            self.queue.finish()
            # Held until the next call has waited: PoCL 3.0 may still look at what its unmapping works on, once in 10^4 calls.
            self._unmapping = mapped.base.release(self.queue), buffers, arrays, y
        else:
            event = self._cl.enqueue_copy(self.queue, y, buffers["y"])  # blocks; the queue is in order
        copies.append(event)
        host = {"pack": packed - start}
        if not direct:
            done = perf_counter()
            with np.errstate(over="ignore"):  # a sum beyond the output's range is Inf by definition, not a fault
                out[...] = narrow(y, self.spec)
            host["copy"] = perf_counter() - done
        self._last = events, copies, host

    @property
    def phases(self) -> dict[str, float]:
        """Seconds of the last run, a phase; asked for here and not in `run`, since a question costs some microseconds."""
        events, copies, host = self._last
        spent = {"pack": 0.0, "transfer": sum(map(runtime.seconds, copies)), "kernel": 0.0, **host}
        for step, event in zip(self.steps, events, strict=False):
            spent[step.phase] += runtime.seconds(event)
        return spent

    @property
    def device_seconds(self) -> float:
        """Of the last run's kernels, by the device's clock."""
        return sum(map(runtime.seconds, self._last[0]))

    def _hand_over(self, arrays: dict[str, np.ndarray], y: np.ndarray) -> tuple[dict[str, Any], list[Any]]:
        """Buffers of the operands by name, and the events of the copies that that took."""
        cl, flags = self._cl, self._cl.mem_flags
        if self._shared:
            how = flags.READ_ONLY | flags.USE_HOST_PTR
            buffers = {name: cl.Buffer(self.queue.context, how, hostbuf=a) for name, a in arrays.items()}
            buffers["y"] = cl.Buffer(self.queue.context, flags.READ_WRITE | flags.USE_HOST_PTR, hostbuf=y)
            if "b" not in buffers:
                buffers["b"] = buffers["x"]  # an argument must point somewhere; it is not read
            return buffers, []
        for name, a in (*arrays.items(), ("y", y)):
            if name not in self._kept:
                self._kept[name] = self._allocate(a.nbytes, flags.READ_WRITE)
        buffers = {"b": self._kept["x"], **self._kept}
        return buffers, [cl.enqueue_copy(self.queue, self._kept[n], a, is_blocking=False) for n, a in arrays.items()]

    def _operand(self, a: np.ndarray) -> np.ndarray:
        if a.dtype == self.work and a.flags.c_contiguous and a.flags.aligned:
            return a
        return np.require(widen(a, self.spec), self.work, ("C", "A"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.queue.finish()
        self._unmapping = None
        for buffer in self._owned:
            buffer.release()
        for program, name, kernel in self._kernels:  # once, though it be left twice
            self.runtime.leave(program, name, kernel)
        self._owned, self._kernels, self._kept, self._constants = [], [], {}, {}


def _same(a: Any, b: Any) -> bool:
    """Whether two arguments of a kernel are: the same object, or equal numbers."""
    return a is b or (isinstance(a, np.generic) and isinstance(b, np.generic) and bool(a == b))
