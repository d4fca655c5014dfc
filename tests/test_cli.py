"""The command: light to start, lazy, and one line with a way out for what a user can mend."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner

from harness import __version__
from harness.backend import BackendInfo, Device
from harness.cli import COMMANDS, LazyGroup, main
from harness.cli.console import clean, is_plain, make_console, plain_table, print_table
from harness.cli.errors import UsageProblem, guarded
from harness.records import Status

#: Modules that `--help` may load: 123 with Python 3.11 and click 8; each costs about a millisecond.
MODULES = 160
HEAVY = ("numpy", "pyopencl", "pandas", "sqlalchemy", "pydantic", "rich", "yaml", "numba")


def run(*arguments: str, **kwargs):
    """The command in a process of its own."""
    kwargs = {"capture_output": True, "text": True, "timeout": 60} | kwargs
    return subprocess.run([sys.executable, "-m", "harness.cli", *arguments], check=False, **kwargs)


def invoke(*arguments: str):
    """The command in this process."""
    return CliRunner().invoke(main, list(arguments), prog_name="convproof")


# --- start-up ---------------------------------------------------------------------------------------------------


def test_help_imports_nothing_heavy_and_no_command():
    code = f"""
import sys
from harness.cli import COMMANDS, main
try:
    main(["--help"], prog_name="convproof")
except SystemExit as e:
    assert e.code == 0, e.code
heavy = [m for m in {HEAVY!r} if m in sys.modules]
assert not heavy, heavy
assert len(sys.modules) < {MODULES}, len(sys.modules)
loaded = [m for m, _ in COMMANDS.values() if m in sys.modules]
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(text in done.stdout for _, text in COMMANDS.values())


def test_version_is_the_package_s():
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"convproof {__version__}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_s_own_help_begins_with_the_table_s_line(name):
    module, text = COMMANDS[name]
    if find_spec(module) is None:
        pytest.skip(f"{module} is not there yet")
    command = main.get_command(click.Context(main), name)
    assert (command.short_help or command.help or "").strip().splitlines()[0] == text
    assert invoke(name, "--help").exit_code == 0


# --- errors -----------------------------------------------------------------------------------------------------


def test_an_unknown_command_names_the_nearest_and_exits_with_2():
    done = run("verfiy")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("convproof: there is no command 'verfiy': did you mean 'verify'?")


def test_an_unknown_command_like_no_other_lists_them_all():
    result = invoke("zzz")
    assert result.exit_code == 2
    assert result.output == f"convproof: there is no command 'zzz': the commands are {', '.join(COMMANDS)}\n"


def test_an_unknown_option_exits_with_2():
    assert invoke("--nonsense").exit_code == 2


def group(body):
    """A group with one command that runs `body`."""

    @click.command("go")
    def go():
        body()

    made = LazyGroup({"go": ("nowhere", "Go.")}, name="convproof")
    made.get_command = lambda ctx, name: go
    return made


def test_a_domain_error_is_one_line_and_exit_code_2():
    from harness.registry import Registry

    result = CliRunner().invoke(group(lambda: Registry({"naive": "a:b"}).reference("naiv")), ["go"])
    assert result.exit_code == 2
    assert result.output.startswith("convproof: unknown backend 'naiv'; did you mean 'naive'?")
    assert result.output.count("\n") == 1


def test_every_domain_error_of_the_table_exists():
    import importlib

    from harness.cli.errors import DOMAIN_ERRORS, domain_errors

    for room, _ in DOMAIN_ERRORS:
        importlib.import_module(room)
    assert {e.__name__ for e in domain_errors()} == {name for _, name in DOMAIN_ERRORS}


def test_an_error_that_nobody_foresaw_keeps_its_traceback():
    def body():
        raise ZeroDivisionError("a defect")

    assert isinstance(CliRunner().invoke(group(body), ["go"]).exception, ZeroDivisionError)


def test_an_interrupt_exits_with_130():
    def body():
        raise KeyboardInterrupt

    assert CliRunner().invoke(group(body), ["go"]).exit_code == 130


def test_a_closed_pipe_is_quiet():
    code = (
        "import click, sys\nfrom harness.cli import LazyGroup\n"
        "@click.command()\ndef go():\n    for i in range(100000): print('x' * 80)\n"
        "g = LazyGroup({'go': ('x', 'y')}, name='g')\ng.get_command = lambda ctx, name: go\ng(['go'])\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as p:
        assert p.stdout.readline().startswith("x")
        p.stdout.close()
        assert p.stderr.read() == ""
        assert p.wait(30) == 141


def test_a_usage_problem_is_raised_from_its_cause():
    from harness.cli.settings import SettingsError

    with pytest.raises(UsageProblem) as caught, guarded():
        raise SettingsError("here: so")
    assert isinstance(caught.value.__cause__, SettingsError)
    assert caught.value.exit_code == 2


def test_a_wrong_settings_file_is_one_line(tmp_path):
    (tmp_path / "convproof.toml").write_text("sed = 1\n")
    done = run("list", "checks", cwd=tmp_path, env=os.environ | {"PYTHONPATH": os.getcwd()})
    assert done.returncode == 2
    assert "convproof.toml:1: unknown key 'sed': did you mean 'seed'?" in done.stderr
    assert "Traceback" not in done.stderr


# --- console ----------------------------------------------------------------------------------------------------


class Terminal:
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text
        return len(text)

    def flush(self):
        pass

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Standard output is a terminal with colours."""
    for name in ("CI", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    made = Terminal()
    monkeypatch.setattr("harness.cli.console.sys", SimpleNamespace(stdout=made))
    return made


def test_text_from_elsewhere_cannot_talk_to_the_terminal():
    assert clean("a\x1b[2J\x1b]0;title\x07b\x1b]8;;http://x\x1b\\c\x00\x08\x9b1md\u202ee") == "abc1mde"
    assert clean("two\n\tlines") == "two\n\tlines"


def test_colours_appear_on_a_terminal_alone(terminal, monkeypatch):
    assert not is_plain(terminal)
    make_console().print("x", style="bold red")
    assert "\x1b[" in terminal.text
    terminal.text = ""
    monkeypatch.setenv("NO_COLOR", "1")
    make_console().print("x", style="red")
    assert terminal.text == "x\n"


def test_ci_gets_plain_lines_even_on_a_terminal(terminal, monkeypatch):
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert is_plain(terminal)
    make_console().print("x" * 300, style="bold red")
    assert terminal.text == "x" * 300 + "\n"


def test_markup_in_text_from_elsewhere_is_text(terminal, monkeypatch):
    print_table(make_console(), ["name"], [["[bold]x[/bold] :smile:"]])
    assert "[bold]x[/bold] :smile:" in terminal.text


def test_a_table_is_boxed_on_a_terminal_and_aligned_lines_elsewhere(terminal, monkeypatch):
    rows = [["a", 1], ["bcd", None], ["e\x1b[1m\nf", 100]]
    print_table(make_console(), ["name", "n"], rows, title="things", right=("n",))
    assert "─" in terminal.text or "━" in terminal.text
    terminal.text = ""
    monkeypatch.setenv("CI", "1")
    print_table(make_console(), ["name", "n"], rows, title="things", right=("n",))
    assert terminal.text == "things\nname    n\na       1\nbcd\ne f   100\n"


def test_a_table_without_rows_is_its_heading():
    assert plain_table(["a", "b"], []) == ["a  b"]


def test_a_terminal_that_lacks_a_character_gets_another():
    code = "import click\nfrom harness.cli import main\nmain.callback = None\nprint(end='')\n"
    code += "import harness.cli as c\n@click.command()\ndef go(): print(chr(215))\n"
    code += "g = c.LazyGroup({'go': ('x', 'y')}, name='g'); g.get_command = lambda ctx, name: go\ng(['go'])\n"
    env = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=env, check=False)
    assert (done.returncode, done.stdout) == (0, b"?\n"), done.stderr


# --- list and doctor --------------------------------------------------------------------------------------------


def report(name, *devices, status=Status.PASS, message="", hint=""):
    """What the probe of a backend might say."""
    info = BackendInfo(name, "a backend")
    return SimpleNamespace(
        reference=f"{name}=x:y", name=name, info=info, devices=devices, status=status, message=message, hint=hint
    )


@pytest.fixture
def probed(monkeypatch):
    """Stand-ins for the probe's reports."""
    held = [report("good", Device("cpu", properties={"machine": "x86"}))]
    monkeypatch.setattr("harness.cli.probing.probe_backends", lambda settings, names: held)
    monkeypatch.setattr("harness.cli.probing.probe_libraries", lambda settings: [])
    monkeypatch.setattr("harness.cli.doctor.platform_problems", lambda settings: iter(()))
    return held


def test_doctor_tells_of_an_intel_driver_that_no_icd_file_names(probed, monkeypatch, tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libintelocl.so").touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    told = invoke("doctor", "--json")
    (note,) = [p for p in json.loads(told.stdout)["problems"] if "Intel" in p["what"]]
    assert not note["broken"]
    assert f"export OCL_ICD_VENDORS={tmp_path}/icd" in note["way_out"]
    probed.append(report("intel", Device("cpu", properties={"platform": "Intel(R) OpenCL"})))
    assert "no .icd file" not in invoke("doctor", "--json").stdout


def test_list_cases_shows_what_the_patterns_select():
    result = invoke("list", "cases", "smoke", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found
    assert all("smoke" in c["suites"] and c["why"] and c["flops"] >= 0 for c in found)


def test_list_cases_that_match_nothing_exits_with_2():
    result = invoke("list", "cases", "nosuch-*")
    assert result.exit_code == 2
    assert result.output.startswith("convproof: ")


def test_list_cases_takes_in_the_project_s_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "convproof.toml").write_text("cases = ['mine']\n")
    (tmp_path / "mine").mkdir()
    assert "holds no YAML file" in invoke("list", "cases").output
    entry = "  - {id: mine-a, op: conv, in_size: [5], kernel_size: [3], why: small, source: 'hand: a test'}\n"
    (tmp_path / "mine/a.yaml").write_text("family: mine\ncases:\n" + entry)
    assert [c["id"] for c in json.loads(invoke("list", "cases", "mine-*", "--json").stdout)] == ["mine-a"]


def test_list_suites_counts_nested_suites():
    found = {s["suite"]: s for s in json.loads(invoke("list", "suites", "--json").stdout)}
    assert found["smoke"]["cases"] <= found["gate"]["cases"] <= found["full"]["cases"]
    assert 0 < found["gate"]["mflop"] <= found["full"]["mflop"]


def test_list_checks_shows_a_theorem_of_each():
    from harness.checks import CHECKS

    found = json.loads(invoke("list", "checks", "--json").stdout)
    assert [c["name"] for c in found] == [c.name for c in CHECKS]
    assert all(c["theorem"] for c in found)
    assert len(invoke("list", "checks").stdout.splitlines()) == 1 + len(CHECKS)


def test_list_checks_explain_prints_the_whole_theorem():
    from harness.checks import CHECKS

    check = CHECKS[1]
    shown = invoke("list", "checks", "--explain", check.name).stdout
    assert all(line.strip() in shown for line in check.theorem.splitlines())


def test_explain_of_an_unknown_check_names_the_nearest():
    from harness.checks import CHECKS

    result = invoke("list", "checks", "--explain", CHECKS[0].name + "x")
    assert result.exit_code == 2
    assert f"did you mean {CHECKS[0].name!r}?" in result.output
    assert invoke("list", "cases", "--explain", "x").exit_code == 2
    assert invoke("list", "checks", "zzz").exit_code == 2


def test_list_backends_says_why_one_cannot_run(probed):
    probed.append(report("absent", status=Status.UNAVAILABLE, message="it needs numba", hint="pip install numba"))
    shown = invoke("list", "backends").stdout
    assert "no (UNAVAILABLE): it needs numba: pip install numba" in shown
    found = json.loads(invoke("list", "backends", "--json").stdout)
    assert [(b["name"], b["devices"]) for b in found] == [("good", ["cpu"]), ("absent", [])]


def test_list_devices_shows_their_properties(probed):
    assert "machine x86" in invoke("list", "devices").stdout
    probed.clear()
    assert invoke("list", "devices").exit_code == 2


def test_doctor_exits_with_0_where_a_backend_runs_and_nothing_is_broken(probed):
    probed.append(report("absent", status=Status.UNAVAILABLE, message="it needs numba", hint="pip install numba"))
    result = invoke("doctor")
    assert result.exit_code == 0, result.output
    assert "note: backend absent: it needs numba: pip install numba" in result.stdout
    assert "1 of 2 backends can run; nothing is broken" in result.stdout


@pytest.mark.parametrize("status", [Status.ERROR, Status.CRASH, Status.TIMEOUT])
def test_doctor_exits_with_1_where_a_backend_fails(probed, status):
    probed.append(report("bad", status=status, message="boom"))
    result = invoke("doctor")
    assert result.exit_code == 1
    assert "problem: backend bad: boom: " in result.stdout


def test_doctor_exits_with_1_where_no_backend_can_run(probed):
    probed[:] = [report("absent", status=Status.UNAVAILABLE, message="none")]
    result = invoke("doctor", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert not found["ok"]
    assert all(p["way_out"] for p in found["problems"])


def test_doctor_exits_with_1_where_a_required_backend_is_unavailable(probed, tmp_path, monkeypatch):
    probed.append(report("absent", status=Status.UNAVAILABLE, message="none"))
    monkeypatch.chdir(tmp_path)
    assert invoke("doctor").exit_code == 0
    (tmp_path / "convproof.toml").write_text("require = ['absent']\n")
    assert invoke("doctor").exit_code == 1


def test_doctor_probes_the_backends_that_are_installed(tmp_path):
    done = run("doctor", "--json", cwd=tmp_path, env=os.environ | {"PYTHONPATH": os.getcwd()})
    found = json.loads(done.stdout)
    assert done.returncode == (0 if found["ok"] else 1)
    assert {"python", "memory", "ld", "BLAS", "store"} <= set(found["environment"])
    assert "naive" in {b["name"] for b in found["backends"]}


def test_doctor_reports_a_store_that_cannot_be_written(tmp_path):
    from harness.cli.doctor import platform_problems
    from harness.cli.settings import Settings

    (tmp_path / "file").write_text("")
    found = list(platform_problems(Settings(store=tmp_path / "file" / "runs.sqlite")))
    assert any("cannot be written" in p.what and p.broken for p in found)
