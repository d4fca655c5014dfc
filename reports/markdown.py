"""Markdown for the job summary of a CI run: the verdict, a table, figures, the failures, why the rest was not run.

GitHub drops a step's summary that exceeds 1 MiB, so this one stays below a limit in bytes: what does not
fit is counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from statistics import geometric_mean
from typing import TYPE_CHECKING

from harness.records import Record
from harness.store.model import RunRow
from harness.text import writable
from harness.timing.ratios import legend
from reports.digest import Digest, Repeat, digest, tally
from reports.failures import Blame, Failure, blamed
from reports.quantities import digits, duration, percent, times

if TYPE_CHECKING:
    from reports.benchmark import Benchmark
    from reports.changes import Change

#: Bytes of UTF-8; GitHub's limit is 1 MiB a step, which other commands of the step share.
LIMIT = 900_000
#: Characters of a message, of a reason, of a name; reasons a status and rows of the table of backends.
MESSAGE, REASON, NAME, ROWS = 2_000, 300, 100, 100
#: Figures in the table of the longest.
LONGEST = 20
#: Bytes of a fold's summary and a note on what is left out, with a backend's name in each.
_NOTES = 2 * 6 * NAME + 300
# Whatever means something to GitHub's Markdown inside a line: markup, tables, mentions, links, emoji, mathematics.
_SPECIAL = re.compile(r"[\\`*_\[\]<>#|&~@$:!]")


def markdown(
    run: RunRow, records: Iterable[Record], repeat: Repeat | None = None, *, bench: Benchmark | None = None, limit: int = LIMIT
) -> str:
    """The summary.

    Parameters
    ----------
    run : RunRow
    records : iterable of Record
    repeat : callable, optional
        Job -> the line that repeats it.
    bench : Benchmark, optional
        The run's timings.
    limit : int
        Bytes of UTF-8 that it may have.

    Examples
    --------
    >>> from harness.records import Job, Status, Verdict
    >>> from harness.store import RunInfo
    >>> record = Record(Job("edge-1d", "naive", "cpu", "integers"), Verdict(Status.PASS))
    >>> print(markdown(RunRow("r1", RunInfo(seed=7), exit_code=0, seconds=1.5), [record]).partition("<details>")[0].rstrip())
    ## Convproof: PASS
    <BLANKLINE>
    1 PASS in 1.5 s, run `r1`, seed 7
    <BLANKLINE>
    | backend | device | PASS | largest error / bound |
    | --- | --- | ---: | ---: |
    | naive | cpu | 1 |  |
    """
    made = digest(run, records, repeat)
    head = _fitting([_head(made)], limit // 2)[0]
    tail = _fitting([*_reasons(made), _details(made)], (limit - _size(head)) // 2)[0]
    if bench is not None:
        head += _timings(bench, (limit - _size(head) - _size(tail)) // 2)
    return head + _failures(made, limit - _size(head) - _size(tail) - 200) + tail


def _timings(bench: Benchmark, room: int) -> str:
    """What was timed: cautions, changes, a row a backend, the longest calls, refusals; each table with a share of the room."""
    cautions = [f"> **Caution:** {inline(w, REASON)}\n" for w in bench.warnings[:ROWS]]
    head = f"### Timings\n\n{_fitting(cautions, room // 8)[0]}\n{bench.line}\n\n"
    changed = [c for c in bench.changes if c.verdict != "SAME"]
    columns: tuple[str, ...] = ("", "case", "backend", "-ratio", "-interval", "-before", "-after")
    parts = [head, _table("", columns, [_change(c) for c in changed], room // 4)]
    columns = ("backend", "-figures", "-refused", "-fastest on", "-mean ratio to the fastest")
    parts.append(_table("", columns, list(_by_backend(bench)), room // 16))
    if bench.baseline:
        to = [(m.name, str(m.cases), str(m.faster or ""), times(m.ratio)) for m in bench.means]
        columns = ("backend", "-cases", "-faster on", f"-geometric mean, x {bench.baseline}")
        parts += [f"{inline(legend(bench.baseline), REASON)}\n\n", _table("", columns, to, room // 16)]
    longest = sorted((r for r in bench.rows if r["seconds"] > 0), key=lambda r: -r["seconds"])
    best = bench.fastest
    cells = [
        (r["case"], r["backend"], duration(r["seconds"]), f"{duration(r['low'])} to {duration(r['high'])}",
         times(r["seconds"] / best[r["case"]]), digits(r["gflops"]), percent(r["roof"]))
        for r in longest[:LONGEST]
    ]  # fmt: skip
    columns = ("case", "backend", "-median", "-95 % interval", "-to the fastest", "-GFLOP/s", "-of roof")
    parts.append(_table(f"The longest {len(cells)} of {len(longest)} figures", columns, cells, room // 8))
    refused = [(r.text, str(r.jobs), r.who) for r in bench.reasons]
    parts.append(_table(f"Without a figure: {bench.refused} pairs", ("reason", "-pairs", "backends"), refused, room // 8))
    return "".join(parts)


def _change(c: Change) -> tuple[str, ...]:
    return (c.verdict, c.case, c.backend, digits(c.ratio), c.interval, *c.values)


def _by_backend(bench: Benchmark) -> Iterator[tuple[str, ...]]:
    """A backend's figures, refusals, cases on which it is the fastest, and the geometric mean of its ratios."""
    found: dict[str, list[float]] = {}
    refused = Counter(t.backend for t in bench.raw if t.refused)
    for r in bench.rows:
        found.setdefault(r["backend"], []).extend([r["seconds"] / bench.fastest[r["case"]]] if r["seconds"] > 0 else [])
    for name, ratios in found.items():
        mean = times(geometric_mean(ratios)) if ratios else ""
        yield name, str(len(ratios)), str(refused[name] or ""), str(ratios.count(1.0) or ""), mean


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], room: int) -> str:
    """A table, folded under its title if it has one, with the rows that there is room for; a column `-NAME` holds numbers."""
    if not rows:
        return ""
    head = f"{_summary(inline(title, REASON))}\n" if title else ""
    head += f"| {' | '.join(c.removeprefix('-') for c in columns)} |\n"
    head += f"|{'|'.join(' ---: ' if c.startswith('-') else ' --- ' for c in columns)}|\n"
    end = "\n</details>\n\n" if title else "\n"
    lines = (
        f"| {' | '.join(inline(cell, REASON if i == 0 else NAME) for i, cell in enumerate(row))} |\n" for row in rows[:ROWS]
    )
    text, kept = _fitting(lines, room - _size(head) - _size(end) - 100)
    left = f"| {len(rows) - kept} more{' |' * len(columns)}\n" if kept < len(rows) else ""
    return head + text + left + end


def _failures(made: Digest, room: int) -> str:
    """For each backend its first failures and, folded, as many of the others as its share of the room holds."""
    blames = blamed(made, {}, {}, folded=max(0, room) // 100)
    # What each needs at least: its heading, the failures that are shown at once, a fold's summary and a note.
    needs = [_size(_heading(b)) + sum(_size(_failure(f)) for f in b.shown) + _NOTES for b in blames]
    room -= _NOTES
    parts: list[str] = []
    for i, b in enumerate(blames):
        text, shown = _fitting([_heading(b), *map(_failure, b.shown)], room - _NOTES)
        if not shown:
            left = sum(rest.jobs for rest in blames[i:])
            parts.append(
                f"... and {left} more bad verdicts, which do not fit here: `convproof runs show {_code(made.run.id)}`\n\n"
            )
            break
        spare = room - sum(needs[i + 1 :]) - _size(text) - _NOTES
        inner, kept = _fitting(map(_failure, b.folded), spare // (len(blames) - i))
        if kept:
            text += f"{_summary(f'{kept} more failures of {inline(b.backend, NAME)}')}\n{inner}</details>\n\n"
        missing = b.left + sum(f.jobs for f in (*b.shown[shown - 1 :], *b.folded[kept:]))
        if missing:
            text += f"... and {missing} more bad verdicts of {inline(b.backend, NAME)}, which do not fit here: "
            text += f"`convproof runs show {_code(made.run.id)}`\n\n"
        parts.append(text)
        room -= _size(text)
    return "".join(parts)


def _heading(b: Blame) -> str:
    return f"### {inline(b.backend, NAME)}: {b.jobs} bad verdict{'s' * (b.jobs > 1)} on {b.cases} case{'s' * (b.cases > 1)}\n\n"


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


def _failure(f: Failure) -> str:
    more = f" and {f.more} more with this message" if f.more else ""
    said = "\n".join(f"{line.check}: {writable(line.message, MESSAGE // 2)}" for line in f.lines)
    said += f"\nand {', '.join(f.unsaid)}" if f.unsaid else ""
    said += "".join(f"\ndiagnosis: {writable(text, MESSAGE // 2)}" for text in f.diagnosis)
    parts = [f"**{f.status}** {inline(f.case, NAME)}{more}", "", *_fence("text", said, MESSAGE)]
    if f.repeat:
        parts += _fence("console", f"$ {f.repeat}", MESSAGE)
    return "\n".join(parts) + "\n"


def _reasons(made: Digest) -> Iterator[str]:
    for status, found in made.reasons.items():
        jobs = sum(r.jobs for r in found)
        lines = [
            _summary(f"{status}: {jobs} jobs, {len(found)} reasons"),
            "| reason | jobs | backends |",
            "| --- | ---: | --- |",
        ]
        lines += [f"| {inline(r.text, REASON)} | {r.jobs} | {inline(r.who, REASON)} |" for r in found[:ROWS]]
        if len(found) > ROWS:
            lines.append(f"| {len(found) - ROWS} more reasons | {sum(r.jobs for r in found[ROWS:])} | |")
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
