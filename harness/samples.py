"""What a benchmark produces: raw samples in series, and what is known beside them. Plain frozen records, no numpy, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: What a series measures, in seconds; a backend's own phases are `phase:NAME`.
METRICS: Mapping[str, str] = {
    "wall": "of a call of `run`, by the host's clock: all that it does, packing and transfers included",
    "cpu": "of a call, processor time of all threads of the process",
    "device": "of a call, by the device's own clock",
    "setup": "of `prepare`, by the host's clock",
    "phase:pack": "of a call: bringing operands into the order or type that the kernel reads",
    "phase:transfer": "of a call: copies between host and device",
    "phase:kernel": "of a call: the arithmetic alone",
    "phase:copy": "of a call: bringing the result into the output",
}
#: The name of the check under which the verdict on the output timed last is stored.
TIMED = "timed"
#: The beginning of those under which changes are stored.
COMPARED = "compare_"
#: Prefix of the metrics that a backend tells of itself.
PHASE = "phase:"
#: Whether what a call needs was in the caches: `warm`, the calls follow each other; `cold`, other memory was
#: written in between. A `setup` is cold if it is the first in its process, where compilers and planners may have to run.
STATES = ("warm", "cold")


@dataclass(frozen=True)
class Series:
    """Samples of one quantity, one after the other, in one process.

    Attributes
    ----------
    metric : str
        One of `METRICS`, or another `phase:NAME`.
    state : {'warm', 'cold'}
    process : int
        Which of the run's processes of this backend, from 0.
    seconds : tuple of float
        In the order in which they were taken.
    """

    metric: str
    state: str
    process: int
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class Timing:
    """One case on one backend's device, timed, or the reason why there is no figure.

    Attributes
    ----------
    case, backend, device : str
        Its key in a run, as of a `Job`.
    series : tuple of Series
    refused : str
        Why no figure may be made of the samples; empty where one may. A figure stands only beside a PASS.
    threads : int
        That libraries were allowed.
    flops, bytes : int
        Of the specification (`ConvSpec.flops`, `ConvSpec.bytes`).
    peak_bytes : int, optional
        The most resident memory of its process while the case was prepared and run; None where it can't be told.
    stopped : str
        Why sampling ended.
    roof : float, optional
        The share of the measured roof that the median reaches, 0 to 1; None where the roof isn't known.
    digest : str
        As of a `Record`.
    details : mapping
        More, by name, in JSON's types.
    """

    case: str
    backend: str
    device: str
    series: tuple[Series, ...] = ()
    refused: str = ""
    threads: int = 1
    flops: int = 0
    bytes: int = 0
    peak_bytes: int | None = None
    stopped: str = ""
    roof: float | None = None
    digest: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def of(self, metric: str, state: str = "warm") -> list[tuple[float, ...]]:
        """The samples of a metric, a tuple a process."""
        return [s.seconds for s in self.series if (s.metric, s.state) == (metric, state) and s.seconds]
