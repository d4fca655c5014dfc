"""Runs as data frames, and as files that hold them. The one module here that imports pandas."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.samples import Timing
from harness.store.model import RunRow, StoreError, default_path
from harness.store.timing_frames import samples_frame, timings_frame

if TYPE_CHECKING:
    import pandas as pd

    from harness.store.database import Store

#: Columns of `Run.verdicts`, and the pandas type of each.
COLUMNS: Mapping[str, str] = {
    "run": "str",
    "case": "str",
    "family": "str",
    "backend": "str",
    "device": "str",
    "check": "str",
    "status": "str",
    "message": "str",
    "compared": "int64",
    "mismatches": "int64",
    "worst_index": "str",
    "got": "float64",
    "expected": "float64",
    "error_bound": "float64",
    "error_units": "float64",
    "nan_fields": "str",
    "details": "str",
    "seconds": "float64",
    "run_seconds": "float64",
    "digest": "str",
}
#: Columns whose empty cell in a CSV file means that there is no value.
_NULLABLE = ("worst_index", "got", "expected", "error_bound", "error_units")
_ATTRIBUTE = "convproof"
_DATABASES = (".sqlite", ".sqlite3", ".db")


@dataclass(frozen=True, eq=False)
class Run:
    """One run, for analysis.

    Attributes
    ----------
    info : mapping
        `id`, `seed`, `command`, `version`, `selection`, `jobs_planned`, `environment`, `started`,
        `host`, `exit_code`, `seconds`, `counts`. Of a CSV file only the `id`.
    verdicts : DataFrame
        A row a job, in the order of case, backend, device, check:

        =============  =========================================================================
        run            id of the run
        case           id of the case
        family         its first word: `edge` of `edge-pad-asymmetric-2d`
        backend, device, check
        status         a `harness.records.Status`, as text
        message        why; empty for a plain PASS
        compared       elements compared
        mismatches     elements out of bounds
        worst_index    output index of the worst, as `0,3,1`; missing for none
        got, expected  values there
        error_bound    largest |y - y_ref| / tolerance: above 1 fails
        error_units    largest |y - y_ref| / (u A + floor)
        nan_fields     which of those four are NaN, as `got,error_bound`: any other NaN is a missing value
        details        more, as JSON
        seconds        wall time of the job
        run_seconds    wall time inside the backend
        digest         of the specification: an edited case under the same id differs
        =============  =========================================================================
    raw : tuple of Timing
        What a benchmark measured; `timings` and `samples` are made of it. Empty for a file.
    """

    info: Mapping[str, Any]
    verdicts: pd.DataFrame
    raw: tuple[Timing, ...] = ()

    @cached_property
    def timings(self) -> pd.DataFrame:
        """A row a case, backend and device that was to be timed, in that order.

        ==================  ====================================================================
        run, case, family, backend, device
        refused             why there is no figure; empty where there is one. All figures are NaN then
        threads             that libraries were allowed
        seconds, low, high  median of a call by the host's clock, warm, and its 95 % interval
        samples, processes  calls that were timed, in so many processes
        cpu_seconds         median processor time of a call, all threads
        device_seconds      median by the device's own clock; NaN where it has none
        pack_seconds, transfer_seconds, kernel_seconds, copy_seconds
                            median of the phases that the backend tells; `seconds` includes all of them
        cold_seconds        median of a call with cold caches
        setup_seconds       median of `prepare`, the first in its process; `setup_warm_seconds` of the next
        flops, bytes        of the specification
        gflops, gbytes      10^9 operations and bytes a second, by `seconds`
        roof                share of the measured roof, 0 to 1; NaN where it is not known
        peak_bytes          most resident memory of the process
        error_bound, error_units
                            largest of the verdicts of this run, as there
        stopped             why sampling ended
        digest              of the specification
        details             more, as JSON
        ==================  ====================================================================
        """
        return timings_frame(str(self.info["id"]), self.raw, self.verdicts)

    @cached_property
    def samples(self) -> pd.DataFrame:
        """A row a raw sample: run, case, backend, device, metric, state, process, number, seconds.

        `metric` and `state` are those of `harness.samples.Series`; `number` counts a series' samples from 0.
        """
        return samples_frame(str(self.info["id"]), self.raw)


def load(run: str | os.PathLike[str] = "last", store: Store | Path | str | None = None) -> Run:
    """Load a run as data frames.

    Parameters
    ----------
    run : str or path
        `last`, `last~1`, an id or the beginning of one; or a file: one that `export` wrote
        (`.parquet`, `.csv`), or another store (`.sqlite`: its last run).
    store : Store, path, optional
        Default is that of the environment or the current directory; see `harness.store.default_path`.

    Raises
    ------
    StoreError
        If there is no such run or file.
    ImportError
        If pandas is missing; the message says what to install.

    Examples
    --------
    >>> import tempfile
    >>> from harness.records import Job, Record, Status, Verdict
    >>> from harness.store import RunInfo, Store
    >>> with tempfile.TemporaryDirectory() as d, Store.open(Path(d, "runs.sqlite")) as store:
    ...     verdict = Verdict(Status.PASS, error_units=0.25)
    ...     store.write(store.begin(RunInfo(seed=7)), [Record(Job("basic-1d", "naive", "cpu", "exact"), verdict)])
    ...     v = load("last", store).verdicts
    >>> v.groupby("backend").error_units.max().to_dict()
    {'naive': 0.25}
    """
    pandas = _pandas()
    suffix = Path(run).suffix
    if suffix in _READERS:
        return _from_file(Path(run), pandas)
    if suffix in _DATABASES:
        run, store = "last", Path(run)
    from harness.store.database import Store

    opened = store if isinstance(store, Store) else Store.open(Path(store or default_path()), create=False)
    with nullcontext() if opened is store else closing(opened):
        row = opened.info(str(run))
        columns, raw = opened.columns(row.id), opened.timings(row.id)
    columns["run"] = [row.id] * len(columns["case"])
    columns["family"] = [case.partition("-")[0] for case in columns["case"]]
    frame = pandas.DataFrame({name: pandas.Series(columns[name], dtype=kind) for name, kind in COLUMNS.items()})
    return Run(_facts(row), frame, tuple(raw))


def export(run: Run, path: str | os.PathLike[str], table: str = "verdicts") -> Path:
    """Write a table of a run to a file; `load` reads verdicts again.

    Parameters
    ----------
    run : Run
    path : path
        `.parquet` keeps everything; `.csv` the rows. An existing file is replaced, in one step.
    table : {'verdicts', 'timings', 'samples'}

    Raises
    ------
    StoreError
        If the suffix is neither, or the file can't be written.
    """
    path = Path(path)
    if path.suffix not in _WRITERS:
        raise StoreError(f"cannot export to {path}: the suffix is {path.suffix or 'missing'!r}: write .parquet or .csv")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        _WRITERS[path.suffix](getattr(run, table), run.info, part)
        part.replace(path)
    except OSError as e:
        raise StoreError(f"cannot export to {path}: {e.strerror or e}: name a file in a directory that can be written") from e
    finally:
        part.unlink(missing_ok=True)
    return path


def _pandas() -> Any:
    try:
        import pandas
        import pyarrow
    except ImportError as e:
        raise ImportError(f"data frames and Parquet need {e.name}: pip install 'convproof[reports]'", name=e.name) from e
    assert pyarrow
    return pandas


def _facts(row: RunRow) -> dict[str, Any]:
    counts = {status.value: count for status, count in row.counts.items()}
    return {"id": row.id, **asdict(row.info), "exit_code": row.exit_code, "seconds": row.seconds, "counts": counts}


def _from_file(path: Path, pandas: Any) -> Run:
    try:
        frame = _READERS[path.suffix](path, pandas)
    except FileNotFoundError as e:
        raise StoreError(f"there is no file {path}: `convproof runs export RUN {path}` writes one") from e
    except (OSError, ValueError) as e:  # pyarrow's and pandas' errors of a damaged file are ValueErrors
        raise StoreError(f"{path} is not an exported run: {e}") from e
    if lacking := [name for name in COLUMNS if name not in frame.columns]:
        raise StoreError(f"{path} is not an exported run: it lacks the columns {', '.join(lacking)}")
    info = frame.attrs.pop(_ATTRIBUTE, None) or {"id": frame["run"].iloc[0] if len(frame) else ""}
    numbers = {name: kind for name, kind in COLUMNS.items() if kind != "str"}
    try:
        return Run(info, frame[list(COLUMNS)].astype(numbers))
    except (TypeError, ValueError) as e:
        raise StoreError(f"{path} is not an exported run: {e}") from e


def _read_csv(path: Path, pandas: Any) -> Any:
    # Text as it is: "NA" is a word. Floats are read as text too, and converted below, bit for bit.
    nulls = {name: [""] for name in _NULLABLE}
    return pandas.read_csv(path, dtype="str", keep_default_na=False, na_values=nulls)


def _write_csv(frame: pd.DataFrame, info: Mapping[str, Any], path: Path) -> None:
    frame.to_csv(path, index=False, lineterminator="\n")


def _read_parquet(path: Path, pandas: Any) -> Any:
    return pandas.read_parquet(path)


def _write_parquet(frame: pd.DataFrame, info: Mapping[str, Any], path: Path) -> None:
    frame = frame.copy(deep=False)
    frame.attrs[_ATTRIBUTE] = dict(info)  # pandas keeps it in the file's metadata, as JSON
    frame.to_parquet(path, index=False)


_READERS: Mapping[str, Callable[[Path, Any], Any]] = {".parquet": _read_parquet, ".csv": _read_csv}
_WRITERS: Mapping[str, Callable[[Any, Mapping[str, Any], Path], None]] = {".parquet": _write_parquet, ".csv": _write_csv}
