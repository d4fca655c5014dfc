"""What a worker may use, and the environment that fixes its threads."""

from __future__ import annotations

import os
from dataclasses import dataclass

#: Variables that set the thread count of the libraries a backend may use; they act at import only.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS", "TBB_NUM_THREADS",
    "POCL_MAX_PTHREAD_COUNT", "POCL_CPU_MAX_CU_COUNT",
)  # fmt: skip

#: Variables by which threads that wait sleep instead of spinning, for workers share the cores. OpenBLAS spins for 2^26
#: clock ticks else: verifying `fft` on two cores beside other workers took 14 times as long. What the caller sets stays.
WAIT_VARIABLES = {"OPENBLAS_THREAD_TIMEOUT": "4", "OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0"}


@dataclass(frozen=True)
class Limits:
    """Limits of one worker.

    Attributes
    ----------
    seconds : float
        For one call of the backend (a load, a prepare, a run).
    load_seconds : float
        For starting and importing it, and the first compilation.
    memory : int
        Bytes of private data (RLIMIT_DATA) and of resident memory (polled).
    threads : int
        Threads of its libraries, fixed before they are imported, whatever the number of workers.
    guard : {'bands', 'pages'}
        What lies around the arrays: bytes that are looked at afterwards, or pages that nobody may touch either.
    """

    seconds: float = 30.0
    load_seconds: float = 120.0
    memory: int = 2 << 30
    threads: int = 2
    guard: str = "bands"


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
