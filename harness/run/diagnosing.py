"""Diagnosing the first failures of a batch: what is wrong goes into their verdicts, and nothing that goes wrong here does."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from time import thread_time
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.checks import Problem, RunEnded, Trial
from harness.data import Operands
from harness.diagnose.trials import carried, findings
from harness.records import Status, Verdict

if TYPE_CHECKING:
    from harness.run.judge import Session

#: Failures of a batch that are diagnosed, and those that are tried for that.
A_BATCH, TRIES = 2, 4
#: Batches of a backend whose failures are diagnosed in a run.
A_BACKEND = 30
#: Calls of a check any of which may be the wrong one.
ACCUSED = 6
#: Seconds that the diagnosis of a batch may take; a hypothesis at work is not cut short.
SECONDS = 1.5
#: Calls whose operands are kept: what a stale cache may hold.
KEPT = 12
#: Statuses after which a backend is not called again.
_DEAD = frozenset({Status.CRASH, Status.TIMEOUT, Status.OOM})


@dataclass(frozen=True, eq=False)
class Failure:
    """A failed check with the calls that it made, the one that it looked at last first."""

    check: str
    trials: tuple[Trial, ...]
    passed: frozenset[str]
    earlier: tuple[Operands, ...]


@dataclass(eq=False)
class Diary:
    """What was called and what failed, for the diagnosis at the batch's end."""

    calls: deque[Trial] = field(default_factory=lambda: deque(maxlen=KEPT))
    failures: list[Failure] = field(default_factory=list)
    _passed: set[str] = field(default_factory=set)
    _before_check: Trial | None = None

    def judged(self, check: str, verdict: Verdict, last: Trial | None) -> None:
        """Note how a check ended."""
        if verdict.status is Status.PASS:
            self._passed.add(check)
        elif verdict.status is Status.FAIL and last is not None and last.out is not None and len(self.failures) < TRIES:
            trials = dict.fromkeys((last, *reversed(self._since())))
            self.failures.append(Failure(check, tuple(trials), frozenset(self._passed), self._before(last)))
        self._before_check = self.calls[-1] if self.calls else None

    def _since(self) -> list[Trial]:
        """The calls of the check that ends now, the latest `ACCUSED` of them."""
        made = list(self.calls)
        old = made.index(self._before_check) + 1 if self._before_check in made else 0
        return made[old:][-ACCUSED:]

    def _before(self, last: Trial) -> tuple[Operands, ...]:
        """Other operands of the same shapes that were run before `last`, the latest first."""
        found: dict[str, Operands] = {}
        for t in reversed(self.calls):
            if t.spec == last.spec and t.ops.digest != last.ops.digest:
                found.setdefault(t.ops.digest, t.ops)
        return tuple(found.values())


def diagnosed(problem: Problem, call: Session, diary: Diary, verdicts: Mapping[str, Verdict]) -> dict[str, Verdict]:
    """The verdicts of a batch, the first failures with a diagnosis where one was found.

    Parameters
    ----------
    problem : Problem
    call : Session
        Not used once the backend has died.
    diary : Diary
    verdicts : mapping of str to Verdict
        By check.
    """
    found = dict(verdicts)
    dead = any(v.status in _DEAD for v in verdicts.values())
    told, end = 0, thread_time() + SECONDS
    for f in diary.failures:
        verdict = verdicts[f.check]
        for i, trial in enumerate(f.trials):
            # only the last call can be repeated as it was: those before it are judged by what they left
            again = _again(call, trial) if i == 0 and not dead else None
            if told < A_BATCH and thread_time() < end and (named := _named(problem, f, trial, verdict, again)):
                told += 1
                found[f.check] = replace(verdict, details={**verdict.details, "diagnosis": named})
                break
    return found


def _named(
    problem: Problem, f: Failure, trial: Trial, verdict: Verdict, again: Callable[..., np.ndarray] | None
) -> list[dict[str, str]]:
    """A failure's findings for its verdict; what goes wrong in finding them is told there too."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NaN and overflow are what is looked at
            return carried(findings(problem, trial, verdict, f.check, passed=f.passed, earlier=f.earlier, again=again))
    except RunEnded as e:
        return [{"id": "nondeterministic", "text": f"a further call ended with {e.verdict.status}: {e.verdict.message}"}]
    except Exception as e:  # noqa: BLE001 - a diagnosis that fails must not cost the verdict
        return [{"id": "undiagnosed", "text": f"the diagnosis itself failed ({type(e).__name__}: {e}): please report it"}]


def _again(call: Session, trial: Trial) -> Callable[..., np.ndarray]:
    """Calls the backend once more on the trial's specification; an incomplete output is returned as it is."""

    def again(ops: Operands, **how: Any) -> np.ndarray:
        try:
            return call(ops, spec=trial.spec, **how)
        except RunEnded as e:
            if e.verdict.status is Status.FAIL and call.last is not None and call.last.out is not None:
                return call.last.out
            raise

    return again
