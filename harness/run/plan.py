"""The plan: which job runs where, and which never starts, a pure function of tables.

A job is case x backend x device x check. Where the theorem of a check does not hold for a case (on such a
backend) there is no job; they are counted. Jobs that a backend declares impossible are jobs, with their verdict already known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.backend import BackendInfo, Device
from harness.catalogue import Case
from harness.checks import Check
from harness.records import Job, Record, Status, Verdict
from harness.run.arena import layout
from harness.run.oclgrind import too_large
from harness.run.probe import ProbeReport
from harness.spec import ConvSpec

#: The backend's name in jobs that try the specification itself.
SPECIFICATION = "spec"
REFUSAL = "refusal"


@dataclass(frozen=True)
class Batch:
    """The jobs of one case on one backend's device: one preparation, one transaction."""

    case: Case
    backend: int
    device: Device
    checks: tuple[Check, ...]
    jobs: tuple[Job, ...]

    def with_checks(self, checks: tuple[Check, ...]) -> Batch:
        """The same batch with other checks."""
        return replace(self, checks=checks)


@dataclass(frozen=True)
class Plan:
    """Everything that a run will do.

    Attributes
    ----------
    batches : tuple of Batch
        To be run, in order.
    known : tuple of Record
        Jobs whose verdict needs no run: UNSUPPORTED, UNAVAILABLE, refusals of `invalid` cases, ...
    inapplicable : Counter
        (check, reason): how many case and backend pairs were left out.
    """

    batches: tuple[Batch, ...]
    known: tuple[Record, ...]
    inapplicable: Mapping[tuple[str, str], int] = field(default_factory=dict)

    @property
    def jobs(self) -> int:
        """How many records the run will hold."""
        return len(self.known) + sum(len(b.jobs) for b in self.batches)

    def narrowed(self, only: frozenset[Job]) -> Plan:
        """The part that holds the jobs of `only`, whatever their device; a contract check stays with its case."""
        cases = {(j.case, j.backend) for j in only}
        wanted = {(j.case, j.backend, j.check) for j in only}
        batches = []
        for b in self.batches:
            if (b.case.id, b.jobs[0].backend) in cases:
                pairs = zip(b.checks, b.jobs, strict=True)
                kept = [(c, j) for c, j in pairs if c.name == "contract" or (j.case, j.backend, j.check) in wanted]
                batches.append(replace(b, checks=tuple(c for c, _ in kept), jobs=tuple(j for _, j in kept)))
        known = tuple(r for r in self.known if (r.job.case, r.job.backend) in cases)
        return Plan(tuple(batches), known, self.inapplicable)


def make_plan(
    cases: Sequence[Case],
    reports: Sequence[ProbeReport],
    checks: Sequence[Check],
    *,
    device: str | None = None,
    memory: int = 2 << 30,
    refusals: bool = True,
) -> Plan:
    """Plan a run.

    Parameters
    ----------
    cases : sequence of Case
    reports : sequence of ProbeReport
        Asked for the specifications `asked(cases, checks)`, in order.
    checks : sequence of Check
        Cheapest first.
    device : str, optional
        Part of a device's name; the first device of each backend if not given. `all` takes every one.
    memory : int
        Bytes that a worker may hold; what cannot fit is not started.
    refusals : bool
        Whether cases that must be refused are tried.
    """
    batches: list[Batch] = []
    known: list[Record] = []
    left_out: Counter[tuple[str, str]] = Counter()
    places = {spec: i for i, spec in enumerate(asked(cases, checks))}
    for case in cases:
        if case.spec is None:
            if refusals:
                known.append(refusal(case))
            continue
        for i, report in enumerate(reports):
            applied = []
            for check in checks:
                reason = check.applies(case, case.spec, report.info or BackendInfo(report.name))
                reason = reason or _related_refused(check, case.spec, report, places, memory)
                if reason is None:
                    applied.append(check)
                else:
                    left_out[check.name, reason] += 1
            for place, verdict in _places(report, places[case.spec], device, case, memory):
                jobs = tuple(Job(case.id, report.name, place.name, c.name) for c in applied)
                if verdict is None:
                    if jobs:
                        batches.append(Batch(case, i, place, tuple(applied), jobs))
                else:
                    version = case.version
                    known += [Record(j, verdict, digest=version) for j in jobs]
    return Plan(tuple(batches), tuple(known), dict(left_out))


def asked(cases: Sequence[Case], checks: Sequence[Check]) -> tuple[ConvSpec, ...]:
    """Every specification on which a backend may be run: those of the cases, and what the checks relate to them."""
    specs: dict[ConvSpec, None] = {}
    for case in cases:
        if case.spec is not None:
            specs[case.spec] = None
            for check in checks:
                specs.update(dict.fromkeys(check.related(case.spec)))
    return tuple(specs)


def _related_refused(
    check: Check, spec: ConvSpec, report: ProbeReport, places: Mapping[ConvSpec, int], memory: int
) -> str | None:
    """Why the backend cannot do the other specifications that a check needs; None if it can."""
    if not report.why_not:
        return None
    for other in check.related(spec):
        if (reason := report.why_not[places[other]]) is not None:
            return f"it needs a specification that the backend does not take: {reason}"
        if layout(other).size + report.workspace[places[other]] > memory:
            return "it needs a specification that does not fit into `memory`"
    return None


def select_devices(devices: Sequence[Device], wanted: str | None) -> tuple[Device, ...]:
    """The devices that `wanted`, part of a name, selects; the first if it is None, all for `all`."""
    if wanted is None:
        return tuple(devices[:1])
    if wanted == "all":
        return tuple(devices)
    return tuple(d for d in devices if wanted.lower() in d.name.lower())


def _places(
    report: ProbeReport, position: int, device: str | None, case: Case, memory: int
) -> list[tuple[Device, Verdict | None]]:
    nowhere = Device("-")
    if report.status is not Status.PASS:
        text = f"{report.message}{': ' + report.hint if report.hint else ''}"
        return [(nowhere, Verdict(report.status, text))]
    if (reason := report.why_not[position]) is not None:
        return [(nowhere, Verdict(Status.UNSUPPORTED, reason))]
    places = select_devices(report.devices, device)
    if not places:
        names = ", ".join(d.name for d in report.devices)
        return [(nowhere, Verdict(Status.UNAVAILABLE, f"no device matches {device!r}; it has {names}"))]
    assert case.spec is not None
    need = layout(case.spec).size + report.workspace[position]
    if need > memory:
        text = f"needs {need / 1e9:.2f} GB (operands and workspace), the limit is {memory / 1e9:.2f} GB: raise `memory`"
        return [(d, Verdict(Status.NOT_RUN, text)) for d in places]
    reasons = [too_large(d, case.spec.flops) for d in places]
    return [(d, None if r is None else Verdict(Status.NOT_RUN, r)) for d, r in zip(places, reasons, strict=True)]


def refusal(case: Case) -> Record:
    """Try a case that must be refused: PASS if the specification refuses it for its reason."""
    from harness.spec import ConvSpec, SpecError

    job = Job(case.id, SPECIFICATION, "-", REFUSAL)
    try:
        spec = ConvSpec(**case.fields)
    except SpecError as e:
        if (case.refused or "") in str(e):
            return Record(job, Verdict(Status.PASS, f"refused: {e}", compared=1))
        return Record(job, Verdict(Status.FAIL, f"refused for another reason: {e}; expected {case.refused!r}", compared=1))
    return Record(job, Verdict(Status.FAIL, f"accepted: {spec}; expected a refusal with {case.refused!r}", compared=1))


def describe_info(info: BackendInfo | None) -> str:
    """The declared class, for a table."""
    return "-" if info is None else info.classes
