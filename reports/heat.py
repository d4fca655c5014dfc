"""The heat map: how many times as long each contender takes as the fastest, by family and by case."""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

from harness.catalogue import Case
from harness.text import writable
from reports import tables
from reports.quantities import short

if TYPE_CHECKING:
    import pandas as pd

#: Upper ends of the classes of colour; the last class is open.
CLASSES = (1.0, 1.1, 1.5, 2.0, 4.0, 10.0, 30.0)
#: Cases that are listed; characters of a row's name.
LISTED, ROW = 1_500, 80


@dataclass(frozen=True)
class HeatCell:
    """A square of the heat map: its class, its text, and its tooltip."""

    kind: str
    text: str
    title: str = ""


@dataclass(frozen=True)
class HeatFamily:
    """The ratios of a family: their geometric means, and those of its cases."""

    name: str
    number: int
    cells: tuple[HeatCell, ...]
    rows: tuple[tuple[str, tuple[HeatCell, ...]], ...]
    left: int


def _cell(ratio: float, *, tie: bool = False) -> HeatCell:
    if not isfinite(ratio):
        return HeatCell("hn", "")
    kind = bisect.bisect_left(CLASSES, ratio - 1e-9)
    shown = f"{ratio:.2f}" if ratio < 9.995 else f"{ratio:.1f}" if ratio < 99.95 else f"{ratio:.0f}"
    return HeatCell(f"h{kind}{' tie' if tie else ''}", shown)


_SIGNS = {
    "refused": ("refused", "R"),
    "failed": ("failed", "F"),
    "unsupported": ("unsupported", "\N{EN DASH}"),
    "untried": ("not timed", "·"),
}


def means(ratios: pd.DataFrame, order: Sequence[str]) -> Iterator[HeatCell]:
    """Geometric means by contender."""
    import numpy as np

    for name in order:
        held = ratios[name].dropna() if name in ratios else ratios.iloc[:0, :0].sum(axis=1)
        yield _cell(float(np.exp(np.log(held).mean())) if len(held) else float("nan"))


def families(
    frame: pd.DataFrame, ratios: pd.DataFrame, pairs: pd.DataFrame, order: Sequence[str], cases: Mapping[str, Case]
) -> Iterator[HeatFamily]:
    """The families in the catalogue's order, with their cases.

    Parameters
    ----------
    frame : DataFrame
        `Run.timings`.
    ratios, pairs : DataFrame
        Of `tables.ratio_to_best` and `tables.outcomes`.
    order : sequence of str
        Contenders, as columns.
    cases : mapping of str to Case
    """
    ties = tables.best_ties(frame).to_dict("index")
    values = {str(case): held for case, held in ratios.to_dict("index").items()}
    signs: dict[str, dict[str, str]] = defaultdict(dict)
    for case, contender, outcome in zip(pairs["case"], pairs["contender"], pairs["outcome"], strict=True):
        if outcome != "figure":
            signs[case][contender] = outcome
    by_family: dict[str, list[str]] = defaultdict(list)
    for case in ordered(values, cases):
        by_family[cases[case].family if case in cases else case.partition("-")[0]].append(case)
    room = LISTED
    for family, ids in by_family.items():
        rows = []
        for case in ids[: max(0, room)]:
            cells = []
            for name in order:
                ratio = values[case].get(name, float("nan"))
                if isfinite(ratio):
                    cells.append(_cell(ratio, tie=bool(ties[case].get(name))))
                else:
                    word, sign = _SIGNS.get(signs[case].get(name, ""), ("not timed", ""))
                    cells.append(HeatCell("hn", sign, word if sign else ""))
            rows.append((short(writable(case, 2 * ROW), ROW), tuple(cells)))
        room -= len(rows)
        name = short(writable(family, 2 * ROW), ROW)
        yield HeatFamily(name, len(ids), tuple(means(ratios.loc[ids], order)), tuple(rows), len(ids) - len(rows))


def ordered(ids: Iterable[str], cases: Mapping[str, Case]) -> list[str]:
    """Cases in the catalogue's order, others behind, by name."""
    place = {name: i for i, name in enumerate(cases)}
    return sorted(ids, key=lambda n: (place.get(n, len(place)), n))
