"""The figures of a benchmark: profile, roofline, time against accuracy, samples, noise.

Each is a pure function of tables (`reports.tables`) or samples. Every axis has its unit, no series is told by colour
alone, and legends are text of the page. What a figure has no room for, its caption counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Any

from harness.samples import Timing
from harness.statistics import figure as median_of
from reports.quantities import TIMES, digits, duration, percent, short, size, time_unit
from reports.svg import BG, CARD, FG, MUTED, Plot, Style, drawing, figure, inline, key, log_axis, margins

if TYPE_CHECKING:
    import pandas as pd

Styles = Mapping[str, Style]
#: Contenders in a figure; points of one in it; samples of one.
CONTENDERS, POINTS, SAMPLES = 10, 250, 600
#: Characters of a name beside an axis.
NAME = 16
#: A half-width below this is drawn as this: a logarithmic axis has no zero.
LEAST = 1e-4


def styles(names: Iterable[str]) -> dict[str, Style]:
    """A style a contender, by its place."""
    return {name: Style(i) for i, name in enumerate(dict.fromkeys(names))}


def profile(table: pd.DataFrame, of: Styles) -> Plot | None:
    """The performance profile; None without steps.

    Parameters
    ----------
    table : DataFrame
        Of `reports.tables.performance_profile`.
    of : mapping of str to Style
    """
    import numpy as np

    steps = table.dropna(subset=["tau"])
    if steps.empty:
        return None
    names, left = _chosen(of, table["contender"])
    end = max(float(steps["tau"].max()) * 1.15, 1.5)
    grid = np.geomspace(1.0, end, 250)
    with drawing():
        made, ax = figure()
        keys, told = [], []
        for name in names:
            held = table[table["contender"] == name]
            taus, fractions = held["tau"].to_numpy(), np.append(0.0, held["fraction"].to_numpy())
            reached = np.searchsorted(taus[~np.isnan(taus)], grid * (1 + 1e-12), side="right")
            ax.step(
                *(grid, 100 * fractions[reached]), where="post", color=of[name].colour, linestyle=of[name].dash, linewidth=1.8,
                marker=of[name].mark, markevery=(25 * (of[name].number % 5) // 5, 50), markersize=6,
            )  # fmt: skip
            solved, cases = int(held["solved"].iloc[0]), int(held["cases"].iloc[0])
            keys.append(key(f"{name}: {solved} of {cases}", of[name], line=True))
            told.append(f"{name} is the fastest on {percent(fractions[reached[0]])} and has figures for {solved} of {cases}")
        log_axis(ax, "x", 1.0, end, unit=TIMES)
        ax.set_ylim(-2, 103)
        ax.set_xlabel("within this factor of the fastest")
        ax.set_ylabel("cases, % of those claimed")
        svg = inline(made, "profile", "Performance profile", f"{'; '.join(told)}.")
    caption = (
        f"Higher is better: at 1{TIMES} the share of cases on which a backend is the fastest, further right within a factor "
        "of it. A figure that was refused or failed takes infinitely long; what a backend declares as unsupported does not "
        "count, so each has cases of its own, whose number the legend gives."
    )
    return Plot("profile", "Performance profile", "; ".join(told), svg, caption + _unshown(left), tuple(keys))


def roofline(points: pd.DataFrame, roof: Mapping[str, Any] | None, device: str, of: Styles, name: str) -> Plot | None:
    """The roofline of one device; None without points.

    Parameters
    ----------
    points : DataFrame
        Of `reports.tables.roofline`, all of that device.
    roof : mapping, optional
        `Roof.as_data()`: `flops` by element type, `bandwidth` as pairs of bytes and B/s.
    device : str
    of : mapping of str to Style
    name : str
        Of the plot.
    """
    held = points[(points["gflops"] > 0) & (points["intensity"] > 0)]
    if held.empty:
        return None
    peaks = {str(t): float(f) / 1e9 for t, f in ((roof or {}).get("flops") or {}).items() if f and f > 0}
    slopes = [(int(b), float(r) / 1e9) for b, r in ((roof or {}).get("bandwidth") or ()) if r and r > 0]
    names, left = _chosen(of, held["contender"])
    low, high = margins(held["intensity"].tolist())
    if peaks and slopes:
        high = max(high, 3 * max(peaks.values()) / min(r for _, r in slopes))
    bottom, top = margins([*held["gflops"].tolist(), *peaks.values()], 0.08)
    with drawing():
        made, ax = figure(height=310)
        _roofs(ax, peaks, slopes, (low, high, bottom, top))
        keys, double = [], False
        for contender in names:
            for hollow in (False, True):
                part = held[(held["contender"] == contender) & ((held["dtype"] == "f64") == hollow)]
                double |= hollow and len(part) > 0
                xs, ys = _spread(part["intensity"].tolist(), part["gflops"].tolist())
                style = of[contender]
                ax.plot(
                    *(xs, ys), linestyle="", marker=style.mark, markersize=5.5, markeredgecolor=style.colour,
                    markerfacecolor="none" if hollow else style.colour, markeredgewidth=1.1, alpha=0.8,
                )  # fmt: skip
            keys.append(key(contender, of[contender]))
        log_axis(ax, "x", low, high)
        log_axis(ax, "y", bottom, top)
        ax.set_xlabel("arithmetic intensity, FLOP/byte")
        ax.set_ylabel("GFLOP/s")
        best = held.iloc[int(held["gflops"].to_numpy().argmax())]
        told = f"{len(held)} figures; the highest is {digits(float(best['gflops']))} GFLOP/s, by {best['contender']}."
        title = f"Roofline of {device}"
        svg = inline(made, name, title, told)
    caption = (
        "Operations and bytes are the specification's own, each operand counted once: a method that needs fewer operations may "
        "exceed the roof. " + _roof_words(peaks, slopes) + (" Hollow marks are f64." if double else "")
    )
    return Plot(name, title, told, svg, caption + _unshown(left) + _thinned(len(held)), tuple(keys))


def _roofs(ax: Any, peaks: Mapping[str, float], slopes: Sequence[tuple[int, float]], box: tuple[float, ...]) -> None:
    """The lines of the measured roofs with their names, inside the box of the axes."""
    low, high, bottom, top = box
    ceiling = max(peaks.values(), default=top)
    written = [_height(peak, bottom, top) for peak in peaks.values()]  # no name across another line
    for place, (held, rate) in enumerate(sorted(slopes, key=lambda s: s[1])):
        start, end = max(low, bottom / rate), min(high, ceiling / rate)
        if start >= end:
            continue
        ax.plot([start, end], [start * rate, end * rate], color=MUTED, linewidth=1.8 if place == 0 else 1.0, zorder=1.5)
        at = _height(start * rate, bottom, top)
        if start == low and all(abs(at - other) > 0.055 for other in written):
            written.append(at)
            _label(ax, size(held), (start, start * rate), (15, -3))
    fastest = max((r for _, r in slopes), default=inf)
    above: list[float] = []
    for dtype, peak in sorted(peaks.items(), key=lambda p: -p[1]):
        start = max(low, peak / fastest)
        if start < high:
            ax.plot(
                [start, high],
                [peak, peak],
                color=MUTED,
                linewidth=1.8,
                linestyle="-" if dtype == "f32" else (0, (4, 2)),
                zorder=1.5,
            )
            at = _height(peak, bottom, top)
            below = any(abs(at - other) < 0.06 for other in above)
            above.append(at)
            offset, side = ((-2, -3), "top") if below else ((-2, 2), "bottom")
            _label(ax, f"{dtype} peak", (high, peak), offset, ha="right", va=side)


def _label(ax: Any, text: str, place: tuple[float, float], offset: tuple[float, float], **how: Any) -> None:
    """A roof's name, on the page's own ground, so that no line strikes it out; points lie above it."""
    ground = {"facecolor": BG, "edgecolor": "none", "pad": 0.8}
    how = {"va": "center", "fontsize": 9.5, "color": MUTED, "zorder": 1.6, "bbox": ground} | how
    ax.annotate(text, place, offset, textcoords="offset points", **how)


def _height(value: float, bottom: float, top: float) -> float:
    """Where a value is on a logarithmic axis, 0 to 1."""
    from math import log

    return log(value / bottom) / log(top / bottom)


def _roof_words(peaks: Mapping[str, float], slopes: Sequence[tuple[int, float]]) -> str:
    if not peaks and not slopes:
        return "The roof of this device is not known."
    said = [f"{t} {v:.4g} GFLOP/s" for t, v in peaks.items()]
    said += [f"{size(b)} {r:.4g} GB/s" for b, r in slopes]
    return f"Lines are the measured roofs ({', '.join(said)}); sizes are those of the working set."


def accuracy(points: pd.DataFrame, summary: pd.DataFrame, of: Styles) -> Plot | None:
    """Time against accuracy, with the front; None without points.

    Parameters
    ----------
    points, summary : DataFrame
        Of `reports.tables.pareto` (with `error_units`) and `pareto_summary`.
    of : mapping of str to Style
    """
    import numpy as np

    held = points[np.isfinite(points["error"]) & np.isfinite(points["ratio"])]
    positive = held.loc[held["error"] > 0, "error"]
    if positive.empty:
        return None
    names, left = _chosen(of, summary["contender"])
    least = float(positive.min())
    exact = bool((held["error"] == 0).any())
    floor = least / 4 if exact else least
    with drawing():
        made, ax = figure()
        keys, marks = [], []
        for name in names:
            style, own = of[name], held[held["contender"] == name]
            xs, ys = _spread(own["ratio"].tolist(), own["error"].clip(lower=floor).tolist(), POINTS // 2)
            ax.plot(xs, ys, linestyle="", marker=".", markersize=6, markeredgewidth=0, color=style.colour, alpha=0.5)
            row = summary[summary["contender"] == name].iloc[0]
            x, y = float(row["ratio"]), max(float(row["error"]), floor)
            bars = {
                "xerr": [[x - row["ratio_low"]], [row["ratio_high"] - x]],
                "yerr": [[y - max(row["error_low"], floor)], [max(row["error_high"], floor) - y]],
            }
            ax.errorbar(x, y, **bars, color=style.colour, linewidth=1.2, zorder=3)
            ax.plot(
                [x],
                [y],
                marker=style.mark,
                markersize=10,
                color=style.colour,
                markeredgecolor=FG,
                markeredgewidth=0.8,
                zorder=4,
            )
            keys.append(key(f"{name}: {int(row['cases'])} cases, on the front of {percent(row['on_front'])}", style))
            if row["front"]:
                marks.append((x, y))
        marks.sort()
        if len(marks) > 1:
            ax.step(*zip(*marks, strict=True), where="post", color=FG, linewidth=1.0, linestyle=(0, (4, 3)), zorder=2)
        low, high = margins([1.0, float(held["ratio"].max())], 0.05)
        log_axis(ax, "x", low, high, unit=TIMES)
        log_axis(ax, "y", *margins([floor, float(positive.max())], 0.06))
        if exact:
            places, texts = list(ax.get_yticks()), [t.get_text() for t in ax.get_yticklabels()]
            kept = [(p, t) for p, t in zip(places, texts, strict=True) if p > 1.6 * floor]
            ax.set_yticks([floor, *(p for p, _ in kept)], ["exact", *(t for _, t in kept)])
        ax.set_xlabel("time, as a multiple of the fastest")
        ax.set_ylabel("largest error, units of u·A")
        fronted = ", ".join(summary.loc[summary["front"], "contender"].tolist())
        told = f"Of the middles of {len(summary)} contenders, no other beats in both: {fronted}."
        svg = inline(made, "accuracy", "Time against accuracy", told)
    caption = (
        "Lower left is better. A dot is a case; a mark the geometric mean of the times and the median of the errors of a "
        "backend's own cases, bars hold their middle half. The dashed front joins the marks that no other beats in both. "
        "Errors are those of this run's verdicts."
    )
    return Plot("accuracy", "Time against accuracy", told, svg, caption + _unshown(left), tuple(keys))


def samples(timing: Timing, label: str, style: Style, name: str) -> Plot | None:
    """The raw samples of one figure in the order in which they were taken, and how they are distributed; None without any."""
    import numpy as np

    walls = timing.of("wall")
    if not walls:
        return None
    made_of = median_of(walls)
    pooled = np.concatenate([np.asarray(w) for w in walls])
    unit, unit_name = time_unit(made_of.median)
    logarithmic = bool(pooled.max() > 4 * made_of.median)
    low, high = float(pooled.min()) / unit, float(pooled.max()) / unit
    with drawing():
        made, (ax, side) = figure(height=240, ncols=2, sharey=True, gridspec_kw={"width_ratios": [4, 1]})
        start = 0
        for number, wall in enumerate(walls):
            places, values = _envelope(np.asarray(wall) / unit, SAMPLES // len(walls))
            if number % 2:
                ax.axvspan(start - 0.5, start + len(wall) - 0.5, color=CARD, linewidth=0, zorder=0)
            ax.plot(places + start, values, linestyle="", marker=".", markersize=4.5, markeredgewidth=0, color=style.colour)
            start += len(wall)
        ax.axhspan(made_of.low / unit, made_of.high / unit, color=FG, alpha=0.13, linewidth=0, zorder=1)
        ax.axhline(made_of.median / unit, color=FG, linewidth=1.0)
        if logarithmic:
            log_axis(ax, "y", *margins([low, high]))
            bins = np.geomspace(low, high, 30)
        else:
            room = 0.06 * (high - low) or 0.01 * high
            ax.set_ylim(low - room, high + room)
            bins = np.linspace(low, high if high > low else low * 1.001 + 1e-12, 30)
        side.hist(pooled / unit, bins=bins, orientation="horizontal", color=style.colour)
        ax.set_xlim(-0.5, start - 0.5)
        ax.grid(axis="x", visible=False)
        side.grid(axis="x", visible=False)
        side.set_xticks([])
        side.set_xlabel("calls")
        side.tick_params(left=False)
        ax.set_xlabel(f"call, in order; {len(walls)} process{'es' * (len(walls) > 1)}")
        ax.set_ylabel(f"seconds a call, {unit_name}" if unit_name == "s" else f"time of a call, {unit_name}")
        median, ends = duration(made_of.median), f"{duration(made_of.low)} to {duration(made_of.high)}"
        told = (
            f"{len(pooled)} calls in {len(walls)} process{'es' * (len(walls) > 1)}: median {median}, interval {ends}, "
            f"from {duration(low * unit)} to {duration(high * unit)}."
        )
        svg = inline(made, name, f"Samples of {label}", told)
    thinned = " Of many calls only the fastest and the slowest of each stretch are drawn." if len(pooled) > SAMPLES else ""
    return Plot(name, label, told, svg, told + thinned)


def noise(table: pd.DataFrame, of: Styles) -> Plot | None:
    """How well figures are known, a row a contender; None without any.

    Parameters
    ----------
    table : DataFrame
        Of `reports.tables.noise_of`.
    of : mapping of str to Style
    """
    names, left = _chosen(of, table["contender"])
    if table.empty or not names:
        return None
    with drawing():
        made, ax = figure(height=80 + 34 * len(names))
        ends: list[float] = []
        for place, name in enumerate(names):
            held, style = table[table["contender"] == name], of[name]
            for column, shift, hollow in (("half_width", -0.14, False), ("spread", 0.18, True)):
                values = held[column].dropna().clip(lower=LEAST)
                if values.empty:
                    continue
                low, first, middle, third, high = (100 * float(q) for q in values.quantile([0.05, 0.25, 0.5, 0.75, 0.95]))
                ends += [low, high]
                ax.plot([low, high], [place + shift] * 2, color=style.colour, linewidth=0.9)
                ax.plot([first, third], [place + shift] * 2, color=style.colour, linewidth=3.2, solid_capstyle="butt")
                ax.plot(
                    *([middle], [place + shift]), linestyle="", marker=style.mark, markersize=6.5, markeredgecolor=style.colour,
                    markerfacecolor=CARD if hollow else style.colour, markeredgewidth=1.3, zorder=3,
                )  # fmt: skip
        log_axis(ax, "x", *margins(ends))
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.set_yticks(range(len(names)), [short(n, NAME) for n in names])
        ax.tick_params(axis="y", left=False)
        ax.grid(axis="y", visible=False)
        ax.set_xlabel("share of the median, %")
        middle = table["half_width"].median()
        told = f"Half the interval is {percent(middle)} of the median in the middle of {len(table)} figures."
        svg = inline(made, "noise", "Noise of the figures", told)
    keys = (
        key("half the 95 % interval", None),
        key("between processes: largest less smallest median", None, hollow=True),
    )
    caption = "A mark is the median over a backend's figures, the thick line holds half of them, the thin one 90 %."
    return Plot("noise", "Noise of the figures", told, svg, caption + _unshown(left), keys)


def _chosen(of: Styles, present: Iterable[str]) -> tuple[list[str], int]:
    """The contenders that a figure shows, in their order, and how many it has no room for."""
    there = set(present)
    names = [name for name in of if name in there]
    return names[:CONTENDERS], max(0, len(names) - CONTENDERS)


def _unshown(left: int) -> str:
    return f" {left} more backends are left out of the figure." if left else ""


def _thinned(points: int) -> str:
    return " Of points on one spot one is drawn." if points > POINTS else ""


def _spread(xs: Sequence[float], ys: Sequence[float], most: int = POINTS) -> tuple[list[float], list[float]]:
    """At most so many of some points of a logarithmic plane: one of those that fall on a spot, then every so-manieth."""
    from math import log10

    if len(xs) <= most:
        return list(xs), list(ys)
    spots = {(round(60 * log10(x)), round(60 * log10(y))): (x, y) for x, y in zip(xs, ys, strict=True)}
    kept = [spots[spot] for spot in sorted(spots)]
    kept = kept[:: -(-len(kept) // most)]
    return [x for x, _ in kept], [y for _, y in kept]


def _envelope(values: Any, most: int) -> tuple[Any, Any]:
    """Places and values of a series, or of the smallest and the largest of each stretch where there are too many."""
    import numpy as np

    if len(values) <= max(most, 4):
        return np.arange(len(values)), values
    kept: list[int] = []
    for part in np.array_split(np.arange(len(values)), max(2, most // 2)):
        kept += sorted({int(part[values[part].argmin()]), int(part[values[part].argmax()])})
    return np.array(kept), values[kept]
