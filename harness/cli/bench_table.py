"""What `bench` prints and writes of its figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from harness.cli.console import clean, print_table
from harness.cli.running import put_json
from harness.cli.units import format_bytes, format_seconds
from harness.samples import Timing
from harness.store.timing_frames import timing_row
from harness.timing.ratios import BEST, Mean, against, legend, means

if TYPE_CHECKING:
    from rich.console import Console

#: Reasons that are printed of what has no figure.
REASONS = 20
#: Columns after case and backend: what is shown of a row, the first two of the ratio given beside.
COLUMNS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "median": lambda r: format_seconds(r["seconds"]),
    "+-": lambda r: f"{50 * (r['high'] - r['low']) / r['seconds']:.1f} %",
    "samples": lambda r: str(r["samples"]),
    "ratio": lambda r: _unless_nan(r["ratio"], lambda v: f"{v:.2f}"),
    "GFLOP/s": lambda r: _unless_nan(r["gflops"], lambda v: f"{v:.3g}"),
    "roof": lambda r: _unless_nan(r["roof"], lambda v: f"{100 * v:.0f} %"),
    "kernel": lambda r: _unless_nan(r["kernel_seconds"], format_seconds),
    "pack": lambda r: _unless_nan(r["pack_seconds"], format_seconds),
    "transfer": lambda r: _unless_nan(r["transfer_seconds"], format_seconds),
    "copy": lambda r: _unless_nan(r["copy_seconds"], format_seconds),
    "cold": lambda r: _unless_nan(r["cold_seconds"], format_seconds),
    "set-up": lambda r: _unless_nan(r["setup_seconds"], format_seconds),
    "peak": lambda r: _unless_nan(r["peak_bytes"], format_bytes),
    "stopped by": lambda r: r["stopped"],
}


def show_timings(console: Console, timings: Sequence[Timing], run_id: str, baseline: str | None) -> None:
    """Print the table of figures, geometric means, then what has none and why; ratios to the baseline's, else to the best."""
    rows = [r for r in (timing_row(run_id, t) for t in timings) if r["samples"]]
    if rows and baseline and not against(rows, baseline):
        console.print(clean(f"{baseline} has no figure: ratios are to the fastest instead"), style="yellow")
        baseline = None
    to = against(rows, baseline)
    for r in rows:
        r["ratio"] = r["seconds"] / to.get(r["case"], math.nan)
    cells = {name: [text(r) for r in rows] for name, text in COLUMNS.items()}
    kept = [name for name, texts in cells.items() if any(texts)]
    if rows:
        heads = [f"x {baseline or BEST}" if name == "ratio" else name for name in kept]
        lines = [(clean(r["case"]), clean(r["backend"]), *(cells[n][i] for n in kept)) for i, r in enumerate(rows)]
        print_table(console, ("case", "backend", *heads), lines, right=[h for h in heads if h != "stopped by"])
        console.print(
            "a time holds all of a call, packing and transfers included; kernel, pack, transfer, copy are parts of it"
        )
        console.print(clean(legend(baseline)))
    for mean in means(rows, baseline):
        console.print(clean(mean_line(mean, baseline)))
    refused = [t for t in timings if t.refused]
    for t in refused[:REASONS]:
        console.print(clean(f"no figure: {t.case} {t.backend}: {t.refused}"), style="red")
    if len(refused) > REASONS:
        console.print(f"... and {len(refused) - REASONS} more without a figure: convproof report {run_id} --html DIR")


def write_timings(
    target: str,
    timings: Sequence[Timing],
    run_id: str,
    code: int,
    noise: Mapping[str, Any],
    warnings: Sequence[str],
    baseline: str | None,
) -> None:
    """Write the rows of `Run.timings` as JSON to a file, or to `-`, with the geometric means; NaN is null."""
    found = [timing_row(run_id, t) for t in timings]
    rows = [{k: None if _is_nan(v) else v for k, v in row.items()} for row in found]
    for row, timing in zip(rows, timings, strict=True):
        row["details"] = dict(timing.details)
    data = {
        **{"run": run_id, "exit_code": code, "noise": dict(noise), "warnings": list(warnings)},
        **{"baseline": baseline or BEST, "means": [asdict(m) for m in means(found, baseline)], "timings": rows},
    }
    put_json(target, data)


def mean_line(mean: Mean, baseline: str | None) -> str:
    """A backend's geometric mean in a line.

    Examples
    --------
    >>> mean_line(Mean("mine", 0.5, 2, 1), "torch")
    'mine: geometric mean 0.500 x torch over 2 cases, faster on 1'
    """
    cases = f"{mean.cases} case{'s' * (mean.cases != 1)}"
    word = "faster" if baseline else "fastest"
    return f"{mean.name}: geometric mean {mean.ratio:.3f} x {baseline or BEST} over {cases}, {word} on {mean.faster}"


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _unless_nan(value: float, text: Callable[[float], str]) -> str:
    return "" if math.isnan(value) else text(value)
