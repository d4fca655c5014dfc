"""`convproof fuzz` finds what is wrong, accuses nobody else, and draws the same cases for the same seed."""

import json
import os
import re
import shlex
from dataclasses import replace
from math import prod
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from runner_backends import LIMITS
from runner_backends import reference as runner_reference

from harness.backend import Limits
from harness.catalogue.coverage import coverage
from harness.catalogue.load import load_file
from harness.checks import CHECKS
from harness.cli import main
from harness.fuzzing.bench import Clock
from harness.fuzzing.corpus import replayed
from harness.fuzzing.draws import Bounds, Dice, draw_spec
from harness.fuzzing.fuzzer import Fuzzer
from harness.fuzzing.strategies import specs
from harness.records import Status
from harness.run.runner import Options
from harness.spec import ConvSpec
from harness.spec.convspec import DTYPE_TRIPLES
from harness.store import Store

HERE = Path(__file__).parent
RIGHT = f"{HERE / 'right_numpy.py'}:backend"


def wrong(name):
    """A planted fault of that name."""
    return f"backends.planted:{name}"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.endswith("_NUM_THREADS"):
            monkeypatch.delenv(name)
    monkeypatch.delenv("CONVPROOF_STORE", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


#: Enough to find the faults planted here, in a tenth of the time that all checks take.
FEW = ("--check", "contract", "--check", "integers", "--check", "zero_mean", "--max-flops", "20000")


def fuzz(*words):
    return CliRunner().invoke(main, ["fuzz", *words], prog_name="convproof")


def held(run="last"):
    with Store.open(Path(".convproof/runs.sqlite"), create=False) as store:
        return {r.job: r.verdict for r in store.records(store.resolve(run))}


# --- what is drawn ----------------------------------------------------------------------------------------------


def test_the_dice_are_the_same_for_ever():
    dice = Dice(20261122, 0)
    assert [dice.integer(0, 99) for _ in range(8)] == [5, 20, 70, 4, 85, 4, 54, 50]


def test_draws_are_fixed_by_their_key_and_reach_the_lattice():
    drawn = [draw_spec(Dice(1, i)) for i in range(1500)]
    assert drawn == [draw_spec(Dice(1, i)) for i in range(1500)]
    valid = [s for s in drawn if s]
    assert len(valid) > 1200
    assert coverage(valid).share > 0.96


def test_draws_keep_their_bounds():
    bounds = Bounds(ops=("conv", "avg_pool"), triples=DTYPE_TRIPLES[:2], max_flops=5000, max_elements=300)
    valid = [s for i in range(500) if (s := draw_spec(Dice(2, i), bounds))]
    assert valid
    assert all(bounds.within(s) and s.op in bounds.ops and s.dtypes in bounds.triples for s in valid)


EXAMPLES = settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


@EXAMPLES
@given(specs())
def test_the_strategy_gives_valid_specifications(spec):
    assert isinstance(spec, ConvSpec)
    assert Bounds().within(spec)


@EXAMPLES
@given(
    specs(ops=("conv",), limits=Limits(ops=("conv",), padding_modes=("zeros",)), where=lambda s: s.rank == 1, max_flops=2000)
)
def test_the_strategy_keeps_to_a_backend_s_limits(spec):
    assert spec.padding_mode == "zeros"
    assert spec.rank == 1
    assert spec.flops <= 2000


def test_hypothesis_shrinks_the_strategy_s_specifications():
    from hypothesis import Phase, find

    plain = settings(EXAMPLES, max_examples=400, phases=(Phase.generate, Phase.shrink))
    found = find(specs(ops=("conv",)), lambda s: s.stride[-1] > 1 and s.in_channels > 2, settings=plain)
    assert found.rank == 1
    assert found.in_channels <= 4
    assert (found.bias, found.padding_mode, found.in_dtype) == (False, "zeros", "f32")


def test_the_strategy_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "hypothesis", None)
    with pytest.raises(ImportError, match=r"pip install 'convproof\[fuzz\]'"):
        specs()


# --- runs -------------------------------------------------------------------------------------------------------


def test_a_right_backend_is_not_accused():
    result = fuzz("-b", RIGHT, "--seed", "20261122", "--max-cases", "10", "--max-flops", "10000")
    assert result.exit_code == 0, result.output
    statuses = {v.status for v in held().values()}
    assert statuses <= {Status.PASS, Status.WEAK}
    assert len(held()) > 150
    assert re.search(r"lattice: \d+ of \d+ possible pairs of levels reached", result.stdout)


@pytest.mark.parametrize("name", ["dilation_ignored", "tf32"])
def test_a_wrong_backend_is_found_and_shrunk(name, folder):
    result = fuzz("-b", wrong(name), "--seed", "5", "--max-cases", "16", "--corpus", "kept", "--shrink-time", "4s", *FEW)
    assert result.exit_code == 1, result.output
    sizes = [json.loads(text) for text in re.findall(r"shrunk from x\[[\d, ]+\] to x(\[[\d, ]+\])", result.stdout)]
    assert sizes
    assert all(prod(size) <= 64 for size in sizes)
    kept = replayed(folder / "kept")
    assert len(kept) >= 2
    assert all(c.family == "fuzz" for c in kept)


def test_what_was_found_is_replayed_first(folder):
    """And then what is drawn; a right backend passes all of it."""
    assert fuzz("-b", runner_reference("wrong"), "--seed", "1", "--max-cases", "6", "--shrink-time", "2s", *FEW).exit_code == 1
    known = {c.id for path in (folder / ".convproof" / "fuzz").glob("*.yaml") for c in load_file(path)}
    assert len(known) >= 2
    again = fuzz("-b", runner_reference("wrong"), "--seed", "2", "--max-cases", "1", "--shrink-time", "0", "-j", "1", *FEW)
    assert again.exit_code == 1
    with Store.open(Path(".convproof/runs.sqlite"), create=False) as store:
        ran = list(dict.fromkeys(r.job.case for r in store.records(store.resolve("last"))))
    assert set(ran[: len(known)]) == known
    assert len(ran) == len(known) + 1
    right = fuzz("-b", RIGHT, "--seed", "2", "--max-cases", "1", *FEW)
    assert right.exit_code == 0, right.output


def test_the_same_seed_gives_the_same_verdicts():
    words = ("-b", runner_reference("wrong"), "--seed", "9", "--max-cases", "8", "--shrink-time", "0", *FEW)
    found = []
    for corpus, jobs in (("one", "2"), ("two", "1")):
        result = fuzz(*words, "--corpus", corpus, "--jobs", jobs)
        assert result.exit_code == 1
        found.append({job: (v.status, v.message, v.worst_index) for job, v in held().items()})
    assert found[0] == found[1]


def test_a_printed_line_repeats_the_failure_and_so_does_repro(folder):
    result = fuzz("-b", runner_reference("wrong"), "--seed", "9", "--max-cases", "4", "--shrink-time", "2s", *FEW)
    line = re.search(r"repeat: (.*)", result.stdout)[1]
    assert CliRunner().invoke(main, shlex.split(line)[1:]).exit_code == 1
    run = re.search(r"run (\S+)", result.output)[1]
    check, case = re.search(r"FAIL wrong  (\w+).*\n  (fuzz-[\w-]+):", result.stdout).groups()
    assert (folder / ".convproof" / "fuzz" / f"{case}.yaml").is_file()
    again = CliRunner().invoke(main, ["repro", run, case, "wrong", check])
    assert again.exit_code == 1, again.output


def test_what_no_backend_takes_is_not_drawn():
    with Fuzzer([runner_reference("right")], CHECKS[:1], Options(), seed=3, max_cases=10) as fuzzer:
        drawn = []
        for plan in fuzzer.batches():
            drawn += [b.case.spec for b in plan.batches]
            list(fuzzer.records(plan))
    assert fuzzer.drawn == fuzzer.reach.specs == len(set(drawn)) == 10
    assert [LIMITS.why_not(s) for s in drawn] == [None] * 10


def test_the_time_ends_a_run_and_what_was_not_reached_is_not_counted():
    with Fuzzer([runner_reference("right")], CHECKS[:1], Options(budget=60.0), seed=3, max_cases=10) as fuzzer:
        batches = fuzzer.batches()
        plan = next(batches)
        fuzzer.options, fuzzer._clock = replace(fuzzer.options, budget=0.0), Clock(0.0)
        assert plan.jobs == 10
        assert list(fuzzer.records(plan)) == []
        assert next(batches, None) is None
    assert not fuzzer.reach.specs


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--op", "konv"], 2, "there is no operation 'konv'"),
        (["--check", "nosuch"], 2, "there is no check 'nosuch'"),
        (["-b", "nosuch"], 2, "nosuch"),
        (["-b", runner_reference("right"), "--device", "nosuch", "--max-cases", "1"], 2, "no device matches"),
        (["-b", runner_reference("absent"), "--max-cases", "1"], 3, "NOTHING VERIFIED"),
    ],
)
def test_exit_codes(words, code, text):
    result = fuzz(*words)
    assert result.exit_code == code, result.output
    assert text in result.output


def test_nothing_is_drawn_twice(monkeypatch):
    monkeypatch.setattr(
        "harness.fuzzing.fuzzer.Dice", lambda seed, index: Dice(seed, index % 300)
    )  # a lattice that repeats itself
    with Fuzzer([runner_reference("right")], CHECKS[:1], Options(), seed=3) as fuzzer:
        first, second = fuzzer._pool(), fuzzer._pool()
    assert 100 < len(first) == len(set(first)) <= 300
    assert second == []
