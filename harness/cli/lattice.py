"""What `convproof list cases --coverage` shows: how much of the parameter lattice cases reach."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from harness.cli.console import make_console, print_table

if TYPE_CHECKING:
    from harness.catalogue import Catalogue
    from harness.catalogue.coverage import Coverage, Pair, Reach

#: Missing pairs that are listed; `--json` has all.
MOST_MISSING = 20


def summary(catalogue: Catalogue, patterns: Sequence[str]) -> dict[str, Any]:
    """The coverage of the cases that the patterns select, as data; the suite `full` where there are none."""
    from harness.catalogue.coverage import Reach

    reach = Reach(c.spec for c in catalogue.select(patterns or ("full",)) if c.spec)
    return summary_of(reach, list(patterns or ("full",)))


def summary_of(reach: Reach, selection: list[str]) -> dict[str, Any]:
    """The coverage of specifications, as data; `selection` says in words what they are."""
    from harness.catalogue.coverage import FACTORS, coverage

    found = coverage(reach)
    return {
        "selection": selection,
        "cases": reach.specs,
        "share": found.share,
        "covered": len(found.covered),
        "possible": len(found.covered) + len(found.missing),
        "factors": {f: {level: found.counts[f, level] for level in levels} for f, levels in FACTORS.items()},
        "pairs": [dict(zip(("factor", "other", "covered", "possible"), (*p, *found.between(*p)), strict=True))
                  for p in combinations(FACTORS, 2)],
        "missing": [dict(pair) for pair in found.missing],
        "impossible": _impossible(found),
    }  # fmt: skip


def show(data: dict[str, Any]) -> None:
    """Print a summary: levels and their cases, pairs of factors, what is missing, what is impossible."""
    console = make_console()
    rows = [(f, "  ".join(f"{level}: {n}" for level, n in levels.items())) for f, levels in data["factors"].items()]
    print_table(console, ("factor", "cases a level"), rows, title=f"{' '.join(data['selection'])}: {data['cases']} cases")
    console.print()
    names = list(data["factors"])
    share = {(p["factor"], p["other"]): _percent(p["covered"], p["possible"]) for p in data["pairs"]}
    matrix = [
        (f"{i} {name}", *(share.get((other, name), "") for other in names[: i - 1]), *[""] * (len(names) - i))
        for i, name in enumerate(names[1:], 2)
    ]
    columns = ("", *(str(i) for i in range(1, len(names))))
    print_table(console, columns, matrix, title=f"% of the possible pairs of levels, by two factors (1 is {names[0]})",
                right=columns[1:])  # fmt: skip
    console.print()
    if missing := data["missing"]:
        first = [tuple(f"{f} {level}" for f, level in pair.items()) for pair in missing[:MOST_MISSING]]
        print_table(console, ("level", "with"), first, title=f"missing, {len(first)} of {len(missing)}")
        console.print()
    none = data["impossible"]
    total = sum(none.values())
    print_table(
        console, ("pairs", "reason"), [(n, why) for why, n in none.items()], title=f"impossible, {total}", right=("pairs",)
    )
    console.print()
    console.print(f"{data['covered']} of {data['possible']} possible pairs: {100 * data['share']:.1f} %")


def _impossible(found: Coverage) -> dict[str, int]:
    """Pairs a reason, most first; a pair that several ops refuse counts for the first."""
    reasons: dict[Pair, str] = {pair: why.partition(";")[0] for pair, why in found.impossible.items()}
    return dict(Counter(reasons.values()).most_common())


def _percent(covered: int, possible: int) -> str:
    """Whole percents, rounded down so that 100 means all; a dash where nothing is possible."""
    return str(100 * covered // possible) if possible else "-"
