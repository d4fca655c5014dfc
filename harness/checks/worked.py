"""Small examples for the theorems: one channel, whole numbers, computed by the oracle when they are shown."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.data import Operands
from harness.oracle import reference
from harness.spec import ConvSpec


def conv(x: Any, w: Any, op: str = "conv", **options: Any) -> list[Any]:
    """The convolution of lists of one channel, as nested lists of whole numbers.

    Parameters
    ----------
    x, w : nested list of int
        Input and kernel, an axis a level; for a pool `w` is the kernel's size.
    op : str
    **options
        Further fields of `ConvSpec`.

    Examples
    --------
    >>> conv([1, 2, 3, 4], [1, -1])
    [-1, -1, -1]
    >>> conv([1, 2, 3, 4], [1, 0, -1], padding=((1, 1),), padding_mode="circular")
    [2, -2, -2, 2]
    """
    pool = op.endswith("pool")
    a = np.array(x, np.float32)
    k = None if pool else np.array(w, np.float32)
    size = tuple(w) if k is None else k.shape
    spec = ConvSpec(op, a.shape, size, **options)
    b = np.zeros(1, np.float32) if spec.bias else None
    ops = Operands(a[None, None], None if k is None else k[None, None], b)
    y = reference(spec, ops).hi[0, 0]
    return (y.astype(int) if np.array_equal(y, np.rint(y)) else y).tolist()
