"""Element types as numpy sees them, and exact conversion between storage and accumulator.

f16 and bf16 are storage types on a host: numba has no f16, scipy.sparse refuses it, and NumPy's
bf16 matmul returns f32. `widen` goes to the accumulator exactly; `narrow` rounds once.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from harness.spec.convspec import ConvSpec

_NUMPY = {"f16": "float16", "f32": "float32", "f64": "float64", "i8": "int8", "i32": "int32"}


@cache
def numpy_dtype(name: str) -> np.dtype[Any]:
    """The numpy dtype of element type `name` (bf16 is `ml_dtypes.bfloat16`)."""
    if name == "bf16":
        import ml_dtypes

        bf16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bf16
    return np.dtype(_NUMPY[name])


def widen(a: np.ndarray, spec: ConvSpec) -> np.ndarray:
    """`a` in the accumulator's type, exactly; no copy where it is that already.

    An accumulator of 16 bits stays one: rounding every sum to it is the backend's own affair.

    Parameters
    ----------
    a : ndarray, any shape, dtype of the input
    spec : ConvSpec

    Examples
    --------
    >>> import numpy as np
    >>> s = ConvSpec("conv", (5,), (3,), in_dtype="f16")
    >>> widen(np.ones(3, np.float16), s).dtype
    dtype('float32')
    """
    return a.astype(numpy_dtype(spec.acc_dtype), copy=False)


def narrow(a: np.ndarray, spec: ConvSpec) -> np.ndarray:
    """`a`, in the accumulator's type, rounded once to the output's (to nearest, ties to even).

    What is too large for the output's type becomes an infinity, silently, as IEEE 754 says.
    """
    with np.errstate(over="ignore"):
        return a.astype(numpy_dtype(spec.out_dtype), copy=False)
