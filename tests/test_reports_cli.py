"""`verify --junit --markdown --html` and `report`: written where asked, refused before anything runs."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import harness.cli.outputs
from harness.checks import Trial
from harness.cli.errors import UsageProblem
from harness.cli.outputs import PICTURES, Outputs
from harness.data import Operands
from harness.records import Job, Record, Status, Verdict
from harness.spec import ConvSpec
from harness.store import Store

BACKENDS = """
import itertools
import numpy as np
from harness.backend import Limits, from_function

def right(spec, x, w, b):
    x = np.pad(x, [(0, 0), (0, 0), *spec.padding])
    y = np.zeros(spec.out_shape, x.dtype)
    for tap in itertools.product(*map(range, spec.kernel_size)):
        axes = zip(tap, spec.dilation, spec.out_size, spec.stride, strict=True)
        view = x[(..., *(slice(t * d, t * d + (n - 1) * s + 1, s) for t, d, n, s in axes))]
        y += np.einsum("nc...,oc->no...", view, w[(..., *tap)])
    return y if b is None else y + b.reshape(-1, *(1,) * spec.rank)

def wrong(spec, x, w, b):
    y = right(spec, x, w, b)
    y[..., -1] = 0
    return y

limits = Limits(ops=("conv",), dtypes=("f32",), padding_modes=("zeros",), groups=False, flip=False, negative_padding=False)
good, bad = from_function("good", right, limits), from_function("bad", wrong, limits)
"""


@pytest.fixture
def project(tmp_path):
    """A folder with backends, and how the command is run there."""
    (tmp_path / "own.py").write_text(BACKENDS)

    def run(*arguments, **environment):
        known = {**os.environ, "CONVPROOF_STORE": str(tmp_path / "runs.sqlite"), **environment}
        command = [sys.executable, "-m", "harness.cli", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=known, capture_output=True, text=True, timeout=120, check=False)

    run.folder = tmp_path
    return run


@pytest.fixture
def verified(project):
    """The same after a run of a right and a wrong backend, with all reports."""
    named = ("verify", "basic-rank-*", "-b", "own.py:good", "-b", "own.py:bad", "--seed", "7")
    done = project(*named, "--junit", "ci/j.xml", "--markdown", "m.md", "--html", "site/run")
    assert done.returncode == 1, done.stderr
    return project


def test_verify_writes_every_report_and_makes_their_folders(verified):
    root = ET.parse(verified.folder / "ci/j.xml").getroot()
    with Store.open(verified.folder / "runs.sqlite") as store:
        counts = store.info("last").counts
    assert int(root.get("tests")) == sum(counts.values())
    assert int(root.get("failures")) == counts[Status.FAIL]
    assert (verified.folder / "m.md").read_text().startswith("## Convproof: FAIL")
    text = (verified.folder / "site/run/index.html").read_text()
    assert text.count("data:image/png;base64,") >= 3
    assert "own.py:bad --check" in text


def test_report_writes_a_stored_run_again_pictures_aside(verified):
    assert verified("report", "--junit", "again.xml", "--html", "again").returncode == 0
    assert (verified.folder / "again.xml").read_text() == (verified.folder / "ci/j.xml").read_text()
    text = (verified.folder / "again/index.html").read_text()
    assert "data:image/png" not in text
    assert "basic-rank-3d" in text


def test_report_without_options_prints_markdown(verified):
    done = verified("report", "last")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (verified.folder / "m.md").read_text()


@pytest.mark.parametrize("suffix", ["parquet", "csv", "sqlite"])
def test_report_reads_an_exported_run(verified, suffix):
    file = f"runs.{suffix}"
    if suffix != "sqlite":
        pytest.importorskip("pyarrow", reason="exports need the extra `reports`")
        assert verified("runs", "export", "last", file).returncode == 0
    done = verified("report", file, "--junit", "-", CONVPROOF_STORE="nowhere.sqlite")
    assert done.returncode == 0, done.stderr
    made, stored = ET.fromstring(done.stdout), ET.parse(verified.folder / "ci/j.xml").getroot()
    counted = ("tests", "failures", "errors", "skipped", "time")
    assert [made.get(n) for n in counted] == [stored.get(n) for n in counted]
    figures = [[p.get("value") for p in t.iter("property")] for t in made.iter("testcase")]
    assert figures == [[p.get("value") for p in t.iter("property")] for t in stored.iter("testcase")]


def test_markdown_to_standard_output_leaves_nothing_else_there(project):
    done = project("verify", "basic-rank-1d", "-b", "own.py:good", "--markdown", "-")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("## Convproof: PASS\n")
    assert "PASS: " in done.stderr


def test_the_step_summary_of_github_is_appended_to(project):
    file = project.folder / "summary.md"
    file.write_text("before\n")
    named = ("verify", "basic-rank-1d", "-b", "own.py:good", "--markdown", str(file))
    assert project(*named, GITHUB_STEP_SUMMARY=str(file)).returncode == 0
    assert file.read_text().startswith("before\n## Convproof: PASS")
    assert project(*named).returncode == 0
    assert file.read_text().startswith("## Convproof: PASS")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--junit", "own.py/j.xml"), "--junit own.py/j.xml: "),
        (("--junit", "."), "--junit .: Is a directory; name a file that can be written"),
        (("--markdown", "/proc/nothing/m.md"), "--markdown /proc/nothing/m.md: "),
        (("--html", "own.py"), "--html own.py: "),
        (("--html", "/proc/nothing"), "name a folder that can be written"),
        (("--json", "-", "--markdown", "-"), "--json and --markdown both want standard output"),
        (("--junit", "-", "--in-process"), "--junit - and --in-process exclude each other"),
        (("--html", "site", "--list"), "--html writes verdicts, --list makes none"),
    ],
)
def test_what_cannot_be_written_is_said_before_anything_runs(project, arguments, words):
    done = project("verify", "basic-rank-1d", "-b", "own.py:good", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (project.folder / "runs.sqlite").exists()


def options(**given):
    return {"junit_file": None, "markdown_file": None, "html_folder": None} | given


def test_looking_whether_a_file_can_be_written_leaves_none(tmp_path):
    Outputs(
        options(junit_file=str(tmp_path / "new/j.xml"), markdown_file=str(tmp_path / "m.md"), html_folder=str(tmp_path / "h"))
    )
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_page_without_jinja_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(harness.cli.outputs, "find_spec", lambda name: None)
    with pytest.raises(UsageProblem, match=r"--html needs jinja2: pip install 'convproof\[reports\]'"):
        Outputs(options(html_folder=str(tmp_path)))


TRIAL = Trial(ConvSpec("max_pool", (3,), (3,)), Operands(np.zeros((1, 1, 3))), np.zeros((1, 1, 1)))


def test_a_few_failures_a_backend_are_kept_each_of_another_case(tmp_path):
    outputs = Outputs(options(html_folder=str(tmp_path)))
    for backend in ("a", "b"):
        for i in range(10):
            for check in ("x", "y"):
                outputs.keep(Record(Job(f"case-{i}", backend, "cpu", check), Verdict(Status.FAIL)), TRIAL)
    assert {b: [r.job.check for r, *_ in held.values()] for b, held in outputs._kept.items()} == {
        b: ["x"] * PICTURES for b in ("a", "b")
    }


def test_without_a_page_nothing_is_kept(tmp_path):
    outputs = Outputs(options(junit_file=str(tmp_path / "j.xml")))
    outputs.keep(Record(Job("c", "a", "cpu", "x"), Verdict(Status.FAIL)), TRIAL)
    assert not outputs._kept
