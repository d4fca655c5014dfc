"""Quantities as reports write them: three digits, and a unit."""

from __future__ import annotations

from math import floor, isfinite, log10

#: Behind a factor.
TIMES = "\N{MULTIPLICATION SIGN}"
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_SIZES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))


def digits(value: float, count: int = 3) -> str:
    """A number with so many significant digits, never in exponents from 1e-3 to 1e6; empty for NaN.

    Examples
    --------
    >>> digits(0.012345), digits(1.5), digits(123456.0), digits(float("nan")), digits(2.5e-7)
    ('0.0123', '1.50', '123456', '', '2.50e-07')
    """
    if not isfinite(value):
        return "" if value != value else ("∞" if value > 0 else "-∞")  # noqa: PLR0124 - NaN alone differs from itself
    if value == 0:
        return "0"
    place = floor(log10(abs(value)))
    if -3 <= place < 6:
        return f"{value:.{max(0, count - 1 - place)}f}"
    return f"{value:.{count - 1}e}"


def time_unit(seconds: float) -> tuple[float, str]:
    """The largest unit of time in which a duration is 1 or more: its seconds, its name.

    Examples
    --------
    >>> time_unit(2e-5), time_unit(3.0)
    ((1e-06, 'µs'), (1.0, 's'))
    """
    return next(((size, name) for size, name in _UNITS if abs(seconds) >= size), _UNITS[-1])


def duration(seconds: float) -> str:
    """Seconds with three digits and their unit; empty for NaN.

    Examples
    --------
    >>> duration(1.234e-5).split(), duration(0.5).split(), duration(float("nan"))
    (['12.3', 'µs'], ['500', 'ms'], '')
    """
    if not isfinite(seconds):
        return digits(seconds)
    size, name = time_unit(seconds)
    return f"{digits(seconds / size)}\N{NO-BREAK SPACE}{name}"


def times(factor: float) -> str:
    """A factor; empty for NaN.

    Examples
    --------
    >>> times(1.5) == "1.50" + TIMES
    True
    """
    shown = digits(factor)
    return f"{shown}{TIMES}" if shown else ""


def size(count: float) -> str:
    """Bytes with their unit; empty for NaN.

    Examples
    --------
    >>> size(16384).split(), size(3 * 2**20).split()
    (['16', 'KiB'], ['3', 'MiB'])
    """
    if not isfinite(count):
        return digits(count)
    unit, name = next(((unit, name) for unit, name in _SIZES if count >= unit), _SIZES[-1])
    number = f"{count / unit:.3g}" if count < 1000 * unit else f"{count / unit:.0f}"
    return f"{number}\N{NO-BREAK SPACE}{name}"


def percent(share: float, count: int = 2) -> str:
    """A share in per cent; empty for NaN.

    Examples
    --------
    >>> percent(0.0123).split(), percent(0.5).split(), percent(1.25).split()
    (['1.2', '%'], ['50', '%'], ['125', '%'])
    """
    if not isfinite(share):
        return digits(share)
    value = 100 * share
    whole = abs(value) >= 10 ** (count - 1) or value == 0
    return f"{value:.0f}\N{NO-BREAK SPACE}%" if whole else f"{digits(value, count)}\N{NO-BREAK SPACE}%"


def short(name: str, most: int) -> str:
    """A name of at most so many characters.

    Examples
    --------
    >>> short("opencl-direct", 7), short("naive", 7)
    ('opencl…', 'naive')
    """
    return name if len(name) <= most else f"{name[: most - 1]}…"
