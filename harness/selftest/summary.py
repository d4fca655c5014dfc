"""What became of all faults together: rates by class, who killed first, what only one check kills."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from harness.checks import CHECKS
from harness.selftest.faults import PlantedFault
from harness.selftest.kills import EQUIVALENT, SUITES, Outcome
from harness.selftest.matrix import Plan

Table = tuple[str, tuple[str, ...], list[tuple[object, ...]]]


@dataclass(frozen=True)
class Summary:
    """Faults with their outcomes, in the order of planting.

    Attributes
    ----------
    pairs : tuple of (fault, outcome)
        Of the faults that could be tried, equivalent mutants aside.
    equivalent : tuple of (fault, outcome)
    unavailable : tuple of (fault, outcome)
    plan : Plan
    """

    pairs: tuple[tuple[PlantedFault, Outcome], ...]
    equivalent: tuple[tuple[PlantedFault, Outcome], ...]
    unavailable: tuple[tuple[PlantedFault, Outcome], ...]
    plan: Plan

    @classmethod
    def of(cls, faults: Sequence[PlantedFault], outcomes: Sequence[Outcome], plan: Plan) -> Summary:
        """Sort outcomes to their faults."""
        by_name = {o.name: o for o in outcomes}
        pairs = [(f, by_name[f.name]) for f in faults if f.name in by_name]
        tried = [p for p in pairs if not p[1].unavailable]
        return cls(
            tuple(p for p in tried if p[0].kind != EQUIVALENT),
            tuple(p for p in tried if p[0].kind == EQUIVALENT),
            tuple(p for p in pairs if p[1].unavailable),
            plan,
        )

    @property
    def suites(self) -> tuple[str, ...]:
        """Those that were run."""
        return SUITES[: SUITES.index(self.plan.last) + 1]

    @property
    def survivors(self) -> tuple[PlantedFault, ...]:
        """Faults that no suite killed."""
        return tuple(f for f, o in self.pairs if not o.suite)

    @property
    def accused(self) -> tuple[PlantedFault, ...]:
        """Equivalent mutants that a check failed."""
        return tuple(f for f, o in self.equivalent if o.suite)

    @property
    def wrong(self) -> bool:
        """Whether the gate failed its test."""
        return bool(self.survivors or self.accused)

    @property
    def lone(self) -> tuple[tuple[PlantedFault, str], ...]:
        """Faults that one check alone kills on smoke, with that check."""
        return tuple((f, next(iter(o.smoke))) for f, o in self.pairs if len(o.smoke) == 1)

    def rate(self, suite: str) -> str:
        """Killed by `suite` and those before it, of how many, in per cent."""
        killed, n = sum(o.killed_by(suite) for _, o in self.pairs), len(self.pairs)
        return f"{killed} of {n} ({100 * killed / n:.1f} %)" if n else "none"

    def tables(self) -> list[Table]:
        """(title, columns, rows): by class, and by check."""
        columns = ("class", "faults", *self.suites)
        rows: list[tuple[object, ...]] = []
        for cls in sorted({f.cls for f, _ in self.pairs}):
            here = [o for f, o in self.pairs if f.cls == cls]
            rows.append((cls, len(here), *(sum(o.killed_by(s) for o in here) for s in self.suites)))
        return [("Killed, by class", columns, rows), self._by_check()]

    def _by_check(self) -> Table:
        first = Counter(o.check for _, o in self.pairs if o.suite)
        kills = Counter(name for _, o in self.pairs for name in o.smoke)
        lone = Counter(name for _, name in self.lone)
        if not self.plan.whole:
            return "Killed first by", ("check", "first"), [(c.name, first[c.name]) for c in CHECKS if first[c.name]]
        rows: list[tuple[object, ...]] = [(c.name, first[c.name], kills[c.name], lone[c.name]) for c in CHECKS]
        return "Kills, by check", ("check", "first", "on smoke", "alone"), rows

    def lines(self) -> list[str]:
        """The result in sentences."""
        found = [f"{suite}: {self.rate(suite)}" for suite in self.suites]
        found += [f"survived: {f.name} ({f.cls}): {f.what}" for f in self.survivors]
        found += [f"equivalent, and yet failed: {f.name}" for f in self.accused]
        found += [f"not tried: {f.name}: {o.unavailable}" for f, o in self.unavailable[:1]]
        if self.unavailable:
            found.append(f"{len(self.unavailable)} faults could not be tried")
        if self.plan.diagnose:
            found.append(self.diagnosed())
        return found

    def diagnosed(self) -> str:
        """How many first failures carry a diagnosis that tells the fault rightly."""
        asked = [(f, o) for f, o in self.pairs if f.named and o.suite]
        right = sum(bool({*f.named} & {*o.diagnosis}) for f, o in asked)
        none = sum(not o.diagnosis for _, o in asked)
        share = f" ({100 * right / len(asked):.1f} %)" if asked else ""
        return f"diagnosed rightly: {right} of {len(asked)}{share}; without a diagnosis: {none}"

    def markdown(self) -> str:
        """The page: rates, tables, a line a fault."""
        from harness.selftest.page import page

        return page(self)
