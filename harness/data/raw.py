"""Raw random words from a key, and their exact mapping to numbers.

A counter-based generator (Philox4x64-10; Salmon et al., "Parallel random numbers: as easy as
1, 2, 3", SC11) is read as raw words, whose stream numpy guarantees; numpy's *distributions* may
change between releases, so words are mapped here, by shifts and powers of two alone.
"""

from __future__ import annotations

import hashlib

import numpy as np

from harness.spec import DType
from harness.spec.host import numpy_dtype


def words(n: int, *key: object) -> np.ndarray:
    """`n` 64-bit words, a pure function of `key` (the parts' texts).

    Examples
    --------
    >>> [hex(w) for w in words(2, 0, "case", "recipe", "x").tolist()] == [
    ...     hex(w) for w in words(3, 0, "case", "recipe", "x").tolist()[:2]]
    True
    """
    text = "\0".join(map(str, key)).encode()
    digest = hashlib.blake2b(text, digest_size=16).digest()
    generator = np.random.Philox(key=int.from_bytes(digest, "little"))
    raw: np.ndarray = generator.random_raw(n)
    return raw


def nonzero_integers(w: np.ndarray, low: int, high: int) -> np.ndarray:
    """Map words to the integers of [low, high] other than 0, float64.

    The map is a multiply-shift of the upper 32 bits, so no value's share differs from another's by
    more than one part in 2**32 / (high - low).
    """
    zero = int(low <= 0 <= high)
    span = np.uint64(high - low + 1 - zero)
    v = ((w >> np.uint64(32)) * span >> np.uint64(32)).astype(np.int64) + low
    if zero:
        v += v >= 0
    return v.astype(np.float64)


def s_fill(w: np.ndarray, t: DType) -> np.ndarray:
    """Map words to random sign x [1, 2), every bit of the significand random; dtype of `t`.

    Zero-mean with bounded entries: a Gaussian's tail would pass 8 u in some million outputs.
    """
    bits = t.precision - 1
    frac = (w >> np.uint64(64 - bits)).astype(np.float64) * 2.0**-bits
    return (signs(w) * (1.0 + frac)).astype(numpy_dtype(t.name))


def signs(w: np.ndarray) -> np.ndarray:
    """Map words to -1.0 or 1.0 by their lowest bit."""
    return 1.0 - 2.0 * (w & np.uint64(1)).astype(np.float64)
