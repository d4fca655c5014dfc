"""The floating-point mode of the calling thread, found by arithmetic: rounding and flushing."""

from __future__ import annotations

NORMAL = "to nearest, gradual underflow"

_ONE, _HALF_ULP, _TINY, _ETA = 1.0, 2.0**-53, 2.0**-1022, 5e-324


def fp_mode() -> str:
    """Describe the mode; `NORMAL` if it is what IEEE 754 starts with.

    CPython computes float64 in the same unit and mode as compiled code on the thread (MXCSR on x86,
    FPCR on ARM), so five operations tell.
    """
    one, half, tiny, eta = _ONE, _HALF_ULP, _TINY, _ETA
    if one + half > one:
        rounding = "upward"
    elif -one - half < -one:
        rounding = "downward"
    elif one - half * 0.25 < one:
        rounding = "toward zero"
    else:
        rounding = "to nearest"
    flush = "flush to zero" if tiny * 0.5 == 0.0 else "gradual underflow"
    inputs = ", subnormal inputs read as zero" if eta * one == 0.0 else ""
    return f"{rounding}, {flush}{inputs}"
