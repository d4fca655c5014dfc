"""The thread count of a worker's libraries, fixed before a backend is imported."""

from __future__ import annotations

import ctypes
import os

from harness.run.limits import THREAD_VARIABLES

#: How the BLAS that NumPy was built with is told its thread count (OpenBLAS under four names, MKL, BLIS).
_SETTERS = (
    "scipy_openblas_set_num_threads64_", "scipy_openblas_set_num_threads", "openblas_set_num_threads64_",
    "openblas_set_num_threads", "MKL_Set_Num_Threads", "bli_thread_set_num_threads",
)  # fmt: skip
#: A count that few outputs are a multiple of, so that the last thread's share differs from the others'.
OTHER = 3


def other_threads(threads: int) -> int:
    """The count that outputs are compared with: `OTHER`, or 2 where that is the count of the run itself."""
    return OTHER if threads != OTHER else 2


def fix_threads(count: int) -> None:
    """Fix the thread count of this process's libraries.

    Those that are imported from now on read it from `THREAD_VARIABLES` (OpenBLAS takes at most the machine's cores from
    there). NumPy is here already, as the fork server loads it: its BLAS is told by a call.
    """
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(count)))
    lib = _numpy_library()
    for name in _SETTERS:
        if lib is not None and (setter := getattr(lib, name, None)) is not None:
            setter(ctypes.c_int(count))
            return


def _numpy_library() -> ctypes.CDLL | None:
    """NumPy's extension module; symbols are looked up in the libraries that it is linked with too."""
    from numpy._core import _multiarray_umath  # type: ignore[attr-defined]

    try:
        return ctypes.CDLL(_multiarray_umath.__file__)
    except OSError:
        return None
