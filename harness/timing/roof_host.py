"""The host's roofline: multiply-adds in registers, NumPy's matrix product, the triad in each cache and in memory.

Runs in a process of its own, whose thread variables and cores are fixed before NumPy is imported. What counts is the best
of many short rounds: other processes cost rounds, hardly the best one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.timing.machine import Cache, caches
from harness.timing.roof_kernels import FLOATS, UNROLL, Loops, compile_loops

if TYPE_CHECKING:
    import numpy as np

#: Seconds for each measurement: hundreds of rounds, of which a crowded machine spoils most.
SECONDS = 0.1
#: Turns of the multiply-add loop a round: some 50 us, far less than a time slice of the scheduler.
TURNS = 10_000
#: Bytes that a thread moves in a round of the triad: 25 us in a first cache, 0.5 ms in memory.
ROUND_BYTES = 12 << 20
#: Windows of time in which all threads ran that are enough, and seconds after which fewer must do.
ENOUGH, PATIENCE = 16, 1.0
#: Rounds a measurement at most, and how many in a row give the rate of several threads.
ROUNDS, WINDOW = 1 << 14, 4
#: Sides of the square matrices that are multiplied.
SIDES = (256, 512, 1024)
#: Working sets are no larger: filling them takes longer than measuring.
LARGEST = 512 << 20
#: The arrays of the triad start this far apart beyond their length: at a multiple of 4 KiB loads would wait for stores.
SHIFT = 1344
#: How a round's arguments follow those that all loops share.
Round = tuple[str, Callable[[int], tuple[Any, ...]]]


def measure(threads: int) -> dict[str, Any]:
    """`Roof`'s fields but the device's name.

    Parameters
    ----------
    threads : int
        As the thread variables say.
    """
    flops, how = {}, {}
    products = {dtype: gemm_peak(dtype) for dtype in FLOATS}
    try:
        loops = compile_loops()
    except (ImportError, RuntimeError, OSError) as e:
        reason = "numba, which brings LLVM, is missing" if isinstance(e, ImportError) else f"LLVM refuses: {e}"
        for dtype, (rate, side) in products.items():
            flops[dtype], how[dtype] = rate, f"{_product(dtype, side)}, alone: {reason}"
        rates, how["bandwidth"] = add_rates(working_sets(threads)), f"NumPy's addition, which has no scalar: {reason}"
        return {"threads": threads, "flops": flops, "bandwidth": rates, "how": how, "compiled": False}
    with _crew(threads) as crew:
        first = {dtype: fma_peak(loops, dtype, crew, threads) for dtype in FLOATS}
        rates, how["bandwidth"] = triad_rates(loops, working_sets(threads), crew, threads)
        # Once more a second later: the clock follows what all cores of the processor do, neighbours' included.
        for dtype, (product, side) in products.items():
            fma = max(first[dtype], fma_peak(loops, dtype, crew, threads))
            flops[dtype] = max(fma, product)
            chosen = _loop(loops) if fma >= product else _product(dtype, side)
            how[dtype] = f"{chosen}; multiply-add {fma / 1e9:.1f}, product {product / 1e9:.1f} GFLOP/s"
    return {"threads": threads, "flops": flops, "bandwidth": rates, "how": how, "compiled": True}


def working_sets(threads: int, levels: Sequence[Cache] | None = None) -> list[int]:
    """Bytes of all three arrays of all threads: half of each cache, and one well beyond the last.

    Half, since another array, the stack and neighbours want room; shared caches are shared out. The last level's is at
    most 64 MiB, for a hypervisor may show one that is not ours alone; memory's is four times that cache, within `LARGEST`
    and an eighth of the memory.

    Examples
    --------
    >>> working_sets(1, [Cache(1, "Data", 2**15), Cache(2, "Unified", 2**20), Cache(3, "Unified", 2**23)])
    [16384, 524288, 4194304, 33554432]
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(threads))
    levels = [c for c in (caches() if levels is None else levels) if c.kind != "Instruction"]
    last = max((c.level for c in levels), default=0)
    sets = []
    for cache in levels:
        each = cache.size // 2 // min(threads, cache.sharers(cores))
        sets.append(min(threads * each, 64 << 20) if cache.level == last > 1 else threads * each)
    room = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 8
    largest = max((c.size for c in levels), default=LARGEST)
    return sorted({*sets, min(4 * largest, LARGEST, room)})


def gemm_peak(dtype: str) -> tuple[float, int]:
    """The best rate of NumPy's matrix product, FLOP/s, and the side of the matrices."""
    import numpy as np

    best = (0.0, 0)
    for side in SIDES:
        a = np.full((side, side), 0.5, np.float32 if dtype == "f32" else np.float64)
        b, c = a.copy(), np.empty_like(a)
        seconds = _best(lambda a=a, b=b, c=c: np.matmul(a, b, out=c), SECONDS)  # type: ignore[misc]
        best = max(best, (2 * side**3 / seconds, side))
    return best


def fma_peak(loops: Loops, dtype: str, crew: ThreadPoolExecutor, threads: int) -> float:
    """The best rate of the multiply-add loop on all threads at once, FLOP/s."""
    import numpy as np

    # x -> x / 2 + 1 stays near 2: no infinities, no subnormals, which some processors are slow at.
    states = [_aligned(loops.chains * loops.vector_bytes, np.float32 if dtype == "f32" else np.float64) for _ in range(threads)]
    for state in states:
        state.fill(1)
    call = (f"fma_{dtype}", lambda thread: (TURNS, states[thread].ctypes.data, 0.5, 1.0))
    return _round_rate(loops, call, crew, threads, loops.flops(dtype, TURNS))


def triad_rates(
    loops: Loops, sets: Sequence[int], crew: ThreadPoolExecutor, threads: int
) -> tuple[list[tuple[int, float]], str]:
    """The best rate for each working set, B/s, and in words how."""
    step = UNROLL * loops.vector_bytes
    calls = []
    for size in sets:
        # Whole rounds of whole steps, so that a round needs no test but the loop's own.
        each = size // (3 * threads)
        part = max(step, min(each, ROUND_BYTES // 3) // step * step)
        whole = max(part, each // part * part)
        passes = max(1, ROUND_BYTES // (3 * part))
        arrays = [_triple(whole) for _ in range(threads)]
        # Stores that pass by the caches pay where the arrays lie in no core's own: only there are they tried.
        kinds = ("plain",) if each < 1 << 20 else ("plain", "streaming")
        calls += [(kind, passes, part, whole, arrays) for kind in kinds]
    best: dict[int, tuple[float, str]] = {}
    for kind, passes, part, whole, arrays in calls * 2:  # twice, apart in time

        def rest(thread: int, sizes: Any = (passes, part, whole), arrays: Any = arrays) -> tuple[Any, ...]:
            return (*sizes, *(a.ctypes.data for a in arrays[thread]), 3.0)

        rate = _round_rate(loops, (f"triad_{kind}", rest), crew, threads, 3 * part * passes)
        moved = 3 * whole * threads
        best[moved] = max(best.get(moved, (0.0, "")), (rate, kind))
    streamed = ", ".join(str(moved) for moved, (_, kind) in best.items() if kind == "streaming")
    stores = f", with stores past the caches at {streamed} bytes" if streamed else ""
    rates = [(moved, rate) for moved, (rate, _) in sorted(best.items())]
    return rates, f"triad in float32, vectors of {8 * loops.vector_bytes} bits{stores}"


def add_rates(sets: Sequence[int]) -> list[tuple[int, float]]:
    """The best rate of NumPy's addition for each working set, B/s."""
    import numpy as np

    found = []
    for size in sets:
        a, b, c = _triple(size // 3 // 64 * 64)
        found.append((3 * a.nbytes, 3 * a.nbytes / _best(lambda a=a, b=b, c=c: np.add(b, c, out=a), SECONDS)))  # type: ignore[misc]
    return found


def _best(call: Callable[[], Any], budget: float) -> float:
    """Seconds of the fastest of the calls that `budget` has room for, after one that is not counted."""
    call()
    best, end = float("inf"), time.perf_counter() + budget
    while True:
        start = time.perf_counter()
        call()
        stop = time.perf_counter()
        best = min(best, stop - start)
        if stop > end:
            return best


def _round_rate(loops: Loops, call: Round, crew: ThreadPoolExecutor, threads: int, work: float) -> float:
    """The best rate of all threads together, each of whose rounds does `work`."""
    import numpy as np

    name, rest = call
    best, together, last = 0.0, 0, time.perf_counter() + PATIENCE
    while True:
        stamps = np.zeros((threads, ROUNDS, 2, 2), np.int64)  # start and end of each, in seconds and nanoseconds
        deadline = time.clock_gettime_ns(time.CLOCK_MONOTONIC) + int(SECONDS * 1e9)

        def run(thread: int, stamps: np.ndarray = stamps, deadline: int = deadline) -> int:
            return loops.functions[name](ROUNDS, deadline, stamps[thread].ctypes.data, *rest(thread))

        counts = [done.result() for done in [crew.submit(run, thread) for thread in range(threads)]]
        times = (stamps[..., 0] - stamps[0, 0, 0, 0]) + stamps[..., 1] * 1e-9
        rounds = [times[thread, :count] for thread, count in enumerate(counts)]
        rate, windows = joint_rate(rounds, work)
        if name.startswith("fma"):
            rate = max(rate, sum_of_best(rounds, work))
        best, together = max(best, rate), together + windows
        if together >= ENOUGH or time.perf_counter() > last:
            return best


def joint_rate(rounds: Sequence[np.ndarray], work: float) -> tuple[float, int]:
    """The best rate of threads that ran side by side, each at its own pace; in how many windows all of them ran.

    A window is `WINDOW` rounds in a row of any of them, or one of a thread alone. What the others did meanwhile is
    included: their rounds count by the part that lies within, but not at all where one was broken off, that is, took twice
    as long as is usual.

    Parameters
    ----------
    rounds : sequence of array
        For each thread the start and end of its rounds, (rounds, 2), seconds.
    work : float
        Of a round.

    Examples
    --------
    >>> import numpy as np
    >>> steady = np.array([[t, t + 1.0] for t in range(8)])
    >>> joint_rate([steady, steady + 0.5], 3.0)
    (6.0, 8)
    """
    import numpy as np

    window = 1 if len(rounds) == 1 else min(WINDOW, *map(len, rounds))
    done = [(times.ravel(), _steps(work * _whole(times))) for times in rounds]
    best, together = 0.0, 0
    for times in rounds:
        start, end = times[: len(times) - window + 1, 0], times[window - 1 :, 1]
        total = sum(np.interp(end, *of) - np.interp(start, *of) for of in done)
        best = max(best, float(np.max(total / (end - start))))
        together += int(np.count_nonzero(_all_ran(rounds, start, end)))
    return best, together


def sum_of_best(rounds: Sequence[np.ndarray], work: float) -> float:
    """The sum of each thread's best rate while all others ran as well; 0 where that never was.

    For work in registers, of which no thread takes from another but by the core and the clock that they share: the best
    of each need not be at the same moment, which a crowded machine may never grant.

    Parameters
    ----------
    rounds, work
        As for `joint_rate`.

    Examples
    --------
    >>> import numpy as np
    >>> sum_of_best([np.array([[0.0, 1.0], [1.0, 3.0]]), np.array([[0.0, 2.0], [2.0, 3.0]])], 3.0)
    6.0
    """
    import numpy as np

    best = []
    for times in rounds:
        start, end = times[:, 0], times[:, 1]
        best.append(float(np.max(_all_ran(rounds, start, end) * work / (end - start))))
    return sum(best) if all(best) else 0.0


def _whole(times: np.ndarray) -> np.ndarray:
    """Which rounds were not broken off."""
    import numpy as np

    seconds = times[:, 1] - times[:, 0]
    return seconds <= 2 * np.median(seconds)


def _all_ran(rounds: Sequence[np.ndarray], start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """In which of the stretches of time every thread ran, and was nowhere in a round that was broken off."""
    import numpy as np

    ran = np.ones(len(start), bool)
    for times in rounds:
        at, lost = times.ravel(), _steps((times[:, 1] - times[:, 0]) * ~_whole(times))
        ran &= (start >= at[0]) & (end <= at[-1]) & (np.interp(end, at, lost) == np.interp(start, at, lost))
    return ran


def _steps(gains: np.ndarray) -> np.ndarray:
    """Of what each round adds, the sum before and after it."""
    import numpy as np

    after = np.cumsum(gains)
    return np.stack([np.concatenate(([0.0], after[:-1])), after], 1).ravel()


@contextmanager
def _crew(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Threads, each on a core of its own where there are just as many: the scheduler is slow to part two that spin."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    free = list(cores)

    def settle() -> None:
        if len(cores) == threads > 1:
            os.sched_setaffinity(0, {free.pop()})

    with ThreadPoolExecutor(threads, initializer=settle) as crew:
        yield crew


def _aligned(size: int, dtype: Any) -> np.ndarray:
    """`size` bytes at a multiple of 64."""
    import numpy as np

    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype)


def _triple(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three arrays of `size` bytes, `SHIFT` further apart than they are long, rounded up to 4 KiB."""
    import numpy as np

    step = -(-size // 4096) * 4096 + SHIFT
    block = _aligned(2 * step + size, np.uint8)
    parts = [block[k * step : k * step + size].view(np.float32) for k in range(3)]
    for part in parts:
        part.fill(1)
    return parts[0], parts[1], parts[2]


def _loop(loops: Loops) -> str:
    kind = "multiply-add" if loops.fused else "multiply and add"
    return f"{kind} loop, {loops.chains} vectors of {8 * loops.vector_bytes} bits"


def _product(dtype: str, side: int) -> str:
    return f"NumPy's {dtype} matrix product of side {side}"
