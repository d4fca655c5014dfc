"""From the catalogue's vocabulary to `ConvSpec`'s fields: scalars spread over axes, words worked out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.spec.geometry import same_padding

#: The vocabulary, in the order in which a grid's fields appear in an id.
SPEC_FIELDS = (
    "op", "in_size", "kernel_size", "batch", "in_channels", "out_channels", "stride", "padding", "padding_mode",
    "dilation", "groups", "output_padding", "bias", "flip", "ceil_mode", "count_include_pad", "dtype", "acc_dtype", "out_dtype",
)  # fmt: skip
_AXIS_FIELDS = ("kernel_size", "stride", "dilation", "output_padding")


def spec_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """`ConvSpec`'s keyword arguments.

    Parameters
    ----------
    values : mapping
        Catalogue fields (`models.SpecFields`), absent where the default holds.

    Raises
    ------
    ValueError
        If a word for the padding has no meaning here.

    Examples
    --------
    >>> spec_fields({"op": "conv", "in_size": (5, 7), "kernel_size": 4, "padding": "same_upper"})["padding"]
    ((1, 2), (1, 2))
    """
    out = {k: _tuples(v) for k, v in values.items() if k != "dtype" and v is not None}
    size = out.get("in_size", ())
    rank = len(size) if isinstance(size, tuple) else 1
    for name in _AXIS_FIELDS:
        if type(out.get(name)) is int:
            out[name] = (out[name],) * rank
    if "padding" in out:
        out["padding"] = _padding(out, rank)
    if values.get("dtype") is not None:
        out["in_dtype"] = values["dtype"]
    return out


def _padding(out: Mapping[str, Any], rank: int) -> Any:
    """(low, high) an axis from any of the ways to write it."""
    padding = out["padding"]
    if type(padding) is int:
        return ((padding, padding),) * rank
    if isinstance(padding, tuple):
        return tuple((p, p) if type(p) is int else p for p in padding)
    if padding == "valid":
        return ((0, 0),) * rank
    if out.get("op") == "conv_transpose":
        raise ValueError(f"padding {padding!r} has several meanings for conv_transpose: write the numbers")
    ones = (1,) * rank
    axes = (out.get("in_size", ()), out.get("kernel_size", ()), out.get("stride", ones), out.get("dilation", ones))
    if len({len(a) for a in axes}) != 1:
        raise ValueError(f"padding {padding!r} needs kernel_size, stride and dilation of {rank} entries")
    if any(v < 1 for a in axes for v in a):
        raise ValueError(f"padding {padding!r} needs sizes, strides and dilations of 1 or more")
    if padding == "full":
        return tuple((d * (m - 1), d * (m - 1)) for _, m, _, d in zip(*axes, strict=True))
    return tuple(same_padding(*a, upper=padding == "same_upper") for a in zip(*axes, strict=True))


def _tuples(value: Any) -> Any:
    """Lists, at any depth, as tuples."""
    return tuple(_tuples(v) for v in value) if isinstance(value, list | tuple) else value
