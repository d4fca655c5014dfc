"""What the documents say exists and works."""

import re
import shlex
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

from harness.cli import COMMANDS, main
from harness.cli.settings import Settings, load_settings
from harness.records import BAD, MEANING

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXAMPLE = "docs/examples/my_backend.py"


def blocks(language: str) -> list[str]:
    """The README's code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def command_lines(text: str) -> list[str]:
    """Lines after `$ ` in console blocks, and `convproof ...` between backticks."""
    shown = [line[2:].partition("  #")[0] for block in blocks("console") for line in block.splitlines() if line[:2] == "$ "]
    return shown + re.findall(r"`(convproof [a-z][^`]*)`", text)


def test_the_readme_shows_commands():
    assert len(command_lines(README)) >= 8


@pytest.mark.parametrize("line", sorted({c for c in command_lines(README + CONTRIBUTING) if c.startswith("convproof ")}))
def test_a_command_of_the_documents_exists_with_its_options(line):
    _, name, *arguments = shlex.split(line)
    assert name in COMMANDS
    if find_spec(COMMANDS[name][0]) is None:
        pytest.skip(f"{name} is not there yet")
    context = click.Context(main)
    command = main.get_command(context, name)
    if isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        command = command.get_command(context, arguments[0].partition("|")[0])
        assert command is not None
    known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
    assert {a for a in arguments if a.startswith("-")} <= known


@pytest.mark.parametrize(
    "target", sorted(set(re.findall(r"(?:^\$ |^    |`)make ([a-z]+)", README + CONTRIBUTING, re.MULTILINE)))
)
def test_a_make_target_of_the_documents_exists(target):
    lines = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    assert any(line.startswith(f"{target}:") for line in lines)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_to_a_file_leads_to_one(document):
    text = document.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link]
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_the_table_of_backends_is_current():
    from reports.capabilities import main as capabilities

    assert capabilities(["--check", "--readme", str(ROOT / "README.md")]) == 0


def test_a_stale_table_of_backends_is_found_and_mended(tmp_path, capsys):
    from reports.capabilities import main as capabilities

    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- capabilities:begin -->\nold\n<!-- capabilities:end -->\nb\n")
    assert capabilities(["--check", "--readme", str(readme)]) == 1
    assert "stale" in capsys.readouterr().err
    assert capabilities(["--write", "--readme", str(readme)]) == 0
    assert capabilities(["--check", "--readme", str(readme)]) == 0
    text = readme.read_text()
    assert text.startswith("a\n<!--")
    assert text.endswith("-->\nb\n")
    assert "old" not in text


def test_the_table_of_backends_has_a_row_for_each_entry_point():
    declared = {**PROJECT["entry-points"]["convproof.backends"], **PROJECT["entry-points"]["convproof.libraries"]}
    assert [name for name in declared if f"| `{name}` |" not in README] == []


def test_the_table_of_verdicts_is_the_records_own():
    assert [s for s, meaning in MEANING.items() if f"| {s} | {meaning} |" not in README] == []


def test_exit_code_1_lists_the_bad_statuses():
    (row,) = [line for line in README.splitlines() if line.startswith("| 1 |")]
    assert {str(s) for s in BAD} == set(re.findall(r"\b[A-Z]{3,}\b", row))


def test_the_catalogue_entry_of_the_readme_is_one(tmp_path):
    from harness.catalogue import load_file

    (block,) = blocks("yaml")
    (tmp_path / "mine.yaml").write_text(block, encoding="utf-8")
    (case,) = load_file(tmp_path / "mine.yaml")
    assert case.spec is not None
    assert "smoke" in case.suites


def test_the_settings_of_the_readme_are_valid_and_complete(tmp_path):
    (block,) = blocks("toml")
    (tmp_path / "convproof.toml").write_text(block, encoding="utf-8")
    load_settings(tmp_path)
    assert set(tomllib.loads(block)) == set(Settings.__dataclass_fields__) - {"source"}


def test_the_example_backend_of_the_readme_is_the_file_s():
    (block,) = blocks("python")
    assert block.strip() == (ROOT / EXAMPLE).read_text(encoding="utf-8").strip()


def verify(backend: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """`convproof verify smoke` with one backend, the store in `folder`."""
    (folder / "convproof.toml").write_text("store = 'runs.sqlite'\n", encoding="utf-8")
    command = [sys.executable, "-m", "harness.cli", "verify", "smoke", "--backend", backend]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=300, check=False)


needs_verify = pytest.mark.skipif(find_spec("harness.cli.verify") is None, reason="verify is not there yet")


@needs_verify
def test_the_example_backend_passes_smoke(tmp_path):
    done = verify(f"{ROOT / EXAMPLE}:backend", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_verify
def test_the_example_backend_with_its_taps_reversed_fails_smoke(tmp_path):
    text = (ROOT / EXAMPLE).read_text(encoding="utf-8")
    wrong = text.replace("w[(..., *tap)]", "w[(..., *(-1 - t for t in tap))]")
    assert wrong != text
    (tmp_path / "wrong.py").write_text(wrong, encoding="utf-8")
    done = verify("wrong.py:backend", tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr


def distribution_name(requirement: str) -> str:
    """The name in a requirement, normalised."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match is not None
    return match[0].lower().replace("_", "-").replace(".", "-")


def requirements() -> set[str]:
    """Distributions that pyproject.toml names."""
    lists = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    return {distribution_name(r) for held in lists for r in held} - {"convproof"}


def test_every_dependency_has_a_reason():
    said = {w.lower().replace("_", "-") for w in re.findall(r"[A-Za-z][A-Za-z0-9_-]+", CONTRIBUTING)}
    stubs = {name for name in requirements() if name.startswith("types-") or name.endswith("-stubs")}
    assert requirements() - stubs - said == set()


def test_every_dependency_is_pinned_and_nothing_else_is_said():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [p for p in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", p)] == []
    assert requirements() - {distribution_name(p) for p in pins} == set()
