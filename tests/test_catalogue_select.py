"""Selection by suite, id, glob, tag and file."""

import pytest

from harness.catalogue import SUITES, CatalogueError, SelectionError, load_catalogue


@pytest.fixture(scope="module")
def catalogue():
    return load_catalogue()


MINE = """family: mine
cases:
  - {id: mine-a, op: conv, in_size: [5], kernel_size: 3, why: w, source: s}
"""


def test_the_suites_nest_and_perf_stands_apart(catalogue):
    smoke, gate, full, perf = ({c.id for c in catalogue.select([s])} for s in SUITES)
    assert smoke < gate < full
    assert not perf & full


def test_patterns_select_in_the_catalogues_order_without_duplicates(catalogue):
    got = catalogue.select(["lecture-shift-*", "lecture-conv1d-valid", "lecture-*-valid", "tag:literal"])
    assert len({c.id for c in got}) == len(got)
    order = [c.id for c in catalogue.cases]
    assert [c.id for c in got] == sorted((c.id for c in got), key=order.index)


def test_an_id_selects_one_case(catalogue):
    (case,) = catalogue.select(["edge-circular-whole"])
    assert case is catalogue.by_id["edge-circular-whole"]


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("gates", "did you mean 'gate'"),
        ("lecture-conv1d-vaild", "'lecture-conv1d-valid'"),
        ("lecture", "did you mean 'lecture-*'?"),
        ("tag:litreal", "did you mean 'literal'?"),
        ("nothing-*-like-this", "no suite, id, glob or file matches"),
        ("", "the suites are smoke, gate, full, perf"),
        ("lecture-[", "no suite, id, glob or file matches"),
    ],
)
def test_a_pattern_that_names_nothing_is_an_error_with_the_nearest_names(catalogue, pattern, hint):
    with pytest.raises(SelectionError) as e:
        catalogue.select(["smoke", pattern])
    assert hint in str(e.value)
    assert isinstance(e.value, ValueError)


def test_an_empty_selection_is_an_error(catalogue):
    with pytest.raises(SelectionError, match="nothing selected: name a suite"):
        catalogue.select([])


def test_a_file_adds_its_cases_after_the_catalogues_own(catalogue, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(MINE)
    assert [c.id for c in catalogue.select([str(path)])] == ["mine-a"]
    assert [c.id for c in catalogue.select([str(path), "lecture-conv1d-valid"])] == ["lecture-conv1d-valid", "mine-a"]


def test_a_shipped_file_selects_its_own_cases(catalogue):
    file = next(c.file for c in catalogue.cases if c.family == "arithmetic")
    assert {c.family for c in catalogue.select([file])} == {"arithmetic"}


def test_a_file_that_reuses_an_id_names_both_places(catalogue, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(MINE.replace("mine", "lecture").replace("lecture-a", "lecture-conv1d-valid"))
    with pytest.raises(
        CatalogueError, match=r"mine.yaml:3: duplicate id 'lecture-conv1d-valid': it is at .*lecture.yaml:\d+ already"
    ):
        catalogue.select([str(path)])


def test_an_absent_file_is_an_error_and_not_an_empty_selection(catalogue):
    with pytest.raises(CatalogueError, match="no such file"):
        catalogue.select(["absent.yaml"])
