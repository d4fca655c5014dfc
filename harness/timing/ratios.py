"""Times as multiples of a baseline's on the same case, and their geometric means; for the terminal and the reports alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: The baseline that is whichever backend is the fastest on a case.
BEST = "best"


@dataclass(frozen=True)
class Mean:
    """The ratios of a backend, in short.

    Attributes
    ----------
    name : str
    ratio : float
        The geometric mean of its times over the baseline's: below 1 it is faster, above 1 slower.
    cases : int
        On which both have a figure.
    faster : int
        Of these, on how many it is faster than the baseline; with `BEST`, on how many it is the fastest.
    """

    name: str
    ratio: float
    cases: int
    faster: int


def against(rows: Iterable[Mapping[str, Any]], baseline: str | None = None) -> dict[str, float]:
    """The seconds of each case that ratios are to: the baseline's on its fastest device, the least of all without one.

    Parameters
    ----------
    rows : iterable of mapping
        As of `Run.timings`; those without a figure count for nothing.
    baseline : str, optional
        A backend's name.
    """
    found: dict[str, float] = {}
    for r in rows:
        if r["seconds"] > 0 and baseline in (None, r["backend"]):
            found[r["case"]] = min(found.get(r["case"], math.inf), r["seconds"])
    return found


def means(rows: Sequence[Mapping[str, Any]], baseline: str | None = None) -> list[Mean]:
    """Geometric means by backend, in the order of the rows; last that of the best of them on each case, if they are several.

    Parameters
    ----------
    rows : sequence of mapping
        As of `Run.timings`; those without a figure count for nothing.
    baseline : str, optional
        A backend's name, which has no mean of its own. Without one, ratios are to the fastest on each case.

    Examples
    --------
    >>> def row(case, backend, seconds):
    ...     return {"case": case, "backend": backend, "device": "cpu", "seconds": seconds}
    >>> rows = [row("a", "old", 4.0), row("a", "new", 1.0), row("b", "old", 1.0), row("b", "new", 1.0)]
    >>> means(rows, "old")
    [Mean(name='new', ratio=0.5, cases=2, faster=1)]
    """
    least = against(rows, baseline)
    held: dict[str, dict[str, float]] = {}
    best: dict[str, float] = {}
    devices: dict[str, set[str]] = {}
    for r in rows:
        devices.setdefault(r["backend"], set()).add(r["device"])
    for r in rows:
        if not r["seconds"] > 0 or r["case"] not in least or r["backend"] == baseline:
            continue
        several = len(devices[r["backend"]]) > 1
        ratio = r["seconds"] / least[r["case"]]
        held.setdefault(f"{r['backend']} on {r['device']}" if several else r["backend"], {})[r["case"]] = ratio
        best[r["case"]] = min(best.get(r["case"], math.inf), ratio)
    if baseline is not None and len(held) > 1:
        held[f"best of {', '.join(held)}"] = best
    return [_mean(name, list(ratios.values()), 1.0 if baseline is None else None) for name, ratios in held.items()]


def _mean(name: str, ratios: Sequence[float], fastest: float | None) -> Mean:
    faster = sum(r == fastest if fastest is not None else r < 1 for r in ratios)
    return Mean(name, math.exp(math.fsum(map(math.log, ratios)) / len(ratios)), len(ratios), faster)


def legend(baseline: str | None) -> str:
    """What a ratio says, in a line."""
    whose, other = (f"{baseline}'s", baseline) if baseline else ("the fastest", "it")
    return f"x {baseline or BEST}: a time as a multiple of {whose} on the same case; 2.00 takes twice as long as {other}" + (
        ", 0.50 half as long" if baseline else ""
    )
