"""Errors in units of the bound as a histogram a backend, in inline SVG."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import floor, isfinite, log10

#: Decades shown; what lies beyond is in the outermost bin.
LOW, HIGH = -6, 3
#: Bins a decade.
BINS = 6
#: (place in per cent of the width, label).
TICKS = [(0.0, "≤ 1e-6"), (100 / 3, "1e-3"), (200 / 3, "bound"), (100.0, "≥ 1000")]


@dataclass(frozen=True)
class Strip:
    """The errors of one backend.

    Attributes
    ----------
    right, wrong : str
        Outlines of the bars at most as high, and higher, than the bound: SVG paths in a box of 100 x 40.
    most : int
        Verdicts in the highest bar.
    exact, unbounded, shown : int
        Errors of zero, infinite ones (equality was asked), and those in the bars.
    """

    right: str
    wrong: str
    most: int
    exact: int
    unbounded: int
    shown: int


def strip(errors: Iterable[float]) -> Strip:
    """The histogram of errors in units of the bound.

    Examples
    --------
    >>> made = strip([0.0, 0.5, 0.5, 20.0, float("inf")])
    >>> made.exact, made.most, made.shown, made.unbounded
    (1, 2, 3, 1)
    """
    bins = [0] * ((HIGH - LOW) * BINS)
    exact = unbounded = 0
    for e in errors:
        if not isfinite(e):
            unbounded += 1
        elif e <= 0:
            exact += 1
        else:
            # Just the bound itself is right, and belongs to the bin left of the line.
            place = floor((log10(e) - LOW) * BINS) if e != 1 else -LOW * BINS - 1
            bins[min(max(place, 0), len(bins) - 1)] += 1
    most = max(bins)
    middle = -LOW * BINS
    return Strip(_bars(bins, 0, middle, most), _bars(bins, middle, len(bins), most), most, exact, unbounded, sum(bins))


def _bars(bins: list[int], start: int, stop: int, most: int) -> str:
    width = 100 / len(bins)
    bars = []
    for i in range(start, stop):
        if bins[i]:
            height = max(1.5, 40 * bins[i] / most)  # a single verdict among thousands is seen still
            bars.append(f"M{i * width:.2f} 40v-{height:.1f}h{width * 0.9:.2f}v{height:.1f}z")
    return "".join(bars)
