"""Faults of circular, reflected and replicated padding, and of `same` padding worked out anew."""

from __future__ import annotations

import numpy as np

from backends.planted.fault import each, planted
from backends.planted.right import NOWHERE, Right
from harness.spec import ConvSpec


@planted("BORDER")
class ReflectRepeatsTheEdge(Right):
    """Reflection is about the edge of the last element, not about its centre."""

    def beyond(self, spec: ConvSpec, axis: int, at: np.ndarray, n: int) -> np.ndarray:
        if spec.padding_mode == "reflect":
            return np.where(at < 0, -at - 1, 2 * n - 1 - at)
        return super().beyond(spec, axis, at, n)


@planted("BORDER", real="pytorch/pytorch#20981")
class CircularReadsZeros(Right):
    """Circular padding is zero padding."""

    def beyond(self, spec: ConvSpec, axis: int, at: np.ndarray, n: int) -> np.ndarray:
        return np.full_like(at, NOWHERE) if spec.padding_mode == "circular" else super().beyond(spec, axis, at, n)


@planted("BORDER", real="pytorch/pytorch#24504")
class CircularNeedsHighPadding(Right):
    """Circular padding vanishes where the high side is 0, for the slice that is copied ends at -0."""

    def beyond(self, spec: ConvSpec, axis: int, at: np.ndarray, n: int) -> np.ndarray:
        found = super().beyond(spec, axis, at, n)
        return np.full_like(at, NOWHERE) if spec.padding_mode == "circular" and spec.padding[axis][1] == 0 else found


@planted("BORDER", real="pytorch/pytorch#37844")
class CircularAxesSwapped(Right):
    """The padding of the first axis goes to the last one, and back; what is missing reads zeros."""

    def beyond(self, spec: ConvSpec, axis: int, at: np.ndarray, n: int) -> np.ndarray:
        found = super().beyond(spec, axis, at, n)
        if spec.padding_mode != "circular":
            return found
        lo, hi = spec.padding[spec.rank - 1 - axis]
        return np.where((at >= -lo) & (at < n + hi), found, NOWHERE)


@planted("BORDER")
class ReplicateReadsOneIn(Right):
    """Replication repeats the element next to the edge."""

    def beyond(self, spec: ConvSpec, axis: int, at: np.ndarray, n: int) -> np.ndarray:
        if spec.padding_mode == "replicate":
            return np.clip(at, min(1, n - 1), max(0, n - 2))
        return super().beyond(spec, axis, at, n)


@planted(
    "BORDER",
    over=[
        {"mode": m, "as_if": t}
        for m, t in (("circular", "replicate"), ("reflect", "replicate"), ("replicate", "zeros"), ("reflect", "circular"))
    ],
)
class ModeTakenForAnother(Right):
    """Padding that is {mode} is done as {as_if}."""

    mode, as_if = "circular", "zeros"

    def beyond(self, spec: ConvSpec, axis: int, at: np.ndarray, n: int) -> np.ndarray:
        if spec.padding_mode != self.mode:
            return super().beyond(spec, axis, at, n)
        if self.as_if == "replicate":
            return np.clip(at, 0, n - 1)
        return at % n if self.as_if == "circular" else np.full_like(at, NOWHERE)


@planted("BORDER")
class CircularWrapsOneOff(Right):
    """Circular padding begins with the last but one element."""

    def beyond(self, spec: ConvSpec, axis: int, at: np.ndarray, n: int) -> np.ndarray:
        found = super().beyond(spec, axis, at, n)
        return np.where(at < 0, (at - 1) % n, found) if spec.padding_mode == "circular" else found


@planted("BORDER", over=each("side", "low", "high"))
class ModeOnOneSide(Right):
    """Only the {side} side is padded as the mode says, the other one by zeros."""

    side = "low"

    def beyond(self, spec: ConvSpec, axis: int, at: np.ndarray, n: int) -> np.ndarray:
        found = super().beyond(spec, axis, at, n)
        return np.where(at < 0 if self.side == "low" else at >= n, found, NOWHERE)


@planted("BORDER")
class ModeOnTheLastAxis(Right):
    """Only the last axis is padded as the mode says, the others by zeros."""

    def beyond(self, spec: ConvSpec, axis: int, at: np.ndarray, n: int) -> np.ndarray:
        found = super().beyond(spec, axis, at, n)
        return found if axis == spec.rank - 1 else np.full_like(at, NOWHERE)


@planted("BORDER")
class ReflectsTheLowSideTwice(Right):
    """The high side is padded with the reflection of the low end."""

    def beyond(self, spec: ConvSpec, axis: int, at: np.ndarray, n: int) -> np.ndarray:
        found = super().beyond(spec, axis, at, n)
        return np.where(at >= n, np.clip(at - n + 1, 0, n - 1), found) if spec.padding_mode == "reflect" else found


class SamePadding(Right):
    """A backend that is told `same` and works the amounts out anew, wrongly; other padding is right."""

    def low(self, n: int, m: int, s: int, d: int, lo: int, hi: int) -> int:
        """The low padding that is used where (lo, hi) is the right `same` padding."""
        return lo

    def positions(self, spec: ConvSpec, axis: int) -> np.ndarray:
        at = super().positions(spec, axis)
        a = spec.axes[axis]
        total = max(0, (-(-a.n // a.s) - 1) * a.s + a.extent - a.n)
        same = spec.op == "conv" and a.lo + a.hi == total and abs(a.lo - a.hi) <= 1
        return at + a.lo - self.low(a.n, a.m, a.s, a.d, a.lo, a.hi) if same else at


@planted("SAMEPAD", real="onnx/onnx#2043")
class SameUpperIsLower(SamePadding):
    """An odd total's extra element goes in front, where `same_upper` puts it behind."""

    def low(self, n: int, m: int, s: int, d: int, lo: int, hi: int) -> int:
        """The larger half."""
        return max(lo, hi)


@planted("SAMEPAD", real="tensorflow/tensorflow#14601")
class SameLowerIsUpper(SamePadding):
    """An odd total's extra element goes behind, where `same_lower` puts it in front."""

    def low(self, n: int, m: int, s: int, d: int, lo: int, hi: int) -> int:
        """The smaller half."""
        return min(lo, hi)


@planted("SAMEPAD")
class SameIgnoresDilation(SamePadding):
    """The total is worked out from K - 1, the dilation left out."""

    def low(self, n: int, m: int, s: int, d: int, lo: int, hi: int) -> int:
        """Half of a dense kernel's total, the right way up."""
        total = max(0, (-(-n // s) - 1) * s + m - n)
        return total // 2 if lo <= hi else -(-total // 2)


@planted("SAMEPAD")
class SameIgnoresStride(SamePadding):
    """The total is the extent less one, as for stride 1."""

    def low(self, n: int, m: int, s: int, d: int, lo: int, hi: int) -> int:
        """Half of the extent less one, the right way up."""
        total = d * (m - 1)
        return total // 2 if lo <= hi else -(-total // 2)


@planted("SAMEPAD")
class SameTotalNotClamped(SamePadding):
    """Where the stride exceeds the kernel the total is negative, and half of it crops the input."""

    def low(self, n: int, m: int, s: int, d: int, lo: int, hi: int) -> int:
        """Half of what may be negative, the right way up."""
        total = (-(-n // s) - 1) * s + d * (m - 1) + 1 - n
        return total // 2 if lo <= hi else -(-total // 2)
