"""The gate's own test: what the planted faults promise, what counts as a kill, and that none of the CI subset survives."""

import json
import re
from collections import Counter

import pytest
from click.testing import CliRunner

from backends.opencl.naive import OpenCLNaive
from backends.planted import CLASSES, FAULTS, KINDS
from backends.planted.named import NAMED
from backends.planted.opencl import Mutated, Mutation
from harness.cli import main
from harness.records import Status, Verdict
from harness.registry import BadBackend, load
from harness.selftest import Outcome, Plan, kills, load_faults, selected
from harness.selftest.faults import NoFaults
from harness.selftest.summary import Summary

OPS = ("conv", "conv_transpose", "max_pool", "avg_pool")
OPENCL = [f for f in FAULTS if f.needs == "opencl"]
FAULT = {f.name: f for f in FAULTS}


# --- the faults ---------------------------------------------------------------------------------------------------


def test_there_are_enough_faults_of_every_class_in_numpy_and_in_opencl():
    assert len({f.name for f in FAULTS}) == len(FAULTS) >= 230
    assert len([f for f in OPENCL if f.kind != "equivalent"]) >= 50
    assert {f.cls for f in FAULTS if f.kind != "equivalent"} == set(CLASSES)
    assert {f.kind for f in FAULTS} == set(KINDS)


def test_one_mutation_stands_for_at_most_four_faults_so_that_numbers_are_not_bought_by_parameters():
    files = {"conv.cl", "conv_transpose.cl", "max_pool.cl", "avg_pool.cl", "common.cl"}
    assert max(n for m, n in Counter(f.mutation for f in FAULTS).items() if m not in files) <= 4


def test_a_fault_says_in_a_sentence_what_is_wrong_and_cites_an_issue_where_it_cites():
    for f in FAULTS:
        assert re.fullmatch(r"[^\n{}]+\.", f.what), f.name
        assert re.fullmatch(r"([\w.-]+/[\w.-]+#\d+)?", f.real), f.name


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.name)
def test_a_fault_is_a_backend_that_a_reference_reaches(fault):
    assert load(fault.reference).info.name == fault.name


def test_a_reference_to_no_fault_names_the_nearest():
    with pytest.raises(BadBackend, match="did you mean 'flipped_kernel'"):
        load("backends.planted:fliped_kernel")


def test_every_backend_is_fresh_so_that_no_fault_keeps_state_for_another_run():
    assert load("backends.planted:weights_packed_by_shape") is not load("backends.planted:weights_packed_by_shape")


@pytest.mark.parametrize("fault", OPENCL, ids=lambda f: f.name)
def test_an_opencl_mutation_applies_to_the_kernels_as_they_are(fault):
    wrong, right = fault.make(), OpenCLNaive()
    sources = [(wrong.source(op), right.source(op)) for op in OPS]
    assert any(a != b for a, b in sources) or type(wrong) is not Mutated, "a source differs, or a step of the host"


def test_without_a_mutation_the_kernels_are_the_built_in_ones():
    assert [Mutated("right", "").source(op) for op in OPS] == [OpenCLNaive().source(op) for op in OPS]


def test_a_mutation_whose_words_are_gone_is_an_error_and_no_silent_pass():
    with pytest.raises(ValueError, match=r"holds 'no such words' 0 times, expected 1"):
        Mutation("conv", "no such words", "").applied()


def test_accepted_diagnoses_are_given_for_faults_that_exist():
    assert set(NAMED) <= {f.name for f in FAULTS} | {f.mutation for f in FAULTS}


# --- what counts --------------------------------------------------------------------------------------------------

UNEQUAL = Verdict(Status.FAIL, worst_index=(0,), got=1.0, expected=2.0)
NOT_A_NUMBER = Verdict(Status.FAIL, worst_index=(0,), got=float("nan"), expected=2.0)
UNWRITTEN = Verdict(Status.FAIL, "never written")


@pytest.mark.parametrize(
    ("kind", "by"),
    [
        ("value", {"unequal"}),
        ("nonfinite", {"unequal", "nan"}),
        ("contract", {"unequal", "nan", "unwritten"}),
        ("crash", {"unequal", "nan", "unwritten", "crash", "error"}),
        ("equivalent", {"unequal", "nan", "unwritten", "crash", "error"}),
    ],
)
def test_a_fault_is_killed_by_verdicts_of_its_kind_alone(kind, by):
    verdicts = {
        "unequal": UNEQUAL,
        "nan": NOT_A_NUMBER,
        "unwritten": UNWRITTEN,
        "crash": Verdict(Status.CRASH),
        "error": Verdict(Status.ERROR),
        "pass": Verdict(Status.PASS, got=1.0, expected=1.0),
        "weak": Verdict(Status.WEAK),
        "not run": Verdict(Status.NOT_RUN),
    }
    assert {name for name, v in verdicts.items() if kills(kind, v)} == by


def test_a_later_suite_holds_what_an_earlier_one_killed():
    assert [Outcome("f", "gate").killed_by(s) for s in ("smoke", "gate", "full")] == [False, True, True]
    assert not Outcome("f").killed_by("full")


def summary(*outcomes, **plan):
    return Summary.of([FAULT[o.name] for o in outcomes], outcomes, Plan(**plan))


def test_a_survivor_is_wrong_and_so_is_an_equivalent_mutant_that_is_failed():
    assert summary(Outcome("tf32")).survivors == (FAULT["tf32"],)
    assert not summary(Outcome("tf32", "smoke", "integers"), Outcome("opencl-equivalent-ties")).wrong
    accused = summary(Outcome("opencl-equivalent-ties", "smoke", "integers"))
    assert accused.wrong
    assert "equivalent, and yet failed: opencl-equivalent-ties" in accused.lines()


def test_what_could_not_be_tried_is_counted_apart_and_not_as_killed():
    found = summary(Outcome("tf32", "smoke", "integers"), Outcome("opencl-flip-ignored", unavailable="no driver"))
    assert found.rate("smoke") == "1 of 1 (100.0 %)"
    assert found.lines()[-1] == "1 faults could not be tried"


def test_the_page_has_a_line_a_fault_and_names_what_one_check_alone_kills():
    text = summary(
        Outcome("tf32", "smoke", "integers", "basic-type-f32", {"integers": 3}),
        Outcome("four-bits", "gate", "identity", "edge-1"),
    ).markdown()
    assert "| integers | tf32 |" in text
    assert "identity (gate: edge-1)" in text
    assert "smoke: 1 of 2 (50.0 %)" in text


def test_a_diagnosis_counts_where_one_of_its_ids_is_accepted():
    right = Outcome("flipped-kernel", "smoke", "integers", diagnosis=("flipped_kernel",))
    wrong = Outcome("tf32", "smoke", "integers", diagnosis=("flipped_kernel",))
    assert summary(right, wrong, diagnose=True).diagnosed() == "diagnosed rightly: 1 of 2 (50.0 %); without a diagnosis: 0"


def test_faults_are_selected_by_class_and_name_and_what_fits_none_is_refused():
    assert {f.cls for f in selected(FAULTS, classes=["tail"])} == {"TAIL"}
    assert [f.name for f in selected(FAULTS, globs=["tf3*"])] == ["tf32"]
    with pytest.raises(NoFaults, match="there is no class 'NOSUCH'"):
        selected(FAULTS, classes=["nosuch"])
    with pytest.raises(NoFaults, match="no fault is called 'nosuch\\*'"):
        selected(FAULTS, globs=["nosuch*"])


def test_the_faults_are_found_by_entry_point():
    assert [f.name for f in load_faults()] == [f.name for f in FAULTS]


# --- the gate -----------------------------------------------------------------------------------------------------


def test_the_ci_subset_has_every_class_and_none_of_it_survives(tmp_path):
    assert {f.cls for f in FAULTS if f.ci} == set(CLASSES)
    file = tmp_path / "outcomes.json"
    result = CliRunner().invoke(main, ["selftest", "--ci", "--json", str(file)])
    assert result.exit_code == 0, result.output[-2000:]
    outcomes = {o["name"]: o["suite"] for o in json.loads(file.read_text())}
    assert outcomes == {f.name: "" if f.kind == "equivalent" else "smoke" for f in FAULTS if f.ci}


def test_a_survivor_ends_the_command_with_1(monkeypatch):
    import harness.selftest

    monkeypatch.setattr(harness.selftest, "examined", lambda faults, plan, processes: [Outcome(f.name) for f in faults])
    result = CliRunner().invoke(main, ["selftest", "--fault", "tf32", "--suite", "smoke"])
    assert result.exit_code == 1
    assert "survived: tf32 (WINO)" in result.output
