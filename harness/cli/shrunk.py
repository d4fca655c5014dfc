"""A failure made small and shown: for `fuzz`, `verify --shrink` and `repro --shrink`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.console import clean
from harness.cli.errors import UsageProblem
from harness.registry import split

#: Seconds that shrinking one failure may take.
SHRINK_TIME = 10.0

if TYPE_CHECKING:
    from rich.console import Console

    from harness.catalogue import Case
    from harness.fuzzing.shrink import Shrunk
    from harness.records import Job
    from harness.run.limits import Limits


def shrink_jobs(
    case: Case,
    jobs: Sequence[Job],
    reference: str,
    seed: int,
    limits: Limits,
    seconds: float = SHRINK_TIME,
    device: str | None = None,
) -> Shrunk | None:
    """Shrink a case that ended badly under the jobs' checks; None if none of them fails again."""
    from harness.fuzzing.bench import Bench
    from harness.fuzzing.shrink import shrink

    with Bench(reference, limits, seed, device) as bench:
        return shrink(case, [j.check for j in jobs], bench, seconds)


def show_shrunk(console: Console, shrunk: Shrunk, backend: str, reference: str, seed: int, file: str | None = None) -> None:
    """Print what shrinking came to: the sizes, the entry for the catalogue, and how to repeat it."""
    from harness.fuzzing.written import described, yaml_text

    origin, found = shrunk.origin.spec, shrunk.found
    assert origin is not None
    assert found.case.spec is not None
    end = "" if shrunk.complete else ", cut short by --shrink-time"
    console.print(
        f"shrunk from x{list(origin.x_shape)} to x{list(found.case.spec.x_shape)} "
        f"in {shrunk.seconds:.1f} s, {shrunk.judged} cases tried{end}"
    )
    console.print(clean(f"  {found.case.spec}"))
    console.print(clean(f"  {found.check}: {found.verdict.message}"))
    console.print()
    for line in yaml_text([(found.case, described(shrunk, backend, seed))], found.case.family).splitlines():
        console.print(clean(line))
    if file is not None:
        name = split(reference)[0] or reference
        words = [
            "convproof",
            "verify",
            f"{file}:{found.case.id}",
            "--backend",
            name,
            "--check",
            found.check,
            "--seed",
            str(seed),
        ]
        console.print(clean(f"  repeat: {shlex.join(words)}"))


def write_shrunk(
    shrunk: Shrunk, backend: str, reference: str, seed: int, *, yaml: Path | None = None, script: Path | None = None
) -> None:
    """Write the entry for the catalogue, the stand-alone script, or both.

    Raises
    ------
    UsageProblem
        If a file cannot be written, or there are no arrays for a script to hold.
    """
    from harness.fuzzing.written import described, yaml_text
    from harness.fuzzing.written import script as script_text

    found = shrunk.found
    if yaml is not None:
        _write("--yaml", yaml, yaml_text([(found.case, described(shrunk, backend, seed))], found.case.family))
    if script is not None:
        text = script_text(found, reference, f"{backend} differs from the definition: {found.case.spec}")
        if text is None:
            raise UsageProblem(f"--script: {found.check} looked at no call of the backend whose arrays a script could hold")
        _write("--script", script, text)


def _write(option: str, path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageProblem(f"{option} {path}: {error.strerror}; name a file that can be written") from None
