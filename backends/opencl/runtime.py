"""OpenCL without convolution: finding devices, trying them, building programs, launching kernels.

Apart from the backends so that each of them states only its operations. pyopencl is imported
inside functions: a backend's `info` is readable where it is not installed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.backend import Device, Probe

EXTRA_HINT = "pip install 'convproof[opencl]'"
LINKER_HINT = "apt-get install binutils"
VENDORS_HINT = "a folder of .icd files is wanted, each of one line: the path of a driver's library"
#: Work items a group. Any device takes it (`Runtime.local_size` lowers it where not), and PoCL compiles a
#: kernel anew for each local size, so that one fixed number keeps builds few.
LOCAL_SIZE = 64
POCL = "Portable Computing Language"
_TRIAL = "__kernel void trial(__global int *y) { y[get_global_id(0)] = 41 + (int)get_global_id(0); }"


def import_cl() -> Any:
    """pyopencl, with its own disk cache of binaries off.

    PoCL and the vendors' drivers keep one themselves, and pyopencl's is shared by all processes
    through a lock, which a killed worker would leave held.
    """
    os.environ.setdefault("PYOPENCL_NO_CACHE", "1")
    import pyopencl

    return pyopencl


@dataclass
class Runtime:
    """The devices of this process, their queues and the programs built for them; lives as long as its backend."""

    _handles: dict[str, Any] = field(default_factory=dict)
    _contexts: dict[str, Any] = field(default_factory=dict)
    _queues: dict[str, Any] = field(default_factory=dict)
    _programs: dict[tuple[str, str, str], Any] = field(default_factory=dict)
    _idle: dict[tuple[Any, str], list[Any]] = field(default_factory=dict)
    #: platforms without devices
    _silent: list[str] = field(default_factory=list)

    def probe(self) -> Probe:
        """Every device that compiled and ran a kernel; the reasons of those that did not."""
        try:
            handles = self.handles()
        except Exception as error:  # noqa: BLE001 - drivers are foreign code, and a probe never raises
            return _explain(error)
        devices: list[Device] = []
        failures = [f"{platform} offers no device" for platform in self._silent]
        # PoCL lists no device, and says nothing, where it cannot make its cache directory.
        hints = ["set POCL_CACHE_DIR to a directory that can be written"] if POCL in self._silent else []
        for name, handle in handles.items():
            reason, hint = self._trial(name, handle)
            if reason:
                failures.append(f"{name}: {reason}")
                hints.append(hint)
            else:
                devices.append(describe(name, handle))
        return Probe(tuple(devices), "; ".join(failures), "; ".join(dict.fromkeys(h for h in hints if h)))

    def handles(self) -> dict[str, Any]:
        """Device name to pyopencl device, every installed driver's; a name met twice gets a number."""
        if not self._handles:
            cl = import_cl()
            self._silent.clear()
            # The simulator is slow: whoever wants it names it, the first device is another.
            for platform in sorted(cl.get_platforms(), key=lambda p: p.name == "Oclgrind"):
                try:
                    devices = platform.get_devices()
                except cl.Error:  # DEVICE_NOT_FOUND: a driver without its hardware
                    devices = []
                if not devices:
                    self._silent.append(platform.name)
                for device in devices:
                    name = " ".join(device.name.split())
                    number = 1 + sum(n == name or n.startswith(f"{name} #") for n in self._handles)
                    self._handles[name if number == 1 else f"{name} #{number}"] = device
        return self._handles

    def queue(self, name: str) -> Any:
        """The device's queue, in order and with profiling; its context hangs on it."""
        if name not in self._queues:
            cl = import_cl()
            # Held here: Intel's runtime frees a context of which only a queue is left.
            self._contexts[name] = context = cl.Context([self.handles()[name]])
            self._queues[name] = cl.CommandQueue(context, properties=cl.command_queue_properties.PROFILING_ENABLE)
        return self._queues[name]

    def program(self, name: str, source: str, options: tuple[str, ...]) -> Any:
        """`source` built for the device called `name`, once a process."""
        digest = hashlib.blake2b(source.encode(), digest_size=16).hexdigest()
        key = (name, digest, " ".join(options))
        if key not in self._programs:
            cl = import_cl()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", cl.CompilerWarning)  # remarks of the driver's compiler, not faults
                program = cl.Program(self.queue(name).context, source).build(["-cl-std=CL1.2", *options], cache_dir=None)
            self._programs[key] = program
        return self._programs[key]

    def kernel(self, program: Any, name: str) -> Any:
        """A kernel of `program`, whose arguments are to be set; `leave` it when it is no longer used.

        Making one costs 0.2 ms and 2 kB that are never freed: pyopencl generates a Python module for each.
        """
        idle = self._idle.setdefault((program, name), [])
        return idle.pop() if idle else import_cl().Kernel(program, name)

    def leave(self, program: Any, name: str, kernel: Any) -> None:
        """Keep a kernel that no command uses any longer, for the next that asks."""
        self._idle[program, name].append(kernel)

    def local_size(self, name: str, kernel: Any) -> int:
        """Work items a group, no more than the device takes for `kernel`."""
        cl = import_cl()
        most = kernel.get_work_group_info(cl.kernel_work_group_info.WORK_GROUP_SIZE, self.handles()[name])
        return max(1, min(LOCAL_SIZE, int(most)))

    def _trial(self, name: str, handle: Any) -> tuple[str, str]:
        """Compile and run a kernel; (reason, hint) where that fails, else two empty strings.

        PoCL ends each compilation in a call of `ld` and may abort the process where it finds none,
        so that is looked for first.
        """
        if handle.platform.name == POCL and shutil.which("ld") is None:
            return "PoCL links its kernels with `ld`, and there is none on PATH", LINKER_HINT
        try:
            cl = import_cl()
            queue = self.queue(name)
            got = np.zeros(8, np.int32)
            buffer = cl.Buffer(queue.context, cl.mem_flags.WRITE_ONLY, got.nbytes)
            kernel = cl.Kernel(self.program(name, _TRIAL, ()), "trial")
            kernel.set_arg(0, buffer)
            cl.enqueue_nd_range_kernel(queue, kernel, (8,), (1,))
            cl.enqueue_copy(queue, got, buffer)
        except Exception as error:  # noqa: BLE001 - drivers are foreign code, and a probe never raises
            return f"a trial kernel failed: {error}", ""
        if got.tolist() != list(range(41, 49)):
            return f"a trial kernel computed {got.tolist()}, expected 41 to 48", ""
        return "", ""


def source(*names: str) -> str:
    """The text of .cl files of this package, one after the other."""
    return "\n".join((Path(__file__).parent / name).read_text() for name in names)


def describe(name: str, handle: Any) -> Device:
    """The contract's record of a pyopencl device."""
    cl = import_cl()
    kinds = cl.device_type
    kind = "gpu" if handle.type & kinds.GPU else "accelerator" if handle.type & kinds.ACCELERATOR else "cpu"
    config, bits = handle.single_fp_config, cl.device_fp_config
    return Device(
        name,
        kind,
        {
            "platform": handle.platform.name,
            "platform_version": handle.platform.version,
            "driver_version": handle.driver_version,
            "device_version": handle.version,
            "compute_units": str(handle.max_compute_units),
            "max_work_group_size": str(handle.max_work_group_size),
            "global_memory_bytes": str(handle.global_mem_size),
            "max_allocation_bytes": str(handle.max_mem_alloc_size),
            "double": "yes" if has_double(handle) else "no",
            "fma": "yes" if config & bits.FMA else "no",
        },
        # Without CL_FP_DENORM a device may read subnormal operands as zero too (OpenCL C 1.2, section 7.5.3).
        denormals="gradual" if config & bits.DENORM else "flush-inputs",
        rounding="nearest" if config & bits.ROUND_TO_NEAREST else "truncate",
    )


def has_double(handle: Any) -> bool:
    """Whether the device computes in float64."""
    return "cl_khr_fp64" in handle.extensions.split()


def shares_memory(handle: Any) -> bool:
    """Whether the device reads the host's own memory, so that nothing need be copied."""
    return bool(handle.host_unified_memory)


def is_processor(handle: Any) -> bool:
    """Whether the device is a CPU: vectors in one work item, no gain from local memory."""
    return bool(handle.type & import_cl().device_type.CPU)


def divides_exactly(handle: Any) -> bool:
    """Whether the device rounds float division correctly when it is asked to."""
    return bool(handle.single_fp_config & import_cl().device_fp_config.CORRECTLY_ROUNDED_DIVIDE_SQRT)


def seconds(event: Any) -> float:
    """A finished command's duration by the device's clock."""
    return float(event.profile.end - event.profile.start) * 1e-9


def _explain(error: Exception) -> Probe:
    if isinstance(error, ImportError):
        return Probe(reason=f"OpenCL backends need pyopencl: {error}", hint=EXTRA_HINT)
    if folder := os.environ.get("OCL_ICD_VENDORS"):
        return Probe(reason=f"no OpenCL driver answers: {error}", hint=f"OCL_ICD_VENDORS={folder}: {VENDORS_HINT}")
    return Probe(reason=f"no OpenCL driver answers: {error}", hint=EXTRA_HINT)
