"""`python tests/fault_table.py [--write docs/faults.md]`: every planted fault, the first check that fails it, and all that do.

Measured, not declared: each wrong backend is judged by every check on the smoke suite (and on the cases of the gate
that it names). About two minutes.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from wrong_backends import WRONG

from harness.catalogue import load_catalogue
from harness.checks import CHECKS
from harness.oracle.cache import OracleCache
from harness.records import Status
from harness.run.campaign import Campaign
from harness.run.runner import Options

ORDER = {c.name: i for i, c in enumerate(CHECKS)}
SEED = 20261122


def failing(wrong, catalogue, oracle):
    """Names of the checks that fail it, in their order."""
    cases = catalogue.select(["smoke", *wrong.also])
    reference = f"{Path(__file__).parent / 'wrong_backends.py'}:backends.{wrong.attribute}"
    with Campaign(cases, [reference], CHECKS, Options(jobs=1), in_process=True) as campaign:
        campaign._oracle = oracle
        records = [r for batch in campaign.records(campaign.plan(refusals=False)) for r in batch]
    return sorted({r.job.check for r in records if r.verdict.status is Status.FAIL}, key=ORDER.__getitem__)


def table():
    catalogue, oracle = load_catalogue(), OracleCache(SEED)
    rows, first = [], Counter()
    for wrong in WRONG:
        checks = failing(wrong, catalogue, oracle)
        first[checks[0] if checks else "none"] += 1
        extra = f" ({', '.join(wrong.also)})" if wrong.also else ""
        rows.append(
            f"| {wrong.name} | {' '.join(wrong.fault.split())} | {checks[0] if checks else 'none'} | "
            f"{wrong.caught_by}{' alone' if wrong.alone else ''} | {len(checks)} of {len(CHECKS)}{extra} |"
        )
    caught = sum(n for name, n in first.items() if name != "none")
    head = f"""# Planted faults, and what catches them

{len(WRONG)} wrong backends, each a right implementation (`tests/right_numpy.py`) changed in one step; {caught} are failed on
the smoke suite (with the cases of the gate named in the last column). *First* is the first check that fails it in the order in
which checks run; *meant* is the check that it was planted for, `alone` where no check before that one sees it, so that the
check is shown to be needed. Made by `python tests/fault_table.py --write docs/faults.md`, seed {SEED}; the tests
(`tests/test_wrong_backends.py`) hold every fault to the check that is meant for it.

First catches: {", ".join(f"{name} {first[name]}" for name in [*ORDER, "none"] if first[name])}.

| fault | what is wrong | first | meant | checks that fail it |
|---|---|---|---|---|
"""
    return head + "\n".join(rows) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    text = table()
    if given.write:
        given.write.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
