"""The program that is timed: one backend in a fresh process, asked line by line. Foreign code runs here.

It is started by its path, with the interpreter and the packages of the side that is measured, which may be another
commit or another installation than the one that asks. So of the harness it imports only what a backend imports, and
the way to load one: those names keep to the contract's version. Requests and replies are lines of JSON on two pipes;
arrays lie in an anonymous file that both map.

With `--alone FILE` it answers the requests of a file instead, one after the other, and writes no replies: what a
profiler or an instruction counter is given to run.
"""

from __future__ import annotations

import contextlib
import gc
import json
import mmap
import os
import sys
import traceback
import zlib
from dataclasses import fields
from itertools import repeat
from resource import RUSAGE_SELF, getrusage
from time import perf_counter_ns, process_time_ns, thread_time_ns
from typing import Any

#: The order of the arguments of `Prepared.run`.
ARGUMENTS = ("x", "w", "b", "out")
#: What stands in one element of a float's output before each timed call: all bits set, a NaN of no computation.
POISON = -1
#: Elements of the output that take turns at that.
PROBES = 7
#: Seconds of a unit of the clocks.
NANO = 1e-9


def _fields(record: Any) -> dict[str, Any]:
    """A record's fields that can be told: all but functions."""
    return {f.name: v for f in fields(record) if not callable(v := getattr(record, f.name))}


class Timed:
    """Answers requests: each a method here, its keyword arguments the request's."""

    def __init__(self, arena: int) -> None:
        self._fd, self._map = arena, None  # type: int, mmap.mmap | None
        self._backend: Any = None
        self._prepared: Any = None
        self._arrays: dict[str, Any] = {}
        self._arguments: tuple[Any, ...] = ()
        self._scrub: Any = None
        self._probes: list[Any] = []

    def load(self, reference: str) -> dict[str, Any]:
        """Import the backend and probe it."""
        from harness.registry import load

        self._backend = load(reference)
        found, info = self._backend.probe(), self._backend.info
        names = ("name", "kind", "denormals", "rounding")
        devices = [{**{n: getattr(d, n) for n in names}, "properties": dict(d.properties)} for d in found.devices]
        facts = {"name": info.name, "version": info.version, "algorithm": _fields(info.algorithm), "devices": devices}
        choices = getattr(info, "transforms", ())  # a harness of before had none
        facts["transforms"] = [[_fields(limits), _fields(algorithm)] for limits, algorithm in choices]
        return {**facts, "reason": found.reason, "hint": found.hint, "file": _file_of(reference)}

    def why_not(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Why the backend does not take a specification, or None."""
        from harness.spec import ConvSpec

        reason = self._backend.info.limits.why_not(ConvSpec.from_dict(spec))
        return {"reason": None if reason is None else str(reason)}

    def tunable(self, device: str) -> dict[str, Any]:
        """The facts for which what tuning finds holds; None where the backend cannot be tuned."""
        from harness.backend import Tunable

        return {"key": dict(self._backend.tuned_key(device)) if isinstance(self._backend, Tunable) else None}

    def candidates(self, spec: dict[str, Any], device: str) -> dict[str, Any]:
        """The settings among which tuning chooses."""
        from harness.spec import ConvSpec

        found = self._backend.candidates(ConvSpec.from_dict(spec), device)
        told = [{"settings": dict(c.settings), "pixels": int(c.pixels), "filters": int(c.filters)} for c in found]
        return {"candidates": told}

    def prepare(
        self, spec: dict[str, Any], device: str, slots: list[Any], size: int, settings: dict[str, int] | None = None
    ) -> dict[str, Any]:
        """Prepare a specification, by these settings if any are given; tells how long that took."""
        import numpy as np

        from harness.spec import ConvSpec
        from harness.spec.host import numpy_dtype

        self.release()
        if self._map is None or len(self._map) < size:
            self._map = mmap.mmap(self._fd, os.fstat(self._fd).st_size)
        self._arrays = {
            name: np.ndarray(tuple(shape), numpy_dtype(kind), self._map, offset) for name, offset, shape, kind in slots
        }
        self._arguments = tuple(self._arrays.get(name) for name in ARGUMENTS)
        self._probes = _probes(self._arrays["out"])
        asked = ConvSpec.from_dict(spec)
        gc.collect()
        _forget_peak()
        start = perf_counter_ns()
        if settings is None:
            prepared = self._backend.prepare(asked, device)
        else:
            prepared = self._backend.prepare_with(asked, device, settings)
        self._prepared = prepared.__enter__()
        return {"seconds": (perf_counter_ns() - start) * NANO}

    def release(self) -> dict[str, Any]:
        """Leave what was prepared."""
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            prepared.__exit__(None, None, None)
        return {}

    def sample(self, count: int, seconds: float, loops: int = 1, scrub: int = 0, slower: float = 0.0) -> dict[str, Any]:
        """Call `run` so many times, or until the time is over, at least once; every sample is timed by itself.

        A sample is the mean of `loops` calls. Before each, `scrub` bytes of other memory are written, if any, and one element
        of a floating-point output is poisoned, which the call has to write. Each call is made `slower` by that share of its
        processor time: a planted regression, to see whether it is found. The reply tells the voluntary waits of all calls
        together, and a checksum of the output as it was when the last one returned.
        """
        import numpy as np

        prepared, arguments = self._prepared, self._arguments
        run = _slowed(prepared.run, slower) if slower else prepared.run
        if scrub and (self._scrub is None or len(self._scrub) != scrub):
            self._scrub = np.zeros(scrub, np.uint8)
        walls, cpus, devices, phases, unwritten = [], [], [], [], 0
        probes = self._probes or [None]
        waits = getrusage(RUSAGE_SELF).ru_nvcsw
        gc.disable()
        try:
            with np.errstate(all="ignore"):
                end = perf_counter_ns() + int(seconds / NANO)
                for number in range(count):
                    if scrub:
                        self._scrub.fill(number & 0xFF)
                    probe = probes[number % len(probes)]
                    if probe is not None:
                        probe[0] = POISON
                    busy = process_time_ns()
                    if loops == 1:
                        start = perf_counter_ns()
                        run(*arguments)
                        stop = perf_counter_ns()
                    else:
                        inner = repeat(None, loops)
                        start = perf_counter_ns()
                        for _ in inner:
                            run(*arguments)
                        stop = perf_counter_ns()
                    cpus.append(process_time_ns() - busy)
                    walls.append(stop - start)
                    if probe is not None and probe[0] == POISON:
                        unwritten += 1
                    if told := getattr(prepared, "phases", None):
                        phases.append(dict(told))
                    if (device := getattr(prepared, "device_seconds", None)) is not None:
                        devices.append(float(device))
                    if stop >= end:
                        break
                sealed = arguments[3].tobytes()
        finally:
            gc.enable()
        waits = getrusage(RUSAGE_SELF).ru_nvcsw - waits
        scale = NANO / loops
        names = {str(name) for told in phases for name in told}
        return {
            "wall": [w * scale for w in walls],
            "cpu": [c * scale for c in cpus],
            "device": devices,
            "phases": {name: [float(p[name]) for p in phases if name in p] for name in names},
            "waits": waits,
            "unwritten": unwritten,
            "sealed": zlib.crc32(sealed),
        }

    def mark(self) -> dict[str, Any]:
        """Call `ctermid`, which nothing else calls: a counter of instructions divides its counts there."""
        os.ctermid()
        return {}

    def peak(self) -> dict[str, Any]:
        """The most resident memory since `prepare`, in bytes, and the cores on which the process may run."""
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/self/status", encoding="ascii") as f:  # noqa: PTH123
            held = {k: int(v.split()[0]) << 10 for k, _, v in (line.partition(":") for line in f) if k == "VmHWM"}
            return {"bytes": held["VmHWM"], "cores": cores}
        return {"bytes": None, "cores": cores}


def _probes(out: Any) -> list[Any]:
    """Views of single elements of a floating-point output, as integers, spread over it; none for other types."""
    import numpy as np

    if not out.size or np.dtype(out.dtype).kind in "iu":
        return []
    flat = out.reshape(-1).view(f"i{out.dtype.itemsize}")
    return [flat[i : i + 1] for i in sorted({(len(flat) - 1) * k // (PROBES - 1) for k in range(PROBES)})]


def _file_of(reference: str) -> str:
    """The file that a loaded backend's reference names; empty where that is not known."""
    place = reference.partition("=")[2] or reference
    place = place.rpartition(":")[0]
    return place if place.endswith(".py") else str(getattr(sys.modules.get(place), "__file__", "") or "")


def _slowed(run: Any, share: float) -> Any:
    """`run`, followed by as much spinning as this share of the time that its thread computed."""

    def slowed(*arguments: Any) -> None:
        start = thread_time_ns()
        run(*arguments)
        stop = thread_time_ns()
        end = stop + share * (stop - start)
        while thread_time_ns() < end:
            pass

    return slowed


def _forget_peak() -> None:
    """Start the kernel's high-water mark of resident memory afresh, where it lets us (proc(5), clear_refs)."""
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w", encoding="ascii") as f:  # noqa: PTH123
        f.write("5")


def answer(timed: Timed, request: dict[str, Any]) -> dict[str, Any]:
    """Carry out a request; whatever the backend raises becomes a trouble."""
    try:
        op = request.pop("op")
        return {"ok": getattr(timed, op)(**request)}
    except BaseException as e:  # noqa: BLE001 - foreign code ran
        kinds = {"Unsupported": "unsupported", "ContractError": "contract", "MemoryError": "memory"}
        text = " ".join(str(e).split())[:2000]
        return {
            "trouble": kinds.get(type(e).__name__, "error"),
            "message": f"{type(e).__qualname__}: {text}" if text else type(e).__qualname__,
            "traceback": traceback.format_exc(limit=-12),
        }


def confined(cores: list[int], memory: int) -> None:
    """Keep to these cores and this much memory, and end when the process that asks does."""
    with contextlib.suppress(OSError, AttributeError, ValueError):
        import ctypes

        ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    if memory:
        import resource

        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def serve(read: int, write: int, arena: int) -> None:
    """Answer until the pipe closes."""
    timed = Timed(arena)
    with os.fdopen(read, encoding="utf-8") as requests, os.fdopen(write, "w", encoding="utf-8") as replies:
        for line in requests:
            replies.write(json.dumps(answer(timed, json.loads(line))) + "\n")
            replies.flush()
    os._exit(0)  # no atexit handlers of foreign code


def alone(file: str) -> None:
    """Answer the requests of a file, on the arrays of another beside it."""
    with open(file, encoding="utf-8") as f:  # noqa: PTH123
        job = json.load(f)
    confined(job["cores"], 0)
    timed = Timed(os.open(job["arena"], os.O_RDWR))
    for request in job["requests"]:
        told = answer(timed, request)
        if "trouble" in told:
            sys.exit(f"{told['message']}\n{told['traceback']}")


def main() -> None:
    """Serve, or answer a file."""
    if sys.argv[1] == "--alone":
        alone(sys.argv[2])
        return
    read, write, arena, memory = map(int, sys.argv[1:5])
    confined([int(c) for c in sys.argv[5].split(",") if c], memory)
    serve(read, write, arena)


if __name__ == "__main__":
    main()
