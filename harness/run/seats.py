"""Where a batch is run and judged: in this process over a link, or at a judge (`harness.run.judges`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from harness.backend import BackendInfo
from harness.oracle.cache import OracleCache
from harness.records import Record
from harness.run.judge import Keep, judge_batch
from harness.run.limits import Limits
from harness.run.link import Link
from harness.run.plan import Batch


class Seat(Protocol):
    """A place for one backend's batches, one at a time; `home` numbers the process that judges."""

    home: int

    def judge(self, batch: Batch, *, diagnose: bool) -> list[Record]:
        """Run and judge a batch: a record for each job, whatever happens."""
        ...

    def abandon(self) -> None:
        """End at once, though another thread waits for records."""
        ...

    def close(self) -> None:
        """End."""
        ...


@dataclass(eq=False)
class Here:
    """A seat in this process."""

    link: Link
    info: BackendInfo | None
    oracle: OracleCache
    limits: Limits
    keep: Keep | None = None
    home: int = 0

    def judge(self, batch: Batch, *, diagnose: bool) -> list[Record]:
        """See `judge_batch`."""
        assert self.info is not None
        return judge_batch(batch, self.info, self.link, self.oracle, self.limits, self.keep, diagnose=diagnose)

    def abandon(self) -> None:
        """Kill the worker."""
        self.link.abandon()

    def close(self) -> None:
        """End the worker."""
        self.link.close()
