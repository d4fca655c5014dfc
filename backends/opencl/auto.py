"""`opencl-auto`: the OpenCL backend that should be fastest for a specification, and why.

Which class of algorithm computes a specification depends on the specification alone, so that the bound it is judged by
is known before it runs and is the same on every device: Winograd's F(4x4,3x3) where it saves more products than its
transforms cost, sums of products otherwise. What a device was tuned for (`convproof tune`) chooses among kernels of a class.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any, Self

import numpy as np

from backends.opencl import direct, launch, naive, winograd
from harness.backend import LAYOUTS, BackendInfo, Limits, Prepared, Probe
from harness.spec import ConvSpec

#: Specifications that may be computed by Winograd: those of `opencl-winograd` whose sums are of 32 bits.
TRANSFORMED = replace(winograd.backend.info.limits, dtypes=("f32",))


class OpenCLAuto:
    """The backend object; see the contract in `harness.backend`.

    Examples
    --------
    >>> backend.choose(ConvSpec("conv", (56, 56), (3, 3), 1, 64, 64, padding=((1, 1), (1, 1))))[0]
    'opencl-winograd'
    >>> backend.choose(ConvSpec("conv", (56, 56), (1, 1), 1, 64, 256))
    ('opencl-direct', 'its kernels have 3 taps an axis')
    """

    info = BackendInfo(
        "opencl-auto",
        "OpenCL, the fastest kernel for a specification by a model of cost",
        Limits(naive.OPS, naive.TYPES, padding_modes=tuple(naive.MODES)),
        winograd.backend.info.algorithm,
        ((TRANSFORMED, winograd.backend.info.algorithm),),
        extra="opencl",
        version="1",
        nan_max_pool="propagate",
        layouts=LAYOUTS,
    )

    def __init__(self) -> None:
        self._direct, self._winograd = direct.backend, winograd.backend

    def probe(self) -> Probe:
        """Every installed driver's devices that ran a trial kernel."""
        return self._direct.probe()

    def choose(self, spec: ConvSpec) -> tuple[str, str]:
        """The backend that computes `spec`, and why."""
        if reason := TRANSFORMED.why_not(spec):
            return self._direct.info.name, reason
        share = transformed_cost(spec) / direct_cost(spec)
        name = self._winograd.info.name if share < 1 else self._direct.info.name
        return name, f"by the model Winograd costs {share:.2f} of a direct sum"

    def workspace_bytes(self, spec: ConvSpec, /) -> int:
        """That of the chosen backend."""
        return self._chosen(spec).workspace_bytes(spec)

    def prepare(self, spec: ConvSpec, device: str, /) -> Prepared:
        """Prepare the chosen backend's."""
        launch.handle_of(self._direct.runtime, self.info.name, device)  # what is missing is missing under this name
        return _Chosen(self._chosen(spec).prepare(spec, device), *self.choose(spec))

    def _chosen(self, spec: ConvSpec) -> Any:
        return self._winograd if self.choose(spec)[0] == self._winograd.info.name else self._direct


class _Chosen:
    """What was chosen, and why; all else is the chosen one's."""

    def __init__(self, prepared: Prepared, choice: str, reason: str) -> None:
        self._prepared: Any = prepared
        tuned = getattr(prepared, "tuned", None)
        words = ", ".join(f"{name} {value}" for name, value in tuned.items()) if tuned else ""
        self.choice, self.reason = choice, f"{reason}; tuned: {words}" if words else reason

    @property
    def phases(self) -> dict[str, float]:
        """Seconds of the last run, a phase."""
        return dict(self._prepared.phases)

    @property
    def device_seconds(self) -> float:
        """Of the last run's kernels."""
        return float(self._prepared.device_seconds)

    def run(self, x: np.ndarray, w: np.ndarray | None, b: np.ndarray | None, out: np.ndarray, /) -> None:
        """Compute."""
        self._prepared.run(x, w, b, out)

    def __enter__(self) -> Self:
        self._prepared.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._prepared.__exit__(*exc)


#: Nanoseconds, of one core with two 512-bit multipliers: a product of 16 in each kernel, and what is not multiplied.
PRODUCT, INPUT, FILTER, OUTPUT = 0.0122, 0.45, 17.0, 0.5


def direct_cost(spec: ConvSpec) -> float:
    """Nanoseconds of a direct sum, by its products and outputs."""
    high, wide = spec.out_size
    columns = 1 + (spec.kernel_size[1] - 1) / wide  # what is computed between the rows
    return PRODUCT * prod(spec.kernel_size) * spec.in_channels * spec.out_channels * high * wide * columns


def transformed_cost(spec: ConvSpec) -> float:
    """Nanoseconds of F(4x4,3x3): its products, on whole vectors of tiles, and the transforms."""
    p = winograd.plan(spec, 4, 16)
    tiles = -(-p.tiles // 16) * 16
    products = 36 * spec.in_channels * spec.out_channels * tiles * PRODUCT * (1.6 if tiles == 16 else 1.15)
    transforms = 36 * tiles * (spec.in_channels * INPUT / 2 + spec.out_channels * OUTPUT / 4)
    return products + transforms + FILTER * spec.in_channels * spec.out_channels


backend = OpenCLAuto()
