"""`convproof verify`: its exit codes, its words, and what it leaves behind."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from runner_backends import reference

from harness.cli import main
from harness.records import Status
from harness.store import Store

ROOT = Path(__file__).resolve().parent.parent
CASE = "lecture-conv1d-valid"
MINE = """
family: mine
cases:
  - {id: mine-a, op: conv, in_size: [9], kernel_size: [3], why: a small case, source: "hand: for a test"}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A project of its own; no thread count of a test before it."""
    for name in list(os.environ):
        if name.endswith("_NUM_THREADS"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def verify(*words):
    return CliRunner().invoke(main, ["verify", *words], prog_name="convproof")


def shell(line, **options):
    """A command line that was printed, run by a shell from another folder."""
    line = re.sub(r"^convproof ", f"{shlex.quote(sys.executable)} -m harness.cli ", line)
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(line, shell=True, capture_output=True, text=True, check=False, timeout=60, env=env, **options)


def held(run="last"):
    """Job to verdict of a run of the folder's store, clocks aside."""
    with Store.open(Path(".convproof/runs.sqlite"), create=False) as store:
        return {r.job: r.verdict for r in store.records(store.resolve(run))}


# --- exit codes -------------------------------------------------------------------------------------------------


def test_0_where_all_that_was_wanted_passes():
    result = verify(CASE, "-b", reference("right"), "--seed", "5")
    assert result.exit_code == 0, result.output
    last = result.stdout.strip().splitlines()[-1]
    assert re.fullmatch(r"PASS: \d+ PASS  run \S+  seed 5  \d+\.\d s", last)


@pytest.mark.parametrize("name", ["wrong", "foul", "crashing", "odd"])
def test_1_where_something_is_bad(name):
    assert verify(CASE, "-b", reference(name)).exit_code == 1


def test_1_where_a_file_does_not_compile(folder):
    (folder / "broken.py").write_text("def (\n")
    result = verify(CASE, "-b", "broken.py:backend")
    assert result.exit_code == 1
    assert {v.status for v in held().values()} == {Status.ERROR}
    assert "SyntaxError" in result.output


def test_two_files_that_cannot_be_loaded_are_told_apart(folder):
    (folder / "a").mkdir()
    for place in ("k.py", "a/k.py"):
        (folder / place).write_text("raise RuntimeError('no')\n")
    assert verify(CASE, "-b", "k.py:backend", "-b", "a/k.py:backend").exit_code == 1
    assert {j.backend for j in held()} == {f"{folder}/k.py:backend", f"{folder}/a/k.py:backend"}


def test_3_where_nothing_was_verified_and_1_where_that_is_strict():
    assert verify(CASE, "-b", reference("right"), "--budget", "0").exit_code == 3
    assert {v.status for v in held().values()} == {Status.NOT_RUN}
    assert verify(CASE, "-b", reference("right"), "--budget", "0", "--strict").exit_code == 1


def test_3_where_a_backend_that_was_named_is_unavailable(folder):
    result = verify(CASE, "-b", reference("right"), "--require", reference("absent"))
    assert result.exit_code == 3
    assert "backend 'absent' was named and is not available" in result.stdout
    assert "it needs a quantum computer: buy one" in result.stdout
    (folder / "link.py").symlink_to(Path(reference("absent")[: -len(":absent")]))
    assert verify(CASE, "-b", reference("right"), "-b", "./link.py:absent").exit_code == 3


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["gaet"], "no suite, id, glob or file matches 'gaet': did you mean 'gate'?"),
        (["x*"], "no suite, id, glob or file matches 'x*'"),
        (["nosuch.yaml"], "nosuch.yaml: no such file"),
        ([CASE, "-b", "niave"], "unknown backend 'niave'; did you mean 'naive'?"),
        ([CASE, "-b", "nosuch.py:backend"], "there is no file "),
        ([CASE, "-b", "nosuch.py"], "say which object of the file, nosuch.py:NAME"),
        ([CASE, "-b", "nosuch.py:"], "say which object of nosuch.py it is"),
        ([CASE, "-b", reference("right"), "--check", "contrct"], "there is no check 'contrct': did you mean 'contract'?"),
        ([CASE, "-b", reference("right"), "--device", "tpu"], "no device matches 'tpu': the devices are cpu"),
        ([CASE, "-b", reference("naive"), "-b", "naive"], "2 backends are called 'naive'"),
        ([CASE, "-b", reference("spec")], "a backend is called 'spec'"),
        ([CASE, "-b", reference("right"), "--check", "literal", "--json", "nosuch/f"], "--json nosuch/f: No such file"),
        ([CASE, "--json", "-", "--list"], "--json writes verdicts, --list makes none"),
        ([CASE, "--json", "-", "--in-process"], "--json - and --in-process exclude each other"),
        (["--resume", "--last-failed"], "--resume and --last-failed exclude each other"),
        (["--resume"], "no run 'last'"),
        (["--last-failed"], "no run 'last'"),
    ],
)  # fmt: skip
def test_2_and_one_line_with_the_way_out(words, text):
    result = verify(*words)
    assert result.exit_code == 2, result.output
    assert text in result.stderr
    assert result.stderr.startswith("convproof: ")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


@pytest.mark.parametrize("words", [["--budget", "soon"], ["--budget", "-1"], ["--jobs", "0"], ["--seed", "-1"], ["--nonsense"]])
def test_2_where_an_option_cannot_be_read(words):
    assert verify(CASE, *words).exit_code == 2


WRONG_FILES = {
    "no YAML": ("family: mine\ncases: [\n", 3),
    "a schema's violation": (MINE.replace("in_size: [9]", "in_size: nine"), 4),
    "an unknown key": (MINE.replace("op: conv", "op: conv, strid: 2"), 4),
    "a duplicate id": (MINE + MINE.splitlines()[3] + "\n", 5),
    "a taken id": (MINE.replace("mine-a", CASE).replace("family: mine", "family: lecture"), 4),
}


@pytest.mark.parametrize("name", WRONG_FILES)
@pytest.mark.parametrize("way", ["argument", "settings"])
def test_2_where_a_case_file_is_wrong_with_its_line(folder, name, way):
    text, line = WRONG_FILES[name]
    (folder / "mine.yaml").write_text(text)
    if way == "settings":
        (folder / "convproof.toml").write_text("cases = ['mine.yaml']\n")
    result = verify("mine.yaml" if way == "argument" else "mine-*", "-b", reference("right"))
    assert result.exit_code == 2, result.output
    assert re.match(rf"convproof: \S*mine\.yaml:{line}: ", result.stderr), result.stderr
    assert isinstance(result.exception, SystemExit)


def test_2_where_the_store_or_the_settings_cannot_be_used(folder):
    (folder / "convproof.toml").write_text("store = '/proc/nosuch/runs.sqlite'\n")
    result = verify(CASE, "-b", reference("right"))
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "/proc/nosuch/runs.sqlite" in result.stderr
    (folder / "convproof.toml").write_text("store = [\n")
    result = verify(CASE, "-b", reference("right"))
    assert result.exit_code == 2
    assert "convproof.toml is not TOML" in result.stderr


def test_2_where_the_working_directory_is_gone(folder):
    gone = folder / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    result = verify(CASE, "-b", reference("right"))
    assert result.exit_code == 2
    assert "the working directory has been removed" in result.stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_was_cut_short_resumes_to_the_same_end(folder, how):
    """Every field of every verdict but the clocks'; an interrupt exits with 130 and leaves a record a job."""
    (folder / "k.py").write_text(Path(reference("x")[:-2]).read_text(encoding="utf-8"), encoding="utf-8")
    words = ["lecture-conv1d-*", "-b", "k.py:gated", "--seed", "3"]
    assert verify(*words).exit_code == 0
    whole = held()
    (folder / "closed").touch()
    process = started(words)
    process.send_signal(how)
    _, errors = process.communicate(timeout=30)
    cut = held()
    if how is signal.SIGINT:
        assert (process.returncode, "Traceback" in errors) == (130, False)
        assert cut.keys() == whole.keys()
        assert {v.status for v in cut.values()} == {Status.PASS, Status.UNSUPPORTED, Status.NOT_RUN}
    else:
        assert 0 < len(cut) < len(whole)
    assert all(v == whole[j] for j, v in cut.items() if v.status is not Status.NOT_RUN)
    (folder / "closed").unlink()
    result = verify("--resume")
    assert result.exit_code == 0, result.output
    assert held() == whole
    assert verify("--resume").exit_code == 2


def started(words):
    """A run in a process of its own, of whose verdicts the store holds some."""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-m", "harness.cli", "verify", *words]
    with Store.open(Path(".convproof/runs.sqlite"), create=False) as store:
        before = store.resolve("last")
    process = subprocess.Popen(line, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with Store.open(Path(".convproof/runs.sqlite"), create=False) as store:
            if store.resolve("last") != before and store.info("last").counts.get(Status.PASS):
                return process
        time.sleep(0.02)
    process.kill()
    raise AssertionError(process.communicate())


# --- selection --------------------------------------------------------------------------------------------------


def test_a_check_that_is_named_runs_alone():
    assert verify(CASE, "-b", reference("right"), "--check", "literal").exit_code == 0
    assert {j.check for j in held()} == {"literal"}


def test_last_failed_repeats_what_was_bad_and_its_contract():
    assert verify("lecture-conv1d-*", "-b", reference("wrong"), "-b", reference("right")).exit_code == 1
    bad = {j for j, v in held().items() if v.status is Status.FAIL}
    assert verify("--last-failed").exit_code == 1
    again = held()
    assert {j for j in again if j.check != "contract"} == bad
    assert {v.status for j, v in again.items() if j in bad} == {Status.FAIL}
    assert verify(CASE, "-b", reference("right")).exit_code == 0
    result = verify("--last-failed")
    assert result.exit_code == 2
    assert "nothing was bad in the last run" in result.stderr


def test_last_failed_that_was_cut_short_resumes_as_what_it_was():
    verify("lecture-conv1d-*", "-b", reference("wrong"))
    bad = {j for j, v in held().items() if v.status is Status.FAIL}
    verify("--last-failed", "--budget", "0")
    verify("--resume")
    assert {j for j in held() if j.check != "contract"} == bad


def test_last_failed_finds_the_cases_of_a_file_from_another_folder(folder, monkeypatch):
    (folder / "mine.yaml").write_text(MINE)
    (folder / "convproof.toml").write_text("store = 'runs.sqlite'\n")
    assert verify("mine.yaml", "-b", reference("wrong")).exit_code == 1
    (folder / "sub").mkdir()
    monkeypatch.chdir(folder / "sub")
    result = verify("--last-failed")
    assert result.exit_code == 1, result.output


def test_a_case_of_a_file_is_named_with_its_file(folder):
    (folder / "mine.yaml").write_text(MINE)
    assert verify("mine.yaml:mine-a", "-b", reference("right")).exit_code == 0
    result = verify("mine.yaml:mine-b", "-b", reference("right"))
    assert result.exit_code == 2
    assert "mine.yaml holds no case 'mine-b': did you mean 'mine-a'?" in result.stderr


def test_the_plan_is_listed_and_nothing_is_run(folder):
    result = verify("lecture-conv1d-*", "-b", reference("crashing"), "--list")
    assert result.exit_code == 0
    assert CASE in result.stdout
    assert "UNSUPPORTED: flip is not supported" in result.stdout
    assert re.search(r"^\d+ jobs, \d+ batches$", result.stdout, re.MULTILINE)
    assert not (folder / ".convproof").exists()


def test_a_seed_pins_the_data_and_a_fresh_one_is_printed():
    words = ["lecture-conv1d-*", "-b", reference("right")]
    first, again = (verify(*words, "--seed", "3") and held() for _ in range(2))
    assert first == again
    drawn = [re.search(r"seed (\d+)", verify(*words).stdout)[1] for _ in range(2)]
    assert drawn[0] != drawn[1]


# --- output -----------------------------------------------------------------------------------------------------


def test_json_on_standard_output_is_json_though_the_backend_prints(folder):
    line = shlex.join(["convproof", "verify", CASE, "-b", reference("loud"), "--json", "-"])
    done = shell(line)
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert data["counts"] == {"PASS": len(data["records"])}
    assert "yours" not in done.stderr


def test_json_goes_to_a_file(folder):
    assert verify(CASE, "-b", reference("wrong"), "--json", "out.json").exit_code == 1
    data = json.loads((folder / "out.json").read_text())
    assert data["exit_code"] == 1
    record = next(r for r in data["records"] if r["check"] == "integers")
    assert record["status"] == "FAIL"
    assert record["worst_index"] == [0, 0, 4]
    assert data["request"]["seed"] == data["seed"]


def test_piped_output_holds_no_escape_code_and_foreign_text_is_cleaned():
    env = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    line = shlex.join(["convproof", "verify", CASE, "-b", reference("foul"), "-b", reference("right")])
    os.environ.update(env)
    try:
        done = shell(line)
    finally:
        for name in env:
            os.environ.pop(name)
    text = done.stdout + done.stderr
    assert done.returncode == 1
    assert "ValueError: bad" in text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", text)
    assert "0;title" not in text


def test_a_failure_prints_a_line_that_repeats_it(folder, tmp_path_factory):
    """Pasted into a shell in another folder, it comes to the same element and the same values."""
    (folder / "sp ace=é").mkdir()
    copy = folder / "sp ace=é" / "my $kernel's.py"
    copy.write_text(Path(reference("x")[:-2]).read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "mine.yaml").write_text(MINE)
    result = verify("mine.yaml", "-b", f"{copy}:wrong", "--check", "zero_mean")
    assert result.exit_code == 1
    line = re.search(r"^  repeat: (.*)$", result.stdout, re.MULTILINE)[1]
    first = next(v for j, v in held().items() if j.check == "zero_mean")
    assert first.worst_index == (0, 0, 6)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    done = shell(line, cwd=elsewhere)
    assert done.returncode == 1, done.stderr
    os.chdir(elsewhere)
    (again,) = held().values()
    assert again == first


def test_failures_are_shown_a_case_at_a_time_and_counted():
    result = verify("lecture-conv1d-*", "-b", reference("wrong"))
    heads = re.findall(r"^FAIL (\S+)  wrong  (\S+)", result.stdout, re.MULTILINE)
    assert len(heads) == 4
    assert len({case for case, _ in heads}) == 4
    assert "bad there too: " in result.stdout
    left = int(re.search(r"and (\d+) more bad verdicts of wrong", result.stdout)[1])
    shown = {case for case, _ in heads}
    assert left == len([j for j, v in held().items() if v.status is Status.FAIL and j.case not in shown])


def test_arrays_of_what_failed_are_kept_as_they_were_run(folder):
    assert verify(CASE, "-b", reference("wrong"), "-b", reference("right"), "--save-arrays", "kept").exit_code == 1
    found = sorted((folder / "kept" / CASE).glob("*.npz"))
    assert found
    assert not [p for p in found if "right" in p.name]
    from runner_backends import compute_wrong

    from harness.catalogue import load_catalogue

    (case,) = load_catalogue().select([CASE])
    with np.load(next(p for p in found if "literal" in p.name)) as held_arrays:
        arrays = dict(held_arrays)
    assert arrays["x"].shape == case.spec.x_shape
    np.testing.assert_array_equal(arrays["out"], compute_wrong(case.spec, arrays["x"], arrays["w"], None))


def test_a_backend_in_this_process_runs_in_this_thread(folder):
    (folder / "here.py").write_text(
        "import os, threading\nfrom pathlib import Path\n"
        f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r})\n"
        "from runner_backends import LIMITS, compute\nfrom harness.backend import from_function\n"
        "def f(spec, x, w, b):\n"
        "    Path('seen').write_text(f'{os.getpid()} {threading.get_ident()}')\n"
        "    return compute(spec, x, w, b)\n"
        "backend = from_function('here', f, LIMITS)\n"
    )
    import threading

    result = verify(CASE, "-b", "here.py:backend", "--in-process")
    assert result.exit_code == 0, result.output
    assert (folder / "seen").read_text() == f"{os.getpid()} {threading.get_ident()}"


def test_help_imports_no_numpy():
    code = "import sys\nfrom harness.cli import main\n"
    code += "try: main(['verify', '--help'])\nexcept SystemExit as e: assert e.code == 0\n"
    code += "heavy = {'numpy', 'sqlalchemy', 'rich', 'pydantic', 'yaml'} & set(sys.modules)\nassert not heavy, heavy\n"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT)


def test_two_runs_at_once_share_a_store():
    words = ["convproof", "verify", "lecture-conv1d-*", "--seed", "1", "-b"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    both = [
        subprocess.Popen([sys.executable, "-m", "harness.cli", *words[1:], reference(n)], env=env, stdout=subprocess.DEVNULL)
        for n in ("right", "also_right")
    ]
    assert [p.wait(60) for p in both] == [0, 0]
    assert {j.backend for run in ("last", "last~1") for j in held(run)} == {"right", "also-right"}


@pytest.mark.parametrize("flags", [["-O"], ["-W", "error", "-X", "dev"]])
def test_no_assertion_carries_logic_and_no_warning_is_raised(flags):
    line = [sys.executable, *flags, "-m", "harness.cli", "verify", "lecture-conv1d-*", "--seed", "1"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    backends = [w for n in ("right", "wrong", "crashing", "foul") for w in ("-b", reference(n))]
    done = subprocess.run([*line, *backends], env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
    optimised = {j: v.status for j, v in held().items()}
    verify("lecture-conv1d-*", "--seed", "1", *backends)
    assert optimised == {j: v.status for j, v in held().items()}
