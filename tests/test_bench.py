"""`convproof bench`: what a figure rests on, and what gets none."""

import json
import os
import re
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from runner_backends import LIMITS as LIMITS_OF_RIGHT
from timed_backends import reference

from harness.backend import Device
from harness.catalogue import load_catalogue
from harness.checks import Problem, RunEnded
from harness.cli import main
from harness.cli.outputs import repeater
from harness.oracle.cache import OracleCache
from harness.records import Job, Status
from harness.registry import Registry
from harness.run.arena import layout
from harness.run.limits import Limits
from harness.run.probe import probe_all
from harness.samples import TIMED
from harness.store import Store, load
from harness.timing.bench import Bench, Pair, share
from harness.timing.measure import Calls, Effort, measure
from harness.timing.process import Side, TimedProcess, Troubled
from harness.timing.roof import Roof

LIMITS = Limits(seconds=5.0, threads=1)
QUICK = Effort(precision=0.2, seconds=0.05, scrub=1 << 20)
CASE = next(c for c in load_catalogue().cases if c.id == "basic-rank-2d")
#: A device that can do anything.
ENDLESS = Roof("cpu", 1, {"f32": 1e30, "f64": 1e30}, ((1 << 30, 1e30),), {})


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("CONVPROOF_STORE", str(tmp_path / "runs.sqlite"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs.sqlite"


def bench(*words):
    return CliRunner().invoke(main, ["bench", *words])


def quick(*words):
    few = ("--processes", "2", "--time", "0.05s", "--precision", "20%", "--no-roof", "--seed", "3", "--threads", "1")
    return bench(*words, *few)


def measured(name, effort=QUICK):
    (report,) = probe_all([reference(name)], LIMITS)
    with TimedProcess(Side(name, reference(name)), LIMITS) as process:
        process.load()
        problem = Problem(CASE, CASE.spec, report.info, report.devices[0], OracleCache(1))
        return measure(Calls(process, CASE.spec, report.devices[0].name, LIMITS), problem, effort, 0)


def test_a_right_backend_gets_series_of_every_kind():
    made = measured("phased")
    assert made.verdict.status is Status.PASS, made.verdict
    kinds = {(s.metric, s.state) for s in made.series}
    names = ("wall", "cpu", "device", "phase:pack", "phase:kernel")
    assert kinds == {("setup", "cold"), ("setup", "warm")} | {(n, state) for n in names for state in ("warm", "cold")}
    by_kind = {(s.metric, s.state): s.seconds for s in made.series}
    assert set(by_kind["device", "warm"]) == {0.25}
    assert set(by_kind["phase:kernel", "warm"]) == {0.002}
    assert len({len(by_kind[n, "warm"]) for n in names}) == 1
    assert made.peak_bytes > 1 << 20
    assert made.stopped


@pytest.mark.parametrize(
    ("name", "status", "text"),
    [
        ("wrong", Status.FAIL, "before the timing: "),
        ("later", Status.FAIL, "the output timed last: "),
        ("once", Status.FAIL, "timed calls left their output as it was"),
        ("fourth", Status.FAIL, "timed calls left their output as it was"),
        ("packs", Status.FAIL, "work is kept"),
        ("garbage", Status.ERROR, "its reply cannot be read"),
        ("endless", Status.FAIL, "phases or device times that are no durations"),
        ("dies", Status.CRASH, "its process exited with code 3"),
        ("raises", Status.ERROR, "RuntimeError: tired"),
        ("keeps", Status.FAIL, "work is kept"),
    ],
)
def test_a_backend_that_fools_the_clock_gets_no_figure(name, status, text):
    verdict = measured(name).verdict
    assert verdict.status is status, verdict
    assert text in verdict.message, verdict


def test_an_output_that_is_written_after_the_return_is_refused():
    verdict = measured("afterwards").verdict
    assert verdict.status is Status.FAIL, verdict
    assert re.search("changed after run|left their output as it was|never written", verdict.message), verdict


@pytest.mark.skipif(os.cpu_count() < 2, reason="there is no other core to go to")
def test_one_that_leaves_its_cores_is_refused():
    (report,) = probe_all([reference("elsewhere")], LIMITS)
    bench = Bench([Pair(CASE, report, report.devices[0])], LIMITS, QUICK, processes=1)
    ((timing, record),) = bench.results()
    assert record.verdict.status is Status.FAIL
    assert "runs on the cores" in timing.refused


def test_what_one_case_leaves_behind_is_not_charged_to_the_next():
    (report,) = probe_all([reference("later")], LIMITS)
    other = next(c for c in load_catalogue().cases if c.id == "basic-rank-1d")
    pairs = [Pair(c, report, report.devices[0]) for c in (CASE, other)]
    started = []
    held = Bench(pairs, LIMITS, QUICK, processes=1)
    for timing, record in held.results():
        started.append((timing.case, record.verdict.message))
    assert len(started) == 2
    assert not any(text.startswith("before the timing") for _, text in started)  # its calls are counted from 1 again


def test_an_output_that_changes_between_the_return_and_the_look_is_seen():
    (report,) = probe_all([reference("right")], LIMITS)
    with TimedProcess(Side("right", reference("right")), LIMITS) as process:
        process.load()
        calls = Calls(process, CASE.spec, "cpu", LIMITS)
        calls.prepare()
        ops, _ = Problem(CASE, CASE.spec, report.info, report.devices[0], OracleCache(1)).data("zero_mean")
        out = calls(ops)
        process.arena.arrays(layout(CASE.spec))["out"][...] = 2 * out
        with pytest.raises(RunEnded, match="changed after run"):
            calls.output()


def test_a_side_that_waits_is_stopped_until_it_is_asked():
    def state(process):
        return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]

    with TimedProcess(Side("right", reference("right")), LIMITS) as process:
        process.load()
        process.pause()
        deadline = time.monotonic() + 5
        while state(process) != "T" and time.monotonic() < deadline:
            time.sleep(0.01)
        assert state(process) == "T"
        assert process.ask("peak", 5.0)["bytes"] > 0
        assert state(process) != "T"


def test_a_pool_has_no_roof_of_operations():
    """Maxima need no multiplication: a peak of one operation a second refuses none."""
    case = next(c for c in load_catalogue().cases if c.id.startswith("basic-") and c.spec and c.spec.op == "max_pool")
    (report,) = probe_all([Registry.installed().reference("im2col")], LIMITS)
    slow = Roof("cpu", 1, {"f32": 1.0, "f64": 1.0}, ((1 << 30, 1e30),), {})
    ((timing, _),) = Bench([Pair(case, report, report.devices[0])], LIMITS, QUICK, processes=1, roofs={"cpu": slow}).results()
    assert timing.refused == ""


def test_one_that_hangs_while_it_is_timed_costs_its_time_limit_and_no_more(monkeypatch):
    monkeypatch.setattr("test_bench.LIMITS", Limits(seconds=0.3, threads=1))
    start = time.monotonic()
    verdict = measured("sleeps").verdict
    assert verdict.status is Status.TIMEOUT
    assert "did not return within" in verdict.message
    assert time.monotonic() - start < 30


def test_a_timed_process_has_its_own_layout_threads_and_no_words_on_the_terminal(capfd):
    with TimedProcess(Side("right", reference("right")), LIMITS) as process:
        assert process.load()["name"] == "right"
        with pytest.raises(Troubled, match="AttributeError"):
            process.ask("no_such_request", 5.0)
        assert process.ask("peak", 5.0)["bytes"] > 0
    assert process.closed
    assert capfd.readouterr() == ("", "")


def test_sampling_stops_when_enough_is_known_or_at_its_budget():
    loose = measured("right", Effort(precision=0.9, seconds=5.0, cold=False))
    assert loose.stopped == "interval within 90 %"
    tight = measured("right", Effort(precision=1e-9, seconds=0.2, cold=False))
    assert tight.stopped.startswith(("budget of 0.2 s", "noise stable"))
    taken = [s for s in tight.series if s.metric == "wall"]
    assert sum(taken[0].seconds) >= 0.1
    assert not [s for s in tight.series if s.state == "cold" and s.metric != "setup"]


def test_a_time_beyond_the_roof_is_refused():
    (report,) = probe_all([reference("right")], LIMITS)
    pairs = [Pair(CASE, report, report.devices[0])]
    low = Roof("cpu", 1, {"f32": 1.0, "f64": 1.0}, ((1 << 30, 1.0),), {})
    for roof, fine in ((low, False), (ENDLESS, True)):
        held = Bench(pairs, LIMITS, QUICK, processes=1, roofs={"cpu": roof})
        ((timing, record),) = held.results()
        assert (record.verdict.status is Status.PASS) is fine
        assert (timing.refused == "") is fine, timing.refused
        assert record.job.check == TIMED


def test_a_roof_is_measured_again_before_it_refuses():
    (report,) = probe_all([reference("right")], LIMITS)
    pairs = [Pair(CASE, report, report.devices[0])]
    low = Roof("cpu", 1, {"f32": 1.0, "f64": 1.0}, ((1 << 30, 1.0),), {})
    asked = []
    held = Bench(pairs, LIMITS, QUICK, processes=2, roofs={"cpu": low}, anew=lambda d: asked.append(d.name) or ENDLESS)
    assert [r.verdict.status for _, r in held.results()] == [Status.PASS] * 2
    assert asked == ["cpu"]


def test_an_empty_output_has_no_time(store):
    case = next(
        c.id for c in load_catalogue().cases if c.spec and c.spec.batch == 0 and LIMITS_OF_RIGHT.why_not(c.spec) is None
    )
    result = quick(case, "-b", reference("right"))
    assert result.exit_code == 3
    assert "its output is empty" in result.output


def test_the_share_of_the_roof_is_that_of_the_nearer_of_its_two_sides():
    spec = CASE.spec
    compute = Roof("cpu", 1, {"f32": float(spec.flops), "f64": 1.0}, ((1 << 40, 1e30),), {})
    memory = Roof("cpu", 1, {"f32": 1e30, "f64": 1.0}, ((1 << 40, float(spec.bytes)),), {})
    assert share(compute, spec, 2.0) == pytest.approx(0.5)
    assert share(memory, spec, 4.0) == pytest.approx(0.25)


def test_a_run_holds_figures_raw_samples_and_verdicts(store):
    result = quick("basic-rank-2d", "-b", reference("right"), "--json", "f.json")
    assert result.exit_code == 0, result.output
    run = load("last")
    (row,) = run.timings.to_dict("records")
    assert row["refused"] == ""
    assert row["processes"] == 2
    assert row["low"] <= row["seconds"] <= row["high"]
    walls = run.samples.query("metric == 'wall' and state == 'warm'")
    assert len(walls) == row["samples"]
    assert np.median(walls.seconds) == row["seconds"]
    assert set(walls.process) == {0, 1}
    assert row["gflops"] == pytest.approx(row["flops"] / row["seconds"] / 1e9)
    assert set(run.verdicts.check) == {"contract", "integers", "zero_mean", "timed"}
    assert set(run.verdicts.status) == {"PASS"}
    environment = run.info["environment"]
    assert environment["limits"]["threads"] == 1
    assert environment["kind"] == "bench"
    assert {"machine", "packages", "host_environment", "noise", "git", "warnings"} <= set(environment)
    told = json.loads(Path("f.json").read_text())
    assert told["timings"][0]["seconds"] == row["seconds"]


def test_what_fails_its_verification_is_not_timed_and_the_run_fails(store):
    result = quick("basic-rank-2d", "-b", reference("right"), "-b", reference("wrong"))
    assert result.exit_code == 1
    run = load("last")
    assert list(run.timings.backend) == ["right"]
    assert "wrong" in set(run.verdicts.query("status == 'FAIL'").backend)


def test_a_refused_time_has_samples_and_no_figure(store):
    result = quick("basic-rank-2d", "-b", reference("keeps"))
    assert result.exit_code == 1
    assert "no figure: basic-rank-2d keeps: FAIL" in result.output
    run = load("last")
    (row,) = run.timings.to_dict("records")
    assert row["refused"].startswith("FAIL")
    assert np.isnan(row["seconds"])
    assert np.isnan(row["gflops"])


def test_what_no_backend_takes_is_nothing_timed(store):
    result = quick("basic-rank-2d", "-b", reference("refuses"))
    assert result.exit_code == 3
    assert "NOTHING TIMED" in result.output


def test_ratios_are_to_the_baseline(store):
    result = quick("basic-rank-2d", "-b", reference("right"), "-b", reference("twice"), "--baseline", "right")
    assert result.exit_code == 0, result.output
    assert "x right" in result.output
    mean = float(result.output.split("twice: geometric mean ")[1].split()[0])
    seconds = load("last").timings.set_index("backend").seconds
    assert mean == pytest.approx(seconds["twice"] / seconds["right"], rel=1e-3)


def test_the_budget_leaves_the_rest_untimed_and_says_so(store):
    result = quick("basic-rank-2d", "basic-rank-1d", "-b", reference("right"), "--budget", "0s")
    assert load("last").timings.refused.str.contains("budget").all()
    assert result.exit_code == 3


def test_a_benchmark_is_neither_resumed_nor_repeated_as_a_verification(store):
    quick("basic-rank-2d", "-b", reference("keeps"))
    result = CliRunner().invoke(main, ["verify", "--resume"])
    assert result.exit_code == 2
    assert "is one of bench, which does not resume" in result.output
    with Store.open(store, create=False) as held:
        row = held.info("last")
    line = repeater(row)(Job("basic-rank-2d", "keeps", "cpu", TIMED))
    assert line == f"convproof bench basic-rank-2d --backend {reference('keeps')} --seed 3"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("basic-rank-2d", "--baseline", "nobody"), "--baseline 'nobody' is not among"),
        (("basic-rank-2d", "--precision", "0"), "is no share"),
        (("basic-rank-2d", "--device", "nowhere"), "no device matches"),
        (("nosuchcase",), "nosuchcase"),
        (("basic-rank-*", "--profile", "true"), "--profile takes one case"),
        (("basic-rank-2d", "--profile", "/no/such/profiler"), "--profile /no/such/profiler"),
        (("invalid-*",), "nothing to time"),
        (("basic-rank-2d", "--threads", "999"), "this process may use"),
        (("basic-rank-2d", "--profile", '"x'), "No closing quotation"),
        (("basic-rank-2d", "--profile", ""), "--profile is empty"),
        (("basic-rank-2d", "--json", "/no/such/f.json"), "--json /no/such/f.json"),
        (("basic-rank-2d", "--json", "-", "--markdown", "-"), "both want standard output"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(store, words, text):
    result = bench(*words, "-b", reference("right"))
    assert result.exit_code == 2
    assert text in result.output
    assert "Traceback" not in result.output


def test_a_profiler_runs_the_timed_program(store, tmp_path):
    script = tmp_path / "profiler"
    script.write_text(f'#!/bin/sh\necho profiled > {tmp_path}/told\nexec "$@"\n')
    script.chmod(0o755)
    result = bench("basic-rank-2d", "-b", reference("right"), "--profile", str(script), "--time", "0.05s")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "told").read_text() == "profiled\n"


def test_a_device_is_timed_by_its_name():
    (report,) = probe_all([reference("right")], LIMITS)
    assert isinstance(report.devices[0], Device)
    with TimedProcess(Side("right", reference("right")), LIMITS) as process:
        process.load()
        calls = Calls(process, CASE.spec, "cpu", LIMITS)
        calls.prepare()
        problem = Problem(CASE, CASE.spec, report.info, report.devices[0], OracleCache(1))
        ops, _ = problem.data("zero_mean")
        calls.place(ops)
        told = calls.sample(3, 10.0, loops=4)
        assert len(told["wall"]) == len(told["cpu"]) == 3
