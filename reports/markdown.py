"""Markdown for the job summary of a CI run: the verdict, a table, the failures, why the rest was not run.

GitHub drops a step's summary that exceeds 1 MiB, so this one stays below a limit in bytes: what does not
fit is counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice

from harness.records import MEANING, Record
from harness.store.model import RunRow
from harness.text import writable
from reports.digest import Digest, Group, Repeat, digest, tally

#: Bytes of UTF-8; GitHub's limit is 1 MiB a step, which other commands of the step share.
LIMIT = 900_000
#: Characters of a message, of a reason, of a name; reasons a status and rows of the table of backends.
MESSAGE, REASON, NAME, ROWS = 2_000, 300, 100, 100
# Whatever means something to GitHub's Markdown inside a line: markup, tables, mentions, links, emoji, mathematics.
_SPECIAL = re.compile(r"[\\`*_\[\]<>#|&~@$:!]")


def markdown(run: RunRow, records: Iterable[Record], repeat: Repeat | None = None, *, limit: int = LIMIT) -> str:
    """The summary.

    Parameters
    ----------
    run : RunRow
    records : iterable of Record
    repeat : callable, optional
        Job -> the line that repeats it.
    limit : int
        Bytes of UTF-8 that it may have.

    Examples
    --------
    >>> from harness.records import Job, Verdict
    >>> from harness.store import RunInfo
    >>> record = Record(Job("edge-1d", "naive", "cpu", "integers"), Verdict(Status.PASS))
    >>> print(markdown(RunRow("r1", RunInfo(seed=7), exit_code=0, seconds=1.5), [record]).partition("- r")[0])
    ## Convproof: PASS
    <BLANKLINE>
    1 PASS in 1.5 s, run `r1`, seed 7
    <BLANKLINE>
    | backend | device | PASS | largest error / bound |
    | --- | --- | ---: | ---: |
    | naive | cpu | 1 |  |
    <BLANKLINE>
    <BLANKLINE>
    """
    made = digest(run, records, repeat)
    head = _fitting([_head(made)], limit // 2)[0]
    tail = _fitting([*_reasons(made), _details(made)], (limit - _size(head)) // 2)[0]
    room = limit - _size(head) - _size(tail) - 400
    failures, left = _fitting([_failure(made, g) for g in _shown(made, room)], room)
    title = f"### Bad verdicts: {made.bad}\n\n" if made.bad else ""
    missing = made.bad - sum(len(g.records) for g in made.failures[:left])
    note = f"\n... and {missing} more bad verdicts, which do not fit here: `convproof runs show {_code(run.id)}`\n\n"
    return head + title + failures + (note if missing else "") + tail


def _head(made: Digest) -> str:
    run = made.run
    seen = list(made.counts)
    columns = ["backend", "device", *map(str, seen), "largest error / bound"]
    lines = [
        f"## Convproof: {made.outcome}",
        "",
        f"{tally(made.counts) or 'no verdicts'} in {run.seconds:.1f} s, run `{_code(run.id)}`, seed {run.info.seed}",
        "",
        f"| {' | '.join(columns)} |",
        f"| --- | --- |{' ---: |' * (len(seen) + 1)}",
    ]
    for name, counts in islice(made.table.items(), ROWS):
        near = made.closest.get(name)
        cells = [
            inline(name, NAME),
            inline(", ".join(made.devices[name]), NAME),
            *(str(counts[s] or "") for s in seen),
            f"{near[0]:.2g} {inline(near[1], NAME)}" if near else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n\n"


def _shown(made: Digest, room: int) -> list[Group]:
    """As many groups as could fit at best: a hundred thousand are not written to be thrown away."""
    return made.failures[: max(0, room) // 60]


def _failure(made: Digest, group: Group) -> str:
    r = group.first
    job = r.job
    more = f" and {group.more} more with this message" if group.more else ""
    parts = [f"**{group.status}** {inline(job.case, NAME)} on {inline(job.backend, NAME)}, {inline(job.check, NAME)}{more}", ""]
    parts += _fence("text", group.message or MEANING[group.status], MESSAGE)
    if (line := made.repeat(job)) is not None:
        parts += _fence("console", f"$ {line}", MESSAGE)
    return "\n".join(parts) + "\n"


def _reasons(made: Digest) -> Iterator[str]:
    for status, found in made.reasons.items():
        jobs = sum(n for _, _, n in found)
        lines = [_summary(f"{status}: {jobs} jobs, {len(found)} reasons"), "| backend | jobs | reason |", "| --- | ---: | --- |"]
        lines += [f"| {inline(b, NAME)} | {n} | {inline(text, REASON)} |" for b, text, n in found[:ROWS]]
        if len(found) > ROWS:
            lines.append(f"| | {sum(n for _, _, n in found[ROWS:])} | {len(found) - ROWS} more reasons |")
        yield "\n".join([*lines, "", "</details>", "", ""])


def _details(made: Digest) -> str:
    lines = [_summary("Run and environment")]
    lines += [f"- {inline(name, NAME)}: {inline(text, REASON)}" for name, text in (*made.facts, *made.environment)]
    return "\n".join([*lines, "", "</details>", ""])


def _summary(text: str) -> str:
    return f"<details><summary>{text}</summary>\n"


def _fence(language: str, text: str, limit: int) -> list[str]:
    """A code block whose fence is longer than any in the text."""
    text = writable(text, limit)
    ticks = "`" * max(3, 1 + max((len(t) for t in re.findall("`+", text)), default=0))
    return [f"{ticks}{language}", text, ticks, ""]


def inline(text: object, limit: int) -> str:
    """Text that Markdown and HTML take literally, in one line; a table's cell too.

    Examples
    --------
    >>> inline("a|b <i>", 20)
    'a&#124;b &#60;i&#62;'
    """
    return _SPECIAL.sub(lambda m: f"&#{ord(m[0])};", " ".join(writable(text, limit).split()))


def _code(text: str) -> str:
    """Text that stands between backticks."""
    return writable(text, NAME).replace("`", "'")


def _fitting(parts: Iterable[str], limit: int) -> tuple[str, int]:
    """The parts that fit, joined, and how many; a first part that does not is left out with a note, if there is room."""
    kept: list[str] = []
    used = 0
    for part in parts:
        used += _size(part)
        if used > limit:
            break
        kept.append(part)
    return "".join(kept), len(kept)


def _size(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


