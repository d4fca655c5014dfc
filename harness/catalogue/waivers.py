"""Known failures: an adopter's own YAML file of what is expected to fail, why, and until when.

    waivers:
      - case: edge-dilation-*        # an id or a glob
        backend: mine                # a name or a glob
        check: zero_mean             # a name or a glob; every check if left out
        reason: accumulates in bfloat16 until the new kernel lands
        link: issue 42 of the backend's tracker
        expires: 2027-01-31

A waived job that ends badly is XFAIL; one that passes is XPASS, which fails the run: the entry is to be removed.
After `expires` an entry waives nothing, and what it waived says so. An entry that can match nothing (no such case or
check, or a check that does not apply to the cases) is refused before anything runs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path

from harness.catalogue.errors import CatalogueError, nearest
from harness.catalogue.nodes import Node, read
from harness.records import BAD, Job, Record, Status

_REQUIRED = ("case", "backend", "reason", "link", "expires")
_KEYS = (*_REQUIRED, "check")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}\Z")


@dataclass(frozen=True)
class Waiver:
    """One known failure.

    Attributes
    ----------
    case, backend, check : str
        Globs over a job's case id, backend name and check name.
    reason, link : str
    expires : date
        The last day on which it holds.
    where : str
        `file:line` of its entry.
    """

    case: str
    backend: str
    check: str
    reason: str
    link: str
    expires: date
    where: str

    def covers(self, job: Job) -> bool:
        """Whether it is about `job`."""
        return all(
            fnmatchcase(name, glob)
            for name, glob in ((job.case, self.case), (job.backend, self.backend), (job.check, self.check))
        )


def load_waivers(path: Path) -> tuple[Waiver, ...]:
    """The entries of a file, in its order.

    Raises
    ------
    CatalogueError
        At the first thing that is wrong, with its place.
    """
    root = read(path)
    if not isinstance(root.value, dict) or set(root.value) != {"waivers"} or not isinstance(root.value["waivers"].value, list):
        raise CatalogueError(path, root.line, "a file of waivers is a mapping with one key, waivers:, that holds a list")
    return tuple(_waiver(node, path) for node in root.value["waivers"].value)


def refuse_stale(
    waivers: Sequence[Waiver], jobs: Collection[Job], *, cases: Collection[str], checks: Collection[str], ran: Collection[str]
) -> None:
    """Refuse the first entry that can match nothing.

    Parameters
    ----------
    waivers : sequence of Waiver
    jobs : collection of Job
        What is planned, for every check.
    cases, checks : collection of str
        Ids of all cases that there are, and names of all checks.
    ran : collection of str
        Ids of the cases that are planned: an entry about others is none of this run's business.

    Raises
    ------
    CatalogueError
        With the entry's place.
    """
    backends = {j.backend for j in jobs}
    for w in waivers:
        path, _, line = w.where.rpartition(":")
        for what, glob, names in (("case", w.case, cases), ("check", w.check, checks)):
            if not any(fnmatchcase(name, glob) for name in names):
                raise CatalogueError(Path(path), int(line), f"stale: no {what} matches {glob!r}: {nearest(glob, names)}")
        here = any(fnmatchcase(c, w.case) for c in ran) and any(fnmatchcase(b, w.backend) for b in backends)
        if here and not any(w.covers(j) for j in jobs):
            text = f"stale: check {w.check!r} applies to none of the cases {w.case!r} on {w.backend!r}: remove the entry"
            raise CatalogueError(Path(path), int(line), text)


def waive(waivers: Sequence[Waiver], record: Record, today: date) -> Record:
    """The record as the first waiver that covers its job has it; itself where none does.

    Examples
    --------
    >>> from harness.records import Verdict
    >>> w = Waiver("edge-*", "mine", "*", "slow path", "issue 1", date(2030, 1, 1), "w.yaml:2")
    >>> bad = Record(Job("edge-a", "mine", "cpu", "integers"), Verdict(Status.FAIL, "wrong"))
    >>> str(waive([w], bad, date(2026, 1, 1)).verdict.status), str(waive([w], bad, date(2031, 1, 1)).verdict.status)
    ('XFAIL', 'FAIL')
    """
    found = next((w for w in waivers if w.covers(record.job)), None)
    verdict = record.verdict
    if found is None or (verdict.status not in BAD and verdict.status is not Status.PASS):
        return record
    if found.expires < today:
        if verdict.status is Status.PASS:
            return record
        text = f"{verdict.message} (the waiver at {found.where} expired on {found.expires})"
        return replace(record, verdict=replace(verdict, message=text))
    if verdict.status is Status.PASS:
        text = f"passes although the waiver at {found.where} expects a failure ({found.reason}): remove the entry"
        return replace(record, verdict=replace(verdict, status=Status.XPASS, message=text))
    text = f"known: {found.reason} ({found.link}), until {found.expires}; {verdict.status}: {verdict.message}"
    return replace(record, verdict=replace(verdict, status=Status.XFAIL, message=text))


def _waiver(node: Node, path: Path) -> Waiver:
    if not isinstance(node.value, dict):
        raise CatalogueError(path, node.line, f"a waiver is a mapping with {', '.join(_REQUIRED)}")
    for key, line in (node.key_lines or {}).items():
        if key not in _KEYS:
            raise CatalogueError(path, line, f"unknown key {key!r}: {nearest(key, _KEYS)}")
        if not isinstance(node.value[key].value, str) or not node.value[key].value.strip():
            raise CatalogueError(path, line, f"{key} is {node.value[key].plain()!r}: write text")
    for key in _REQUIRED:
        if key not in node.value:
            raise CatalogueError(path, node.line, f"the waiver has no {key}: every known failure says {', '.join(_REQUIRED)}")
    text = {key: child.value for key, child in node.value.items()}
    line = (node.key_lines or {})["expires"]
    try:
        expires = date.fromisoformat(text["expires"] if _DATE.match(text["expires"]) else "")
    except ValueError:
        raise CatalogueError(path, line, f"expires is {text['expires']!r}: write a day, as 2027-01-31") from None
    where = f"{path}:{node.line}"
    return Waiver(text["case"], text["backend"], text.get("check", "*"), text["reason"], text["link"], expires, where)
