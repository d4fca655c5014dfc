"""The statistics of samples: medians with intervals, ratios of two sides, what an alarm is. Pure functions of numbers.

Times are skewed and have outliers on one side, so medians are used throughout, and intervals that assume no
distribution. Samples of one process share its memory layout, its caches' colouring and its moment: they differ less
from each other than from those of another process (Mytkowicz et al. 2009), so processes are resampled first.

References
----------
Mytkowicz, Diwan, Hauswirth, Sweeney, "Producing wrong data without doing anything obviously wrong!", ASPLOS 2009.
Kalibera, Jones, "Rigorous benchmarking in reasonable time", ISMM 2013: resampling at each level.
Hahn, Meeker, "Statistical intervals", 1991, 5.2: intervals of a quantile from order statistics.
Benjamini, Hochberg, "Controlling the false discovery rate", J. R. Stat. Soc. B 57, 1995.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb, erf, exp, inf, lgamma, log, nan, sqrt

import numpy as np

#: Of the interval that stands beside a median.
CONFIDENCE = 0.95
#: Resamples of a bootstrap: the ends of a 99 % interval rest on 20 of them each.
RESAMPLES = 4000


@dataclass(frozen=True)
class Figure:
    """A median with its interval.

    Attributes
    ----------
    median, low, high : float
        Seconds; NaN without samples.
    samples, processes : int
    """

    median: float
    low: float
    high: float
    samples: int
    processes: int

    @property
    def half_width(self) -> float:
        """Half the interval, relative to the median."""
        return (self.high - self.low) / 2 / self.median if self.median > 0 else inf


NOTHING = Figure(nan, nan, nan, 0, 0)


def figure(processes: Sequence[Sequence[float]], confidence: float = CONFIDENCE) -> Figure:
    """The median of all samples, with an interval.

    The interval is that of the order statistics of the samples, widened to hold the median of every process: what
    differs between processes, samples of one cannot tell.

    Parameters
    ----------
    processes : sequence of sequence of float
        The samples of each process, seconds.
    confidence : float

    Examples
    --------
    >>> figure([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]])
    Figure(median=4.0, low=1.0, high=7.0, samples=7, processes=1)
    >>> figure([[1.0] * 20, [1.5] * 20]).low
    1.0
    """
    held = [np.asarray(p, float) for p in processes if len(p)]
    if not held:
        return NOTHING
    pooled = np.sort(np.concatenate(held))
    n = len(pooled)
    lower, upper = _ranks(n, confidence)
    median = float(pooled[(n - 1) // 2] + pooled[n // 2]) / 2  # np.median would sort again
    middles = [float(np.median(p)) for p in held] if len(held) > 1 else [median]
    low, high = min(float(pooled[lower]), *middles), max(float(pooled[upper]), *middles)
    return Figure(median, low, high, n, len(held))


def middle(processes: Sequence[Sequence[float]]) -> float:
    """The median of all samples, without an interval; NaN without samples.

    Examples
    --------
    >>> middle([[3.0, 1.0], [2.0]])
    2.0
    """
    pooled = sorted(v for p in processes for v in p)
    n = len(pooled)
    return (pooled[(n - 1) // 2] + pooled[n // 2]) / 2 if n else nan


@lru_cache(4096)
def _ranks(n: int, confidence: float) -> tuple[int, int]:
    """The innermost order statistics (from 0) between which the median lies with that confidence; else the outermost."""
    if n > 200:  # the normal approximation is off by less than one rank from here on
        reach = _z(confidence) * sqrt(n) / 2
        return max(0, int((n - 1) / 2 - reach)), min(n - 1, int((n - 1) / 2 + reach) + 1)
    below, lower = 0.0, 0
    for k in range(n // 2):
        below += comb(n, k) / 2.0**n
        if below > (1 - confidence) / 2:
            break
        lower = k
    return lower, n - 1 - lower


def _z(confidence: float) -> float:
    """The normal quantile of a two-sided confidence, by bisection."""
    low, high = 0.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if erf(middle / sqrt(2)) < confidence else (low, middle)
    return low


@dataclass(frozen=True)
class Ratio:
    """How many times as long one side takes as the other.

    Attributes
    ----------
    value, low, high : float
        The median over pairs, and its interval; 1 is no change.
    pairs : tuple of float
        The ratio of each pair of processes.
    p : float
        Two-sided: of pairs whose ratios scatter as these do around 1 giving a mean this far off (Student's t on logarithms).
    """

    value: float
    low: float
    high: float
    pairs: tuple[float, ...]
    p: float

    @property
    def agreeing(self) -> float:
        """The share of pairs on the median's side of 1."""
        side = [np.sign(r - 1) == np.sign(self.value - 1) for r in self.pairs]
        return sum(map(bool, side)) / len(side) if side else 0.0

    @property
    def p_ahead(self) -> float:
        """One-sided: of a change towards the median's side where none is, by the better of two tests.

        Student's t on logarithms has the power; the sign test does not mind one pair that met another process, which can
        make t miss five pairs that all agree. Taking the smaller at most doubles the level.

        Examples
        --------
        >>> r = Ratio(1.1, 1.05, 1.6, (1.1, 1.1, 1.09, 1.1, 2.5), 0.3)
        >>> r.p_ahead
        0.03125
        """
        n, agreeing = len(self.pairs), round(self.agreeing * len(self.pairs))
        sign = sum(comb(n, k) for k in range(agreeing, n + 1)) / 2**n
        return min(self.p / 2, sign) if n else 1.0


def ratio(pairs: Sequence[tuple[Sequence[float], Sequence[float]]], confidence: float = 0.99, seed: int = 0) -> Ratio:
    """How many times as long the second side of each pair takes.

    A bootstrap on two levels: pairs of processes are drawn with replacement, and within each its samples. The statistic
    is the median over the pairs of the ratio of medians.

    Parameters
    ----------
    pairs : sequence of (samples, samples)
        Seconds, of two processes that took turns.
    confidence : float
    seed : int
        Of the resampling, so that a stored comparison gives the same interval again.

    Times that are not above 0 give no ratio.

    Examples
    --------
    >>> r = ratio([([1.0, 1.01, 0.99] * 5, [1.1, 1.11, 1.09] * 5)] * 5)
    >>> round(r.value, 3), r.low > 1.05, r.agreeing
    (1.1, True, 1.0)
    """
    kept = [(np.asarray(a, float), np.asarray(b, float)) for a, b in pairs if len(a) and len(b)]
    if not kept or not all(np.all((v > 0) & np.isfinite(v)) for pair in kept for v in pair):
        return Ratio(nan, nan, nan, (), 1.0)
    rng = np.random.default_rng(seed)
    logs = np.array([log(np.median(b) / np.median(a)) for a, b in kept])
    replicas = np.stack([np.log(_medians(b, rng) / _medians(a, rng)) for a, b in kept])
    chosen = rng.integers(0, len(kept), (RESAMPLES, len(kept)))
    drawn = replicas[chosen, rng.integers(0, RESAMPLES, chosen.shape)]
    low, high = np.quantile(np.median(drawn, axis=1), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Ratio(exp(float(np.median(logs))), exp(low), exp(high), tuple(np.exp(logs).tolist()), t_test(logs))


def separate_ratio(
    before: Sequence[Sequence[float]], after: Sequence[Sequence[float]], confidence: float = 0.99, seed: int = 0
) -> Ratio:
    """How many times as long the second side takes, of processes that did not take turns.

    Processes of each side are resampled by themselves. The `pairs` are each process of the second side against the median
    of the first; p is Welch's, on logarithms of the processes' medians.

    Examples
    --------
    >>> r = separate_ratio([[1.0, 1.01, 0.99] * 5] * 3, [[1.2, 1.21, 1.19] * 5] * 3)
    >>> round(r.value, 3), r.low > 1.15, r.p
    (1.2, True, 0.0)
    """
    sides = [[np.asarray(p, float) for p in side if len(p)] for side in (before, after)]
    if not all(sides) or not all(np.all((p > 0) & np.isfinite(p)) for side in sides for p in side):
        return Ratio(nan, nan, nan, (), 1.0)
    rng = np.random.default_rng(seed)
    logs = [np.log([np.median(p) for p in side]) for side in sides]
    drawn = []
    for side in sides:
        replicas = np.log(np.stack([_medians(p, rng) for p in side]))
        chosen = rng.integers(0, len(side), (RESAMPLES, len(side)))
        drawn.append(np.median(replicas[chosen, rng.integers(0, RESAMPLES, chosen.shape)], axis=1))
    low, high = np.quantile(drawn[1] - drawn[0], [(1 - confidence) / 2, (1 + confidence) / 2])
    middle = float(np.median(logs[0]))
    value = exp(float(np.median(logs[1])) - middle)
    return Ratio(value, exp(low), exp(high), tuple(np.exp(logs[1] - middle).tolist()), _welch(*logs))


def _welch(a: np.ndarray, b: np.ndarray) -> float:
    """Welch's two-sided p that two means are equal; 1 where there are too few values to tell."""
    if min(len(a), len(b)) < 2:
        return 1.0
    parts = [float(np.var(v, ddof=1)) / len(v) for v in (a, b)]
    apart, total = float(np.mean(b) - np.mean(a)), sum(parts)
    if total == 0.0:
        return 1.0 if apart == 0.0 else 0.0
    degrees = total**2 / sum(p * p / (len(v) - 1) for p, v in zip(parts, (a, b), strict=True))
    return _incomplete_beta(degrees / 2, 0.5, degrees / (degrees + apart**2 / total))


def _medians(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Medians of resamples."""
    if len(samples) == 1:
        return np.full(RESAMPLES, samples[0])
    return np.median(samples[rng.integers(0, len(samples), (RESAMPLES, len(samples)))], axis=1)


def t_test(values: np.ndarray) -> float:
    """The two-sided p that the mean is 0, by Student's t; 1 where there are too few values to tell.

    Examples
    --------
    >>> round(t_test(np.array([1.0, 2.0, 3.0, 4.0, 5.0])), 4)
    0.0132
    """
    n = len(values)
    if n < 2:
        return 1.0
    spread = float(np.std(values, ddof=1))
    mean = float(np.mean(values))
    if spread == 0.0:
        return 1.0 if mean == 0.0 else 0.0
    t = mean / (spread / sqrt(n))
    return _incomplete_beta((n - 1) / 2, 0.5, (n - 1) / (n - 1 + t * t))


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function by its continued fraction (Lentz; Numerical Recipes, 6.4)."""
    if x in (0.0, 1.0):
        return x
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(b, a, 1 - x)
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log(1 - x)) / a
    tiny = 1e-300
    c, d = 1.0, 1 / ((1 - (a + b) * x / (a + 1)) or tiny)
    found = d
    for m in range(1, 300):
        for step in (m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
                     -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))):  # fmt: skip
            d = 1 / ((1 + step * d) or tiny)
            c = (1 + step / c) or tiny
            found *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return front * found


def discoveries(ps: Sequence[float], rate: float = 0.05) -> list[bool]:
    """Which of several findings stand so that at most `rate` of those that stand are expected to be false.

    Benjamini and Hochberg's step-up rule.

    Examples
    --------
    >>> discoveries([0.001, 0.03, 0.2, 0.012])
    [True, True, False, True]
    """
    ps = [1.0 if p != p else p for p in ps]  # noqa: PLR0124 - what is not known is no discovery
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    last = max((rank for rank, i in enumerate(order, 1) if ps[i] <= rate * rank / len(ps)), default=0)
    stands = set(order[:last])
    return [i in stands for i in range(len(ps))]


def proportion_interval(hits: int, of: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a proportion.

    Examples
    --------
    >>> [round(p, 4) for p in proportion_interval(0, 500)]
    [0.0, 0.0076]
    """
    if of == 0:
        return 0.0, 1.0
    z2, p = _z(confidence) ** 2, hits / of
    middle, reach = p + z2 / (2 * of), sqrt(z2) * sqrt(p * (1 - p) / of + z2 / (4 * of * of))
    return max(0.0, (middle - reach) / (1 + z2 / of)), min(1.0, (middle + reach) / (1 + z2 / of))
