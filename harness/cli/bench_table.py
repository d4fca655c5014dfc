"""What `bench` prints and writes of its figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.cli.console import clean, print_table
from harness.cli.running import put_json
from harness.cli.units import format_bytes, format_seconds
from harness.samples import Timing
from harness.store.timing_frames import timing_row

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
    "cold": lambda r: _unless_nan(r["cold_seconds"], format_seconds),
    "set-up": lambda r: _unless_nan(r["setup_seconds"], format_seconds),
    "peak": lambda r: _unless_nan(r["peak_bytes"], format_bytes),
    "stopped by": lambda r: r["stopped"],
}


def show_timings(console: Console, timings: Sequence[Timing], run_id: str, baseline: str | None) -> None:
    """Print the table of figures, then what has none and why; times as ratios to the baseline's, else to the best."""
    rows = [r for r in (timing_row(run_id, t) for t in timings) if r["samples"]]
    against: dict[str, float] = {}
    for r in rows:
        if baseline is None or r["backend"] == baseline:
            against[r["case"]] = min(against.get(r["case"], math.inf), r["seconds"])
    for r in rows:
        r["ratio"] = r["seconds"] / against.get(r["case"], math.nan)
    cells = {name: [text(r) for r in rows] for name, text in COLUMNS.items()}
    kept = [name for name, texts in cells.items() if any(texts)]
    if rows:
        heads = [f"x {baseline or 'best'}" if name == "ratio" else name for name in kept]
        lines = [(clean(r["case"]), clean(r["backend"]), *(cells[n][i] for n in kept)) for i, r in enumerate(rows)]
        print_table(console, ("case", "backend", *heads), lines, right=[h for h in heads if h != "stopped by"])
        console.print("a time holds all of a call, packing and transfers included; kernel, pack, transfer are parts of it")
    if baseline:
        _means(console, rows, baseline)
    refused = [t for t in timings if t.refused]
    for t in refused[:REASONS]:
        console.print(clean(f"no figure: {t.case} {t.backend}: {t.refused}"), style="red")
    if len(refused) > REASONS:
        console.print(f"... and {len(refused) - REASONS} more without a figure: convproof report {run_id} --html DIR")


def write_timings(
    target: str, timings: Sequence[Timing], run_id: str, code: int, noise: Mapping[str, Any], warnings: Sequence[str]
) -> None:
    """Write the rows of `Run.timings` as JSON to a file, or to `-`; NaN is null."""
    rows = [{k: None if _is_nan(v) else v for k, v in timing_row(run_id, t).items()} for t in timings]
    for row, timing in zip(rows, timings, strict=True):
        row["details"] = dict(timing.details)
    data = {"run": run_id, "exit_code": code, "noise": dict(noise), "warnings": list(warnings), "timings": rows}
    put_json(target, data)


def _means(console: Console, rows: Sequence[Mapping[str, Any]], baseline: str) -> None:
    """The geometric mean of each backend's ratios to the baseline: above 1 it is slower."""
    logs: dict[str, list[float]] = {}
    for r in rows:
        if r["ratio"] > 0 and r["backend"] != baseline:
            logs.setdefault(r["backend"], []).append(math.log(r["ratio"]))
    for name, found in logs.items():
        mean = math.exp(sum(found) / len(found))
        console.print(clean(f"{name}: geometric mean {mean:.3f} x {baseline} over {len(found)} cases"))


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _unless_nan(value: float, text: Callable[[float], str]) -> str:
    return "" if math.isnan(value) else text(value)
