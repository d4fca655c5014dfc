"""`scipy-signal`: scipy.signal.correlate, a call for each pair of channels, summed outside it; direct, not by FFT."""

from __future__ import annotations

import itertools
from importlib import import_module
from math import prod
from time import perf_counter
from typing import Any, Self

import numpy as np

from backends.libraries import Library, version_of
from backends.padding import padded
from harness.backend import BackendInfo, Limits, Prepared, Unsupported
from harness.spec import ConvSpec


class ScipySignal(Library):
    """The backend object; see the contract in `harness.backend`."""

    info = BackendInfo(
        "scipy-signal",
        "scipy.signal.correlate and convolve, direct, a call for each pair of channels",
        Limits(ops=("conv",), dtypes=("f32", "f64"), dilation=False),
        version=version_of("scipy"),
        thread_safe=True,
    )
    modules = ("scipy", "scipy.signal")
    hint = "pip install scipy"

    def properties(self, *modules: Any) -> dict[str, str]:
        """SciPy's version; the call is of one thread."""
        return super().properties(modules[0]) | {"threads": "1"}

    def workspace_bytes(self, spec: ConvSpec, /) -> int:
        """The padded input, and the correlation of one pair of channels, at stride 1, twice."""
        sizes = [a.n + max(a.lo, 0) + max(a.hi, 0) for a in spec.axes]
        return spec.in_type.itemsize * (spec.batch * spec.in_channels + 2) * prod(sizes)

    def prepare(self, spec: ConvSpec, device: str, /) -> Prepared:
        """Find the function."""
        if device != "cpu":
            raise Unsupported(f"backend 'scipy-signal' has no device {device!r}: its device is 'cpu'")
        try:
            return _Prepared(spec, import_module("scipy.signal"))
        except ImportError as error:
            raise Unsupported(f"backend 'scipy-signal' needs scipy ({error}): {self.hint}") from error


backend = ScipySignal()


class _Prepared:
    """One specification with its function."""

    def __init__(self, spec: ConvSpec, signal: Any) -> None:
        self.spec = spec
        self._call = signal.convolve if spec.flip else signal.correlate
        self.phases: dict[str, float] = {}

    def run(self, x: np.ndarray, w: np.ndarray | None, b: np.ndarray | None, out: np.ndarray, /) -> None:
        """Pad; correlate every pair of channels; add."""
        assert w is not None
        spec, start = self.spec, perf_counter()
        if any(p != (0, 0) for p in spec.padding):
            x = padded(x, spec, [a.n + a.lo + a.hi for a in spec.axes], x.dtype)
        packed = perf_counter()
        per_in, per_out = spec.in_channels // spec.groups, spec.out_channels // spec.groups
        step = (..., *(slice(None, None, s) for s in spec.stride))
        out[...] = 0
        with np.errstate(over="ignore", invalid="ignore"):  # infinities and NaN are data here
            for n, m, c in itertools.product(range(spec.batch), range(spec.out_channels), range(per_in)):
                out[n, m] += self._call(x[n, m // per_out * per_in + c], w[m, c], mode="valid", method="direct")[step]
            if b is not None:
                out += b.reshape(-1, *(1,) * spec.rank)
        self.phases = {"pack": packed - start, "kernel": perf_counter() - packed}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return None
