"""`--save-arrays`: the operands and the output of what ended badly, as .npz files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from harness.checks import Trial
from harness.cli.console import clean
from harness.records import Record


def keeper(directory: Path) -> Any:
    """A function that writes the arrays of a failed job to `directory`/case/backend-check.npz."""

    def keep(record: Record, trial: Trial) -> None:
        folder = directory / record.job.case
        name = "".join(c if c.isalnum() or c in "._-" else "_" for c in f"{record.job.backend}-{record.job.check}")
        arrays: dict[str, Any] = {"x": trial.ops.x, "w": trial.ops.w, "b": trial.ops.b, "out": trial.out}
        held = {k: a.astype(np.float32) if a.dtype.name == "bfloat16" else a for k, a in arrays.items() if a is not None}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(folder / f"{name}.npz", **held)
            (folder / f"{name}.txt").write_text(clean(f"{record.verdict.status}: {record.verdict.message}\n"))
        except OSError as error:
            click.echo(f"convproof: arrays of {record.job.case} could not be saved in {folder}: {error.strerror}", err=True)

    return keep
