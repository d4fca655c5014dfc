"""What each backend says of itself, asked in its own worker: facts, devices, limits for every case."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from harness.backend import BackendInfo, Device
from harness.records import Status
from harness.registry import label
from harness.run.limits import Limits
from harness.run.link import Link, WorkerLink, trouble_status
from harness.run.messages import Answers, Ask, Loaded
from harness.run.process import WorkerGone
from harness.spec import ConvSpec


@dataclass(frozen=True)
class ProbeReport:
    """A backend's answers, or why there are none.

    Attributes
    ----------
    reference : str
    name : str
        The backend's own name; the reference's label where it could not be loaded.
    info : BackendInfo or None
        None if it could not be loaded; its `limits.rule` stays in the worker.
    devices : tuple of Device
    status : Status
        PASS if it can run, UNAVAILABLE without a device, else ERROR, CRASH, TIMEOUT, OOM of its loading.
    message, hint : str
        Why it cannot run, and what to do about it.
    seconds : float
        Import and probe.
    why_not, workspace : tuple
        For each specification asked, in order.
    """

    reference: str
    name: str
    info: BackendInfo | None = None
    devices: tuple[Device, ...] = ()
    status: Status = Status.PASS
    message: str = ""
    hint: str = ""
    seconds: float = 0.0
    why_not: tuple[str | None, ...] = ()
    workspace: tuple[int, ...] = ()


def probe_all(references: Sequence[str], limits: Limits | None = None, specs: Sequence[ConvSpec] = ()) -> list[ProbeReport]:
    """Probe every backend in a worker of its own; no result is lost to one that dies.

    Parameters
    ----------
    references : sequence of str
        As `Registry.reference` gives them.
    limits : Limits, optional
    specs : sequence of ConvSpec
        Asked of each backend that loads, in one batch.
    """
    links: list[Link] = [WorkerLink(r, limits or Limits()) for r in references]
    try:
        return probe_links(links, specs, limits or Limits())
    finally:
        for link in links:
            link.close()


def probe_links(links: Sequence[Link], specs: Sequence[ConvSpec], limits: Limits) -> list[ProbeReport]:
    """The same over links that stay open, so that their workers go on to run what is planned."""
    if len(links) == 1:
        return [_probe(links[0], specs, limits)]
    return _told_apart(_probe_together(links, specs, limits))


def _told_apart(reports: Sequence[ProbeReport]) -> list[ProbeReport]:
    """The reports; those that could not be loaded and whose labels clash go by their whole reference."""
    names = Counter(r.name for r in reports)
    return [_with(r, name=r.reference) if r.info is None and names[r.name] > 1 else r for r in reports]


def _probe_together(links: Sequence[Link], specs: Sequence[ConvSpec], limits: Limits) -> list[ProbeReport]:
    with ThreadPoolExecutor(max(1, len(links))) as pool:
        try:
            return list(pool.map(lambda link: _probe(link, specs, limits), links))
        except BaseException:  # an interrupt: the pool waits for its threads, and they for their workers
            for link in links:
                link.abandon()
            raise


def _probe(link: Link, specs: Sequence[ConvSpec], limits: Limits) -> ProbeReport:
    ref, name = link.reference, label(link.reference)
    try:
        loaded = link.load()
        if not isinstance(loaded, Loaded):
            return ProbeReport(ref, name, status=trouble_status(loaded), message=f"could not be loaded: {loaded.message}")
        answers = link.ask(Ask(tuple(specs)), limits.load_seconds)
    except WorkerGone as e:
        return ProbeReport(ref, name, status=e.status, message=f"while it was loaded: {e.message}")
    found = loaded.probe
    base = ProbeReport(ref, loaded.info.name, loaded.info, found.devices, hint=found.hint, seconds=loaded.seconds)
    if not isinstance(answers, Answers):
        message = f"could not tell its limits: {answers.message}"  # type: ignore[union-attr]
        return _with(base, status=Status.ERROR, message=message)
    status = Status.PASS if found.devices else Status.UNAVAILABLE
    message = "" if found.devices else found.reason or "it found no device and gave no reason"
    return _with(base, status=status, message=message, why_not=answers.why_not, workspace=answers.workspace)


def _with(report: ProbeReport, **changes: object) -> ProbeReport:
    from dataclasses import replace

    return replace(report, **changes)  # type: ignore[arg-type]
