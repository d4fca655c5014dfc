"""The arrays that go into a backend, as one value."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True, eq=False)
class Operands:
    """Input, weights and bias of one call.

    Attributes
    ----------
    x : ndarray, (batch, in_channels, in_size...), the specification's input dtype
    w : ndarray or None, `ConvSpec.w_shape`, the same dtype
    b : ndarray or None, (out_channels,), the accumulator's dtype
    """

    x: np.ndarray
    w: np.ndarray | None = None
    b: np.ndarray | None = None

    @property
    def arrays(self) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
        """(x, w, b)."""
        return self.x, self.w, self.b

    @cached_property
    def digest(self) -> str:
        """Sixteen hex digits of the arrays' bytes, types and shapes."""
        h = hashlib.blake2b(digest_size=8)
        for a in self.arrays:
            h.update(repr(None if a is None else (a.shape, a.dtype.name)).encode())
            if a is not None:
                h.update(np.ascontiguousarray(a).view(np.uint8).data if a.size else b"")
        return h.hexdigest()
