"""`torch`: PyTorch's convolutions and pools on the host's processor, by `torch.nn.functional`.

The tensors are views of the operands; the result, which PyTorch allocates, is copied to the output, as
`aten::convolution.out` does too, more slowly (measured: 10 to 20 us a call, which only small ones show). Padding is the
convolution's own where that can say it, the same zeros on both sides, else `torch.nn.functional.pad`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from importlib import import_module
from math import prod
from time import perf_counter
from typing import Any, Self

import numpy as np

from backends.libraries import Library, thread_count, version_of
from harness.backend import BackendInfo, ContractError, Limits, Prepared, Unsupported
from harness.spec import ConvSpec

#: What torch.nn.functional.pad calls the padding modes.
MODES = {"zeros": "constant", "circular": "circular", "reflect": "reflect", "replicate": "replicate"}
#: What is kept of `torch.__config__.parallel_info()`.
_PARALLEL = {
    "oneDNN": re.compile(r"MKL-DNN v(\S+)"),
    "MKL": re.compile(r"Math Kernel Library Version (\S+)"),
    "parallel": re.compile(r"ATen parallel backend: (.+)"),
}


def _rule(spec: ConvSpec) -> str | None:
    """Uneven padding but of conv, pools padded by over half the kernel, avg_pool3d beyond its input, dilated averages."""
    if spec.op != "conv" and any(a.lo != a.hi for a in spec.axes):
        return "its padding is the same on both sides"
    if spec.is_pool and any(2 * a.lo > a.m for a in spec.axes):
        return "the padding of its pools is at most half the kernel"
    if spec.op == "avg_pool" and spec.rank == 3 and any(a.m > a.n for a in spec.axes):
        return "its avg_pool3d refuses a kernel larger than the input without its padding (avg_pool1d and 2d do not)"
    if spec.op == "avg_pool" and max(spec.dilation) > 1:
        return "its avg_pool has no dilation"
    return None


class Torch(Library):
    """The backend object; see the contract in `harness.backend`."""

    info = BackendInfo(
        "torch",
        "PyTorch on the processor: torch.nn.functional's convolutions and pools",
        Limits(dtypes=("f32", "f64"), flip=False, rule=_rule),
        version=version_of("torch"),
        thread_safe=True,
    )
    modules = ("torch",)
    hint = "pip install torch"

    def properties(self, *modules: Any) -> dict[str, str]:
        """Versions of PyTorch and of what computes inside it, and its threads."""
        (torch,) = modules
        _settle(torch)
        text = torch.__config__.parallel_info()
        found = {name: m[1].strip() for name, pattern in _PARALLEL.items() if (m := pattern.search(text))}
        if not torch.backends.mkldnn.is_available():
            found["oneDNN"] = "not available"
        return {**super().properties(torch), **found, "threads": str(torch.get_num_threads())}

    def workspace_bytes(self, spec: ConvSpec, /) -> int:
        """The padded input, the result, blocked copies of all operands, and the columns of a matrix product."""
        item = spec.in_type.itemsize
        padded = spec.batch * spec.in_channels * prod(a.n + max(a.lo, 0) + max(a.hi, 0) for a in spec.axes)
        sizes = prod(spec.w_shape or ()) + prod(spec.out_shape)
        columns = 0
        if not spec.is_pool:
            pixels = spec.in_size if spec.op == "conv_transpose" else spec.out_size
            channels = spec.out_channels if spec.op == "conv_transpose" else spec.in_channels
            columns = spec.batch * channels * prod(spec.kernel_size) * prod(pixels)
        return item * (2 * (padded + sizes) + columns)

    def prepare(self, spec: ConvSpec, device: str, /) -> Prepared:
        """Choose the function and its arguments."""
        if device != "cpu":
            raise Unsupported(f"backend 'torch' has no device {device!r}: its device is 'cpu'")
        try:
            torch = import_module("torch")
        except ImportError as error:
            raise Unsupported(f"backend 'torch' needs torch ({error}): {self.hint}") from error
        _settle(torch)
        return _Prepared(spec, torch)


backend = Torch()


def _settle(torch: Any) -> None:
    """The harness's number of threads; direct sums, as declared, for NNPACK would take Winograd's where there is no oneDNN."""
    if count := thread_count():
        torch.set_num_threads(count)
    torch.backends.nnpack.set_flags(False)


class _Prepared:
    """One specification with its function."""

    def __init__(self, spec: ConvSpec, torch: Any) -> None:
        self._torch = torch
        self._call = _function(spec, torch.nn.functional)
        self._pad = None if native_padding(spec) is not None else _padder(spec, torch.nn.functional)
        self.phases: dict[str, float] = {}

    def run(self, x: np.ndarray, w: np.ndarray | None, b: np.ndarray | None, out: np.ndarray, /) -> None:
        """Pad where the convolution cannot, compute, copy."""
        torch = self._torch
        with torch.inference_mode():
            start = perf_counter()
            given = [tensor(torch, a) for a in (x, w, b) if a is not None]
            if self._pad is not None:
                given[0] = self._pad(given[0])
            padded = perf_counter()
            y = self._call(*given)
            called = perf_counter()
            if y.shape != out.shape:  # copy_ would broadcast
                raise ContractError(f"returned shape {list(y.shape)}, the specification's output is {list(out.shape)}")
            torch.from_numpy(out).copy_(y)
        phases = {"kernel": called - padded, "copy": perf_counter() - called}
        self.phases = phases if self._pad is None else {"pack": padded - start, **phases}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return None


def native_padding(spec: ConvSpec) -> tuple[int, ...] | None:
    """The padding an axis as the function itself takes it; None where the input has to be padded before.

    Examples
    --------
    >>> same = ConvSpec("conv", (5, 5), (3, 3), padding=((1, 1), (0, 0)))
    >>> native_padding(same), native_padding(ConvSpec("conv", (5,), (3,), padding=((0, 1),)))
    ((1, 0), None)
    """
    if any(a.lo != a.hi or a.lo < 0 for a in spec.axes):
        return None
    padding = tuple(a.lo for a in spec.axes)
    return padding if spec.padding_mode == "zeros" or not any(padding) else None


def tensor(torch: Any, a: np.ndarray) -> Any:
    """A tensor over the memory of an array, which is not written; `from_numpy` would warn of one that is read-only."""
    return torch.from_numpy(a if a.flags.writeable else np.asarray(_Address(a)))


class _Address:
    """The memory of an array, by its address: NumPy makes a view of it that is not marked as read-only."""

    def __init__(self, a: np.ndarray) -> None:
        self.held = a  # keeps the memory while the view lives
        self.__array_interface__ = {**a.__array_interface__, "data": (a.__array_interface__["data"][0], False)}


def _padder(spec: ConvSpec, functional: Any) -> Callable[[Any], Any]:
    """Pads the input, or crops it; PyTorch takes the last axis first."""
    widths = tuple(width for a in reversed(spec.axes) for width in (a.lo, a.hi))
    return partial(functional.pad, pad=widths, mode=MODES[spec.padding_mode])


def _function(spec: ConvSpec, functional: Any) -> Callable[..., Any]:
    """The function of the operands that computes the specification, its input padded before where that has to be."""
    padding = native_padding(spec) or (0,) * spec.rank
    call = getattr(functional, f"{spec.op}{spec.rank}d")
    size = {"kernel_size": spec.kernel_size, "stride": spec.stride, "padding": padding, "ceil_mode": spec.ceil_mode}
    if spec.op == "max_pool":
        return partial(call, **size, dilation=spec.dilation)
    if spec.op == "avg_pool":
        return partial(call, **size, count_include_pad=spec.count_include_pad)
    how = {"stride": spec.stride, "padding": padding, "dilation": spec.dilation, "groups": spec.groups}
    if spec.op == "conv_transpose":
        how["output_padding"] = spec.output_padding
    return partial(call, **how)
