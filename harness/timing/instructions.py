"""The measure without noise: instructions of a call, counted by valgrind (callgrind) on one case in one process.

Valgrind translates the program and counts what it executes, so the count does not depend on what else the machine does.
The program (`child.py --alone`) marks the ends of the windows between which it counts, by a call of a C function that
nothing else calls; windows of few calls and of more differ by the calls alone. It is apart from the clocks, for it tells
something else: more instructions are not always more time, and the processor that valgrind presents lacks AVX-512, so
libraries choose other kernels there than they run. Counts compare commits of one backend.

References
----------
N. Nethercote, J. Seward, "Valgrind: a framework for heavyweight dynamic binary instrumentation", PLDI 2007.
"""

from __future__ import annotations

import platform
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from harness.backend import Device
from harness.catalogue import Case
from harness.run.limits import Limits
from harness.run.oclgrind import NAME as OCLGRIND
from harness.run.remains import kill_group
from harness.timing.alone import words, write_job
from harness.timing.process import Side, environment
from harness.timing.rule import Finding

#: The C function that `child.Timed.mark` calls: callgrind writes its counts, and begins anew, where it is entered.
MARK = "ctermid"
#: How many times longer than a call's limit the whole count may take. Valgrind makes a program about 50 times slower, but
#: the limit of a call is many times what a case that is worth counting takes.
PATIENCE = 20.0
#: Pairs of windows, each of which gives an estimate.
PAIRS = 3
#: Calls by which the windows of a pair differ, at most, and the operations that they may hold; at least one call.
MOST_CALLS, MOST_FLOPS = 10, 100_000_000
#: Rounds of warming up. Python's interpreter adapts to what it has run a few times: the first windows of 11 calls of a
#: small case counted 8 % more than the third, the second 0.5 % more.
WARM_UPS = 2
#: Seconds of a sample: none is cut.
FOREVER = 1e9
_ILLEGAL = re.compile(r"unhandled instruction bytes: ([0-9A-Fx ]+)")
_TOTALS = re.compile(r"^totals: (\d+)", re.M)


class NotCounted(Exception):
    """There is no count; the message is the reason."""


@dataclass(frozen=True)
class Count:
    """Instructions of a call of `run`, warm.

    Attributes
    ----------
    instructions : float
        Of one call: the median of the estimates.
    spread : float
        The largest estimate less the smallest, relative to it.
    calls : int
        Calls that an estimate rests on.
    """

    instructions: float
    spread: float
    calls: int


def count(side: Side, case: Case, device: Device, limits: Limits, seed: int) -> Count:
    """Count the instructions of a call of a backend on a case.

    Parameters
    ----------
    side : Side
        Its interpreter has to be a program, not a script that starts one: valgrind follows no other program.
    case : Case
        With a specification that the backend takes.
    device : Device
        A processor.
    limits : Limits
        Of one thread. The whole count may take `PATIENCE` times their `seconds`.
    seed : int
        Of the numbers that are computed on.

    Raises
    ------
    NotCounted
        With the reason: no valgrind, not a processor, more than one thread, instructions that valgrind lacks, a backend or
        library that does not run under it, too long.
    """
    valgrind = _valgrind(device, limits)
    if case.spec is None:
        raise NotCounted(f"case {case.id} has no specification, so there is nothing to call")
    calls = max(1, min(MOST_CALLS, MOST_FLOPS // max(1, case.spec.flops)))
    with tempfile.TemporaryDirectory(prefix="convproof-count-") as folder:
        # on no core of its own: a count does not depend on it, and several can be taken at once
        job = write_job(Path(folder), case, side, device.name, seed, (), _requests(calls))
        windows = _counted([*_same_addresses(), valgrind, *_options(Path(folder))], side, job, limits)
    return estimate(windows, calls)


def estimate(windows: Sequence[int], calls: int) -> Count:
    """The count that windows tell: of one call, of `calls` more than that, of one, and so on by turns.

    Examples
    --------
    >>> estimate([105, 205, 106, 208, 104, 206], 10)
    Count(instructions=10.2, spread=0.0196..., calls=10)
    """
    found = [(more - one) / calls for one, more in zip(windows[::2], windows[1::2], strict=True)]
    middle = median(found)
    if middle <= 0:
        raise NotCounted(f"{calls} more calls took no more instructions: {', '.join(f'{f:g}' for f in found)}")
    return Count(middle, (max(found) - min(found)) / middle, calls)


def ratio_verdict(before: Count, after: Count, threshold: float = 0.005) -> Finding:
    """What two counts of a case say: SLOWER for more instructions, FASTER for fewer, or SAME.

    SAME means that they differ by no more than `threshold` and both spreads, relative to `before`. The words are those of
    the comparison of times, but what they state is the number of instructions: more of them are not always slower (a
    vector instruction replaces several, a miss of the cache takes as long as hundreds), so a change found here
    says where to look, and the clock says what it costs.

    Examples
    --------
    >>> ratio_verdict(Count(1000.0, 0.001, 10), Count(1010.0, 0.001, 10)).value
    'SLOWER'
    >>> ratio_verdict(Count(1000.0, 0.001, 10), Count(1006.0, 0.001, 10)).value
    'SAME'
    """
    change = after.instructions / before.instructions - 1
    if abs(change) <= threshold + before.spread + after.spread:
        return Finding.SAME
    return Finding.SLOWER if change > 0 else Finding.FASTER


def _valgrind(device: Device, limits: Limits) -> str:
    """The program's path, once nothing speaks against it."""
    if device.kind != "cpu":
        raise NotCounted(f"device {device.name!r} is of kind {device.kind}: valgrind counts a processor's instructions alone")
    if OCLGRIND.lower() in device.name.lower():
        raise NotCounted(f"device {device.name!r} is a simulator: its own instructions would be counted, not the kernel's")
    if limits.threads != 1:
        raise NotCounted(
            f"{limits.threads} threads: threads that wait count as well, so counts are of one thread (--threads 1)"
        )
    if (found := shutil.which("valgrind")) is None:
        raise NotCounted("valgrind is not installed: install it (apt-get install valgrind) or compare times")
    return found


def _requests(calls: int) -> list[dict[str, Any]]:
    """Warm up, then windows of one call and of `calls` more by turns, with a mark at every end."""

    def sample(loops: int) -> dict[str, Any]:
        return {"op": "sample", "count": 1, "seconds": FOREVER, "loops": loops}

    mark = {"op": "mark"}
    warm = [sample(1), sample(1 + calls)] * WARM_UPS
    return [*warm, mark, *[sample(1), mark, sample(1 + calls), mark] * PAIRS]


def _same_addresses() -> list[str]:
    """The words before a command that switch the randomisation of addresses off, where that is allowed."""
    if (setarch := shutil.which("setarch")) is None:
        return []
    prefix = [setarch, platform.machine(), "-R"]
    return prefix if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0 else []  # noqa: S603


def _options(folder: Path) -> list[str]:
    """Valgrind's own: nothing of the user's settings, counts by process, its log apart from the program's."""
    own = ["--command-line-only=yes", "--vgdb=no", f"--log-file={folder / 'log'}"]
    counts = ["--tool=callgrind", "--dump-line=no", f"--dump-before={MARK}", f"--callgrind-out-file={folder / 'counts.%p'}"]
    return own + counts


def _counted(command: Sequence[str], side: Side, job: Path, limits: Limits) -> list[int]:
    """Run a job under valgrind; the instructions of its windows."""
    patience = PATIENCE * limits.seconds
    folder = job.parent
    with (folder / "told").open("wb") as told:
        process = subprocess.Popen(  # noqa: S603 - the side's own interpreter
            [*command, *words(side, job)],
            stdin=subprocess.DEVNULL,
            stdout=told,
            stderr=told,
            env=environment(side, limits.threads),
            start_new_session=True,
        )
        try:
            code = process.wait(patience)
        except subprocess.TimeoutExpired:
            raise NotCounted(
                f"not done under valgrind within {patience:g} s, {PATIENCE:g} times the limit of a call: take a smaller case"
            ) from None
        finally:
            kill_group(process.pid)
            process.wait()
    if code:
        raise NotCounted(_why(code, _text(folder / "told"), _text(folder / "log")))
    parts = [folder / f"counts.{process.pid}.{n}" for n in range(1, 2 * PAIRS + 2)]
    if missing := [p for p in parts if not p.is_file()]:
        raise NotCounted(
            f"valgrind saw {len(parts) - len(missing)} of {len(parts)} marks (calls of {MARK}): "
            f"is {side.python} a script that starts another program?"
        )
    return [_total(p) for p in parts[1:]]  # the first holds what came before


def _total(part: Path) -> int:
    """The instructions of a part of callgrind's output."""
    if (found := _TOTALS.search(_text(part))) is None:
        raise NotCounted("valgrind wrote no total: its output is of a form that is not known here")
    return int(found[1])


def _why(code: int, told: str, log: str) -> str:
    """Why a program ended with a code other than 0, by what it and valgrind wrote."""
    if code == -signal.SIGILL:
        found = _ILLEGAL.search(log)
        which = f" ({found[1].strip()})" if found else ""
        return f"it executes an instruction that valgrind lacks{which}, such as those of AVX-512: killed by SIGILL"
    last = (told.strip() or log.strip()).rpartition("\n")[2]
    if code < 0:
        names = {s.value: s.name for s in signal.Signals}
        return f"it ends under valgrind, killed by {names.get(-code, f'signal {-code}')}{': ' + last if last else ''}"
    return f"it ends under valgrind with: {last or f'exit code {code}'}"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
