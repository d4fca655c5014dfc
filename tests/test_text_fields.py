"""Markup and terminal escapes in every text field that a case file has: refused with file and line, or shown escaped."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli import main

HERE = Path(__file__).parent
#: As YAML writes them: HTML, a terminal's colour and title, a link, an override, Rich's markup, a workflow command.
FOUL = r"<script>alert(1)</script><img src=x onerror=alert(1)>\e[31mred\e]0;owned\a\u202e[bold]b[/bold] | ::error::x"
CASE = {
    "id": '"mine-a"',
    "op": "conv",
    "in_size": "[4]",
    "kernel_size": "2",
    "why": '"the fact that makes it worth its time"',
    "source": '"hand: a reason"',
    "tags": '["lecture"]',
}
INVALID = {
    "id": '"invalid-op-mine"',
    "op": '"no-op"',
    "in_size": "[4]",
    "kernel_size": "2",
    "why": '"a reason"',
    "source": '"hand: a reason"',
    "refused": '"unknown op"',
}


def written(tmp_path, base, field, value, family="mine"):
    case = base | {field: value}
    if field == "family":
        family = case.pop("family")
    body = "\n    ".join(f"{k}: {v}" for k, v in case.items())
    (tmp_path / "mine.yaml").write_text(f"family: {family}\ncases:\n  - {body}\n")


def outputs(tmp_path, monkeypatch):
    """(exit code, every text that the commands print or write about the file)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONVPROOF_STORE", str(tmp_path / "s.sqlite"))
    backend = f"{HERE / 'runner_backends.py'}:wrong"
    lines = [
        ["verify", "mine.yaml", "-b", backend, "--junit", "j.xml", "--markdown", "m.md", "--html", "page", "--json", "r.json"],
        ["list", "cases", "mine.yaml"],
        ["show", "mine.yaml", "--html", "show.html"],
        ["show", "mine.yaml"],
        ["runs", "show", "last"],
    ]
    done = [CliRunner().invoke(main, line, prog_name="convproof", env={"GITHUB_ACTIONS": "true"}) for line in lines]
    texts = {" ".join(line[:2]): r.output for line, r in zip(lines, done, strict=True)}
    texts |= {
        str(p.relative_to(tmp_path)): p.read_text()
        for p in tmp_path.rglob("*")
        if p.suffix in {".html", ".xml", ".md", ".json"}
    }
    assert all(r.exception is None or isinstance(r.exception, SystemExit) for r in done), [r.exception for r in done]
    return done[0].exit_code, texts


FIELDS = [
    *((CASE, f) for f in ("family", "id", "op", "why", "source", "tags", "padding_mode", "dtype", "crop_of", "in_size")),
    (CASE, "unknown_field"),
    *((INVALID, f) for f in ("id", "op", "why", "refused")),
]


@pytest.mark.parametrize(("base", "field"), FIELDS, ids=[f"{'invalid' if b is INVALID else 'case'}-{f}" for b, f in FIELDS])
def test_markup_and_escapes_are_refused_or_escaped(tmp_path, monkeypatch, base, field):
    prefix = {"source": "hand: ", "id": "invalid-" if base is INVALID else "mine-"}.get(field, "")
    value = f'["{FOUL}"]' if field in {"tags", "in_size"} else f'"{prefix}{FOUL}"'
    written(tmp_path, base, field, value, "invalid" if base is INVALID else "mine")
    code, texts = outputs(tmp_path, monkeypatch)
    if code == 2:  # refused: the message is all there is
        assert field not in {"why", "source", "tags"}
        assert re.search(r"mine\.yaml:\d+", texts["verify mine.yaml"]), texts["verify mine.yaml"]
    shown = "\n".join(texts.values())
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown.replace("\r", "")), field
    for name, text in texts.items():
        if name.endswith((".html", ".xml")) or "html" in name:
            assert not re.search(r"<script>alert|<img src=x", text), name
        assert not re.search(r"^::error::x", text, re.MULTILINE), name


def test_what_is_foul_is_shown_at_all(tmp_path, monkeypatch):
    """The test above would pass if nothing were shown: `why` and `source` are, with their markup as text."""
    written(tmp_path, CASE, "why", f'"{FOUL}"')
    code, texts = outputs(tmp_path, monkeypatch)
    assert code == 1
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in texts["show.html"]
    assert "<script>alert(1)</script>" in texts["show mine.yaml"]
