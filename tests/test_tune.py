"""`convproof tune`: what is kept and when it is used, which candidates are thrown out, which replaces the default."""

import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tuned_backends import FILTERS, PIXELS, planted, reference, right

from backends.opencl.auto import backend as auto
from backends.opencl.direct import backend as direct
from backends.opencl.tiles import Tile, candidates, default_tile
from harness import tuned
from harness.backend import Device, Tunable
from harness.catalogue import load_catalogue
from harness.cli import main
from harness.records import Status
from harness.run.limits import Limits
from harness.spec import ConvSpec
from harness.timing.tails import tails
from harness.timing.tuning import Effort, Tuner, decide

CASE = next(c for c in load_catalogue().cases if c.id == "basic-rank-2d")
ENTRY = tuned.Entry(str(CASE.spec), CASE.id, {"speed": 2}, 0.002, 0.001, "2026-01-01")
KEY = {"device": "toy", "driver_version": "1", "kernels": "a"}
LIMITS = Limits(seconds=5.0, threads=1)
QUICK = Effort(turns=3, processes=2)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CONVPROOF_TUNED", str(tmp_path / "tuned"))
    monkeypatch.setenv("CONVPROOF_STORE", str(tmp_path / "runs.sqlite"))
    monkeypatch.chdir(tmp_path)
    tuned._held.cache_clear()
    return tmp_path / "tuned"


def tune(*words):
    return CliRunner().invoke(main, ["tune", *words])


def quick(name, *words):
    return tune("basic-rank-2d", "-b", reference(name), "--threads", "1", "--seed", "3", *words)


def tuner(backend, name):
    return Tuner(reference(name), backend.info, Device("toy"), LIMITS, QUICK)


# --- the table ------------------------------------------------------------------------------------------------
def test_what_is_kept_is_found_again():
    assert tuned.find("toy", KEY, CASE.spec) is None
    path = tuned.keep("toy", KEY, CASE.spec, ENTRY)
    assert tuned.find("toy", KEY, CASE.spec) == {"speed": 2}
    assert tuned.read(path) == tuned.Table("toy", KEY, {CASE.spec.digest: ENTRY})
    assert list(tuned.tables()) == [path]
    assert [p.name for p in path.parent.iterdir()] == [path.name], "nothing lies beside it"


def test_a_file_under_another_name_is_of_other_facts():
    """A table that was copied by hand, from another driver say."""
    other = KEY | {"driver_version": "2"}
    tuned.keep("toy", KEY, CASE.spec, ENTRY).rename(tuned.place("toy", other))
    assert tuned.find("toy", other, CASE.spec) is None


def test_another_specification_has_no_result():
    tuned.keep("toy", KEY, CASE.spec, ENTRY)
    assert tuned.find("toy", KEY, replace(CASE.spec, batch=2)) is None


@pytest.mark.parametrize("fact", ["driver_version", "kernels", "device"])
def test_another_driver_kernel_or_device_has_no_result(fact):
    tuned.keep("toy", KEY, CASE.spec, ENTRY)
    assert tuned.find("toy", KEY | {fact: "other"}, CASE.spec) is None
    assert tuned.find("other", KEY, CASE.spec) is None


def test_a_result_is_forgotten_where_the_default_is_as_fast():
    tuned.keep("toy", KEY, CASE.spec, ENTRY)
    tuned.keep("toy", KEY, CASE.spec, None)
    assert tuned.find("toy", KEY, CASE.spec) is None


BROKEN = {
    "no JSON": '{"format": 1, "entr',
    "another format": '{"format": 99}',
    "no object": "[]",
    "no number": '{"format": 1, "backend": "toy", "key": {}, "entries": {"a": {"settings": {"speed": "2"}}}}',
    "too deep": "[" * 100_000,
    "nothing": "",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_ignored_with_a_warning_and_written_anew(text):
    path = tuned.keep("toy", KEY, CASE.spec, ENTRY)
    path.write_text(text)
    with pytest.warns(UserWarning, match="is ignored, nothing in it is used"):
        assert tuned.find("toy", KEY, CASE.spec) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tuned.find("toy", KEY, CASE.spec) is None, "it is looked at once"
    assert isinstance(tuned.tables()[path], tuned.BrokenTable)
    tuned.keep("toy", KEY, CASE.spec, ENTRY)
    assert tuned.find("toy", KEY, CASE.spec) == {"speed": 2}


def test_a_file_under_another_s_name_is_not_used():
    path = tuned.keep("toy", KEY, CASE.spec, ENTRY)
    other = tuned.place("toy", KEY | {"kernels": "b"})
    other.write_bytes(path.read_bytes())
    assert tuned.find("toy", KEY | {"kernels": "b"}, CASE.spec) is None


def test_an_empty_variable_switches_tables_off(monkeypatch):
    tuned.keep("toy", KEY, CASE.spec, ENTRY)
    monkeypatch.setenv("CONVPROOF_TUNED", "")
    assert tuned.find("toy", KEY, CASE.spec) is None
    assert tuned.keep("toy", KEY, CASE.spec, ENTRY) is None
    result = tune("basic-rank-2d", "-b", reference("right"))
    assert result.exit_code == 2
    assert "CONVPROOF_TUNED is empty" in result.output


def test_tables_belong_in_the_user_s_cache(monkeypatch):
    monkeypatch.delenv("CONVPROOF_TUNED")
    monkeypatch.setenv("XDG_CACHE_HOME", "/nowhere/cache")
    if sys.platform == "linux":
        assert tuned.folder() == Path("/nowhere/cache/convproof/tuned")


# --- tails ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("op", ["conv", "conv_transpose"])
@pytest.mark.parametrize(("pixels", "filters"), [(48, 8), (2048, 16), (1, 1), (16, 1)])
def test_tails_surround_the_tile_on_one_to_three_axes(op, pixels, filters):
    found = [c.spec for c in tails(ConvSpec(op, (9,), (3,), in_dtype="f64"), pixels, filters)]
    channels = {s.out_channels // s.groups for s in found}
    assert {filters, filters + 1, 2 * filters + 1, 1} <= channels
    assert {s.op for s in found} == {op}
    assert {s.in_dtype for s in found} == {"f64"}
    assert {s.rank for s in found} == {1, 2, 3}
    outputs = {int(np.prod(s.out_size)) for s in found}
    if op == "conv":
        assert {max(1, pixels - 1), pixels, pixels + 1, 2 * pixels + 1} <= outputs
        assert min(outputs) <= 6, "few outputs"
    features = {
        "stride": any(max(s.stride) > 1 for s in found),
        "dilation": any(max(s.dilation) > 1 for s in found),
        "groups": any(s.groups > 1 for s in found),
        "bias": any(s.bias for s in found),
        "padding": any(any(map(any, s.padding)) for s in found),
        "batch": any(s.batch > 1 for s in found),
    }
    assert all(features.values()), features
    assert len({s.digest for s in found}) == len(found)


# --- deciding -------------------------------------------------------------------------------------------------
def times(middle, turns=6, spread=0.01):
    rng = np.random.default_rng(7)
    return [(middle * (1 + spread * rng.standard_normal(12))).tolist() for _ in range(turns)]


def test_the_fastest_candidate_wins():
    chosen, found = decide(times(1.0), [times(0.9), times(0.7), times(1.2)], Effort())
    assert chosen == 1
    assert found.value == pytest.approx(0.7, abs=0.02)


@pytest.mark.parametrize("gain", [0.0, 0.01, 0.025])
def test_less_than_the_least_gain_keeps_the_default(gain):
    assert decide(times(1.0), [times(1 - gain)], Effort())[0] == -1


def test_noise_keeps_the_default():
    rng = np.random.default_rng(0)
    noisy = [np.exp(rng.normal(0, 0.3, 5)).tolist() for _ in range(8)]
    better = [(0.93 * np.exp(rng.normal(0, 0.3, 5))).tolist() for _ in range(8)]
    assert decide(noisy, [better], Effort())[0] == -1


# --- the tuner ------------------------------------------------------------------------------------------------
def test_a_faster_candidate_replaces_the_default():
    with tuner(right, "right") as t:
        made = t.tuned(CASE, None, lambda text: None)
    assert made.settings == {"speed": 2}, made
    assert made.best < 0.8 * made.default
    assert (made.candidates, made.tried, made.thrown) == (2, 2, [])
    assert t.verified == 2 * sum(right.info.limits.why_not(c.spec) is None for c in tails(CASE.spec, PIXELS, FILTERS))


def test_a_candidate_that_is_wrong_on_one_tail_is_thrown_out_however_fast():
    with tuner(planted, "planted") as t:
        made = t.tuned(CASE, None, lambda text: None)
    assert made.settings == {"speed": 2}, made
    (thrown,) = made.thrown
    assert thrown.settings == {"speed": 8}
    assert thrown.verdict.status is Status.FAIL
    assert thrown.case.startswith(("tail-7x", "tail-13x"))
    assert CASE.spec.out_size[-1] % PIXELS != 1, "on the case itself it is right"


def test_toys_are_tunable_and_so_is_the_direct_backend():
    assert isinstance(right, Tunable)
    assert isinstance(direct, Tunable)
    assert not isinstance(auto, Tunable), "it uses what its parts were tuned for"


# --- the command ----------------------------------------------------------------------------------------------
def test_the_command_shows_and_keeps_what_it_found(folder):
    result = quick("right")
    assert result.exit_code == 0, result.output
    row = next(line for line in result.output.splitlines() if line.startswith("basic-rank-2d"))
    assert row.endswith("speed=2")
    assert " % " in row
    assert "PASS: 1 of 1 case faster than by default; 0 candidates thrown out" in result.output
    assert tuned.find("toy", KEY, CASE.spec) == {"speed": 2}
    with right.prepare(CASE.spec, "toy") as p:
        assert p.settings == {"speed": 2}, "what is kept is used"
    listed = tune("--list")
    assert listed.exit_code == 0
    assert "1 result kept" in listed.output
    assert "driver_version 1" in listed.output
    assert "0 results kept" in tune("--list", "--device", "other").output
    assert "0 results removed" in tune("--forget", "-b", "other").output
    assert "1 result removed" in tune("--forget").output
    assert list(folder.iterdir()) == []


def test_a_wrong_candidate_is_reported_by_exit_code_1(tmp_path):
    result = quick("planted", "--json", str(tmp_path / "f.json"))
    assert result.exit_code == 1
    assert "thrown out: toy-planted speed=8: FAIL on tail-" in result.output
    assert "1 candidate thrown out" in result.output
    data = json.loads((tmp_path / "f.json").read_text())
    assert data["results"][0]["settings"] == {"speed": 2}
    assert data["results"][0]["thrown"][0]["status"] == "FAIL"
    assert tuned.find("toy-planted", KEY, CASE.spec) == {"speed": 2}


def test_a_candidate_that_ends_the_process_is_thrown_out():
    result = quick("dies")
    assert result.exit_code == 1
    assert "speed=2: CRASH on tail-" in result.output
    assert "no candidate but the default is right" in result.output


def test_a_wrong_default_gives_no_figure_and_keeps_nothing():
    result = quick("base")
    assert result.exit_code == 1
    assert "the default settings are wrong" in result.output
    assert tuned.tables() == {}


def test_equal_candidates_keep_the_default_and_forget_an_older_result():
    spec = CASE.spec
    tuned.keep("toy-even", KEY, spec, ENTRY)
    result = quick("even", "--least", "20%")
    assert result.exit_code == 0, result.output
    assert "default: the default is as fast as any" in result.output
    assert "0 of 1 case faster" in result.output
    tuned._held.cache_clear()
    assert tuned.find("toy-even", KEY, spec) is None


def test_without_a_device_nothing_is_tuned():
    result = quick("absent")
    assert result.exit_code == 3
    assert "toy-absent is unavailable: no toy is installed: buy one" in result.output
    assert "NOTHING TUNED" in result.output


def test_a_case_without_a_choice_is_said():
    result = tune("basic-rank-1d", "-b", reference("right"), "--threads", "1")
    assert result.exit_code == 3
    assert "there is nothing to choose" in result.output


def test_a_backend_without_settings_is_refused():
    here = Path(__file__).with_name("timed_backends.py")
    result = tune("basic-rank-2d", "-b", f"{here}:right", "--threads", "1")
    assert result.exit_code == 2
    assert "has no settings to choose among" in result.output


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--list", "--forget"), "leave one of them out"),
        (("--list", "perf"), "leave out perf"),
        (("basic-rank-2d", "--threads", "1000"), "cores"),
        (("nosuch",), "nosuch"),
        (("basic-rank-2d", "-b", "{right}", "--device", "nosuch"), "no device matches 'nosuch'"),
    ],
)
def test_what_cannot_be_asked(words, text):
    result = tune(*(w.format(right=reference("right")) for w in words))
    assert result.exit_code == 2, result.output
    assert text in result.output


# --- OpenCL ---------------------------------------------------------------------------------------------------
@pytest.fixture
def device():
    probe = direct.probe()
    if not probe.devices:
        pytest.skip(probe.reason)
    return probe.devices[0].name


SPEC = ConvSpec("conv", (9, 11), (3, 3), 1, 5, 9, padding=((1, 1), (1, 1)))


@pytest.mark.parametrize("processor", [True, False])
@pytest.mark.parametrize(("pixels", "filters", "taps"), [(196, 256, 9), (1, 1, 1), (50176, 3, 49)])
def test_candidates_begin_with_the_default_and_fit_the_kernel(processor, pixels, filters, taps):
    default = default_tile(pixels, filters, processor, 4)
    found = candidates(default, pixels, filters, taps, processor, 256)
    assert found[0] == default
    assert len(set(found)) == len(found)
    for t in found:
        assert 1 <= t.block <= min(16, filters)
        assert 1 <= t.vectors <= 8
        assert t.width in (1, 2, 4, 8, 16)
        assert t.items <= 256


def test_direct_runs_by_what_is_kept_and_auto_says_so(device):
    other = direct.candidates(SPEC, device)[1].settings
    with direct.prepare(SPEC, device) as before:
        assert before.tuned == {}
    key = direct.tuned_key(device)
    tuned.keep("opencl-direct", key, SPEC, replace(ENTRY, settings=other))
    rng = np.random.default_rng(1)
    x, w = (rng.integers(-4, 5, shape).astype(np.float32) for shape in (SPEC.x_shape, SPEC.w_shape))
    outs = [np.empty(SPEC.out_shape, np.float32) for _ in range(2)]
    with direct.prepare(SPEC, device) as p, direct.prepare_with(SPEC, device, direct.candidates(SPEC, device)[0].settings) as q:
        assert p.tuned == other
        p.run(x, w, None, outs[0])
        q.run(x, w, None, outs[1])
    np.testing.assert_array_equal(*outs)
    if auto.choose(SPEC)[0] == "opencl-direct":
        with auto.prepare(SPEC, device) as chosen:
            assert "tuned: block" in chosen.reason


def test_what_is_no_candidate_is_not_built(device):
    tuned.keep("opencl-direct", direct.tuned_key(device), SPEC, replace(ENTRY, settings=Tile(15, 7, 16, 1).settings))
    with direct.prepare(SPEC, device) as p:
        assert p.tuned == {}


def test_the_key_tells_device_driver_units_and_kernels(device):
    key = direct.tuned_key(device)
    assert set(key) >= {"device", "driver_version", "platform", "compute_units", "kernels"}


def test_two_candidates_of_the_device_are_verified_and_timed(device):
    """The default and another: verified on all tails, timed by turns, one chosen."""
    names = {"PYTHONPATH": os.pathsep.join(sys.path)}
    code = "import sys; from harness.cli import main; main(sys.argv[1:], prog_name='convproof')"
    words = ["tune", "topology-lenet-c3", "-b", "opencl-direct", "--device", device, "--threads", "1", "--budget", "1s"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=300, check=False, env=os.environ | names
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 verified and timed in all" in done.stdout, done.stdout
    assert "0 candidates thrown out" in done.stdout
