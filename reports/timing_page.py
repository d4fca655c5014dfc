"""What the page shows of a benchmark: machine, changes, ratios, plots, noise, figures, refusals, ready to be placed.

Tables come from `reports.tables`, figures from `reports.plots`. Whatever a page has no room for is counted here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from math import isfinite, isnan, log
from typing import TYPE_CHECKING

from harness.catalogue import Case
from harness.text import writable
from harness.timing.ratios import legend
from reports import plots, svg, tables
from reports.benchmark import Benchmark
from reports.changes import WORSE, Change
from reports.heat import HeatCell, HeatFamily, families, means, ordered
from reports.machine import machine_facts, roof_rows
from reports.quantities import digits, duration, percent, short, time_unit, times

if TYPE_CHECKING:
    import pandas as pd

    from reports.svg import Plot, Style

#: Rows of the table of figures, of changes, of refusals; cases named beside a reason.
FIGURES, CHANGES, REFUSALS, NAMED = 1_500, 300, 200, 5
#: Figures whose samples are drawn; devices whose roofline is.
DRAWN, ROOFLINES = 3, 3
#: Contenders beside each other in a table of ratios.
COLUMNS = 40
#: The ratio at the edge of a bar of changes.
EDGE = 4.0
NAME, CONTENDER, HEADING = 300, 72, 24
#: What is left out without matplotlib.
PLOTS = ("performance profile", "roofline", "time against accuracy", "samples of one case", "noise of the figures")


@dataclass(frozen=True)
class ChangeRow:
    """A changed case, with its bar: the places of the interval's ends and of the ratio between them."""

    change: Change
    kind: str
    name: str
    who: str
    ratio: str
    note: str
    bar: tuple[float, float, float]


@dataclass(frozen=True)
class Refusal:
    """Why figures were refused, how many, and whose."""

    text: str
    jobs: int
    who: str
    cases: str


@dataclass(frozen=True)
class BenchView:
    """The benchmark's part of a page. Tables are rows of text; the first cells are names."""

    line: str
    warnings: tuple[str, ...]
    machine: tuple[tuple[str, str], ...]
    roofs: tuple[tuple[str, ...], ...]
    changes: tuple[ChangeRow, ...]
    changes_left: int
    same: int
    contenders: tuple[tuple[str, str], ...]
    contenders_left: int
    baseline: str
    legend: str
    means: tuple[tuple[str, ...], ...]
    heat_all: tuple[HeatCell, ...]
    heat: tuple[HeatFamily, ...]
    plots: tuple[Plot, ...]
    samples: tuple[Plot, ...]
    sampled: str
    noise_plot: Plot | None
    missing: str
    noise: tuple[tuple[str, ...], ...]
    phases: tuple[tuple[str, ...], ...]
    figures: tuple[tuple[str, ...], ...]
    figures_left: int
    refusals: tuple[Refusal, ...]
    refusals_left: int


def bench_view(made: Benchmark, cases: Mapping[str, Case], sampled: str | None = None) -> BenchView:
    """The benchmark's part of a page.

    Parameters
    ----------
    made : Benchmark
    cases : mapping of str to Case
        The catalogue, by id: orders the rows, and knows element types.
    sampled : str, optional
        Case whose samples are drawn; without it that of the figure that is known worst.
    """
    pairs = tables.outcomes(made.frame, made.verdicts)
    pairs["contender"] = pairs["contender"].map(_displayed(pairs["contender"]))
    names = {(b, d): n for b, d, n in zip(pairs["backend"], pairs["device"], pairs["contender"], strict=True)}
    named = [names[key] for key in zip(made.frame["backend"], made.frame["device"], strict=True)]
    frame = made.frame.assign(contender=named)
    declared = list(made.run.info.environment.get("backends", {}))
    place = {b: i for i, b in enumerate(declared)}
    order = [n for (b, _), n in sorted(names.items(), key=lambda item: (place.get(item[0][0], len(place)), item[0]))]
    order = list(dict.fromkeys(order))
    noise = tables.noise_of(frame, made.raw)
    why = svg.missing()
    of = plots.styles(order)
    case = sampled or (str(noise["case"].iloc[int(noise["half_width"].to_numpy().argmax())]) if len(noise) else "")
    ratios = tables.ratio_to_best(frame)
    changed = [c for c in made.changes if c.verdict != "SAME"]
    refusals = _refusals(made, names)
    figures, left = _figures(made, frame, ratios, cases, names)
    shown = order[:COLUMNS]
    return BenchView(
        line=made.line,
        warnings=tuple(_text(w, 1_000) for w in made.warnings),
        machine=tuple(machine_facts(made)),
        roofs=tuple(roof_rows(made)),
        changes=tuple(_change_row(c, names) for c in changed[:CHANGES]),
        changes_left=max(0, len(changed) - CHANGES),
        same=len(made.changes) - len(changed),
        contenders=tuple((short(n, HEADING), n) for n in shown),
        contenders_left=len(order) - len(shown),
        baseline=_text(made.baseline or "", HEADING),
        legend=_text(legend(made.baseline), 4 * HEADING + NAME) if made.baseline else "",
        means=tuple((_text(m.name), str(m.cases), str(m.faster), digits(m.ratio)) for m in made.means),
        heat_all=tuple(means(ratios, shown)),
        heat=tuple(families(frame, ratios, pairs, shown, cases)),
        plots=() if why else tuple(_overall(made, frame, pairs, of, cases)),
        samples=() if why else tuple(_samples(made, noise, of, case)),
        sampled=_text(case),
        noise_plot=None if why else plots.noise(noise, of),
        missing=f"Left out: {', '.join(PLOTS)}; {why}." if why else "",
        noise=tuple(_noise_rows(noise, order)),
        phases=tuple(_phase_rows(frame, order)),
        figures=tuple(figures),
        figures_left=left,
        refusals=tuple(refusals[:REFUSALS]),
        refusals_left=max(0, len(refusals) - REFUSALS),
    )


def _displayed(contenders: Iterable[str]) -> dict[str, str]:
    """The name that the page shows of each contender: short, and no two alike."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in dict.fromkeys(contenders):
        cut = short(_text(name), CONTENDER)
        shown = next(s for i in count(1) if (s := cut if i == 1 else f"{cut} ({i})") not in taken)
        taken.add(shown)
        found[name] = shown
    return found


def _text(value: object, limit: int = NAME) -> str:
    return writable(value, limit)


# --- changes ------------------------------------------------------------------------------------------------------


def _change_row(c: Change, names: Mapping[tuple[str, str], str]) -> ChangeRow:
    kind = "worse" if c.verdict in WORSE else "better" if c.verdict in ("FASTER", "MORE ACCURATE") else "open"
    middle = _at(c.ratio)
    bar = (_at(c.low), middle, _at(c.high)) if c.interval else (middle, middle, middle)
    who = names.get((c.backend, c.device), f"{c.backend} on {c.device}")
    return ChangeRow(c, kind, _text(c.case), _text(who), digits(c.ratio), _text(c.note), bar)


def _at(ratio: float) -> float:
    """The place of a ratio on a bar from 1 to 99: 50 for no change, the ends for `EDGE` and beyond."""
    if isnan(ratio) or ratio < 0:
        return 50.0
    held = min(max(ratio, 1 / EDGE), EDGE)
    return round(50 + 49 * log(held) / log(EDGE), 1)


# --- noise, phases ------------------------------------------------------------------------------------------------


def _noise_rows(noise: pd.DataFrame, order: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Contender, figures, half-width (median, 90th percentile), spread, absolute drift, tail."""
    groups = dict(list(noise.groupby("contender")))
    for name in order:
        if name in groups:
            held = groups[name]
            yield (
                *(
                    name,
                    str(len(held)),
                    percent(held["half_width"].median()),
                    percent(float(held["half_width"].quantile(0.9))),
                ),
                *(percent(held["spread"].median()), percent(held["drift"].abs().median()), percent(held["tail"].median())),
            )


def _phase_rows(frame: pd.DataFrame, order: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Contender, figures, each phase's median share, cold calls, set-ups."""
    groups = dict(list(tables.phases(frame).groupby("contender")))
    for name in order:
        if name in groups:
            held = groups[name].drop(columns=[*tables.KEY, "contender"])
            middle = held.median()
            shares = [percent(middle[n]) for n in (*tables.PHASES, "other")]
            factors = [times(middle[n]) for n in ("cold", "setup", "setup_warm")]
            yield (name, str(len(held)), *shares, *factors)


# --- figures ------------------------------------------------------------------------------------------------------


def _figures(
    made: Benchmark, frame: pd.DataFrame, ratios: pd.DataFrame, cases: Mapping[str, Case], names: Mapping[tuple[str, str], str]
) -> tuple[list[tuple[str, ...]], int]:
    """The rows of the table of figures, and how many it has no room for: changed ones are kept, then the longest."""
    rows = [r for r in made.rows if isfinite(r["seconds"])]
    left = max(0, len(rows) - FIGURES)
    if left:
        changed = {(c.case, c.backend, c.device) for c in made.changes if c.verdict != "SAME"}
        rows.sort(key=lambda r: ((r["case"], r["backend"], r["device"]) not in changed, -r["seconds"]))
        rows = rows[:FIGURES]
    place = {case: i for i, case in enumerate(ordered({r["case"] for r in rows}, cases))}
    rows.sort(key=lambda r: (place[r["case"]], r["seconds"]))
    values = ratios.to_dict("index")
    shown: list[tuple[str, ...]] = []
    last = ""
    for r in rows:
        who = names[r["backend"], r["device"]]
        half = (r["high"] - r["low"]) / 2 / r["seconds"]
        inside = ", ".join(
            f"{n} {percent(r[f'{n}_seconds'] / r['seconds'])}" for n in tables.PHASES if isfinite(r[f"{n}_seconds"])
        )
        device = duration(r["device_seconds"])
        shown.append(
            (
                _text(r["case"]) if r["case"] != last else "",
                who,
                duration(r["seconds"]),
                _between(r["low"], r["high"]),
                percent(half),
                f"{r['samples']}/{r['processes']}",
                digits(values[r["case"]].get(who, float("nan"))),
                digits(r["gflops"]) if r["flops"] else "",
                digits(r["gbytes"]) if r["bytes"] else "",
                percent(r["roof"]),
                duration(r["cold_seconds"]),
                " / ".join(filter(None, (duration(r["setup_seconds"]), duration(r["setup_warm_seconds"])))),
                ", ".join(filter(None, (f"device {device}" if device else "", inside))),
            )
        )
        last = r["case"]
    return shown, left


def _between(low: float, high: float) -> str:
    """An interval of seconds, in one unit unless its ends are far apart."""
    unit, name = time_unit(high)
    if low < 0.1 * unit:
        return f"{duration(low)} \N{EN DASH} {duration(high)}"
    return f"{digits(low / unit)}\N{EN DASH}{digits(high / unit)}\N{NO-BREAK SPACE}{name}"


def _refusals(made: Benchmark, names: Mapping[tuple[str, str], str]) -> list[Refusal]:
    """Why figures were refused, the most frequent first."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for t in made.raw:
        if t.refused:
            found[t.refused].append((t.case, names[t.backend, t.device]))
    made_of = []
    for text, held in sorted(found.items(), key=lambda item: -len(item[1])):
        ids, who = (list(dict.fromkeys(column)) for column in zip(*held, strict=True))
        more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
        made_of.append(
            Refusal(_text(text, 1_000), len(held), _text(", ".join(who), 1_000), _text(", ".join(ids[:NAMED]), 1_000) + more)
        )
    return made_of


# --- plots --------------------------------------------------------------------------------------------------------


def _overall(
    made: Benchmark, frame: pd.DataFrame, pairs: pd.DataFrame, of: Mapping[str, Style], cases: Mapping[str, Case]
) -> Iterator[Plot]:
    """Profile, rooflines, accuracy."""
    found = [plots.profile(tables.profile_of(pairs), of)]
    known = {name: case.spec.in_dtype for name, case in cases.items() if case.spec is not None}
    points = tables.roofline(frame, known)
    roofs = made.roofs
    devices = sorted(dict.fromkeys(points["device"]), key=lambda d: d not in roofs)
    for i, device in enumerate(devices[:ROOFLINES]):
        drawn = plots.roofline(points[points["device"] == device], roofs.get(device), _text(device), of, f"roofline{i}")
        if drawn is not None and i == ROOFLINES - 1 < len(devices) - 1:
            drawn = replace(drawn, caption=f"{drawn.caption} {len(devices) - ROOFLINES} more devices are left out.")
        found.append(drawn)
    middle = tables.pareto(frame)
    found.append(plots.accuracy(middle, tables.pareto_summary(middle), of))
    yield from (p for p in found if p is not None)


def _samples(made: Benchmark, noise: pd.DataFrame, of: Mapping[str, Style], case: str) -> Iterator[Plot]:
    """The samples of a case, the figure that is known worst first."""
    held = noise[noise["case"] == case].sort_values("half_width", ascending=False, kind="stable").head(DRAWN)
    raw = {(t.case, t.backend, t.device): t for t in made.raw}
    for i, (backend, device, shown) in enumerate(zip(held["backend"], held["device"], held["contender"], strict=True)):
        drawn = plots.samples(raw[case, backend, device], shown, of[shown], f"samples{i}")
        if drawn is not None:
            yield drawn
