"""What the timings of a run say, as data frames: ratios, profiles, rooflines, accuracy, phases, noise.

Pure functions of `Run.timings` and `Run.verdicts` (`harness.load(run)`), of `Run.raw` where samples are needed. A
*contender* is a backend, or a backend on one of its devices where the run timed it on several.

References
----------
Dolan, More, "Benchmarking optimization software with performance profiles", Math. Program. 91, 2002.
Williams, Waterman, Patterson, "Roofline: an insightful visual performance model", CACM 52(4), 2009.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import nan
from typing import TYPE_CHECKING

from harness.records import BAD, Status
from harness.samples import Timing

if TYPE_CHECKING:
    import pandas as pd

KEY = ["case", "backend", "device"]
PHASES = ("pack", "transfer", "kernel", "copy")
#: Words before the colon of `refused` that say that nothing was tried, and that the backend claims nothing.
_UNTRIED, _UNCLAIMED = ("NOT_RUN", "UNAVAILABLE"), ("UNSUPPORTED",)
#: The device of a verdict that needed none.
_NOWHERE = "-"


def contenders(timings: pd.DataFrame) -> pd.Series:
    """The contender's name of each row: the backend, with its device where the rows hold several of it.

    Parameters
    ----------
    timings : DataFrame
        With the columns `backend` and `device`; a column `contender` that is there already is taken as it is.
    """
    if "contender" in timings:
        return timings["contender"]
    several = timings.groupby("backend")["device"].transform("nunique") > 1
    return timings["backend"].where(~several, timings["backend"] + " on " + timings["device"])


def outcomes(timings: pd.DataFrame, verdicts: pd.DataFrame) -> pd.DataFrame:
    """What became of each pair of a timed case and a contender.

    Returns
    -------
    DataFrame
        `case`, `backend`, `device`, `contender`, `seconds` (NaN without a figure) and `outcome`:

        ===========  ===============================================================================
        figure       there is one
        refused      the pair passed its checks or was timed, and no figure may be made of it
        failed       a check of this run says that it is wrong, or that it ended badly
        unsupported  the backend declares that it does not take the case
        untried      not timed: the budget, a device or a package was lacking
        ===========  ===============================================================================
    """
    import pandas as pd

    rows = timings[[*KEY, "seconds", "refused"]]
    wanted = verdicts.loc[verdicts["case"].isin(rows["case"]), [*KEY, "status"]]
    # What needed no device holds for each on which the backend was timed.
    nowhere, places = wanted["device"] == _NOWHERE, rows[["backend", "device"]].drop_duplicates()
    wanted = pd.concat([wanted[~nowhere], wanted[nowhere].drop(columns="device").merge(places, on="backend")])
    status = wanted["status"].astype(object)
    held = wanted[KEY].assign(
        bad=status.isin([s.value for s in BAD]), declared=status == Status.UNSUPPORTED.value, passed=status == Status.PASS.value
    )
    judged = held.groupby(KEY, sort=False).agg(bad=("bad", "any"), declared=("declared", "all"), passed=("passed", "any"))
    found = rows.merge(judged.reset_index(), on=KEY, how="outer", sort=True)
    bad, declared = (found[n].eq(True) for n in ("bad", "declared"))
    word = found["refused"].fillna("").astype(object).map(lambda text: text.partition(":")[0])
    outcome = pd.Series("refused", index=found.index, dtype=object)
    outcome = outcome.mask(found["refused"].isna(), "untried").mask(word.isin(_UNTRIED), "untried")
    outcome = outcome.mask(bad | word.isin([s.value for s in BAD]), "failed")
    outcome = outcome.mask(word.isin(_UNCLAIMED) | (declared & found["seconds"].isna()), "unsupported")
    outcome = outcome.mask(found["seconds"].notna(), "figure")
    found = found.assign(contender=contenders(found), outcome=outcome.astype("str"))
    return found[[*KEY, "contender", "seconds", "outcome"]]


def ratio_to_best(timings: pd.DataFrame) -> pd.DataFrame:
    """How many times as long each contender takes as the fastest one.

    Parameters
    ----------
    timings : DataFrame
        `Run.timings`.

    Returns
    -------
    DataFrame
        A row a case that has a figure, a column a contender; 1 is the fastest, NaN is no figure.
    """
    held = timings.assign(contender=contenders(timings)).dropna(subset=["seconds"])
    wide = held.pivot_table(index="case", columns="contender", values="seconds", aggfunc="min", observed=True)
    return wide.div(wide.min(axis=1), axis=0)


def best_ties(timings: pd.DataFrame) -> pd.DataFrame:
    """Whether a contender's interval reaches that of the fastest: which of them is faster cannot be told.

    Returns
    -------
    DataFrame
        As `ratio_to_best`, of bool; the fastest itself is True.
    """
    held = timings.assign(contender=contenders(timings)).dropna(subset=["seconds"])
    order = held.sort_values("seconds", kind="stable")
    edge = held["case"].map(order.groupby("case")["high"].first()).astype("float64")
    ties = held.assign(tie=held["low"] <= edge)
    wide = ties.pivot_table(index="case", columns="contender", values="tie", aggfunc="max", observed=True)
    return wide.eq(1)


def performance_profile(timings: pd.DataFrame, verdicts: pd.DataFrame) -> pd.DataFrame:
    """For each contender the fraction of its cases that it does within a factor tau of the fastest (Dolan & More 2002).

    A pair that was refused or failed takes infinitely long: no tau reaches it. A contender's cases are those that it
    claims; what it declares as unsupported, and what was not tried, counts neither for nor against it. So fractions of
    two contenders may be over different cases, whose number stands beside. Cases without any figure have no fastest
    and are left out.

    Returns
    -------
    DataFrame
        A row a step: `contender`, `tau` (1 or more, rising), `fraction` (0 to 1, of the cases with a ratio of at most
        tau), `cases` (that it claims), `solved` (that have a figure). One with no figure at all has one row, with tau
        NaN and fraction 0.
    """
    return profile_of(outcomes(timings, verdicts))


def profile_of(pairs: pd.DataFrame) -> pd.DataFrame:
    """`performance_profile` of pairs whose `outcomes` are known already."""
    import numpy as np
    import pandas as pd

    best = pairs["case"].map(pairs.groupby("case")["seconds"].min()).astype("float64")
    claimed = pairs[best.notna() & pairs["outcome"].isin(["figure", "refused", "failed"])]
    ratios = (claimed["seconds"] / best[claimed.index]).fillna(np.inf)
    parts = []
    for name, held in ratios.groupby(claimed["contender"]):
        finite = np.sort(held[np.isfinite(held)].to_numpy())
        taus, last = np.unique(finite, return_index=True)
        counts = np.append(last[1:], len(finite)) if len(finite) else np.zeros(1)
        parts.append(
            pd.DataFrame(
                {
                    "contender": name,
                    "tau": taus if len(finite) else [np.nan],
                    "fraction": counts / len(held),
                    "cases": len(held),
                    "solved": len(finite),
                }
            )
        )
    columns = ["contender", "tau", "fraction", "cases", "solved"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def roofline(timings: pd.DataFrame, dtypes: Mapping[str, str] | None = None) -> pd.DataFrame:
    """The points of a roofline: operations a byte and operations a second, by the specification's own counts.

    Parameters
    ----------
    timings : DataFrame
    dtypes : mapping of str to str, optional
        The element type of the cases whose timing does not tell it (`dtype` of its details).

    Returns
    -------
    DataFrame
        `case`, `backend`, `device`, `contender`, `dtype` (empty where unknown), `intensity` (FLOP/B), `gflops`, `roof`
        (the share of what the roofline allows); rows with a figure, flops and bytes alone.
    """
    import json

    held = timings.assign(contender=contenders(timings))
    held = held[held["seconds"].notna() & (held["flops"] > 0) & (held["bytes"] > 0)]
    known = dtypes or {}
    told = [
        json.loads(text).get("dtype") or known.get(case, "") for text, case in zip(held["details"], held["case"], strict=True)
    ]
    held = held.assign(intensity=held["flops"] / held["bytes"], dtype=told)
    return held[[*KEY, "contender", "dtype", "intensity", "gflops", "roof"]].reset_index(drop=True)


def pareto(timings: pd.DataFrame, error: str = "error_units") -> pd.DataFrame:
    """Time against accuracy, case by case.

    Parameters
    ----------
    timings : DataFrame
    error : {'error_units', 'error_bound'}

    Returns
    -------
    DataFrame
        `case`, `backend`, `device`, `contender`, `ratio` (seconds to those of the fastest), `error`, and `front`: no
        other contender is on this case both as fast and as accurate, and better in one. Rows with both alone.
    """
    import numpy as np

    held = timings.assign(contender=contenders(timings), error=timings[error]).dropna(subset=["seconds", "error"])
    held = held.assign(ratio=held["seconds"] / held.groupby("case")["seconds"].transform("min"))
    front = np.zeros(len(held), bool)
    ratios, errors = held["ratio"].to_numpy(), held["error"].to_numpy()
    for places in held.groupby("case").indices.values():
        front[places] = undominated(ratios[places], errors[places])
    return held.assign(front=front)[[*KEY, "contender", "ratio", "error", "front"]].reset_index(drop=True)


def undominated(first: Iterable[float], second: Iterable[float]) -> list[bool]:
    """Which points no other point is at most equal to in both and below in one.

    Examples
    --------
    >>> undominated([1, 2, 3, 1], [3, 1, 2, 3])
    [True, True, False, True]
    """
    points = list(zip(first, second, strict=True))
    return [not any(a <= x and b <= y and (a < x or b < y) for a, b in points) for x, y in points]


def pareto_summary(points: pd.DataFrame) -> pd.DataFrame:
    """A row a contender: where the middle of its points lies.

    Parameters
    ----------
    points : DataFrame
        Of `pareto`.

    Returns
    -------
    DataFrame
        `contender`, `cases`, `ratio` (geometric mean), `ratio_low` and `ratio_high` (quartiles), `error` (median),
        `error_low` and `error_high` (quartiles), `on_front` (share of its cases), and `front`, of these middles.
    """
    import numpy as np
    import pandas as pd

    rows = []
    for name, held in points.groupby("contender"):
        ratio, error = (held[n].quantile([0.25, 0.75]).tolist() for n in ("ratio", "error"))
        middle = float(np.exp(np.log(held["ratio"]).mean()))
        near = min(ratio[0], middle), max(ratio[1], middle)
        rows.append((name, len(held), middle, *near, held["error"].median(), *error, held["front"].mean()))
    columns = ["contender", "cases", "ratio", "ratio_low", "ratio_high", "error", "error_low", "error_high", "on_front"]
    found = pd.DataFrame(rows, columns=columns)
    return found.assign(front=undominated(found["ratio"], found["error"]))


def phases(timings: pd.DataFrame) -> pd.DataFrame:
    """Where the time of a call goes, and what comes on top of it.

    Returns
    -------
    DataFrame
        A row a figure: `case`, `backend`, `device`, `contender`; `pack`, `transfer`, `kernel`, `copy`, as shares of
        the median, which includes all of them (NaN where the backend does not tell), `other`, what they leave of it;
        `cold`, a call with cold caches to a warm one; `setup` and `setup_warm`, the first and the next `prepare` in calls.
    """
    held = timings.assign(contender=contenders(timings)).dropna(subset=["seconds"])
    shares = {name: held[f"{name}_seconds"] / held["seconds"] for name in PHASES}
    made = held[[*KEY, "contender"]].assign(**shares)
    told = made[list(PHASES)]
    other = (1 - told.sum(axis=1)).clip(lower=0).where(told.notna().any(axis=1))
    more = {n: held[f"{n}_seconds"] / held["seconds"] for n in ("cold", "setup", "setup_warm")}
    return made.assign(other=other, **more).reset_index(drop=True)


def noise_of(timings: pd.DataFrame, raw: Iterable[Timing]) -> pd.DataFrame:
    """How well each figure is known, from its warm samples by the host's clock.

    Parameters
    ----------
    timings : DataFrame
        `Run.timings`.
    raw : iterable of Timing
        `Run.raw`: the samples of the same figures.

    Returns
    -------
    DataFrame
        A row a figure: `case`, `backend`, `device`, `contender`, and relative to the median `half_width` of its
        interval, `spread` (the largest less the smallest median of a process; NaN with one process), `drift` (the median
        over processes of their later half less their earlier half; NaN with fewer than four calls), `tail` (the 95th
        percentile less the median).
    """
    import pandas as pd

    held = timings.assign(contender=contenders(timings)).dropna(subset=["seconds"])
    made = held[[*KEY, "contender"]].assign(half_width=(held["high"] - held["low"]) / 2 / held["seconds"])
    samples = {(t.case, t.backend, t.device): t.of("wall") for t in raw}
    keys = zip(*(held[n] for n in (*KEY, "seconds")), strict=True)
    more = [_unsteady(samples.get((case, backend, device), []), seconds) for case, backend, device, seconds in keys]
    found = pd.DataFrame(more, columns=["spread", "drift", "tail"], index=made.index, dtype="float64")
    return made.join(found).reset_index(drop=True)


def _unsteady(walls: Sequence[Sequence[float]], median: float) -> tuple[float, float, float]:
    """Spread, drift and tail of the samples of one figure."""
    middles = [_middle(w) for w in walls]
    drifts = [_middle(w[len(w) // 2 :]) - _middle(w[: len(w) // 2]) for w in walls if len(w) > 3]
    pooled = sorted(s for w in walls for s in w)
    return (
        (max(middles) - min(middles)) / median if len(middles) > 1 else nan,
        _middle(drifts) / median if drifts else nan,
        pooled[round(0.95 * (len(pooled) - 1))] / median - 1 if pooled else nan,
    )


def _middle(values: Iterable[float]) -> float:
    """The median; several times as fast as NumPy's on a few dozen numbers."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
