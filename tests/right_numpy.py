"""The right convolution of `backends.planted`, at hand for tests by a file's name."""

from backends.planted.right import NOWHERE, Plan, Planned, Right, backend, planned

__all__ = ["NOWHERE", "Plan", "Planned", "Right", "backend", "planned"]
