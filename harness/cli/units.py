"""Quantities as people write them: `30s`, `5m`, `2GB`, `512MiB`. Seconds and bytes come out."""

from __future__ import annotations

import re

import click

_NUMBER = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z]*)\s*\Z")
_SECONDS = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_BYTES = {
    "": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip


def parse_seconds(text: str) -> float:
    """Seconds of `text`: a number with `ms`, `s`, `m`, `h` or nothing (seconds).

    Examples
    --------
    >>> parse_seconds("60s"), parse_seconds("1.5m"), parse_seconds("0.2")
    (60.0, 90.0, 0.2)
    """
    value, unit = _split(text, "a duration", "30s, 5m, 1h")
    if unit not in _SECONDS:
        raise ValueError(f"{text!r} has the unit {unit!r}: durations take ms, s, m and h")
    return value * _SECONDS[unit]


def parse_bytes(text: str) -> int:
    """Bytes of `text`: a number with `kB`, `MB`, `GB` (powers of 1000), `KiB`, `MiB`, `GiB` (of 1024) or nothing.

    Examples
    --------
    >>> parse_bytes("2GB"), parse_bytes("512 MiB"), parse_bytes("4096")
    (2000000000, 536870912, 4096)
    """
    value, unit = _split(text, "a size", "2GB, 512MiB")
    if unit.lower() not in _BYTES:
        raise ValueError(f"{text!r} has the unit {unit!r}: sizes take kB, MB, GB, KiB, MiB and GiB")
    return int(value * _BYTES[unit.lower()])


def format_bytes(count: float) -> str:
    """`count` bytes in the largest unit that leaves a number of 1 or more.

    Examples
    --------
    >>> format_bytes(0), format_bytes(1536), format_bytes(2 * 10**9)
    ('0 B', '1.5 KiB', '1.9 GiB')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def format_seconds(seconds: float) -> str:
    """A time in the unit that leaves a number from 1 to 1000, three digits.

    Examples
    --------
    >>> format_seconds(0.00123456), format_seconds(2.0), format_seconds(5.1e-8)
    ('1.23 ms', '2.00 s', '51.0 ns')
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9)):
        if seconds >= 0.9995 * size or unit == "ns":
            value = seconds / size
            digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
            return f"{value:.{digits}f} {unit}"
    raise AssertionError("the last unit takes all")


def parse_percent(text: str) -> float:
    """A share of `text`: a number with `%`, or a number from 0 to 1.

    Examples
    --------
    >>> parse_percent("2.5%"), parse_percent("0.025")
    (0.025, 0.025)
    """
    number, sign, rest = text.strip().partition("%")
    try:
        value = float(number) / 100 if sign else float(number)
    except ValueError:
        value = -1.0
    if rest or not 0 < value < 1:
        raise ValueError(f"{text!r} is no share: write 2.5%, or 0.025")
    return value


def _split(text: str, what: str, examples: str) -> tuple[float, str]:
    match = _NUMBER.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not {what}: write {examples}")
    return float(match[1]), match[2]


class Seconds(click.ParamType):
    """An option's duration; seconds as a float."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse `value`."""
        try:
            return float(value) if isinstance(value, int | float) else parse_seconds(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Bytes(click.ParamType):
    """An option's size; bytes as an int."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse `value`."""
        try:
            return value if isinstance(value, int) else parse_bytes(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Percent(click.ParamType):
    """An option's share; a number from 0 to 1."""

    name = "share"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse `value`."""
        try:
            return value if isinstance(value, float) else parse_percent(str(value))  # a default may be 0
        except ValueError as error:
            self.fail(str(error), param, ctx)
