"""What a run produces: statuses, verdicts, jobs. Plain frozen records, no numpy, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """How a job ended; no two endings share a status."""

    PASS = "PASS"  # noqa: S105 - a verdict, not a password
    FAIL = "FAIL"
    WEAK = "WEAK"
    UNSUPPORTED = "UNSUPPORTED"
    UNAVAILABLE = "UNAVAILABLE"
    ERROR = "ERROR"
    CRASH = "CRASH"
    TIMEOUT = "TIMEOUT"
    OOM = "OOM"
    NOT_RUN = "NOT_RUN"
    XFAIL = "XFAIL"
    XPASS = "XPASS"


#: Statuses that make `verify` exit with 1 (NOT_RUN joins them under --strict).
BAD = frozenset({Status.FAIL, Status.WEAK, Status.ERROR, Status.CRASH, Status.TIMEOUT, Status.OOM, Status.XPASS})
#: What each status means, in a line.
MEANING: Mapping[Status, str] = {
    Status.PASS: "right, as far as this check can tell",
    Status.FAIL: "wrong",
    Status.WEAK: "proves nothing: a decoy output passes too",
    Status.UNSUPPORTED: "the backend declares that it cannot, with the reason",
    Status.UNAVAILABLE: "no device or package",
    Status.ERROR: "raised an exception",
    Status.CRASH: "its process died",
    Status.TIMEOUT: "did not finish in time",
    Status.OOM: "ran out of its memory limit",
    Status.NOT_RUN: "not tried: budget, interrupt, or the contract had failed already",
    Status.XFAIL: "fails as a waiver says",
    Status.XPASS: "passes although a waiver says that it fails",
}

#: What a run's exit code says, in a word or two; an unfinished run has none.
OUTCOME: Mapping[int | None, str] = {0: "PASS", 1: "FAIL", 3: "NOTHING VERIFIED", None: "UNFINISHED"}


@dataclass(frozen=True)
class Verdict:
    """The judgement of one check.

    Attributes
    ----------
    status : Status
    message : str
        Why, in a sentence; empty for a plain PASS.
    compared, mismatches : int
        Elements compared, and how many were out of bounds.
    worst_index : tuple of int, optional
        Output index (batch, channel, spatial...) of the largest error in units of its tolerance.
    got, expected : float, optional
        Values there.
    error_bound : float, optional
        Largest |y - y_ref| / tol: above 1 fails. 0 or infinity where equality is asked.
    error_units : float, optional
        Largest |y - y_ref| / (u A + floor): the unit of error that is trended.
    details : mapping
        More, by name, in JSON's types.
    """

    status: Status
    message: str = ""
    compared: int = 0
    mismatches: int = 0
    worst_index: tuple[int, ...] | None = None
    got: float | None = None
    expected: float | None = None
    error_bound: float | None = None
    error_units: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def diagnosis(self) -> tuple[str, ...]:
        """What was found to be wrong, in words, the most convincing first; empty where nothing was."""
        return tuple(str(found["text"]) for found in self.details.get("diagnosis", ()))


@dataclass(frozen=True, order=True)
class Job:
    """One check of one case on one backend's device; the key of a row."""

    case: str
    backend: str
    device: str
    check: str


@dataclass(frozen=True)
class Record:
    """A job and its verdict, as stored.

    Attributes
    ----------
    job : Job
    verdict : Verdict
    seconds : float
        Wall time of the job, data, oracle and judgement included.
    run_seconds : float
        Wall time inside the backend's `run`, all calls of the job.
    digest : str
        The specification's content (`ConvSpec.digest`): an edited case under the same id differs.
    """

    job: Job
    verdict: Verdict
    seconds: float = 0.0
    run_seconds: float = 0.0
    digest: str = ""


def exit_code(statuses: Mapping[Status, int], *, strict: bool = False, missing: bool = False) -> int:
    """The exit code of a run (0, 1 or 3; 2 is usage, decided before anything runs).

    Parameters
    ----------
    statuses : mapping of Status to int
        How many rows ended so.
    strict : bool
        Whether NOT_RUN counts as bad.
    missing : bool
        Whether a backend that the command line named was unavailable.
    """
    bad = BAD | ({Status.NOT_RUN} if strict else set())
    if any(statuses.get(s, 0) for s in bad):
        return 1
    if missing or not (statuses.get(Status.PASS, 0) + statuses.get(Status.XFAIL, 0)):
        return 3
    return 0
