"""A few of the kills of `kill_runs`, which does fifty: what was found out stays, what was not is made up for."""

import random
import tempfile
from pathlib import Path

import pytest
from kill_runs import kill_judges, kill_main, kill_workers, whole_run


@pytest.fixture(scope="module")
def expected():
    with tempfile.TemporaryDirectory() as name:
        return whole_run(Path(name))


@pytest.mark.parametrize("judges", [0, 2])
def test_kill_9_of_the_main_process_loses_doubles_and_leaves_nothing(expected, judges):
    verdicts, seconds = expected
    kills, _, wrong = kill_main(3, seconds, verdicts, random.Random(7), judges)
    assert (kills, wrong) == (3, [])


def test_kill_9_of_a_judge_costs_nothing(expected):
    verdicts, seconds = expected
    assert kill_judges(1, seconds, verdicts, random.Random(9))[1] == []


def test_kill_9_of_a_worker_costs_at_most_the_verdict_at_hand(expected):
    verdicts, seconds = expected
    _, _, wrong = kill_workers(1, seconds, verdicts, random.Random(8))
    assert wrong == []
