"""Small examples for the theorems: whole numbers, computed by the oracle when they are shown."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.data import Operands
from harness.oracle import reference
from harness.spec import ConvSpec


def conv(x: Any, w: Any, op: str = "conv", **options: Any) -> list[Any]:
    """The convolution of lists, as nested lists of whole numbers.

    Parameters
    ----------
    x, w : nested list of int
        Input and kernel, an axis a level; for a pool `w` is the kernel's size. Where `w` has the channels' two levels
        as stored, `x` and the result have a level of channels (for a pool a level more than its kernel's axes), and
        with `batch` one of images too.
    op : str
    **options
        Further fields of `ConvSpec`.

    Examples
    --------
    >>> conv([1, 2, 3, 4], [1, -1])
    [-1, -1, -1]
    >>> conv([1, 2, 3, 4], [1, 0, -1], padding=((1, 1),), padding_mode="circular")
    [2, -2, -2, 2]
    >>> conv([[1, 2], [3, 4]], [[[1], [10]]])
    [[31, 42]]
    """
    pool = op.endswith("pool")
    a, k = np.array(x, np.float32), None if pool else np.array(w, np.float32)
    if k is None:
        rank = len(w)
    else:
        rank = k.ndim - 2 if "batch" in options or k.ndim > a.ndim else k.ndim
        k = k if k.ndim > rank else k[None, None]
    leading = a.ndim - rank
    a = a.reshape(*(1,) * (2 - leading), *a.shape)
    outputs = 0 if k is None else k.shape[0] if op == "conv" else k.shape[1] * int(options.get("groups", 1))
    size = tuple(w) if k is None else k.shape[2:]
    spec = ConvSpec(op, a.shape[2:], size, in_channels=a.shape[1], out_channels=outputs, **options)
    b = np.zeros(spec.out_channels, np.float32) if spec.bias else None
    y = reference(spec, Operands(a, k, b)).hi[(0,) * (2 - leading)]
    return (y.astype(int) if np.array_equal(y, np.rint(y)) else y).tolist()
