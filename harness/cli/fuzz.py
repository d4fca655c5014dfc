"""`convproof fuzz`: random specifications through all checks, and the smallest that shows each fault."""

from __future__ import annotations

import secrets
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.console import clean, make_console, print_table
from harness.cli.request import Request
from harness.cli.running import checks_named, oracle_threads, refuse_equal_names, refuse_unknown_device, run_info
from harness.cli.settings import Settings, load_settings
from harness.cli.shrunk import SHRINK_TIME, show_shrunk, shrink_jobs
from harness.cli.units import Seconds

if TYPE_CHECKING:
    from rich.console import Console

    from harness.fuzzing.fuzzer import Failure, Fuzzer
    from harness.records import Status
    from harness.store import RunInfo, Store

#: Seconds of drawing where neither --budget nor --max-cases is given.
BUDGET = 60.0
#: Seconds between two lines of progress.
TOLD = 10.0
#: Faults that are shrunk; the rest are counted.
SHRUNK = 12
INTERRUPTED = 130


@click.command("fuzz", short_help="Run random cases until the time is over, and shrink what fails.")
@click.option("--backend", "-b", "backends", multiple=True, metavar="NAME|FILE.py:OBJ", help="A backend to run; repeatable.")
@click.option("--device", metavar="D", help="Part of a device's name.")
@click.option("--check", "checks", multiple=True, metavar="NAME", help="A check to run; repeatable.")
@click.option("--op", "ops", multiple=True, metavar="OP", help="An operation to draw; repeatable.")
@click.option("--seed", type=click.IntRange(0), help="Fix the specifications and the data; a fresh seed a run otherwise.")
@click.option("--budget", type=Seconds(), metavar="5m", help=f"Draw for so long (default {BUDGET:g}s).")
@click.option("--max-cases", type=click.IntRange(1), metavar="N", help="Draw at most so many specifications.")
@click.option("--max-flops", type=click.IntRange(1), metavar="N", help="The most that a specification may cost.")
@click.option("--jobs", "-j", type=click.IntRange(1), help="Workers at once.")
@click.option("-x", "--fail-fast", is_flag=True, help="Stop at the first bad verdict.")
@click.option("--corpus", type=click.Path(path_type=Path, file_okay=False), help="Where failures are kept and replayed from.")
@click.option(
    "--shrink-time", type=Seconds(), default=SHRINK_TIME, metavar="10s", help="Seconds to shrink one fault; 0 for not at all."
)
@click.option("--coverage", is_flag=True, help="Print the whole table of the lattice.")
def command(**options: Any) -> None:
    """Run random cases until the time is over, and shrink what fails.

    Draws specifications over the whole parameter lattice that some backend takes, runs every check on
    them, and ends with the smallest case found for each fault. Failures are kept in the corpus, beside the
    store of runs, and replayed first the next time. The same seed and --max-cases draw the same cases.
    """
    oracle_threads()
    sys.exit(_fuzz(load_settings(), options))


def _fuzz(settings: Settings, options: dict[str, Any]) -> int:
    from harness.records import exit_code
    from harness.store import Store, default_path

    console, notes = make_console(), make_console(stderr=True)
    place = default_path(settings.store)
    corpus = options["corpus"] or place.parent / "fuzz"
    seed = next((s for s in (options["seed"], settings.seed) if s is not None), None)
    seed = secrets.randbits(32) if seed is None else seed
    started, interrupted = time.monotonic(), False
    with Store.open(place) as store, _fuzzer(settings, options, seed, corpus) as fuzzer:
        refuse_equal_names(fuzzer.reports)
        refuse_unknown_device(fuzzer.reports, options["device"])
        run_id = store.begin(_run_info(fuzzer, options, settings, corpus))
        notes.print(f"run {run_id}  seed {seed}  fuzz: {', '.join(r.name for r in fuzzer.reports)}")
        tally = Tally(notes)
        try:
            _run(fuzzer, store, run_id, tally, fail_fast=options["fail_fast"])
        except KeyboardInterrupt:
            interrupted = True
        missing = [r.name for r in fuzzer.reports if str(r.status) == "UNAVAILABLE" and options["backends"]]
        code = INTERRUPTED if interrupted else exit_code(tally.charged, missing=bool(missing))
        elapsed = time.monotonic() - started
        if not interrupted:
            store.finish(run_id, code, elapsed)
        _show_failures(console, fuzzer, options, settings, seed, corpus)
        _show_coverage(console, fuzzer, whole=options["coverage"])
        _show_table(console, tally)
        words = {0: "PASS", 1: "FAIL", 3: "NOTHING VERIFIED"}
        total = ", ".join(f"{n} {s}" for s, n in tally.counts.items())
        rate = f"{sum(tally.counts.values()) / max(elapsed, 1e-9):.0f} verdicts/s"
        console.print(
            f"{words.get(code, 'INTERRUPTED')}: {total}  {fuzzer.reach.specs} specifications  run {run_id}  seed {seed}  "
            f"{elapsed:.1f} s, {rate}",
            style="bold green" if code == 0 else "bold red",
        )
        return code


class Tally:
    """Counts of verdicts, and a line about them now and then."""

    def __init__(self, notes: Console) -> None:
        self.counts: Counter[Status] = Counter()
        self.table: dict[str, Counter[Status]] = {}
        self.cases: Counter[str] = Counter()
        self._notes, self._started, self._told = notes, time.monotonic(), time.monotonic()

    @property
    def charged(self) -> Counter[Status]:
        """The counts without WEAK: that a drawn case proves nothing is no fault of a backend."""
        from harness.records import Status

        return Counter({s: n for s, n in self.counts.items() if s is not Status.WEAK})

    @property
    def bad(self) -> int:
        """Verdicts that a backend is charged with."""
        from harness.fuzzing.bench import FAULTS

        return sum(self.counts[s] for s in FAULTS)

    def add(self, records: Any) -> None:
        """Count the records of a case of a backend."""
        self.cases.update({r.job.backend for r in records})
        for r in records:
            self.counts[r.verdict.status] += 1
            self.table.setdefault(r.job.backend, Counter())[r.verdict.status] += 1
        now = time.monotonic()
        if now - self._told > TOLD:
            self._told, done = now, sum(self.counts.values())
            spent = now - self._started
            self._notes.print(f"{spent:.0f} s: {done} verdicts, {self.bad} bad, {done / spent:.0f}/s")


def _run(fuzzer: Fuzzer, store: Store, run_id: str, tally: Tally, *, fail_fast: bool) -> None:
    """Carry out the batches; every verdict is stored before it is counted."""
    for plan in fuzzer.batches():
        for records in fuzzer.records(plan):
            store.write(run_id, records)
            tally.add(records)
        store.update_planned(run_id, sum(tally.counts.values()))
        if fail_fast and tally.bad:
            return


def _fuzzer(settings: Settings, options: dict[str, Any], seed: int, corpus: Path) -> Fuzzer:
    from harness.cli.errors import UsageProblem
    from harness.cli.probing import references, worker_limits
    from harness.cli.words import alternatives
    from harness.fuzzing.corpus import replayed
    from harness.fuzzing.draws import Bounds
    from harness.fuzzing.fuzzer import Fuzzer
    from harness.run.runner import Options
    from harness.spec.convspec import OPS

    for op in options["ops"]:
        if op not in OPS:
            raise UsageProblem(f"there is no operation {op!r}: {alternatives(op, 'operations', OPS)}")
    default = Bounds()
    budget = options["budget"] if options["budget"] or options["max_cases"] else BUDGET
    return Fuzzer(
        references(settings, options["backends"]),
        checks_named(options["checks"]),
        Options(
            jobs=options["jobs"] or settings.workers,
            judges=settings.judges,
            limits=worker_limits(settings),
            budget=budget,
            fail_fast=options["fail_fast"],
            give_up_after=settings.give_up_after,
        ),
        seed=seed,
        bounds=Bounds(
            ops=tuple(o for o in OPS if not options["ops"] or o in options["ops"]),
            max_flops=options["max_flops"] or default.max_flops,
        ),
        first=replayed(corpus),
        max_cases=options["max_cases"],
        device=options["device"],
    )


def _run_info(fuzzer: Fuzzer, options: dict[str, Any], settings: Settings, corpus: Path) -> RunInfo:
    request = Request(("fuzz",), tuple(options["backends"]), (), tuple(options["checks"]), options["device"], fuzzer.seed)
    return run_info(request, fuzzer.reports, settings, corpus=str(corpus.resolve()))


def _show_failures(
    console: Console, fuzzer: Fuzzer, options: dict[str, Any], settings: Settings, seed: int, corpus: Path
) -> None:
    """Each fault: how often, its first words, and the smallest case found; kept in the corpus."""
    references = {r.name: r.reference for r in fuzzer.reports}
    for number, failure in enumerate(fuzzer.failures.values()):
        case, (record, *others) = failure.smallest
        many = f"{len(failure.cases)} case{'s' * (len(failure.cases) > 1)}"
        what = f"  {failure.what[1]}" if failure.what[1] else ""
        console.print()
        console.print(clean(f"{record.verdict.status} {failure.backend}  {failure.check}{what}  {many}"), style="bold red")
        console.print(clean(f"  {case.id}: {case.spec}"))
        console.print(clean(f"  {record.verdict.message}"))
        if others:
            console.print(clean(f"  bad there too: {', '.join(r.job.check for r in others)}"))
        _shrink_one(console, failure, options, settings, references[failure.backend], seed, corpus, wanted=number < SHRUNK)
    if fuzzer.failures:
        console.print()


def _shrink_one(
    console: Console,
    failure: Failure,
    options: dict[str, Any],
    settings: Settings,
    reference: str,
    seed: int,
    corpus: Path,
    *,
    wanted: bool,
) -> None:
    from harness.cli.errors import UsageProblem
    from harness.cli.probing import worker_limits
    from harness.fuzzing.corpus import keep

    case, records = failure.smallest
    shrunk = None
    if wanted and options["shrink_time"]:
        limits = worker_limits(settings)
        shrunk = shrink_jobs(case, [r.job for r in records], reference, seed, limits, options["shrink_time"], options["device"])
        if shrunk is None:
            console.print("  it did not fail again when it was repeated alone")
    try:
        file = keep(corpus, case, shrunk, failure.backend, seed)
    except OSError as error:
        raise UsageProblem(f"--corpus {corpus}: {error.strerror}; name a folder that can be written") from None
    if shrunk is not None:
        show_shrunk(console, shrunk, failure.backend, reference, seed, str(file))


def _show_coverage(console: Console, fuzzer: Fuzzer, *, whole: bool) -> None:
    from harness.cli import lattice

    if not fuzzer.reach.specs:
        return
    data = lattice.summary_of(fuzzer.reach, ["fuzz"])
    if whole:
        lattice.show(data)
        return
    share = f"{100 * data['share']:.1f} %"
    console.print(f"lattice: {data['covered']} of {data['possible']} possible pairs of levels reached, {share} (--coverage)")


def _show_table(console: Console, tally: Tally) -> None:
    from harness.records import Status

    seen = [s for s in Status if tally.counts[s]]
    rows = [(name, tally.cases[name], *(t[s] or "" for s in seen)) for name, t in tally.table.items()]
    print_table(console, ("backend", "cases", *seen), rows, right={"cases", *map(str, seen)})
