"""`convproof list cases --coverage`."""

import json

import pytest
from click.testing import CliRunner

from harness.catalogue.coverage import FACTORS
from harness.cli import main


@pytest.fixture
def listed(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CI", "1")

    def listed(*arguments, code=0):
        result = CliRunner().invoke(main, ["list", "cases", "--coverage", *arguments])
        assert result.exit_code == code, result.output
        return result.output

    return listed


def test_it_shows_levels_a_triangle_of_percents_and_the_reasons(listed):
    lines = listed().splitlines()
    assert lines[0].startswith("full: ")
    assert any(line.startswith("op ") and "max_pool: " in line for line in lines)
    (last_row,) = [line for line in lines if line.startswith("17 count_include_pad")]
    assert last_row.split()[2:] == ["100"] * 16
    assert any(line.endswith("a pool has no bias") for line in lines)
    assert not any(line.startswith("missing") for line in lines)
    assert lines[-1].endswith("possible pairs: 100.0 %")


def test_it_lists_the_first_missing_pairs_of_a_selection(listed):
    lines = listed("lecture-*").splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("missing, 20 of "))
    assert lines[at + 22] == ""
    assert not lines[-1].endswith(" 100.0 %")


def test_json_holds_every_missing_pair(listed):
    data = json.loads(listed("smoke", "--json"))
    assert list(data["factors"]) == list(FACTORS)
    assert data["covered"] + len(data["missing"]) == data["possible"]
    assert len(data["pairs"]) == 17 * 16 // 2
    assert sum(p["possible"] for p in data["pairs"]) == data["possible"]
    assert all(len(pair) == 2 for pair in data["missing"])
    assert sum(data["factors"]["op"].values()) == data["cases"]


def test_it_belongs_to_cases(listed):
    result = CliRunner().invoke(main, ["list", "suites", "--coverage"])
    assert result.exit_code == 2
    assert "--coverage belongs to cases" in result.output
