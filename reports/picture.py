"""The picture of an error: where in the output it is, and how large, drawn from the arrays of a failure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite, log10

import numpy as np

from harness.backend import AlgorithmClass, Device
from harness.data import Operands
from harness.oracle import Reference, reference, tolerance
from harness.oracle.bound import NoBound
from harness.records import Verdict
from harness.spec import ConvSpec
from reports.raster import blocks, data_uri, png, ramp

#: Palette: exact, within the bound, 252 steps of wrong (a darker step is a larger error), not finite.
EXACT, WITHIN, FIRST, LAST, NOT_FINITE = 0, 1, 2, 253, 254
_STOPS = ((253, 190, 110), (236, 112, 20), (168, 50, 10), (70, 10, 20))
PALETTE = [(243, 246, 248), (200, 214, 224), *ramp(_STOPS, LAST - FIRST + 1), (106, 61, 154)]
#: The same for the key, as CSS.
KEY = {
    "exact": "rgb({}, {}, {})".format(*PALETTE[EXACT]),
    "within": "rgb({}, {}, {})".format(*PALETTE[WITHIN]),
    "not_finite": "rgb({}, {}, {})".format(*PALETTE[NOT_FINITE]),
    "ramp": f"linear-gradient(90deg, {', '.join('rgb({}, {}, {})'.format(*s) for s in _STOPS)})",
}
#: Cells of a picture's side; a larger output is drawn in blocks.
SIDE = 256
#: Bytes of an output, and products of its reference, beyond which no picture is drawn.
BYTES, PRODUCTS = 64 << 20, 2_000_000_000


@dataclass(frozen=True)
class Heat:
    """One raster.

    Attributes
    ----------
    image : str
        A data URI.
    rows, columns : int
        Of the raster.
    row_axis, column_axis : str
        What the axes are, with their lengths.
    mark : (row, column) or None
        The cell of the worst element.
    block : str
        What a cell is the worst of, where it is more than an element.
    """

    image: str
    rows: int
    columns: int
    row_axis: str
    column_axis: str
    mark: tuple[int, int] | None
    block: str


@dataclass(frozen=True)
class Picture:
    """The error of one output.

    Attributes
    ----------
    space, channels : Heat
        The worst over all else of each place, and of each channel of each image.
    bounded : bool
        Whether the colours measure errors in units of the bound, else errors as they are.
    low, high : float
        The errors of the first and the last step of the ramp.
    wrong, not_finite, size : int
        Elements that are wrong (those that are not finite among them), not finite, and all.
    key : mapping of str to str
        CSS of the colours: `exact`, `within`, `not_finite`, `ramp`.
    """

    space: Heat
    channels: Heat | None
    bounded: bool
    low: float
    high: float
    wrong: int
    not_finite: int
    size: int
    key: Mapping[str, str] = field(default_factory=lambda: KEY)


def picture(
    spec: ConvSpec, algorithm: AlgorithmClass, device: Device, verdict: Verdict, ops: Operands, out: np.ndarray
) -> Picture | None:
    """Draw the error of `out`.

    Parameters
    ----------
    spec : ConvSpec
    algorithm : AlgorithmClass
    device : Device
    verdict : Verdict
        Which says whether equality was asked, and where the worst element is.
    ops : Operands
        What `out` was computed from.
    out : ndarray, `spec.out_shape`

    Returns
    -------
    Picture or None
        None where the operands are not finite, where it would cost too much, or where `out` is right: some
        checks compare two outputs, and the last need not be the wrong one.
    """
    if out.shape != spec.out_shape or not out.size or out.nbytes > BYTES or spec.flops > 2 * PRODUCTS or not _finite(ops):
        return None
    ref = reference(spec, ops)
    got = out.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        err = np.abs(got - ref.hi if ref.lo is None else got - ref.hi - ref.lo)
        size, bounded = _measured(spec, algorithm, device, verdict, ops, ref, err)
    odd = ~np.isfinite(size)
    wrong = odd | (size > 1.0 if bounded else err > 0.0)
    if not np.any(wrong):
        return None
    ramped = size[wrong & ~odd]
    low, high = (float(np.min(ramped)), float(np.max(ramped))) if ramped.size else (1.0, 1.0)
    low = 1.0 if bounded else low
    index = _indices(size, wrong, odd, low, high)
    where = _believed(verdict, got)
    return Picture(
        _space(spec, index, where),
        _channels(spec, index, where),
        bounded,
        low,
        high,
        int(np.count_nonzero(wrong)),
        int(np.count_nonzero(odd)),
        int(out.size),
    )


def _measured(
    spec: ConvSpec,
    algorithm: AlgorithmClass,
    device: Device,
    verdict: Verdict,
    ops: Operands,
    ref: Reference,
    err: np.ndarray,
) -> tuple[np.ndarray, bool]:
    """The error in units of the bound by which the verdict was found; as it is where equality was asked."""
    bound, where = verdict.error_bound, verdict.worst_index
    if bound is not None and isfinite(bound) and bound > 0 and where is not None and len(where) == err.ndim:
        for data in ("zero-mean", "positive"):
            try:
                tol = np.broadcast_to(tolerance(spec, algorithm, device, data, ops, ref), err.shape)
            except NoBound:
                break
            ratio = np.where(err == 0, 0.0, err / tol)
            if all(i < n for i, n in zip(where, err.shape, strict=True)) and abs(ratio[where] / bound - 1) < 1e-6:
                return ratio, True
    return err, False


def _indices(size: np.ndarray, wrong: np.ndarray, odd: np.ndarray, low: float, high: float) -> np.ndarray:
    """Entries of the palette; errors by their logarithm."""
    span = max(log10(high) - log10(low), 1e-9) if low > 0 else 1.0
    with np.errstate(invalid="ignore", divide="ignore"):
        step = (np.log10(size) - log10(low or 1.0)) / span if high > low else np.ones_like(size)
    level = FIRST + np.rint(np.clip(np.nan_to_num(step), 0.0, 1.0) * (LAST - FIRST)).astype(np.int64)
    right = np.where(size > 0, WITHIN, EXACT)
    return np.where(odd, NOT_FINITE, np.where(wrong, level, right)).astype(np.uint8)


def _believed(verdict: Verdict, got: np.ndarray) -> tuple[int, ...] | None:
    """The worst element's index, if this is the output in which it was found."""
    where = verdict.worst_index
    if where is None or len(where) != got.ndim or any(i >= n for i, n in zip(where, got.shape, strict=True)):
        return None
    return where if verdict.got is None or np.array_equal(got[where], verdict.got, equal_nan=True) else None


def _space(spec: ConvSpec, index: np.ndarray, where: tuple[int, ...] | None) -> Heat:
    """Rows and columns: the last two spatial axes; of a 1-D output channels and positions."""
    one = spec.rank == 1
    axes = (1, 2) if one else (index.ndim - 2, index.ndim - 1)
    names = ("channel", "position") if one else ("row", "column")
    return _heat(index, axes, names, where)


def _channels(spec: ConvSpec, index: np.ndarray, where: tuple[int, ...] | None) -> Heat | None:
    """Rows: images; columns: channels. None where the other picture shows them, or there is one."""
    if index.shape[0] * index.shape[1] == 1 or (spec.rank == 1 and index.shape[0] == 1):
        return None
    return _heat(index, (0, 1), ("image", "channel"), where)


def _heat(index: np.ndarray, axes: tuple[int, int], names: tuple[str, str], where: tuple[int, ...] | None) -> Heat:
    rest = tuple(a for a in range(index.ndim) if a not in axes)
    plane, step = blocks(np.max(index, rest), SIDE)
    mark = None if where is None else (where[axes[0]] // step[0], where[axes[1]] // step[1])
    return Heat(
        data_uri(png(plane, PALETTE)),
        plane.shape[0],
        plane.shape[1],
        _counted(index.shape[axes[0]], names[0]),
        _counted(index.shape[axes[1]], names[1]),
        mark,
        f"{step[0]} x {step[1]}" if step != (1, 1) else "",
    )


def _counted(n: int, name: str) -> str:
    return f"{n} {name}{'s' * (n != 1)}"


def _finite(ops: Operands) -> bool:
    return all(bool(np.all(np.isfinite(a.astype(np.float64)))) for a in ops.arrays if a is not None)
