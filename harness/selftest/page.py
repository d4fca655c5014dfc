"""The matrix as Markdown: docs/faults.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.checks import CHECKS

if TYPE_CHECKING:
    from harness.selftest.faults import PlantedFault
    from harness.selftest.kills import Outcome
    from harness.selftest.summary import Summary


def page(summary: Summary) -> str:
    """The whole page."""
    n = len(summary.pairs)
    opencl = sum(f.name.startswith("opencl-") for f, _ in summary.pairs)
    parts = [
        "# Planted faults, and what kills them",
        f"{n} wrong backends, each a right implementation changed in one step: {n - opencl} in NumPy "
        f"(`backends/planted/`), {opencl} of the OpenCL kernels. {_how(summary)} A fault in values counts as killed by "
        "a FAIL that compares finite values alone; one of NaN, of the contract or of a crash by such a verdict. "
        f"Seed {summary.plan.seed}; any of them can be run: `convproof verify smoke -b backends.planted:flipped_kernel`.",
        "\n".join(f"- {line}" for line in summary.lines()),
    ]
    for title, columns, rows in summary.tables():
        parts += [f"## {title}", table(columns, rows)]
    if summary.plan.whole:
        parts += ["## Killed by one check alone", "On smoke. Without that check they would pass it.", _lone(summary)]
    parts += ["## Equivalent mutants", "Proved equivalent where they stand; no check may fail them.", _equivalent(summary)]
    order = {c.name: i for i, c in enumerate(CHECKS)}
    rows = [_row(f, o) for f, o in sorted(summary.pairs, key=lambda p: (p[0].cls, order.get(p[1].check, 0), p[0].name))]
    columns = ("fault", "class", "what is wrong", "killed first by", "checks on smoke", "real")
    shown = [i for i, name in enumerate(columns) if summary.plan.whole or name != "checks on smoke"]
    parts += ["## Every fault", table([columns[i] for i in shown], [[row[i] for i in shown] for row in rows])]
    return "\n\n".join(p for p in parts if p) + "\n"


def _how(summary: Summary) -> str:
    """What was run, in a sentence or two, with the command."""
    options = "" if summary.plan.whole else "--first "
    options += f"--suite {summary.plan.last} " if summary.plan.last != "full" else ""
    command = f"`convproof selftest {options}{'--diagnose ' if summary.plan.diagnose else ''}--write docs/faults.md`"
    if summary.plan.whole:
        return (
            "Each is judged by every check on the smoke suite; what survives goes on to the gate, then to the full suite, "
            f"up to its first kill. Measured by {command}."
        )
    return f"Each is judged suite by suite, case by case, up to its first kill. Measured by {command}."


def _row(fault: PlantedFault, outcome: Outcome) -> tuple[object, ...]:
    where = "" if outcome.suite == "smoke" else f" ({outcome.suite}: {outcome.case})"
    first = f"{outcome.check}{where}" if outcome.suite else "nothing"
    return fault.name, fault.cls, fault.what, first, len(outcome.smoke), fault.real


def _lone(summary: Summary) -> str:
    by_check: dict[str, list[str]] = {}
    for fault, check in summary.lone:
        by_check.setdefault(check, []).append(fault.name)
    rows = [(c.name, ", ".join(by_check[c.name])) for c in CHECKS if c.name in by_check]
    return table(("check", "faults"), rows) if rows else "None."


def _equivalent(summary: Summary) -> str:
    rows = [(f.name, f.what, "failed" if o.suite else "passes") for f, o in summary.equivalent]
    return table(("mutant", "what is changed", "smoke to full"), rows) if rows else "None."


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; a bar in a cell is escaped."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(str(c).replace("|", "\\|") for c in row) + " |" for row in rows]
    return "\n".join(lines)
