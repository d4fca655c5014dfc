"""`python tests/shrink_table.py [--every K] [NAME...]`: planted faults, and the smallest case that shows each.

Each fault of `backends/planted` is run on the smoke suite, and on the gate if it passes that; the checks that its first
bad case fails are shrunk in a worker of its own, as `convproof verify --shrink` does. `--every 8` takes every eighth fault.
"""

import argparse
import statistics
import time

from harness.catalogue import load_catalogue
from harness.fuzzing.bench import FAULTS, Bench
from harness.fuzzing.shrink import SHRINK_TIME, shrink
from harness.run.campaign import Campaign
from harness.run.runner import Options
from harness.selftest.faults import load_faults

#: Elements of the input that a person still reads.
MOST = 64
SEED = 20261122


def first_failure(reference, catalogue):
    """The first case that ends badly, and its bad checks; (None, []) if the gate passes."""
    for suite in ("smoke", "gate"):
        options = Options(jobs=1, fail_fast=True)
        with Campaign(catalogue.select([suite]), [reference], options=options, seed=SEED) as campaign:
            for batch in campaign.records(campaign.plan(refusals=False)):
                if bad := [r.job for r in batch if r.verdict.status in FAULTS]:
                    return catalogue.by_id[bad[0].case], [j.check for j in bad]
    return None, []


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=SHRINK_TIME)
    parser.add_argument("--every", type=int, default=1, metavar="K")
    parser.add_argument("names", nargs="*")
    given = parser.parse_args()
    catalogue = load_catalogue()
    small, spent, of = 0, [], 0
    print("| fault | check | x elements | seconds | cases tried | numbers | specification |\n|---|---|---|---|---|---|---|")
    for fault in load_faults()[:: given.every]:
        name, reference = fault.name, fault.reference
        if given.names and name not in given.names:
            continue
        case, failed = first_failure(reference, catalogue)
        if case is None:
            print(f"| {name} | passes the gate | | | | | |", flush=True)
            continue
        of += 1
        start = time.monotonic()
        with Bench(reference, seed=SEED) as bench:
            shrunk = shrink(case, failed, bench, given.seconds)
        spent.append(time.monotonic() - start)
        if shrunk is None:
            print(f"| {name} | {failed[0]} | did not fail again | {spent[-1]:.1f} | | | |", flush=True)
            continue
        small += shrunk.elements <= MOST
        numbers = "yes" if shrunk.found.case.literal is not None else "no"
        print(
            f"| {name} | {shrunk.check} | {shrunk.elements} | {spent[-1]:.1f} | {shrunk.judged} | {numbers} "
            f"| {shrunk.found.case.spec} |",
            flush=True,
        )
    print(
        f"\n{small} of {of} faults end at {MOST} input elements or fewer; "
        f"seconds: median {statistics.median(spent):.1f}, longest {max(spent):.1f}"
    )


if __name__ == "__main__":
    main()
