"""The timings of a run as data frames: a row a figure, and a row a raw sample."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import nan
from typing import TYPE_CHECKING, Any

from harness.samples import PHASE, Timing
from harness.statistics import figure, middle
from harness.store.rows import dumps

if TYPE_CHECKING:
    import pandas as pd

#: Columns of `Run.timings`, and the pandas type of each.
TIMING_COLUMNS: Mapping[str, str] = {
    **dict.fromkeys(("run", "case", "family", "backend", "device", "refused"), "str"),
    "threads": "int64",
    **dict.fromkeys(("seconds", "low", "high"), "float64"),
    **dict.fromkeys(("samples", "processes"), "int64"),
    **dict.fromkeys(
        ("cpu_seconds", "device_seconds", "pack_seconds", "transfer_seconds", "kernel_seconds", "copy_seconds",
         "cold_seconds", "setup_seconds", "setup_warm_seconds"),
        "float64",
    ),
    **dict.fromkeys(("flops", "bytes"), "int64"),
    **dict.fromkeys(("gflops", "gbytes", "roof", "peak_bytes", "error_bound", "error_units"), "float64"),
    **dict.fromkeys(("stopped", "digest", "details"), "str"),
}  # fmt: skip
#: Columns of `Run.samples`.
SAMPLE_COLUMNS: Mapping[str, str] = {
    **dict.fromkeys(("run", "case", "backend", "device", "metric", "state"), "str"),
    "process": "int64",
    "number": "int64",
    "seconds": "float64",
}
_TEXT = ("refused", "threads", "flops", "bytes", "stopped", "digest")


def timing_row(run_id: str, timing: Timing) -> dict[str, Any]:
    """A row of `Run.timings`, without the errors; a timing that was refused has no figures."""
    refused = bool(timing.refused)
    wall = figure(() if refused else timing.of("wall"))

    def median(metric: str, state: str = "warm") -> float:
        return nan if refused else middle(timing.of(metric, state))

    return {
        "run": run_id,
        "case": timing.case,
        "family": timing.case.partition("-")[0],
        "backend": timing.backend,
        "device": timing.device,
        **{name: getattr(timing, name) for name in _TEXT},
        **{"seconds": wall.median, "low": wall.low, "high": wall.high, "samples": wall.samples, "processes": wall.processes},
        **{f"{name}_seconds": median(name) for name in ("cpu", "device")},
        **{f"{name}_seconds": median(PHASE + name) for name in ("pack", "transfer", "kernel", "copy")},
        "cold_seconds": median("wall", "cold"),
        "setup_seconds": median("setup", "cold"),
        "setup_warm_seconds": median("setup"),
        "gflops": timing.flops / wall.median / 1e9 if wall.median > 0 else nan,
        "gbytes": timing.bytes / wall.median / 1e9 if wall.median > 0 else nan,
        "roof": nan if refused or timing.roof is None else timing.roof,
        "peak_bytes": nan if timing.peak_bytes is None else float(timing.peak_bytes),
        "error_bound": nan,
        "error_units": nan,
        "details": dumps(timing.details) if timing.details else "{}",
    }


def timings_frame(run_id: str, timings: Sequence[Timing], verdicts: pd.DataFrame) -> pd.DataFrame:
    """`Run.timings`; the errors are those of the run's verdicts on the same case, backend and device."""
    import pandas as pd

    rows = [timing_row(run_id, t) for t in timings]
    frame = pd.DataFrame({n: pd.Series([r[n] for r in rows], dtype=kind) for n, kind in TIMING_COLUMNS.items()})
    if len(frame) and len(verdicts):
        key = ["case", "backend", "device"]
        worst = verdicts.groupby(key)[["error_bound", "error_units"]].max()
        for name in worst.columns:
            frame[name] = worst[name].reindex(pd.MultiIndex.from_frame(frame[key])).to_numpy()
    return frame


def samples_frame(run_id: str, timings: Iterable[Timing]) -> pd.DataFrame:
    """`Run.samples`."""
    import pandas as pd

    columns: dict[str, list[Any]] = {name: [] for name in SAMPLE_COLUMNS}
    for t in timings:
        for s in t.series:
            count = len(s.seconds)
            alike = (run_id, t.case, t.backend, t.device, s.metric, s.state, s.process)
            for name, value in zip(SAMPLE_COLUMNS, alike, strict=False):
                columns[name] += [value] * count
            columns["number"] += range(count)
            columns["seconds"] += s.seconds
    return pd.DataFrame({n: pd.Series(columns[n], dtype=kind) for n, kind in SAMPLE_COLUMNS.items()})
