"""The statistics of samples against what is known of them: coverage, published quantiles, false alarms."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from harness.statistics import (
    NOTHING,
    Ratio,
    discoveries,
    figure,
    proportion_interval,
    ratio,
    separate_ratio,
    t_test,
)
from harness.timing.rule import Change, Finding, Rule, confirmed, error_finding
from harness.timing.trust import Trust


def pairs_of(rng, shift=0.0, pairs=5, samples=20, between=0.01, within=0.02):
    """Times of two sides that take turns: processes differ by 1 %, samples by 2 % and a tail to the right."""

    def side(factor):
        level = 1e-3 * factor * np.exp(rng.normal(0, between))
        return level * (1 + within * rng.gamma(1.0, 1.0, samples))

    return [(side(1.0), side(1.0 + shift)) for _ in range(pairs)]


def test_no_samples_are_no_figure():
    assert figure([]) is NOTHING
    assert figure([(), ()]) is NOTHING


@pytest.mark.parametrize("n", [5, 6, 10, 37, 200, 201, 1000])
def test_the_interval_of_the_median_covers_it_as_often_as_it_says(n):
    """Exponential samples, whose median is log 2; at 5 the outermost samples cover it in 15 of 16 trials."""
    rng = np.random.default_rng(n)
    made = [figure([rng.exponential(size=n)]) for _ in range(1500)]
    covered = np.mean([f.low <= np.log(2) <= f.high for f in made])
    assert covered >= (0.925 if n == 5 else 0.94)
    assert covered <= 0.995 or n < 10


def test_the_interval_holds_the_median_of_every_process():
    rng = np.random.default_rng(0)
    made = figure([rng.normal(m, 0.01, 500) for m in (1.0, 1.2, 1.1)])
    assert made.low < 1.0 + 0.01
    assert made.high > 1.2 - 0.01
    assert made.processes == 3


def test_t_and_welch_agree_with_scipy():
    rng = np.random.default_rng(1)
    for n in (2, 3, 5, 10, 30):
        a, b = rng.normal(0.3, 1, n), rng.normal(0, 2, n + 1)
        assert t_test(a) == pytest.approx(scipy.stats.ttest_1samp(a, 0).pvalue, rel=1e-9)
        made = separate_ratio([[np.exp(v)] for v in a], [[np.exp(v)] for v in b])
        assert made.p == pytest.approx(scipy.stats.ttest_ind(a, b, equal_var=False).pvalue, rel=1e-9)


def test_false_discoveries_agree_with_scipy():
    rng = np.random.default_rng(2)
    for _ in range(50):
        ps = list(rng.uniform(0, 1, 20) ** 3)
        assert discoveries(ps) == [p <= 0.05 for p in scipy.stats.false_discovery_control(ps)]
    assert discoveries([]) == []


@pytest.mark.parametrize(("hits", "of"), [(0, 10), (3, 10), (500, 500), (2, 500)])
def test_wilsons_interval_agrees_with_scipy(hits, of):
    theirs = scipy.stats.binomtest(hits, of).proportion_ci(method="wilson")
    assert proportion_interval(hits, of) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_equal_sides_raise_an_alarm_in_less_than_one_of_a_hundred_and_5_percent_is_found_in_95():
    """On times whose noise is as modelled; `convproof compare --aa` measures it on the machine."""
    rng, rule = np.random.default_rng(3), Rule()
    found = {}
    for shift in (0.0, 0.05, -0.05, 0.1):
        findings = [rule.finding(ratio(pairs_of(rng, shift))) for _ in range(400)]
        found[shift] = {f: findings.count(f) / 400 for f in findings}
    assert found[0.0].get(Finding.SLOWER, 0) + found[0.0].get(Finding.FASTER, 0) <= 0.01
    assert found[0.05][Finding.SLOWER] >= 0.95
    assert found[-0.05][Finding.FASTER] >= 0.95
    assert found[0.1][Finding.SLOWER] == 1


def test_one_odd_pair_of_processes_is_no_alarm_and_hides_none():
    rng, rule = np.random.default_rng(4), Rule()
    slow = pairs_of(rng, 0.0)
    slow[2] = pairs_of(rng, 0.5)[0]
    assert rule.finding(ratio(slow)) not in (Finding.SLOWER, Finding.FASTER)
    assert ratio(pairs_of(rng, 0.2)[:4] + pairs_of(rng, 0.0)[:1]).agreeing >= 0.8


def test_pairs_that_disagree_raise_no_alarm_whatever_the_interval():
    agree = Ratio(1.1, 1.05, 1.2, (1.1, 1.1, 1.12, 1.2, 0.95), 0.02)
    split = Ratio(1.1, 1.05, 1.2, (1.1, 1.1, 1.12, 0.97, 0.95), 0.1)
    assert Rule().finding(agree) is Finding.SLOWER
    assert Rule().finding(split) is Finding.INCONCLUSIVE


def test_the_share_of_alarms_leaves_out_what_was_not_compared():
    slow, fine, none = (change(f, 1.0, 1.0) for f in (Finding.SLOWER, Finding.SAME, Finding.NOT_COMPARED))
    hits, of, low, high = Trust().share([slow, fine, fine, none], Finding.SLOWER, Finding.FASTER)
    assert (hits, of) == (1, 3)
    assert (low, high) == proportion_interval(1, 3)


def test_the_smallest_change_that_is_found_is_that_of_the_noise():
    rng = np.random.default_rng(8)
    quiet = Trust(samples=[pairs_of(rng, between=0.001, within=0.001) for _ in range(20)])
    loud = Trust(samples=[pairs_of(rng, between=0.1) for _ in range(20)])
    assert quiet.smallest(Rule()) in (0.025, 0.03)
    assert loud.smallest(Rule()) > 0.05


def test_what_is_small_and_sure_is_the_same_and_what_is_unsure_is_inconclusive():
    rng, rule = np.random.default_rng(5), Rule()
    assert rule.finding(ratio(pairs_of(rng, 0.01, between=0.0005, within=0.001))) is Finding.SAME
    assert rule.finding(ratio(pairs_of(rng, 0.0, between=0.2))) is Finding.INCONCLUSIVE
    assert rule.finding(ratio([])) is Finding.INCONCLUSIVE


def change(finding, value, p):
    return Change("c", "b", "cpu", "time", finding, Ratio(value, value, value, (value,), p))


def test_an_alarm_counts_if_a_second_trial_raises_it_too():
    slow, fine = change(Finding.SLOWER, 1.2, 0.001), change(Finding.SAME, 1.0, 0.9)
    again = [change(Finding.SLOWER, 1.1, 0.002), fine, change(Finding.FASTER, 0.9, 0.001), change(Finding.SLOWER, 1.1, 0.4)]
    made = confirmed([slow] * 4, again)
    assert [c.finding for c in made] == [Finding.SLOWER, Finding.SAME, Finding.INCONCLUSIVE, Finding.INCONCLUSIVE]
    assert made[0].ratio.value == 1.1
    assert "first 1.200" in made[0].note
    assert all("not confirmed" in c.note for c in made[1:])
    wrong = change(Finding.WRONG, 1.0, 1.0)
    assert confirmed([slow], [wrong])[0].finding is Finding.WRONG


def test_the_second_trial_asks_for_95_percent_at_most():
    assert Rule().again == Rule(confidence=0.95)
    assert Rule(confidence=0.9, least=0.1).again == Rule(confidence=0.9, least=0.1)


def test_one_pair_that_met_another_process_does_not_undo_five_that_agree():
    """Student's t is then far from sure: its deviation is that pair's."""
    slow = change(Finding.SLOWER, 1.1, 0.001)
    spoilt = Ratio(1.1, 1.05, 2.0, (1.1, 1.11, 1.09, 1.1, 3.0), 0.25)
    split = Ratio(1.1, 1.05, 2.0, (1.1, 1.11, 0.9, 1.1, 3.0), 0.25)
    again = [replace(slow, ratio=r) for r in (spoilt, split)]
    assert [confirmed([slow], [c])[0].finding for c in again] == [Finding.SLOWER, Finding.INCONCLUSIVE]


def test_errors_count_where_all_data_agree_and_the_difference_is_more_than_that_of_an_order_of_summation():
    assert error_finding([0.2, 0.2], [0.21, 0.21])[0] is Finding.SAME
    assert error_finding([0.2, 0.2], [0.4, 0.19])[0] is Finding.SAME
    assert error_finding([0.2, 0.2], [0.4, 0.3])[0] is Finding.LESS_ACCURATE
    assert error_finding([0.4, 0.4], [0.2, 0.3])[0] is Finding.MORE_ACCURATE
    assert error_finding([0.0], [0.1])[0] is Finding.LESS_ACCURATE
    assert error_finding([], [])[0] is Finding.NOT_COMPARED


def test_runs_that_did_not_take_turns_are_compared_by_their_processes():
    rng = np.random.default_rng(6)
    sides = [[level * rng.gamma(400, 1 / 400, 50) for level in levels] for levels in ((1.0, 1.01, 0.99), (1.2, 1.21, 1.19))]
    made = separate_ratio(*sides)
    assert made.low < 1.2 < made.high
    assert made.low > 1.1
    assert len(made.pairs) == 3
    assert np.isnan(separate_ratio([], sides[1]).value)


def test_times_that_are_not_above_0_give_no_ratio_and_no_discovery():
    for bad in ([0.0] * 5, [-1.0] * 5, [np.nan] * 5):
        assert np.isnan(ratio([([1.0] * 5, bad)] * 3).value)
        assert np.isnan(separate_ratio([[1.0] * 5], [bad]).value)
    assert discoveries([np.nan, 0.001]) == [False, True]
    assert error_finding([0.4], [np.nan])[0] is Finding.LESS_ACCURATE
