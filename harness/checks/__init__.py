"""The checks: each a small function with its theorem stated, cheapest first.

`CHECKS` is in the order in which they run. A check applies where its theorem holds; elsewhere it is
left out of the plan, with the reason that `applies` gives.
"""

from harness.checks.base import Check, Problem, RunEnded
from harness.checks.contract import CONTRACT
from harness.checks.equivariance import EQUIVARIANCE
from harness.checks.exact import IMPULSES, INTEGERS, LITERAL
from harness.checks.operator import OPERATOR
from harness.checks.real import ZERO_MEAN
from harness.checks.weak import weaken

CHECKS: tuple[Check, ...] = (CONTRACT, LITERAL, INTEGERS, IMPULSES, OPERATOR, ZERO_MEAN, EQUIVARIANCE)

__all__ = ["CHECKS", "Check", "Problem", "RunEnded", "weaken"]
