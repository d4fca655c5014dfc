"""`convproof repro` prints and repeats what went wrong in a stored run."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from runner_backends import reference

from harness.cli import main
from harness.records import Status
from harness.store import Store

CASE = "lecture-conv1d-valid"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def command(*words):
    return CliRunner().invoke(main, list(words), prog_name="convproof")


def held(run="last"):
    with Store.open(Path(".convproof/runs.sqlite"), create=False) as store:
        return {r.job: r.verdict for r in store.records(store.resolve(run))}


@pytest.fixture
def failed():
    """A run in which `wrong` fails and `right` passes."""
    result = command("verify", CASE, "-b", reference("wrong"), "-b", reference("right"), "--seed", "11")
    assert result.exit_code == 1
    return {j: v for j, v in held().items() if v.status is Status.FAIL}


def test_a_line_a_failure_is_printed(failed):
    result = command("repro")
    assert result.exit_code == 0
    lines = [shlex.split(line) for line in result.stdout.splitlines()]
    assert [line[line.index("--check") + 1] for line in lines] == [j.check for j in failed]
    assert all(line[:5] == ["convproof", "verify", CASE, "--backend", reference("wrong")] for line in lines)
    assert all(line[-2:] == ["--seed", "11"] for line in lines)


def test_a_printed_line_repeats_the_verdict(failed):
    job, verdict = next((j, v) for j, v in failed.items() if j.check == "zero_mean")
    (line,) = (x for x in command("repro").stdout.splitlines() if "zero_mean" in x)
    assert command(*shlex.split(line)[1:]).exit_code == 1
    assert {j: undiagnosed(v) for j, v in held().items()} == {job: undiagnosed(verdict)}


def undiagnosed(verdict):
    """A verdict without its diagnosis: what else failed in the case helps to find one."""
    return replace(verdict, details={k: v for k, v in verdict.details.items() if k != "diagnosis"})


def test_a_job_is_repeated_with_its_data(failed):
    result = command("repro", "last", CASE, "wrong", "integers")
    assert result.exit_code == 1, result.output
    again = held()
    assert {j.check for j in again} == {"integers"}
    assert all(failed[j] == v for j, v in again.items())


def test_a_case_is_repeated_whole_where_no_check_is_named(failed):
    assert command("repro", "last", CASE, "right").exit_code == 0
    assert {j.backend for j in held()} == {"right"}
    assert len({j.check for j in held()}) > 1


def test_print_runs_nothing(failed):
    before = held()
    result = command("repro", "last", CASE, "wrong", "integers", "--print")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 1
    assert held() == before


def test_arrays_are_kept_where_it_is_asked(failed, tmp_path):
    command("repro", "last", CASE, "wrong", "integers", "--save-arrays", "kept")
    assert len(list((tmp_path / "kept" / CASE).glob("*.npz"))) == 1


def test_a_run_without_failures_says_so():
    assert command("verify", CASE, "-b", reference("right")).exit_code == 0
    result = command("repro")
    assert result.exit_code == 0
    assert result.stdout.startswith("nothing was bad in run ")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["last", CASE], f"{CASE} ran on right, wrong: name one, convproof repro "),
        (["last", "nosuch"], "holds no job nosuch"),
        (["last", CASE, "nosuch"], f"holds no job {CASE} nosuch"),
        (["last", CASE, "wrong", "nosuch"], f"holds no job {CASE} wrong nosuch"),
        (["last~7"], "no run 'last~7'"),
        (["nosuch"], "no run 'nosuch'"),
    ],
)
def test_what_is_not_there_exits_with_2(failed, words, text):
    result = command("repro", *words)
    assert result.exit_code == 2
    assert text in result.stderr
    assert result.stderr.count("\n") == 1


def test_without_a_store_it_exits_with_2():
    result = command("repro")
    assert result.exit_code == 2
    assert result.stderr.startswith("convproof: ")
