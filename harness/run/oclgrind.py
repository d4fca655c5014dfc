"""The Oclgrind simulator as a sanitizer: `--device oclgrind` runs OpenCL kernels in it and turns what it finds into FAILs.

Oclgrind (J. Price, S. McIntosh-Smith, "Oclgrind: an extensible OpenCL device simulator", IWOCL 2015) interprets a kernel
and reports invalid accesses, data races, uses of uninitialised values and barriers that not every work item reaches, each
with its line. It is switched by environment variables when a context is made and writes to a log. A worker sets both
before it loads a backend, so that every OpenCL backend is watched, whoever wrote it; other devices are untouched.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from harness.backend import Device
from harness.run.arena import Arena
from harness.run.shadow import watch_import

NAME = "Oclgrind"
#: Operations of the largest problem that is simulated: 0.1 ms each where all is searched for (opencl-naive, one core).
MOST_FLOPS = 3_000
#: What is searched for; after so many findings it is silent, so a worker that has one is ended. Optimised, a kernel holds
#: instructions that the search for uninitialised values does not know (freeze), and fewer of the accesses in its source.
_SWITCHES = {
    "CHECK_API": "1", "DATA_RACES": "1", "UNINITIALIZED": "1", "MAX_ERRORS": "100", "BUILD_OPTIONS": "-cl-opt-disable",
}  # fmt: skip
#: pyopencl asks for facts that a device may not know, and takes the error for an answer.
_QUERY = re.compile(r"OpenCL runtime error detected\s+Function: clGet\w*Info\b")
_GAVE_UP = re.compile(r"^OCLGRIND FATAL ERROR[^\n]*\n([^\n]*)", re.M)
_KERNEL, _LINE = re.compile(r"^\s*Kernel:\s*(\S+)", re.M), re.compile(r"^\s*At line (\d+)[^\n]*:\n\s*(\S[^\n]*)", re.M)


def too_large(device: Device, flops: int) -> str | None:
    """Why a problem of so many operations is not run on `device`, or None."""
    if NAME.lower() not in device.name.lower() or flops <= MOST_FLOPS:
        return None
    return f"{flops / 1e3:,.0f} kFLOP, the simulator {device.name} is given at most {MOST_FLOPS / 1e3:g}"


class NotSimulated(Exception):
    """The simulator cannot run a kernel: no finding about the kernel."""


@dataclass
class Findings:
    """The simulator's log in this process, an anonymous file; read after each request."""

    fd: int
    seen: int = 0

    @classmethod
    def watched(cls) -> Findings:
        """Switch the simulator's detectors on in this process's environment, and its log into a file."""
        for name, value in _SWITCHES.items():
            os.environ.setdefault(f"OCLGRIND_{name}", value)
        fd = Arena().fd
        os.environ["OCLGRIND_LOG"] = f"/proc/self/fd/{fd}"
        watch_import()
        return cls(fd)

    def new(self) -> str:
        """What was found since the last call, in a sentence; empty if nothing was.

        Raises
        ------
        NotSimulated
            If it gave up.
        """
        size = os.fstat(self.fd).st_size
        if size == self.seen:
            return ""
        start = self.seen if self.seen < size else 0  # a new context begins its log anew
        self.seen = size
        return told(os.pread(self.fd, size - start, start).decode(errors="replace"))


def told(log: str) -> str:
    """The first finding of a log with its kernel and line, and how many more there are; empty if there is none.

    Examples
    --------
    >>> told('''
    ... Invalid read of size 4 at global memory address 0x1000000000020
    ... 	Kernel: f
    ... 	Entity: Global(7,0,0) Local(3,0,0) Group(1,0,0)
    ... 	At line 4 (column 8) of input.cl:
    ... 	  s[l]=x[i+1];
    ... ''')
    'Invalid read of size 4 at global memory address 0x1000000000020, kernel f, line 4: s[l]=x[i+1];'
    """
    found = [part.strip() for part in re.split(r"\n(?=\S)", log) if part.strip() and not _QUERY.search(part)]
    if not found:
        return ""
    if gave_up := _GAVE_UP.search(log):
        raise NotSimulated(f"the simulator Oclgrind cannot run it: {gave_up[1]}")
    first = min(found, key=lambda part: part.startswith("Uninit"))  # of a race they are the consequence
    text = first.partition("\n")[0]
    if kernel := _KERNEL.search(first):
        text += f", kernel {kernel[1]}"
    for line in dict.fromkeys(f", line {n}: {code}" for n, code in _LINE.findall(first)):
        text += line
    return text if len(found) == 1 else f"{text} (and {len(found) - 1} more findings)"
