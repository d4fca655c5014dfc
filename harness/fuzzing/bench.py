"""One backend in one worker, asked whether single cases fail too."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Self

from harness.catalogue import Case
from harness.checks import CHECKS, Check, Trial
from harness.oracle.cache import OracleCache
from harness.records import BAD, Record, Status, Verdict
from harness.run.judge import judge_batch
from harness.run.limits import Limits
from harness.run.link import Link, WorkerLink
from harness.run.plan import asked, make_plan
from harness.run.probe import probe_links

#: Seconds that a candidate may take where the fault is a hang; at most a backend's own limit.
PATIENCE = 2.0
#: What a backend is charged with. A weak case is no fault of a backend's.
FAULTS = BAD - {Status.WEAK}


@dataclass(frozen=True)
class Judged:
    """A case under one check: the verdict, and the call that was looked at last."""

    case: Case
    check: str
    verdict: Verdict
    trial: Trial | None = None


class Bench:
    """Judges cases on one backend, one by one; a worker that dies is started again.

    Parameters
    ----------
    reference : str
        As `Registry.reference` gives it.
    limits : Limits
    seed : int
        What the data are drawn from.
    device : str, optional
        Part of the device's name; the backend's first if not given.
    link : Link, optional
        To use, and to leave open; a worker of its own otherwise.
    """

    def __init__(
        self, reference: str, limits: Limits | None = None, seed: int = 0, device: str | None = None, link: Link | None = None
    ) -> None:
        self.reference, self.limits, self.seed, self.device = reference, limits or Limits(), seed, device
        self._own = link is None
        self.link: Link = link or WorkerLink(reference, self.limits)
        self.name = ""
        self.asked = 0

    def judge(
        self, case: Case, check: str, *, patience: float | None = None, diagnose: bool = False, alone: bool = False
    ) -> Judged | None:
        """Judge one case under one check.

        Parameters
        ----------
        case : Case
        check : str
        patience : float, optional
            Seconds that a call may take, where less than the limits allow.
        diagnose : bool
            Whether it is said what is wrong, which costs more than the verdict.
        alone : bool
            Whether in a worker that has run nothing before.

        Returns
        -------
        Judged or None
            None where the check does not apply or the backend does not take the case.
        """
        if alone:
            self.link.discard()
        chosen = _named(check)
        limits = self.limits if patience is None else replace(self.limits, seconds=min(patience, self.limits.seconds))
        # the plan's own rules decide what applies, so that no candidate is judged that a run would leave out
        (report,) = probe_links([self.link], asked([case], [chosen]), limits)
        plan = make_plan([case], [report], (chosen,), device=self.device, memory=limits.memory, refusals=False)
        self.name = report.name
        if not plan.batches or report.info is None:
            return None
        kept: list[tuple[Record, Trial]] = []
        self.asked += 1
        (record,) = judge_batch(
            plan.batches[0],
            report.info,
            self.link,
            OracleCache(self.seed),
            limits,
            lambda r, t: kept.append((r, t)),
            diagnose=diagnose,
        )
        return Judged(case, check, record.verdict, kept[0][1] if kept else None)

    def close(self) -> None:
        """End the worker."""
        if self._own:
            self.link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Clock:
    """A span of time."""

    def __init__(self, seconds: float) -> None:
        self._start, self._seconds = time.monotonic(), seconds

    @property
    def spent(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self._start

    @property
    def over(self) -> bool:
        """Whether it has passed."""
        return self.spent >= self._seconds


def kind(verdict: Verdict) -> tuple[str, str]:
    """What has to stay the same while a failure shrinks: the status; of an exception its type, of a death its signal."""
    if verdict.status in (Status.ERROR, Status.CRASH):
        text = verdict.message.partition(" at ")[0]
        return verdict.status, ":".join(text.split(":")[:2])
    return verdict.status, ""


def diagnoses(verdict: Verdict) -> tuple[str, ...]:
    """Names of what was found to be wrong, the most convincing first; empty where nothing was."""
    return tuple(str(found["id"]) for found in verdict.details.get("diagnosis", ()))


def _named(check: str) -> Check:
    return next(c for c in CHECKS if c.name == check)
