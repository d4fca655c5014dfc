"""The list of hypotheses, and how one joins it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations

from harness.diagnose.evidence import Evidence, Prediction

#: What a hypothesis yields: words for what the backend would have done, and the outputs that this gives.
Variant = tuple[str, Prediction]
Generate = Callable[[Evidence], Iterator[Variant]]


@dataclass(frozen=True)
class Hypothesis:
    """A named family of predictions; `text` says what they have in common."""

    id: str
    generate: Generate

    @property
    def text(self) -> str:
        """One line on it."""
        return (self.generate.__doc__ or "").partition("\n")[0]


#: In the order in which they are tried; of several that reproduce an output the first is reported first.
HYPOTHESES: list[Hypothesis] = []


def hypothesis(name: str) -> Callable[[Generate], Generate]:
    """Add a generator of predictions to the list."""

    def add(generate: Generate) -> Generate:
        HYPOTHESES.append(Hypothesis(name, generate))
        return generate

    return add


def letters(rank: int) -> str:
    """Names of the spatial axes.

    Examples
    --------
    >>> letters(2)
    'HW'
    """
    return "DHW"[3 - rank :]


def named(rank: int, axes: tuple[int, ...]) -> str:
    """Some spatial axes in words.

    Examples
    --------
    >>> named(3, (0, 2))
    'D and W'
    """
    return " and ".join(letters(rank)[a] for a in axes)


def subsets(rank: int, least: int = 1) -> Iterator[tuple[int, ...]]:
    """All axes, then fewer of them."""
    for size in range(rank, least - 1, -1):
        yield from combinations(range(rank), size)
