"""The roofline: what a device can do at most, measured on the device itself, and whether a time is beyond it.

A time that needs more operations or bytes in a second than any program reaches there is no time of that computation: the
clock was read too early, the work was left out, or the output was there before. Each measurement runs in a fresh process,
since libraries take their thread counts when they are imported: `python -m harness.timing.roof --threads N` or `--device
NAME` prints a line of JSON.

References
----------
S. Williams, A. Waterman, D. Patterson, "Roofline: an insightful visual performance model", CACM 52 (4), 2009.
J. D. McCalpin, "Memory bandwidth and machine balance in current high performance computers", IEEE TCCA Newsletter, 1995.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from harness.backend import AlgorithmClass, Device
from harness.run.limits import THREAD_VARIABLES

#: The device that stands for the host's processor; any other name is an OpenCL device's.
HOST = "cpu"
#: Seconds that a measurement may take: some 4 on a quiet machine, and drivers compile when they meet a kernel first.
TIMEOUT = 120.0
#: How far beyond the roof a rate may lie. On a virtual Xeon whose two cores some eight other processes wanted, most of 7 peaks
#: agreed to 0.1 %, but the lowest lay below the highest by 13 % (f32, one thread), 8 % (f64), 17 % and 4 % (two threads):
#: the clock changes, and a run may meet a faster one than the roof did. What is to be found (work left out, a clock
#: stopped early) is wrong by factors. Where 10 % is too little, the roof was measured at a bad moment: measure it anew.
MARGIN = 1.1


class RoofError(RuntimeError):
    """The roof of a device can't be measured; the message says why and what to do."""


@dataclass(frozen=True)
class Roof:
    """What a device reached at most.

    Attributes
    ----------
    device : str
    threads : int
        Of the host; 0 where it means nothing, on a GPU.
    flops : mapping of str to float
        FLOP/s by arithmetic type, `f32` and `f64`; a multiply-add counts two.
    bandwidth : tuple of (int, float)
        Working set in bytes, ascending, and B/s of the triad a[i] = b[i] + s c[i], three arrays counted: what a store
        reads before it writes is not.
    how : mapping of str to str
        In words, what gave each figure: by arithmetic type, and `bandwidth`.
    compiled : bool
        Whether compiled loops ran. Else the figures are NumPy's, which a compiled program may exceed, and `refusal`
        refuses nothing by them.
    """

    device: str
    threads: int
    flops: Mapping[str, float]
    bandwidth: tuple[tuple[int, float], ...]
    how: Mapping[str, str] = field(default_factory=dict)
    compiled: bool = True

    def peak(self, dtype: str) -> float | None:
        """FLOP/s of an arithmetic type; None where it was not measured.

        Of 16-bit and integer arithmetic nothing is derived: matrix units (AMX, tensor cores) do many times what they do in
        float32.

        Examples
        --------
        >>> roof = Roof("cpu", 1, {"f32": 2e11}, ((24576, 4e11), (536870912, 2e10)))
        >>> roof.peak("f32"), roof.peak("bf16")
        (200000000000.0, None)
        """
        return self.flops.get(dtype)

    def triad(self, working_set_bytes: int) -> float:
        """B/s for a working set: of the smallest measured one that is at least half as large, else of the largest.

        Half, because each is measured at half of the cache that it stands for: what is up to twice as large lies in
        the same cache.

        Examples
        --------
        >>> roof = Roof("cpu", 1, {}, ((24576, 4e11), (536870912, 2e10)))
        >>> roof.triad(40_000) / 1e9, roof.triad(60_000) / 1e9, roof.triad(2**40) / 1e9
        (400.0, 20.0, 20.0)
        """
        return next((rate for size, rate in self.bandwidth if 2 * size >= working_set_bytes), self.bandwidth[-1][1])

    @property
    def best_bandwidth(self) -> float:
        """B/s, of the best working set: operands that were used just before may lie in any cache."""
        return max(rate for _, rate in self.bandwidth)

    def raised(self, other: Roof) -> Roof:
        """The larger of both at every figure: two measurements of one device, of which either may have met a bad moment.

        Examples
        --------
        >>> low, high = (Roof("cpu", 1, {"f32": f}, ((24576, b),)) for f, b in ((1e11, 4e11), (2e11, 3e11)))
        >>> low.raised(high).flops, low.raised(high).bandwidth
        ({'f32': 200000000000.0}, ((24576, 400000000000.0),))
        """
        flops = {k: max(self.flops.get(k, 0.0), other.flops.get(k, 0.0)) for k in {**self.flops, **other.flops}}
        rates = dict(other.bandwidth)
        bandwidth = tuple((size, max(rate, rates.get(size, 0.0))) for size, rate in self.bandwidth)
        return replace(self, flops=flops, bandwidth=bandwidth, compiled=self.compiled and other.compiled)

    def as_data(self) -> dict[str, Any]:
        """Every field, in JSON's types."""
        return {
            "device": self.device,
            "threads": self.threads,
            "flops": dict(self.flops),
            "bandwidth": [list(pair) for pair in self.bandwidth],
            "how": dict(self.how),
            "compiled": self.compiled,
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """The roof that `as_data` wrote.

        Raises
        ------
        ValueError
            If a bandwidth is missing, or a rate is not above 0.
        """
        pairs = tuple(sorted((int(size), float(rate)) for size, rate in data["bandwidth"]))
        flops = {str(k): float(v) for k, v in data["flops"].items()}
        if not pairs or min([*flops.values(), *(rate for _, rate in pairs)]) <= 0:
            raise ValueError(f"a roof has a bandwidth, and its rates are above 0: got {pairs} and {flops}")
        how = {str(k): str(v) for k, v in data.get("how", {}).items()}
        return cls(str(data["device"]), int(data["threads"]), flops, pairs, how, bool(data.get("compiled", True)))


def measure_roof(device: Device, threads: int, cores: Sequence[int] | None = None) -> Roof:
    """Measure a device's roof in a fresh process.

    Parameters
    ----------
    device : Device
        `cpu` is the host's processor, any other name an OpenCL device's.
    threads : int
        Fixed for all libraries.
    cores : sequence of int, optional
        The only ones that may be used; all that this process may use if not given.

    Raises
    ------
    RoofError
        If it cannot be had.
    """
    if threads < 1:
        raise RoofError(f"the roof is measured on one thread or more, not on {threads}")
    path = [str(Path.cwd()) if p == "" else p for p in sys.path]  # imports from where this process does
    code = f"import sys; sys.path[:] = {path!r}; from harness.timing.roof import main; sys.exit(main(sys.argv[1:]))"
    options = ["--device", device.name, "--threads", str(threads)]
    if cores is not None:
        options += ["--cores", ",".join(map(str, cores))]
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter
            [sys.executable, "-c", code, *options],
            env={**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RoofError(f"the roof of {device.name!r} was not measured within {TIMEOUT:.0f} s") from None
    except OSError as e:
        raise RoofError(f"the process that measures the roof of {device.name!r} could not be started: {e}") from e
    said = done.stderr.strip().splitlines() or ["it said nothing"]
    if done.returncode < 0:
        raise RoofError(f"measuring the roof of {device.name!r} died of signal {-done.returncode}: {said[-1]}")
    if done.returncode:
        raise RoofError(f"the roof of {device.name!r} cannot be measured: {said[-1]}")
    try:
        return Roof.from_data(json.loads(done.stdout.strip().splitlines()[-1]))
    except (IndexError, KeyError, TypeError, ValueError) as e:
        raise RoofError(f"the roof of {device.name!r} came back unreadable: {e!r} of {done.stdout[-200:]!r}") from e


def refusal(
    seconds: float,
    flops: float,
    bytes_moved: float,
    dtype: str,
    algorithm: AlgorithmClass,
    rank: int,
    roof: Roof,
    roof_margin: float = MARGIN,
) -> str | None:
    """Why a time cannot be that of the computation, or None.

    Parameters
    ----------
    seconds : float
        Of one run.
    flops : float
        Operations that a direct sum cannot do without (products with padding zeros left out): `ConvSpec.flops`.
        For a pool, which needs no multiplication and can share sums between outputs, give 0.
    bytes_moved : float
        Every operand and the output once: `ConvSpec.bytes`.
    dtype : str
        Of the operands; where its peak was not measured only the bytes are judged.
    algorithm : AlgorithmClass
        `direct` does all those operations. Winograd's F(m, r) replaces (m r)^rank products of a tile by
        (m + r - 1)^rank, which its rate may exceed the peak by. An FFT's count depends on its lengths: it has no
        roof of operations here, only of bytes.
    rank : int
        Spatial axes.
    roof : Roof
    roof_margin : float

    Examples
    --------
    >>> roof = Roof("cpu", 1, {"f32": 1e11}, ((24576, 4e11),))
    >>> refusal(1e-3, 2e8, 1e6, "f32", AlgorithmClass("direct"), 2, roof)
    'a direct sum of 0.2 GFLOP in 1 ms needs 200 GFLOP/s, and cpu does 100 at most in f32'
    >>> refusal(1e-3, 2e8, 1e6, "f32", AlgorithmClass("winograd", 2, 3), 2, roof) is None
    True
    """
    if not seconds > 0:
        return f"a time is above 0, got {seconds:g} s"
    if not roof.compiled:
        return None
    gain = _gain(algorithm, rank)
    peak = roof.peak(dtype)
    if peak is not None and gain is not None and flops / seconds > roof_margin * gain * peak:
        what = "a direct sum" if gain == 1 else f"{algorithm} instead of a direct sum"
        saved = "" if gain == 1 else f", of which it makes {_round(gain)} times that"
        return (
            f"{what} of {_round(flops / 1e9)} GFLOP in {_round(seconds * 1e3)} ms needs "
            f"{_round(flops / seconds / 1e9)} GFLOP/s, and {roof.device} does {_round(peak / 1e9)} at most in {dtype}{saved}"
        )
    if bytes_moved / seconds > roof_margin * roof.best_bandwidth:
        return (
            f"{_round(bytes_moved / 1e6)} MB in {_round(seconds * 1e3)} ms are {_round(bytes_moved / seconds / 1e9)} GB/s, "
            f"and {roof.device} moves {_round(roof.best_bandwidth / 1e9)} at most"
        )
    return None


def _gain(algorithm: AlgorithmClass, rank: int) -> float | None:
    """How many operations of the direct sum one of the algorithm's stands for; None where that is not known."""
    if algorithm.kind == "direct":
        return 1.0
    if algorithm.kind == "winograd" and algorithm.m > 0 and algorithm.r > 0:
        return (algorithm.m * algorithm.r / (algorithm.m + algorithm.r - 1)) ** rank
    return None


def _round(value: float) -> str:
    """Three digits, without an exponent where it can be read without one."""
    return f"{value:.3g}" if 1e-3 <= value < 1e3 or value == 0 else f"{value:.0f}" if value >= 1e3 else f"{value:.2e}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure in this process and print a line of JSON; what keeps it from that goes to stderr, with exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m harness.timing.roof", description="Measure the roofline of a device.")
    parser.add_argument("--device", default=HOST, help="'cpu', or the name of an OpenCL device")
    parser.add_argument("--threads", type=int, default=1, help="threads of all libraries")
    parser.add_argument("--cores", help="the only ones to use, as 0,1")
    chosen = parser.parse_args(arguments)
    try:
        # Before anything that starts threads is imported: they inherit the cores, and libraries read their counts once.
        if chosen.cores and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {int(core) for core in chosen.cores.split(",")})
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(chosen.threads)))
        found = _measure(chosen.device, chosen.threads)
    except (ImportError, LookupError, RuntimeError, ValueError, OSError, MemoryError) as e:
        print(" ".join(f"{_hint(e)}{e}".split()), file=sys.stderr)  # noqa: T201 - this is a program
        return 1
    print(json.dumps(Roof.from_data({"device": chosen.device, **found}).as_data()))  # noqa: T201 - this is a program
    return 0


def _measure(device: str, threads: int) -> dict[str, Any]:
    if device == HOST:
        from harness.timing import roof_host

        return roof_host.measure(threads)
    from harness.timing import roof_opencl

    return roof_opencl.measure(device, threads)


def _hint(error: Exception) -> str:
    if isinstance(error, ImportError):
        return "pip install 'convproof[opencl]': " if "pyopencl" in str(error) else "a package is missing: "
    return "memory is short: " if isinstance(error, MemoryError) else ""


if __name__ == "__main__":
    sys.exit(main())
