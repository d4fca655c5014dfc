"""The element types a convolution may use, as facts: width, precision, range.

Kept apart from numpy: the figures are needed where no array is (bounds, planning, docs).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DType:
    """An element type.

    Attributes
    ----------
    name : str
        Convproof's name: ``f16``, ``bf16``, ``f32``, ``f64``, ``i8``, ``i32``.
    itemsize : int
        Bytes an element.
    precision : int
        Significant bits, the hidden one included; for integers the value bits.
    emin, emax : int
        Exponents of the smallest normal number (2**emin) and of the binade that holds the
        largest finite one (IEEE 754-2019, table 3.5; bfloat16 as in Intel 2018). 0 for integers.

    Examples
    --------
    >>> DTYPES["f32"].unit_roundoff == 2.0**-24
    True
    >>> DTYPES["bf16"].exact_limit
    256
    """

    name: str
    itemsize: int
    precision: int
    emin: int = 0
    emax: int = 0

    @property
    def is_float(self) -> bool:
        """Whether this is a binary floating-point type."""
        return self.emax > 0

    @property
    def unit_roundoff(self) -> float:
        """Half the gap between 1 and the next number, u = 2**-p; 0 for integers."""
        return 2.0**-self.precision if self.is_float else 0.0

    @property
    def max(self) -> float:
        """The largest finite value."""
        if self.is_float:
            return (2.0 - 2.0 ** (1 - self.precision)) * 2.0**self.emax
        return float(2**self.precision - 1)

    @property
    def tiny(self) -> float:
        """The smallest positive normal number; 0 for integers."""
        return 2.0**self.emin if self.is_float else 0.0

    @property
    def eta(self) -> float:
        """The smallest positive subnormal number; 0 for integers."""
        return 2.0 ** (self.emin - self.precision + 1) if self.is_float else 0.0

    @property
    def exact_limit(self) -> int:
        """The largest n such that every integer of magnitude n or less is representable."""
        return (1 << self.precision) - (0 if self.is_float else 1)


DTYPES: dict[str, DType] = {
    d.name: d
    for d in (
        DType("f16", 2, 11, -14, 15),
        DType("bf16", 2, 8, -126, 127),
        DType("f32", 4, 24, -126, 127),
        DType("f64", 8, 53, -1022, 1023),
        DType("i8", 1, 7),
        DType("i32", 4, 31),
    )
}


def dtype(name: str) -> DType:
    """Return the element type called `name`.

    Raises
    ------
    KeyError
        If there is none; the message lists those there are.
    """
    try:
        return DTYPES[name]
    except KeyError:
        raise KeyError(f"unknown dtype {name!r}: the dtypes are {', '.join(DTYPES)}") from None
