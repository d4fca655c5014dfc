"""asv: the suite, its parameters, stored runs as its results, and the gate around `asv publish`."""

import json
import math
import os
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.catalogue import load_catalogue, packaged_files
from harness.cli.asv_export import command
from harness.records import Job, Record, Status, Verdict
from harness.samples import Series, Timing
from harness.store import RunInfo, Store
from reports import asv, asv_files
from reports.benchmarks import generate, parameters, publish
from reports.benchmarks.subject import NotVerified, prepared

ROOT = Path(__file__).parent.parent
KNOWN = {c.id: c for c in load_catalogue(packaged_files()).cases}


def label(case):
    return parameters.labelled(case, KNOWN[case].version)


def run(*line, cwd=None, **kwargs):
    return subprocess.run(list(map(str, line)), cwd=cwd, capture_output=True, text=True, check=False, **kwargs)


# --- the parameters -----------------------------------------------------------------------------------------------


def test_parameters_are_those_of_catalogue_and_registry():
    """`python -m reports.benchmarks.generate` would change nothing."""
    assert parameters.FILE.read_text() == generate.current().text()


def test_every_parameter_carries_the_version_of_its_case():
    """An edited case has another id, and so begins another series."""
    for text in parameters.read().cases:
        case, version = parameters.parted(text)
        assert version == KNOWN[case].version
        assert re.fullmatch(r"[0-9a-f]{16}", version)


def test_the_suite_can_be_listed_where_the_harness_cannot_be_imported():
    """asv lists the benchmarks at commits whose harness lacks a part, or breaks."""
    code = (
        "import sys; sys.modules['harness'] = None; sys.path.insert(0, 'reports');"
        "import benchmarks.benchmarks as b, benchmarks.generate, benchmarks.publish, benchmarks.subject;"
        "print(len(b.Convolution.params[0]), 'reports' in sys.modules)"
    )
    done = run(sys.executable, "-c", code, cwd=ROOT)
    assert done.stdout.split() == [str(len(parameters.read().cases)), "False"], done.stderr


def test_asv_installs_what_the_package_needs_at_the_pinned_versions():
    """The build resolves no dependencies, so the matrix holds them all; what computes is pinned as in constraints.txt."""
    settings = publish.config(ROOT / "asv.conf.json")
    held = {name.lower(): versions for name, versions in settings["matrix"]["req"].items()}
    pins = dict(re.findall(r"(?m)^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text().lower()))
    assert {n.lower(): [pins[n.lower()]] for n in asv.COMPUTES} == {n.lower(): held[n.lower()] for n in asv.COMPUTES}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.match(r"[\w.-]+", d)[0].lower() for d in project["dependencies"]}
    assert needed <= set(held)
    assert settings["branches"]


# --- a benchmark's subject ----------------------------------------------------------------------------------------

CONV = "perf-tcn-block-d1"

TELLTALES = '''
import numpy as np
from harness.backend import Limits, Unsupported, from_function

from tests_right import right

calls = {"late": 0}


def late(spec, x, w, b):
    """Right until it has been verified."""
    y = right(spec, x, w, b)
    calls["late"] += 1
    if calls["late"] > 2:
        y[0, 0, 0] += 1
    return y


def unfinished(spec, x, w, b):
    raise NotImplementedError("to be done")


late, unfinished = from_function("late", late), from_function("unfinished", unfinished)


class _Refusing:
    info = late.info

    def probe(self):
        return late.probe()

    def workspace_bytes(self, spec):
        return 0

    def prepare(self, spec, device):
        raise Unsupported("not on a Monday")


refusing = _Refusing()
'''


@pytest.fixture
def telltales(tmp_path, monkeypatch):
    """A file of backends, each with a fault of its own."""
    (tmp_path / "tests_right.py").write_text(
        "from backends.im2col import backend\nimport numpy as np\n"
        "def right(spec, x, w, b):\n"
        "    out = np.empty(spec.out_shape, np.float32)\n"
        "    with backend.prepare(spec, 'cpu') as work:\n        work.run(x, w, b, out)\n"
        "    return out\n"
    )
    (tmp_path / "telltales.py").write_text(TELLTALES)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "telltales.py"


def test_a_right_backend_is_measured():
    """It runs, its error is within the bound, and what it wrote last is judged."""
    subject = prepared(label(CONV), "im2col", 1, 1)
    subject.ready()
    subject.run()
    subject.confirm()
    assert 0 < subject.error <= 1
    assert subject.flops == KNOWN[CONV].spec.flops


def test_a_wrong_backend_has_no_figure():
    """`setup` raises what asv shows as failed, not what it shows as n/a."""
    with pytest.raises(NotVerified, match="is FAIL under integers"):
        prepared(label(CONV), "backends.planted:flipped_kernel", 1, 1)


def test_a_backend_that_goes_wrong_while_it_is_timed_has_no_figure(telltales):
    """The output that was timed last is judged."""
    subject = prepared(label(CONV), f"{telltales}:late", 1, 1)
    subject.ready()
    subject.run()
    with pytest.raises(NotVerified, match="timed last is FAIL"):
        subject.confirm()


def test_a_call_that_is_not_implemented_is_a_failure(telltales):
    """asv takes NotImplementedError for n/a: a backend's own is not let through."""
    with pytest.raises(NotVerified, match="to be done"):
        prepared(label(CONV), f"{telltales}:unfinished", 1, 1)


@pytest.mark.parametrize(
    ("what", "backend", "reason"),
    [
        (label("perf-vgg16-pool3"), "winograd", "does not take"),
        (f"{CONV}@0123456789abcdef", "im2col", "another case"),
        ("perf-no-such@0123456789abcdef", "im2col", "has no case"),
        (label(CONV), "nosuch", "has no backend"),
    ],
)
def test_what_a_commit_does_not_have_is_not_applicable(what, backend, reason):
    """Neither a case of other content nor one that is not taken is given another's figure."""
    with pytest.raises(NotImplementedError, match=reason):
        prepared(what, backend, 1, 1)


def test_what_prepare_refuses_is_not_applicable(telltales):
    with pytest.raises(NotImplementedError, match="not on a Monday"):
        prepared(label(CONV), f"{telltales}:refusing", 1, 1)


# --- stored runs --------------------------------------------------------------------------------------------------


@pytest.fixture
def repo(tmp_path):
    """A repository of two commits."""
    place = tmp_path / "repo"
    place.mkdir()
    for words in (["init", "-q", "-b", "main"], ["config", "user.name", "a"], ["config", "user.email", "a@example.org"]):
        assert run("git", *words, cwd=place).returncode == 0
    for number in (1, 2):
        (place / "file").write_text(str(number))
        assert run("git", "add", "-A", cwd=place).returncode == 0
        assert run("git", "commit", "-q", "-m", str(number), cwd=place).returncode == 0
    return place


def head(repo, name="HEAD"):
    return run("git", "rev-parse", name, cwd=repo).stdout.strip()


def fabricated(path, git=None, timings=True, errors=(0.25, math.inf)):
    """A store with a run: a figure, a failure, a refusal, one that is not taken, one with an infinite error."""
    environment = {"machine": {"python": "3.11.2 (CPython)", "processor": "P", "cores": "2 usable of 2"}}
    environment |= {"packages": {"numpy": "2.4.6"}} | ({"git": git} if git else {})
    series = (Series("wall", "warm", 0, tuple(0.001 + i * 1e-6 for i in range(40))),)
    rows = [
        ("fast", Verdict(Status.PASS, compared=1, error_bound=errors[0]), {"series": series}),
        ("wrong", Verdict(Status.FAIL, compared=1, error_bound=7.0), {"series": series}),
        ("noisy", Verdict(Status.PASS, compared=1, error_bound=0.5), {"refused": "beyond the roof", "series": series}),
        ("absent", Verdict(Status.UNSUPPORTED, "no"), {"refused": "not taken"}),
        ("odd", Verdict(Status.PASS, compared=1, error_bound=errors[1]), {"series": series}),
    ]
    with Store.open(path) as store:
        begun = store.begin(RunInfo(seed=1, command=("convproof", "bench"), environment=environment, host="P x 2"))
        for backend, verdict, more in rows:
            store.write(begun, [Record(Job("perf-a", backend, "cpu", "zero_mean"), verdict, digest="d1")])
            if timings:
                store.write_timing(begun, Timing("perf-a", backend, "cpu", flops=10**6, digest="d1", **more))
        store.finish(begun, 1, 1.0)


def export(store, repo, *words):
    return CliRunner().invoke(command, ["last", "--repo", str(repo), *map(str, words)], env={"CONVPROOF_STORE": str(store)})


def exported(repo):
    """The values of the one file of results: benchmark -> backend -> value, and the file."""
    (path,) = [p for p in (repo / ".asv" / "results").glob("*/*.json") if p.name != "machine.json"]
    data = json.loads(path.read_text())
    found = {}
    for name, row in data["results"].items():
        assert row[1][0] == ["'perf-a@d1'"]
        found[name] = dict(zip([b.strip("'") for b in row[1][1]], row[0], strict=True))
    return found, data, path


def test_a_run_becomes_results_of_its_commit(repo, tmp_path):
    """A figure is a number, a failure null, what does not exist NaN; Infinity is never written."""
    fabricated(tmp_path / "s.sqlite", {"commit": head(repo), "date": 1767268800000, "dirty": False})
    done = export(tmp_path / "s.sqlite", repo)
    assert done.exit_code == 0, done.output
    found, data, path = exported(repo)
    assert (data["commit_hash"], data["date"], data["version"]) == (head(repo), 1767268800000, 2)
    assert path.name == f"{head(repo)[:8]}-convproof-py3.11-threads1-numpy2.4.6.json"
    times, rates, errors = (found[asv_files.PREFIX + n] for n in ("time", "gflops", "error"))
    assert times["fast"] == pytest.approx(0.0010195)
    assert rates["fast"] == pytest.approx(1e6 / 0.0010195 / 1e9)
    assert errors["fast"] == 0.25
    assert times["wrong"] is rates["wrong"] is errors["wrong"] is None
    assert (times["noisy"], rates["noisy"], errors["noisy"]) == (None, None, 0.5)
    assert all(math.isnan(v["absent"]) for v in (times, rates, errors))
    assert math.isnan(errors["odd"])
    assert "Infinity" not in path.read_text()


def test_results_of_a_commit_are_joined(repo, tmp_path):
    """A second run of the commit replaces what it measured again and keeps the rest; its parameters are listed."""
    git = {"commit": head(repo), "date": 0, "dirty": False}
    fabricated(tmp_path / "s.sqlite", git)
    export(tmp_path / "s.sqlite", repo)
    with Store.open(tmp_path / "s.sqlite") as store:
        row = store.info("last")
        begun = store.begin(RunInfo(seed=1, environment=row.info.environment, host=row.info.host))
        store.write(begun, [Record(Job("perf-a", "new", "cpu", "zero_mean"), Verdict(Status.PASS, error_bound=0.1))])
        store.write_timing(begun, Timing("perf-a", "new", "cpu", (Series("wall", "warm", 0, (2.0,) * 9),), digest="d1"))
    assert export(tmp_path / "s.sqlite", repo).exit_code == 0
    found, _, path = exported(repo)
    assert found[asv_files.PREFIX + "time"]["new"] == 2.0
    assert found[asv_files.PREFIX + "time"]["fast"] == pytest.approx(0.0010195)
    listed = path.parent.parent / "benchmarks.json"
    assert "'new'" in json.loads(listed.read_text())[asv_files.PREFIX + "time"]["params"][1]
    # `asv run` writes the list anew, with its own benchmarks alone.
    listed.write_text(json.dumps({"mine": {"name": "mine", "params": []}, "version": 2}))
    asv_files.list_benchmarks(path.parent.parent)
    assert set(json.loads(listed.read_text())) == {"mine", "version", *asv_files.BENCHMARKS}


def test_an_edited_case_begins_another_series(repo, tmp_path):
    """The id carries the digest that the run stored."""
    assert asv.case_label("perf-a", "d1") != asv.case_label("perf-a", "d2")


def test_a_run_without_timings_is_refused(repo, tmp_path):
    fabricated(tmp_path / "s.sqlite", {"commit": head(repo), "date": 0, "dirty": False}, timings=False)
    done = export(tmp_path / "s.sqlite", repo)
    assert done.exit_code == 2
    assert "has no timings" in done.output


def test_changes_that_were_not_committed_are_refused(repo, tmp_path):
    fabricated(tmp_path / "s.sqlite", {"commit": head(repo), "date": 0, "dirty": True})
    done = export(tmp_path / "s.sqlite", repo)
    assert done.exit_code == 2
    assert "with changes" in done.output
    assert export(tmp_path / "s.sqlite", repo, "--dirty-ok").exit_code == 0


def test_a_shallow_clone_is_refused(repo, tmp_path):
    """asv would publish no regression of it, and call that a success."""
    clone = tmp_path / "clone"
    assert run("git", "clone", "-q", "--depth", "1", repo.as_uri(), clone).returncode == 0
    fabricated(tmp_path / "s.sqlite", {"commit": head(repo), "date": 0, "dirty": False})
    done = export(tmp_path / "s.sqlite", clone)
    assert done.exit_code == 2
    assert "shallow" in done.output
    (tmp_path / "asv.conf.json").write_text(json.dumps({"repo": "clone", "branches": ["main"], "results_dir": "r"}))
    assert publish.main(["--config", str(tmp_path / "asv.conf.json")]) == 2


def test_a_run_that_does_not_say_its_commit_needs_one(repo, tmp_path):
    """A name that is given must be the one that was measured, where that is known."""
    fabricated(tmp_path / "s.sqlite")
    assert "--commit" in export(tmp_path / "s.sqlite", repo).output
    assert "has no commit 'nosuch'" in export(tmp_path / "s.sqlite", repo, "--commit", "nosuch").output
    assert export(tmp_path / "s.sqlite", repo, "--commit", "HEAD~1").exit_code == 0
    assert exported(repo)[1]["commit_hash"] == head(repo, "HEAD~1")
    fabricated(tmp_path / "t.sqlite", {"commit": head(repo), "date": 0, "dirty": False})
    assert "not" in export(tmp_path / "t.sqlite", repo, "--commit", "HEAD~1").output
    fabricated(tmp_path / "u.sqlite", {"commit": "0" * 40, "date": 0, "dirty": False})
    assert "has no commit" in export(tmp_path / "u.sqlite", repo).output


# --- the gate -----------------------------------------------------------------------------------------------------


def settings(folder, **more):
    held = {"project": "p", "repo": "repo", "branches": ["main"], "results_dir": "repo/.asv/results", "html_dir": "html"} | more
    (folder / "asv.conf.json").write_text("// asv allows comments\n" + json.dumps(held | {"version": 1}))
    return ["--config", str(folder / "asv.conf.json")]


@pytest.mark.parametrize("word", ["Infinity", "-Infinity", "1e999"])
def test_infinity_is_not_published(repo, tmp_path, capsys, word):
    """asv would go on allocating memory."""
    fabricated(tmp_path / "s.sqlite", {"commit": head(repo), "date": 0, "dirty": False})
    export(tmp_path / "s.sqlite", repo)
    path = exported(repo)[2]
    path.write_text(path.read_text().replace("0.25", word))
    assert publish.main(settings(tmp_path)) == 2
    assert word in capsys.readouterr().err


def test_results_on_no_branch_are_not_published(repo, tmp_path, capsys):
    fabricated(tmp_path / "s.sqlite", {"commit": head(repo), "date": 0, "dirty": False})
    assert publish.main(settings(tmp_path)) == 2
    assert "no results" in capsys.readouterr().err
    export(tmp_path / "s.sqlite", repo)
    assert publish.main(settings(tmp_path, branches=[])) == 2
    assert "names no branch" in capsys.readouterr().err
    assert run("git", "branch", "old", "HEAD~1", cwd=repo).returncode == 0
    assert publish.main(settings(tmp_path, branches=["old"])) == 2
    assert "none of the 1 commits" in capsys.readouterr().err


def test_failures_at_the_newest_commit_are_told(repo, tmp_path):
    """Where all have failed nothing rises, and asv publishes no regression; what failed before does not count."""
    fabricated(tmp_path / "s.sqlite", {"commit": head(repo, "HEAD~1"), "date": 0, "dirty": False})
    export(tmp_path / "s.sqlite", repo)
    settings(tmp_path)
    gate = publish.config(tmp_path / "asv.conf.json")
    state = publish.checked(gate, tmp_path)
    assert {text.partition(" at ")[0] for text in state.failed} == {
        *(f"convproof.{n}('perf-a@d1', 'wrong')" for n in ("time", "gflops", "error")),
        *(f"convproof.{n}('perf-a@d1', 'noisy')" for n in ("time", "gflops")),
    }
    place = asv_files.Place({"machine": "m"}, "3.11", {}, "1")
    right = {asv_files.PREFIX + "time": {("'perf-a@d1'", "'wrong'"): asv_files.Value(1.0)}}
    asv_files.write(repo / ".asv" / "results", place, asv_files.Commit(head(repo), 1), right, 0)
    assert publish.checked(gate, tmp_path) == publish.State("2 commits", ())


needs_asv = pytest.mark.skipif(find_spec("asv") is None, reason="asv is not installed: pip install 'asv==0.6.6'")


@needs_asv
def test_asv_finds_the_suite_in_order(tmp_path):
    """`asv check` imports it and finds no problem."""
    env = os.environ | {"HOME": str(tmp_path)}
    done = run(sys.executable, "-m", "asv", "check", "-E", f"existing:{sys.executable}", cwd=ROOT, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No problems found" in done.stdout


@needs_asv
def test_the_gate_tells_a_rise_from_none(repo, tmp_path, capfd, monkeypatch):
    """Twelve commits: times that stay end with 0; times that double, and GFLOP/s that fall with them, with 1."""
    monkeypatch.setenv("HOME", str(tmp_path))
    place = asv_files.Place({"machine": "m"}, "3.11", {}, "1")
    for number in range(12):
        (repo / "file").write_text(f"commit {number}")
        assert run("git", "commit", "-qam", str(number), cwd=repo).returncode == 0
        at = {(f"'perf-{name}@d'", "'b'"): seconds for name, seconds in (("same", 1.0), ("slow", 1.0 + (number >= 6)))}
        values = {asv_files.PREFIX + "time": {k: asv_files.Value(v) for k, v in at.items()}}
        values[asv_files.PREFIX + "gflops"] = {k: asv_files.Value(1 / v) for k, v in at.items()}
        values[asv_files.PREFIX + "error"] = {k: asv_files.Value(0.5) for k in at}
        asv_files.write(repo / ".asv" / "results", place, asv_files.Commit(head(repo), 1767268800000 + number), values, 0)
    ours = publish.config(ROOT / "asv.conf.json")
    shown = {"regressions_first_commits": ours["regressions_first_commits"]}
    assert publish.main(settings(tmp_path, **shown)) == 1
    assert re.findall(r"(?m)^REGRESSION (\S+)", capfd.readouterr().out) == ["convproof.time('perf-slow@d',"]
    ignored = {"regressions_first_commits": {".*": None}}
    assert publish.main(settings(tmp_path, **ignored)) == 0
    values = {asv_files.PREFIX + "time": {("'perf-same@d'", "'b'"): asv_files.Value(None)}}
    asv_files.write(repo / ".asv" / "results", place, asv_files.Commit(head(repo), 1767268800012), values, 0)
    assert publish.main(settings(tmp_path, **ignored)) == 1
    assert "FAILED convproof.time('perf-same@d', 'b')" in capfd.readouterr().out
