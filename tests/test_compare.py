"""`convproof compare`: two sides by turns, two stored runs, and equal sides."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from timed_backends import reference

from harness.catalogue import load_catalogue
from harness.cli import main
from harness.run.limits import Limits
from harness.samples import Series, Timing
from harness.spec import ConvSpec
from harness.store import RunInfo, Store, load
from harness.timing.child import Timed
from harness.timing.compare import Comparison, Trial, _info
from harness.timing.process import Side, SideProblem
from harness.timing.rule import Finding
from harness.timing.sides import PREFIX, worktree
from harness.timing.stored import stored_changes

LIMITS = Limits(seconds=10.0, threads=1)
CASE = next(c for c in load_catalogue().cases if c.id == "basic-rank-2d")
FEW = Trial(pairs=3, samples=5, seconds=0.3)
QUICK = ("--pairs", "3", "--samples", "5", "--time", "1s", "--seed", "4")


@pytest.fixture
def store(tmp_path, monkeypatch):
    path = tmp_path / "runs.sqlite"
    monkeypatch.setenv("CONVPROOF_STORE", str(path))
    monkeypatch.chdir(tmp_path)
    return path


def compare(*words):
    return CliRunner().invoke(main, ["compare", *words])


def found(before, after, trial=FEW):
    made = Comparison(Side("a", reference(before)), Side("b", reference(after)), [CASE], LIMITS, trial, seed=1)
    return {c.quantity: c for c in made.changes()}, made


def test_a_backend_that_computes_twice_is_slower_twice_over():
    changes, made = found("right", "twice")
    time = changes["time"]
    assert time.finding is Finding.SLOWER, time
    assert time.ratio.value > 1.3
    assert time.clock == "cpu"
    assert "measured twice" in time.note
    assert changes["error"].finding is Finding.SAME
    assert changes["error"].ratio.value == 1.0
    timings = list(made.timings())
    assert [t.backend for t in timings] == ["a", "b"]
    assert len(timings[0].of("wall")) in (3, 6, 9)


def test_the_class_of_a_backend_that_chooses_reaches_the_judge():
    """Through the lines of JSON that a timed process writes."""
    told = json.loads(json.dumps(Timed(-1).load("backends.opencl.auto:backend")))
    info = _info(told)
    dense, other = ConvSpec("conv", (9, 9), (3, 3)), ConvSpec("conv", (9, 9), (5, 5))
    assert [str(info.algorithm_for(s)) for s in (dense, other)] == ["winograd F(4,3)", "direct"]
    assert [info.taint_for(s) for s in (dense, other)] == ["tile", "exact"]


def test_equal_sides_raise_no_alarm():
    changes, _ = found("right", "right")
    assert changes["time"].finding in (Finding.SAME, Finding.INCONCLUSIVE)


def test_a_planted_slowdown_is_found():
    changes, _ = found("right", "right", Trial(pairs=3, samples=5, seconds=0.5, slower=0.8))
    assert changes["time"].finding is Finding.SLOWER, changes["time"]
    assert changes["time"].ratio.value == pytest.approx(1.8, rel=0.3)


def test_lost_bits_are_less_accurate_though_they_are_within_the_bound():
    changes, _ = found("right", "coarse")
    assert changes["error"].finding is Finding.LESS_ACCURATE, changes["error"]
    assert changes["error"].ratio.value > 2


@pytest.mark.parametrize(
    ("after", "finding", "text"),
    [
        ("wrong", Finding.WRONG, "b, before the timing: "),
        ("later", Finding.WRONG, "b, "),
        ("dies", Finding.WRONG, "exited with code 3"),
        ("raises", Finding.WRONG, "RuntimeError: tired"),
        ("refuses", Finding.NOT_COMPARED, "b does not take it: op conv is not among max_pool"),
    ],
)
def test_the_time_of_what_is_wrong_or_refused_is_not_compared(after, finding, text):
    changes, _ = found("right", after)
    assert changes["time"].finding is finding, changes["time"]
    assert text in changes["time"].note
    assert "error" not in changes


def test_time_that_is_spent_waiting_is_seen():
    changes, _ = found("waits1", "waits3")
    assert changes["time"].clock == "wall"
    assert changes["time"].finding is Finding.SLOWER, changes["time"]


def test_a_side_that_cannot_be_loaded_is_said_with_its_cause():
    with pytest.raises(SideProblem, match=r"b: .* cannot be loaded there: .*no 'nobody'"):
        found("right", "nobody")


def test_the_command_stores_prints_and_exits_by_what_it_found(store):
    result = compare(reference("right"), reference("twice"), "basic-rank-2d", *QUICK, "--json", "c.json")
    assert result.exit_code == 1, result.output
    assert "SLOWER" in result.output
    told = json.loads(Path("c.json").read_text())
    assert [c["finding"] for c in told["changes"]] == ["SLOWER", "SAME"]
    run = load("last")
    assert dict(zip(run.verdicts.check, run.verdicts.status, strict=True)) == {"compare_time": "FAIL", "compare_error": "PASS"}
    assert run.info["environment"]["kind"] == "compare"
    assert len(run.timings) == 2
    pairs = len(run.samples.query("metric == 'cpu'").process.unique())
    assert pairs in (3, 6, 9)  # more where the first did not tell, as on a busy machine


def test_equal_sides_pass(store):
    result = compare(reference("right"), reference("right"), "basic-rank-2d", *QUICK)
    assert result.exit_code == 0, result.output
    assert "PASS:" in result.output


def git(folder, *words):
    found = subprocess.run(
        ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@t", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout.strip()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Two commits of a backend: the second computes four times."""
    top = tmp_path / "repo"
    top.mkdir()
    git(top, "init", "-q", "-b", "main")
    here = Path(__file__).parent
    code = "import sys\nsys.path.insert(0, {here!r})\nfrom runner_backends import LIMITS, compute\n"
    code += "from harness.backend import from_function\n\n\ndef fn(spec, x, w, b):\n    for _ in range({times}):\n"
    code += "        y = compute(spec, x, w, b)\n    return y\n\n\nbackend = from_function('mine', fn, LIMITS)\n"
    for times in (1, 4):
        (top / "kernels.py").write_text(code.format(here=str(here), times=times))
        git(top, "add", ".")
        git(top, "commit", "-q", "-m", f"{times} times")
    monkeypatch.chdir(top)
    monkeypatch.setenv("CONVPROOF_STORE", str(tmp_path / "runs.sqlite"))
    return top


def test_two_commits_are_compared_each_with_its_own_code_and_nothing_is_left(repository):
    (repository / "kernels.py").write_text("the working tree is not what is compared\n")
    result = compare("HEAD~1", "HEAD", "basic-rank-2d", "-b", "kernels.py:backend", *QUICK)
    assert result.exit_code == 1, result.output
    assert "SLOWER" in result.output
    assert git(repository, "worktree", "list").count("\n") == 0
    assert (repository / "kernels.py").read_text().startswith("the working tree")
    labels = [t["backend"] for t in load("last").timings.to_dict("records")]
    assert [label.partition("@")[2] for label in labels] == sorted(
        (git(repository, "rev-parse", c)[:10] for c in ("HEAD~1", "HEAD")), key=labels[0].partition("@")[2].__ne__
    )


def test_a_file_that_a_commit_lacks_is_said(repository):
    (repository / "other.py").write_text((repository / "kernels.py").read_text())
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "another file")
    result = compare("HEAD~1", "HEAD", "basic-rank-2d", "-b", "other.py:backend")
    assert result.exit_code == 2
    assert "other.py is not in that commit" in result.output


def test_code_that_is_not_the_commits_is_refused(repository):
    """`im2col` is installed: each commit would be measured by the same."""
    result = compare("HEAD~1", "HEAD", "basic-rank-2d", "-b", "im2col")
    assert result.exit_code == 2
    assert "which is not in the commit" in result.output
    assert git(repository, "worktree", "list").count("\n") == 0


def test_a_package_of_the_repository_is_each_commits_own_though_it_lies_in_a_folder_that_is_on_the_path(
    repository, monkeypatch
):
    (repository / "lib").mkdir()
    for times in (1, 4):
        text = (repository / "kernels.py").read_text()
        (repository / "lib" / "mykernels.py").write_text(text.replace("range(4)", f"range({times})"))
        git(repository, "add", ".")
        git(repository, "commit", "-q", "-m", "in a folder")
    monkeypatch.syspath_prepend(str(repository / "lib"))
    result = compare("HEAD~1", "HEAD", "basic-rank-2d", "-b", "mykernels:backend", *QUICK)
    assert result.exit_code == 1, result.output
    assert "SLOWER" in result.output


def test_the_checkout_of_a_process_that_was_killed_is_removed_by_the_next(repository, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left = tmp_path / f"{PREFIX}4194305-x"  # beyond the largest process id
    git(repository, "worktree", "add", "-q", "--detach", str(left), "HEAD")
    with worktree("HEAD", repository):
        assert not left.exists()
    assert git(repository, "worktree", "list").count("\n") == 0


def test_a_checkout_is_removed_though_the_comparison_fails(repository):
    commit = git(repository, "rev-parse", "HEAD")
    with pytest.raises(RuntimeError), worktree(commit, repository) as place:  # noqa: PT012
        assert (place / "kernels.py").is_file()
        raise RuntimeError
    assert not place.exists()
    assert git(repository, "worktree", "list").count("\n") == 0


def test_two_interpreters_are_compared(store):
    result = compare(f"python:{sys.executable}", f"python:{sys.executable}", "basic-rank-2d", "-b", reference("right"), *QUICK)
    assert result.exit_code == 0, result.output


# --- stored runs --------------------------------------------------------------------------------------
def stored(path, factor, host="h", seed=1, refused="", digest="d", threads=1, processes=3):
    """A run of one figure, 1 ms times `factor`."""
    series = [
        Series(metric, "warm", n, tuple(1e-3 * factor * (1 + 0.001 * i + 0.002 * n) for i in range(30)))
        for n in range(processes)
        for metric in ("wall", "cpu")
    ]
    with Store.open(path) as store:
        environment = {"kind": "bench", "limits": {"threads": threads}}
        run = store.begin(RunInfo(seed=seed, host=host, environment=environment))
        store.write_timing(
            run, Timing("basic-rank-2d", "mine", "cpu", tuple(series), refused=refused, threads=threads, digest=digest)
        )
        store.finish(run, 0, 1.0)
    return run


@pytest.mark.parametrize(
    ("factor", "code", "text"), [(1.0, 0, "SAME"), (1.2, 1, "SLOWER"), (0.8, 0, "FASTER"), (1.03, 0, "1.030")]
)
def test_stored_runs_are_compared_with_the_newest_earlier_one_of_the_machine(store, factor, code, text):
    stored(store, 1.0)
    stored(store, 9.0, host="another machine")
    stored(store, factor)
    result = compare("last")
    assert result.exit_code == code, result.output
    assert text in result.output
    assert "did not take turns" in result.output


def test_runs_of_two_machines_are_refused(store):
    a, b = stored(store, 1.0), stored(store, 1.0, host="other")
    result = compare(a, b)
    assert result.exit_code == 2
    assert "another machine" in result.output
    assert "no finished benchmark of this machine" in compare(a).output


def test_an_edited_case_and_a_refused_figure_are_not_compared(store):
    a = stored(store, 1.0)
    edited = compare(a, stored(store, 1.0, digest="e"))
    assert edited.exit_code == 3
    assert "the case was edited in between" in edited.output
    refused = compare(a, stored(store, 1.0, refused="FAIL: beyond the roof"))
    assert refused.exit_code == 1
    assert "WRONG" in refused.output


def test_stored_runs_of_other_threads_or_few_processes_are_no_alarm(store):
    a = stored(store, 1.0)
    threads = compare(a, stored(store, 1.5, threads=2))
    assert threads.exit_code == 3
    assert "1 threads before, 2 after" in threads.output
    few = compare(a, stored(store, 1.5, processes=2))
    assert few.exit_code == 0
    assert "fewer than 3 processes" in few.output


def test_an_alarm_of_one_stored_case_in_many_has_to_be_certain_beside_them():
    rng = np.random.default_rng(0)

    def run(n):
        noisy = [Series("wall", "warm", k, tuple(rng.normal(1e-3, 1e-6, 9) * np.exp(rng.normal(0, 0.04)))) for k in range(3)]
        return Timing(f"case-{n}", "b", "cpu", tuple(noisy), threads=2)

    findings = [c.finding for c in stored_changes([run(n) for n in range(300)], [run(n) for n in range(300)])]
    assert findings.count(Finding.SLOWER) + findings.count(Finding.FASTER) <= 3


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), "say what is compared"),
        (("last",), "there is no store"),
        (("nothing-like-this",), "is no stored run, no backend"),
        (("im2col",), "name the other side, too"),
        (("im2col", f"python:{sys.executable}"), "both sides have to be of one kind"),
        (("commit:nope", "commit:nope2"), "repository"),
        (("--aa", "basic-rank-2d"), "--aa compares a backend with itself"),
        (("im2col", "fft", "nosuchcase"), "nosuchcase"),
        (("im2col", "fft", "--instructions", "--clock", "device"), "--instructions takes no times"),
        (("im2col", "fft", "--threads", "999"), "this process may use"),
        (("im2col", "fft", "--json", "/no/such/f.json"), "--json /no/such/f.json"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(store, words, text):
    result = compare(*words)
    assert result.exit_code == 2, result.output
    assert text in result.output
    assert "Traceback" not in result.output


def test_equal_sides_say_what_the_machines_comparisons_are_worth(store):
    few = ("--pairs", "2", "--samples", "3", "--time", "0.2s", "--json", "aa.json")
    result = compare("--aa", "-b", reference("right"), "basic-rank-2d", "--repeats", "2", *few)
    assert "false alarms after one trial" in result.output, result.output
    assert "the smallest slowdown" in result.output
    (told,) = json.loads(Path("aa.json").read_text())
    assert told["final"]["of"] == 2
    planted = compare("--aa", "-b", reference("right"), "basic-rank-2d", "--planted", "90%", *few)
    assert "found a planted +90 %" in planted.output


def test_without_valgrind_instructions_are_not_compared_and_that_is_said(store, monkeypatch):
    monkeypatch.setenv("PATH", str(store.parent))
    result = compare(reference("right"), reference("right"), "basic-rank-2d", "--instructions", "--seed", "1")
    assert result.exit_code == 3, result.output
    assert "not counted: " in result.output
    assert "valgrind" in result.output


def test_the_reports_of_a_comparison_show_its_changes(store):
    compare(reference("right"), reference("twice"), "basic-rank-2d", *QUICK)
    result = CliRunner().invoke(main, ["report", "last", "--markdown", "-"])
    assert result.exit_code == 0, result.output
    assert "SLOWER" in result.output
    assert "basic-rank-2d" in result.output


def test_a_report_shows_what_changed_since_another_benchmark(store):
    before = stored(store, 1.0)
    stored(store, 1.5)
    result = CliRunner().invoke(main, ["report", "last", "--against", before, "--markdown", "-", "--html", "page"])
    assert result.exit_code == 0, result.output
    assert "SLOWER" in result.output
    assert "SLOWER" in Path("page", "index.html").read_text()
    other = stored(store, 1.0, host="other")
    refused = CliRunner().invoke(main, ["report", other, "--against", before])
    assert refused.exit_code == 2
    assert "another machine" in refused.output
