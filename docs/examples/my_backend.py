"""A backend in fifteen lines: `convproof verify smoke --backend docs/examples/my_backend.py:backend`."""

import itertools

import numpy as np

from harness.backend import Limits, from_function


def shift_and_add(spec, x, w, b):
    """A sum over the taps of shifted, strided views of the padded input."""
    x = np.pad(x, [(0, 0), (0, 0), *spec.padding])
    y = np.zeros(spec.out_shape, x.dtype)
    for tap in itertools.product(*map(range, spec.kernel_size)):
        axes = zip(tap, spec.dilation, spec.out_size, spec.stride, strict=True)
        view = x[(..., *(slice(t * d, t * d + (n - 1) * s + 1, s) for t, d, n, s in axes))]
        y += np.einsum("nc...,oc->no...", view, w[(..., *tap)])
    return y if b is None else y + b.reshape(-1, *(1,) * spec.rank)


limits = Limits(
    ops=("conv",), dtypes=("f32", "f64"), padding_modes=("zeros",), groups=False, flip=False, negative_padding=False
)
backend = from_function("shift-and-add", shift_and_add, limits)
