"""One case of one backend by itself in a process, under a program of the user's: a profiler, or a counter of instructions."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.backend import Device
from harness.catalogue import Case
from harness.data import Operands, draw
from harness.run.arena import Layout, layout
from harness.run.limits import Limits
from harness.spec import ConvSpec
from harness.spec.host import numpy_dtype
from harness.timing.process import CHILD, Side, SideProblem, environment, pinned_cores

#: Samples of a profiled run, at most; the time ends it.
MOST = 1_000_000


def operands(case: Case, spec: ConvSpec, seed: int) -> Operands:
    """What a case is timed on: real numbers, else integers."""
    return draw("zero_mean" if spec.in_type.is_float else "integers", spec, case.id, seed)


def write_job(folder: Path, case: Case, side: Side, device: str, seed: int, cores: Sequence[int], requests: list[Any]) -> Path:
    """Files with arrays and requests that `harness.timing.child --alone` carries out; the job's.

    `requests` follow the loading and the preparation.
    """
    spec = case.spec
    assert spec is not None
    lay = layout(spec)
    _write_arrays(folder / "arrays", lay, operands(case, spec, seed))
    slots = [[s.name, s.offset, list(s.shape), s.dtype] for s in lay.slots]
    load = {"op": "load", "reference": side.reference}
    prepare = {"op": "prepare", "spec": spec.to_dict(), "device": device, "slots": slots, "size": lay.size}
    job = {"arena": str(folder / "arrays"), "cores": list(cores), "requests": [load, prepare, *requests]}
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    return folder / "job.json"


def _write_arrays(path: Path, lay: Layout, ops: Operands) -> None:
    with path.open("wb") as file:
        file.truncate(lay.size)
        for slot, array in zip(lay.slots, (a for a in ops.arrays if a is not None), strict=False):
            if slot.name != "out":
                file.seek(slot.offset)
                file.write(array.astype(numpy_dtype(slot.dtype), copy=False).tobytes())


def words(side: Side, job: Path) -> list[str]:
    """The command that carries a job out."""
    return [side.python, "-P", str(CHILD), "--alone", str(job)]


def profile(
    command: Sequence[str], case: Case, reference: str, device: Device, limits: Limits, seed: int, seconds: float
) -> int:
    """Call a backend on a case for `seconds` under `command`, on this terminal; its exit code.

    Parameters
    ----------
    command : sequence of str
        A program and its options, before the one that is profiled: `perf record -g --`.
    """
    side = Side(case.id, reference)
    with tempfile.TemporaryDirectory(prefix="convproof-profile-") as folder:
        requests = [{"op": "sample", "count": MOST, "seconds": seconds}]
        job = write_job(Path(folder), case, side, device.name, seed, pinned_cores(limits.threads), requests)
        sys.stdout.flush()
        try:
            found = subprocess.run([*command, *words(side, job)], env=environment(side, limits.threads), check=False)  # noqa: S603 - the user's own
        except OSError as e:
            raise SideProblem(f"--profile {command[0]}: {e.strerror}: install it, or name another") from e
        return found.returncode
