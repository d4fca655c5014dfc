"""What `compare` prints, writes and stores of the changes it finds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.cli.console import clean, print_table
from harness.cli.running import put_json
from harness.cli.units import format_seconds
from harness.records import Job, Record, Status, Verdict
from harness.samples import COMPARED
from harness.timing.rule import ALARMS, Change, Finding, Rule

if TYPE_CHECKING:
    from rich.console import Console

    from harness.timing.trust import Trust

#: The worst first.
ORDER = (
    Finding.WRONG, Finding.SLOWER, Finding.LESS_ACCURATE, Finding.INCONCLUSIVE, Finding.NOT_COMPARED, Finding.FASTER,
    Finding.MORE_ACCURATE, Finding.SAME,
)  # fmt: skip
#: Rows that are printed of what stayed the same, where there are more.
ROWS = 40
#: Of equal sides: more false alarms than this make `--aa` fail.
MOST_FALSE = 0.01


def show_changes(console: Console, changes: Sequence[Change]) -> None:
    """Print a row a change, the worst first."""
    ranked = sorted(changes, key=lambda c: (ORDER.index(c.finding), -abs(math.log(_positive(c.ratio.value))), c.case))
    quiet = [c for c in ranked if c.finding is Finding.SAME]
    shown = [c for c in ranked if c.finding is not Finding.SAME] + quiet[: max(0, ROWS - (len(ranked) - len(quiet)))]
    rows = [
        (*map(clean, (c.case, c.backend)), c.quantity, c.finding.value, _interval(c), *_sizes(c), c.clock, clean(c.note))
        for c in shown
    ]
    columns = ("case", "backend", "of", "finding", "after / before", "before", "after", "clock", "note")
    if rows:
        print_table(console, columns, rows, right=("after / before", "before", "after"))
    if len(shown) < len(ranked):
        console.print(f"... and {len(ranked) - len(shown)} more that stayed the same")


def show_trust(console: Console, name: str, trust: Trust, rule: Rule) -> dict[str, Any]:
    """Print what comparisons of a backend with itself are worth, and give it as data; `bad` if it is worth too little."""
    told: dict[str, Any] = {"backend": name, "planted": trust.planted, "seconds": trust.seconds}
    both = (Finding.SLOWER, Finding.FASTER)
    for title, changes in (("first", trust.first), ("final", trust.final)):
        hits, of, low, high = trust.share(changes, *((Finding.SLOWER,) if trust.planted else both))
        told[title] = {"found": hits, "of": of, "low": low, "high": high}
        what = f"found a planted +{100 * trust.planted:g} %" if trust.planted else "false alarms"
        when = "after one trial" if title == "first" else "after alarms were measured again"
        share = 100 * hits / max(1, of)
        console.print(
            clean(f"{name}: {what} {when}: {hits} of {of}, {share:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f} %)")
        )
    clocks = sorted({c.clock for c in trust.first if c.clock})
    each = trust.seconds / max(1, len(trust.first))
    console.print(f"{name}: {each:.1f} s a comparison, re-tests included; clock {', '.join(clocks)}")
    told |= {"clock": clocks, "seconds_each": each, "bad": told["final"]["of"] == 0}
    if not trust.planted:
        told["smallest"] = trust.smallest(rule)
        text = "none up to +100 %" if told["smallest"] is None else f"+{100 * told['smallest']:g} %"
        console.print(f"{name}: the smallest slowdown that 95 % of these comparisons would find: {text}")
        told["bad"] = told["bad"] or told["final"]["found"] > MOST_FALSE * told["final"]["of"]
    return told


def record_of(change: Change, *, strict: bool = False) -> Record:
    """The verdict on a change: FAIL for an alarm, NOT_RUN where nothing was compared."""
    if change.finding is Finding.NOT_COMPARED:
        status = Status.NOT_RUN
    elif change.finding in ALARMS or (strict and change.finding is Finding.INCONCLUSIVE):
        status = Status.FAIL
    else:
        status = Status.PASS
    text = f"{change.finding.value}: {_interval(change)} {change.note}".rstrip()
    job = Job(change.case, change.backend or "-", change.device or "-", f"{COMPARED}{change.quantity}")
    return Record(job, Verdict(status, text, compared=len(change.ratio.pairs), details=finding_data(change)))


def finding_data(change: Change) -> dict[str, Any]:
    """A change in JSON's types; what is not a number is None."""
    r = change.ratio
    return {
        "case": change.case,
        "backend": change.backend,
        "device": change.device,
        "quantity": change.quantity,
        "finding": change.finding.value,
        "clock": change.clock,
        "note": change.note,
        **{k: _finite(v) for k, v in (("ratio", r.value), ("low", r.low), ("high", r.high), ("p", r.p))},
        "pairs": [_finite(v) for v in r.pairs],
        "before": _finite(change.before),
        "after": _finite(change.after),
    }


def write_changes(target: str, changes: Sequence[Change], code: int, warnings: Sequence[str]) -> None:
    """Write changes as JSON to a file, or to `-`."""
    data = {"exit_code": code, "warnings": list(warnings), "changes": [finding_data(c) for c in changes]}
    put_json(target, data)


def _interval(change: Change) -> str:
    r = change.ratio
    if math.isnan(r.value):
        return ""
    return f"{r.value:.3f} [{r.low:.3f}, {r.high:.3f}]"


def _sizes(change: Change) -> list[str]:
    text = format_seconds if change.quantity == "time" else "{:.3g}".format
    return ["" if math.isnan(v) else text(v) for v in (change.before, change.after)]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _positive(value: float) -> float:
    return value if math.isfinite(value) and value > 0 else 1.0
