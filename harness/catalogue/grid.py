"""A grid's points and their ids.

An id is the entry's id followed by one part a field, in the fixed order of `SPEC_FIELDS`
(`variant` first): the field's short name and its value, or the value's label alone. So it
depends neither on the order of the grid's keys nor on which other values there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from harness.catalogue.errors import nearest
from harness.catalogue.fields import SPEC_FIELDS
from harness.catalogue.models import ID, show

#: Cases that one grid may hold; more is a typing error or an attack.
MAX_POINTS = 4096
_ORDER = ("variant", *SPEC_FIELDS)
_SHORT = {
    "in_size": "n", "kernel_size": "k", "batch": "b", "in_channels": "ci", "out_channels": "co", "stride": "s",
    "padding": "p", "dilation": "d", "groups": "g", "output_padding": "op", "acc_dtype": "acc-", "out_dtype": "out-",
    "op": "", "padding_mode": "", "dtype": "",
}  # fmt: skip
_FLAGS = ("bias", "flip", "ceil_mode", "count_include_pad")


@dataclass(frozen=True)
class Point:
    """One combination: what its id adds, the fields it sets, and the grid field that set each."""

    suffix: str
    fields: Mapping[str, Any]
    origin: Mapping[str, tuple[str, Any]]


def part(name: str, value: Any) -> str:
    """The part of an id that says ``name = value``.

    Raises
    ------
    ValueError
        If the value is too structured to be written in an id: it needs a label.

    Examples
    --------
    >>> part("stride", 2), part("in_size", [5, 7]), part("padding", -1), part("padding_mode", "circular")
    ('s2', 'n5x7', 'pm1', 'circular')
    >>> part("flip", False), part("ceil_mode", True), part("op", "max_pool")
    ('no-flip', 'ceil-mode', 'max-pool')
    """
    if name in _FLAGS and isinstance(value, bool):
        return ("" if value else "no-") + name.replace("_", "-")
    short = _SHORT.get(name, "")
    if type(value) is int:
        return short + str(value).replace("-", "m")
    if isinstance(value, str) and ID.fullmatch(word := value.replace("_", "-")):
        return short + ("-" if short and not short.endswith("-") else "") + word
    if isinstance(value, list) and value and all(type(v) is int for v in value):
        return short + "x".join(str(v).replace("-", "m") for v in value)
    raise ValueError(f"{show(value)} cannot be part of an id: write the values as {{label: value}}")


def points(grid: Mapping[str, Any], excluded: Sequence[Mapping[str, Any]]) -> Iterator[Point]:
    """The grid's combinations, the first field of the fixed order varying slowest.

    Raises
    ------
    ValueError
        On an unknown field, a value without a name, too many points, or an exclusion that matches none.
    """
    for name in grid:
        if name not in _ORDER:
            raise ValueError(f"grid has no field {name!r}: {nearest(name, _ORDER)}")
    names = [n for n in _ORDER if n in grid]
    axes = [_labelled(n, grid[n]) for n in names]
    if (count := prod(map(len, axes))) > MAX_POINTS:
        raise ValueError(f"the grid has {count} combinations: an entry holds at most {MAX_POINTS}")
    used: set[int] = set()
    for combination in product(*axes):
        chosen = dict(zip(names, combination, strict=True))
        hits = [i for i, e in enumerate(excluded) if _matches(e, chosen)]
        used.update(hits)
        if not hits:
            yield _point(chosen)
    for i, e in enumerate(excluded):
        if i not in used:
            raise ValueError(f"except entry {i + 1} ({dict(e)}) matches no combination of the grid")


def _labelled(name: str, values: Any) -> list[tuple[str, Any]]:
    """(part of the id, value) for each value of a field."""
    if isinstance(values, dict):
        for label in values:
            if not ID.fullmatch(label):
                raise ValueError(f"grid label {label!r} of {name}: lower-case words and digits joined by hyphens")
        pairs = list(values.items())
    elif name == "variant":
        raise ValueError("grid field variant takes {label: {field: value}}")
    else:
        pairs = [(part(name, v), v) for v in values]
    labels = [label for label, _ in pairs]
    if not pairs or len(set(labels)) < len(labels):
        raise ValueError(f"grid field {name} " + ("holds a value twice" if pairs else "has no values"))
    return pairs


def _matches(exclusion: Mapping[str, Any], chosen: Mapping[str, tuple[str, Any]]) -> bool:
    """Whether every field of the exclusion has the chosen label or value."""
    for name, wanted in exclusion.items():
        if name not in chosen:
            raise ValueError(f"except names {name!r}, which the grid does not vary: {nearest(name, chosen)}")
        label, value = chosen[name]
        same = type(wanted) is type(value) and wanted == value
        if not (same or wanted == label):
            return False
    return bool(exclusion)


def _point(chosen: Mapping[str, tuple[str, Any]]) -> Point:
    fields: dict[str, Any] = {}
    origin: dict[str, tuple[str, Any]] = {}
    for name, (label, value) in chosen.items():
        sets = value if name == "variant" else {name: value}
        if not isinstance(sets, dict):
            raise ValueError(f"variant {label!r} takes a mapping of fields: got {show(sets)}")
        for key in sets:
            if key not in SPEC_FIELDS:
                raise ValueError(f"variant {label!r} has no field {key!r}: {nearest(key, SPEC_FIELDS)}")
            if key in fields:
                raise ValueError(f"{key} is set by the variant {chosen['variant'][0]!r} and varied by the grid too")
        fields |= sets
        origin |= dict.fromkeys(sets, (name, label))
    return Point("-".join(label for label, _ in chosen.values()), fields, origin)
