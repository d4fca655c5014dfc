"""`python -m reports.cost`: what a verdict costs, in core-milliseconds all told.

Runs one check on the small cases of `smoke`, in a worker, several times, and divides the processor time of
this process and of the worker by the number of verdicts; then prints where this process spent its share. A
measurement for people, not a test: figures vary with the machine and what else it does.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import resource
import time
from collections.abc import Sequence

from harness.catalogue import Case, load_catalogue
from harness.checks import CHECKS
from harness.oracle.cache import OracleCache
from harness.registry import Registry
from harness.run.campaign import Campaign
from harness.run.link import WorkerLink
from harness.run.runner import Options, Runner
from harness.run.seats import Here

#: A small case: FLOP at most.
SMALL = 200_000


def measure(backend: str, check: str, rounds: int) -> tuple[int, float, float, pstats.Stats]:
    """Verdicts, core-seconds of this process and of its children, and this process's profile.

    The first round warms caches and compiles; it is not counted.
    """
    cases: list[Case] = [c for c in load_catalogue().select(["smoke"]) if c.spec is not None and c.spec.flops <= SMALL]
    chosen = [c for c in CHECKS if c.name == check]
    profile, options = cProfile.Profile(), Options(jobs=1)
    verdicts, own, child = 0, 0.0, 0.0
    with Campaign(cases, [Registry.installed().reference(backend)], chosen, options) as campaign:
        plan = campaign.plan(refusals=False)
        pid = _worker_of(campaign)
        for i in range(rounds + 1):
            before, worker = time.process_time(), _cpu(pid)
            if i == rounds:
                profile.enable()
            # A fresh oracle each round, so that data and reference are paid for; in this thread, to be profiled.
            (link,), (report,) = campaign.links, campaign.reports
            runner = Runner(plan, [[Here(link, report.info, OracleCache(i), options.limits)]], options)
            count = sum(len(records) for records in runner.run_here())
            profile.disable()
            if 0 < i < rounds or rounds == 1:
                verdicts += count
                own += time.process_time() - before
                child += _cpu(pid) - worker
    return verdicts, own, child, pstats.Stats(profile)


def _worker_of(campaign: Campaign) -> int:
    """The process id of the campaign's only worker."""
    (link,) = campaign.links
    assert isinstance(link, WorkerLink)
    return link.pid


def _cpu(pid: int) -> float:
    """Processor seconds of a process, from /proc."""
    with open(f"/proc/{pid}/stat") as f:  # noqa: PTH123 - one line
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--backend", default="naive")
    parser.add_argument("--check", default="integers", choices=[c.name for c in CHECKS])
    parser.add_argument("--rounds", type=int, default=6)
    given = parser.parse_args(arguments)
    verdicts, own, child, stats = measure(given.backend, given.check, given.rounds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{given.check} on {given.backend}: {verdicts} verdicts, {1e3 * (own + child) / verdicts:.2f} core-ms each")
    print(f"  judging {1e3 * own / verdicts:.2f}, worker {1e3 * child / verdicts:.2f}; peak {peak:.0f} MiB")
    stats.sort_stats("tottime").print_stats(18)


if __name__ == "__main__":
    main()
