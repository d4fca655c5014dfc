"""Planted faults: right implementations, each changed in one step, on which the gate's power is measured.

`FAULTS` lists them; every one is a backend of its own, by its name with `_`:
`convproof verify smoke -b backends.planted:flipped_kernel`.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

from backends.planted.fault import CLASSES, FOUND, KINDS, Fault
from backends.planted.named import NAMED
from harness.backend import Backend

for _module in (
    "tail", "precision", "shortcuts", "stride", "padding", "border", "transposed", "pooling", "special",
    "index", "channels", "memory", "state", "function", "opencl", "opencl_conv", "opencl_rest",
):  # fmt: skip
    import_module(f"{__name__}.{_module}")

#: The subset that every commit is held to: a fault or two of each class, those that a small case shows.
_CI = frozenset(
    [
        "channel-tail-zero-8",
        "overlapping-vector-adds-twice-8",
        "sums-rounded-to-12",
        "one-operand-rounded-w-11",
        "tf32",
        "winograd-tiles-rounded-down",
        "unsigned-weights",
        "pairs-saturate",
        "finite-math-only",
        "dilation-ignored",
        "stride-ignored-conv",
        "window-moved-last-1",
        "anchor-of-even-kernels",
        "first-column-masked",
        "bound-not-tested-last",
        "pads-swapped",
        "pads-of-the-first-axis",
        "reflect-repeats-the-edge",
        "circular-wraps-one-off",
        "same-ignores-dilation",
        "phase-not-tested",
        "output-padding-is-zero",
        "overhang-is-zero",
        "padding-never-counted",
        "max-starts-from-zero",
        "clips-to-finite",
        "zero-past-a-limit-64",
        "group-is-modulo",
        "channel-moved-by-1",
        "samples-reversed",
        "flipped-kernel",
        "bias-ignored",
        "last-column-not-written",
        "accumulates-into-out",
        "input-modified-in-place",
        "square-output-transposed",
        "plan-key-lacks-padding",
        "uploaded-once-w",
        "last-writer-wins",
        "now-and-then-an-element-lost",
        "size-rounded-up",
        "divides-by-the-batch",
        "opencl-dilation-ignored",
        "opencl-columns-not-tested",
        "opencl-equivalent-ties",
    ]
)
#: Every planted fault.
FAULTS: tuple[Fault, ...] = tuple(
    replace(f, ci=f.name in _CI, named=NAMED.get(f.name, NAMED.get(f.mutation, ()))) for f in FOUND
)
_BY_ATTRIBUTE = {f.attribute: f for f in FAULTS}

__all__ = ["CLASSES", "FAULTS", "KINDS", "Fault"]


def __getattr__(name: str) -> Backend:
    """A fresh backend of the fault called so."""
    if name in _BY_ATTRIBUTE:
        return _BY_ATTRIBUTE[name].make()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_BY_ATTRIBUTE]
