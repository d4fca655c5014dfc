"""What asv times: a call of `run`, GFLOP/s, and the error in units of its bound, of every case on every backend.

A benchmark prepares and verifies before anything is measured. What is not PASS raises, which asv shows as failed;
what a backend does not take, or a commit does not have, raises NotImplementedError, which it shows as n/a.
"""

from __future__ import annotations

import contextlib
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from .parameters import read

if TYPE_CHECKING:
    from .subject import Subject

# asv's fork server imports this module once a commit, and its workers inherit what that brought. Nothing rests on it:
# what fails here fails again in `setup`, for the benchmark that needs it.
with contextlib.suppress(Exception):
    import harness.catalogue
    import harness.checks
    import harness.run.arena  # noqa: F401

_PARAMETERS = read()
#: Seconds and calls of `track_gflops`.
_SECONDS, _CALLS = 0.3, 50


class Convolution:
    """A case on a backend."""

    params = (list(_PARAMETERS.cases), list(_PARAMETERS.backends))
    param_names = ("case", "backend")
    #: Of what is measured. asv would take a digest of the source, and a comment would end every series.
    version = "1"
    timeout = 120
    #: Two processes; in each from 5 to 60 calls, as many as fit into 1.5 s.
    rounds = 2
    repeat = (5, 60, 1.5)
    warmup_time = 0.1

    subject: Subject | None = None

    def setup(self, case: str, backend: str) -> None:
        """Prepare and verify once a process, then make ready for a call: asv does this before each."""
        from .subject import prepared

        if self.subject is None:
            self.subject = prepared(case, backend, _PARAMETERS.seed, _PARAMETERS.threads)
        self.subject.ready()

    def teardown(self, case: str, backend: str) -> None:
        """Judge the output that was timed last; asv does this after each call."""
        if self.subject is not None:
            self.subject.confirm()

    def time_run(self, case: str, backend: str) -> None:
        """A call, in seconds."""
        assert self.subject is not None
        self.subject.run()

    def track_gflops(self, case: str, backend: str) -> float:
        """10^9 operations a second by the median call; shown, not gated."""
        assert self.subject is not None
        samples: list[float] = []
        until = perf_counter() + _SECONDS
        while len(samples) < _CALLS and (len(samples) < 5 or perf_counter() < until):
            start = perf_counter()
            self.subject.run()
            samples.append(perf_counter() - start)
        return self.subject.flops / median(samples) / 1e9

    def track_error(self, case: str, backend: str) -> float:
        """The largest |y - y_ref| in units of its bound, which 1 would exceed, over the checks of `setup`."""
        assert self.subject is not None
        return self.subject.error

    track_gflops.unit = "GFLOP/s"  # type: ignore[attr-defined]
    track_error.unit = "of the bound"  # type: ignore[attr-defined]
