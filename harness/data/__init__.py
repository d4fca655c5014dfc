"""The data of a case: drawn from (seed, case id, recipe, operand), the same bits on every machine."""

from harness.data.operands import Operands
from harness.data.recipes import RECIPES, SEEDED, draw

__all__ = ["RECIPES", "SEEDED", "Operands", "draw"]
