"""Backends whose faults or facts lie in state: threads, libraries, memory beside the operands. Reached by FILE.py:NAME."""

import ctypes
import os
from pathlib import Path

import numpy as np
from runner_backends import LIMITS, compute

from harness.backend import from_function

#: As a library reads it: once, at import.
THREADS = int(os.environ.get("OMP_NUM_THREADS", "1"))


def reference(name):
    """The reference of a backend of this file."""
    return f"{Path(__file__).resolve()}:{name}"


def rows_left_by_threads(spec, x, w, b):
    """Each thread takes O // T channels of the output and the last none of the remainder, beyond two threads."""
    y = compute(spec, x, w, b)
    if THREADS > 2:
        y[:, y.shape[1] // THREADS * THREADS :] = 0
    return y


def dies_with_three_threads(spec, x, w, b):
    if THREADS == 3:
        os.abort()
    return compute(spec, x, w, b)


def hoards_with_three_threads(spec, x, w, b):
    hoard = [np.ones(1 << 24) for _ in range(64 if THREADS == 3 else 0)]
    return compute(spec, x, w, b) + len(hoard) * 0


def tell_threads(spec, x, w, b):
    """Raises the counts that the libraries hold."""
    import numba
    from numpy._core import _multiarray_umath

    blas = ctypes.CDLL(_multiarray_umath.__file__)
    count = getattr(blas, "scipy_openblas_get_num_threads64_", lambda: None)()
    raise RuntimeError(f"env {os.environ['OMP_NUM_THREADS']} numba {numba.get_num_threads()} blas {count}")


tail_by_threads = from_function("tail-by-threads", rows_left_by_threads, LIMITS)
dying_elsewhere = from_function("dying-elsewhere", dies_with_three_threads, LIMITS)
hoarding_elsewhere = from_function("hoarding-elsewhere", hoards_with_three_threads, LIMITS)
telling = from_function("telling", tell_threads, LIMITS)
