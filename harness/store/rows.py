"""Records and runs to rows and back, losing nothing but the sign of zero (SQLite drops it) and NULs in text."""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Iterable, Mapping
from math import isnan
from typing import Any

from harness.records import Job, Record, Status, Verdict
from harness.samples import Series, Timing
from harness.store.model import RunInfo, RunRow

#: Figures that may be NaN, which SQLite would store as NULL: `nan_fields` names them.
FIGURES = ("got", "expected", "error_bound", "error_units")


def from_record(number: int, record: Record) -> dict[str, Any]:
    """The row of a record of the run with that number."""
    job, v = record.job, record.verdict
    row: dict[str, Any] = {
        "run": number,
        "case": _text(job.case),
        "backend": _text(job.backend),
        "device": _text(job.device),
        "check": _text(job.check),
        "status": v.status.value,
        "message": _text(v.message),
        "compared": int(v.compared),
        "mismatches": int(v.mismatches),
        "worst_index": None if v.worst_index is None else ",".join(str(int(i)) for i in v.worst_index),
        "nan_fields": "",
        "details": dumps(v.details) if v.details else "{}",
        "seconds": float(record.seconds),
        "run_seconds": float(record.run_seconds),
        "digest": record.digest,
    }
    for name in FIGURES:
        value = getattr(v, name)
        if value is not None:
            value = float(value)
            if isnan(value):
                row["nan_fields"] += f",{name}" if row["nan_fields"] else name
                value = None
        row[name] = value
    return row


def to_record(row: Mapping[Any, Any]) -> Record:
    """The record of a row."""
    nan = row["nan_fields"].split(",")
    figures = {name: float("nan") if name in nan else row[name] for name in FIGURES}
    where = row["worst_index"]
    verdict = Verdict(
        status=Status(row["status"]),
        message=row["message"],
        compared=row["compared"],
        mismatches=row["mismatches"],
        worst_index=None if where is None else tuple(int(i) for i in where.split(",") if i),
        details=json.loads(row["details"]),
        **figures,
    )
    return Record(to_job(row), verdict, row["seconds"], row["run_seconds"], row["digest"])


def to_job(row: Mapping[Any, Any]) -> Job:
    """The job of a row."""
    return Job(row["case"], row["backend"], row["device"], row["check"])


def from_info(info: RunInfo) -> dict[str, Any]:
    """The row of a run that begins, but for its id and when it started."""
    return {
        "seed": str(int(info.seed)),
        "command": dumps(list(info.command)),
        "version": info.version,
        "selection": dumps(list(info.selection)),
        "jobs_planned": int(info.jobs_planned),
        "environment": dumps(dict(info.environment)),
        "host": _text(info.host),
    }


def to_run(row: Mapping[Any, Any], counts: Mapping[Status, int]) -> RunRow:
    """The run of a row."""
    info = RunInfo(
        seed=int(row["seed"]),
        command=tuple(json.loads(row["command"])),
        version=row["version"],
        selection=tuple(json.loads(row["selection"])),
        jobs_planned=row["jobs_planned"],
        environment=json.loads(row["environment"]),
        started=row["started"],
        host=row["host"],
    )
    return RunRow(row["id"], info, counts, row["exit_code"], row["seconds"])


def to_counts(pairs: Iterable[tuple[str, int]]) -> dict[Status, int]:
    """Rows a status, in the order of `Status`."""
    found = dict(pairs)
    return {s: found[s.value] for s in Status if found.get(s.value)}


def from_timing(number: int, timing: Timing) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The rows of a timing: its own, and one for each of its series."""
    key = {"run": number, "case": _text(timing.case), "backend": _text(timing.backend), "device": _text(timing.device)}
    row = {
        **key,
        "refused": _text(timing.refused),
        "threads": int(timing.threads),
        "flops": int(timing.flops),
        "bytes": int(timing.bytes),
        "peak_bytes": timing.peak_bytes,
        "stopped": timing.stopped,
        "roof": timing.roof,
        "digest": timing.digest,
        "details": dumps(timing.details) if timing.details else "{}",
    }
    held = [
        {**key, "metric": _text(s.metric), "state": s.state, "process": s.process, "seconds": _packed(s.seconds)}
        for s in timing.series
    ]
    return row, held


def to_timing(row: Mapping[Any, Any], held: Iterable[Mapping[Any, Any]]) -> Timing:
    """The timing of a row and of those of its series."""
    return Timing(
        row["case"],
        row["backend"],
        row["device"],
        tuple(Series(s["metric"], s["state"], s["process"], _unpacked(s["seconds"])) for s in held),
        **{name: row[name] for name in ("refused", "threads", "flops", "bytes", "peak_bytes", "stopped", "roof", "digest")},
        details=json.loads(row["details"]),
    )


def _packed(seconds: Iterable[float]) -> bytes:
    values = array("d", seconds)
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def _unpacked(data: bytes) -> tuple[float, ...]:
    values = array("d")
    values.frombytes(data)
    if sys.byteorder == "big":
        values.byteswap()
    return tuple(values)


def dumps(value: Any) -> str:
    """JSON text, ASCII; what JSON has no type for becomes a number where it can, else its text."""
    return json.dumps(value, default=_plain, separators=(",", ":"))


def _plain(value: Any) -> Any:
    for method in ("tolist", "item"):  # numpy's arrays and scalars
        if hasattr(value, method):
            return getattr(value, method)()
    return sorted(value) if isinstance(value, (set, frozenset)) else str(value)


def _text(value: str) -> str:
    """`value` with NULs and lone surrogates (of undecodable bytes) escaped: no server database takes them."""
    if "\0" in value:
        value = value.replace("\0", "\\x00")
    return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode("utf-8")
