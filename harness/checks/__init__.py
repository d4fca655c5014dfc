"""The checks: each a small function with its theorem stated, cheapest first.

`CHECKS` is in the order in which they run. A check applies where its theorem holds; elsewhere it is
left out of the plan, with the reason that `applies` gives.
"""

from harness.checks.adjoint import ADJOINT, ADJOINT_CONV, TRANSPOSED
from harness.checks.algorithm import ALGORITHM_CLASS
from harness.checks.base import Check, Problem, RunEnded, Trial
from harness.checks.contract import CONTRACT
from harness.checks.equivariance import EQUIVARIANCE
from harness.checks.exact import IMPULSES, INTEGERS, LITERAL
from harness.checks.factoring import COMPOSITION, SEPARABLE
from harness.checks.infinity import INFINITY
from harness.checks.layouts import LAYOUT
from harness.checks.linear import LINEAR_INPUT, LINEAR_WEIGHTS
from harness.checks.matrices import CIRCULANT, EIGENVALUES, TOEPLITZ
from harness.checks.metamorphic import NEGATION, REPEAT, SCALING, ZERO_INPUT
from harness.checks.operator import OPERATOR
from harness.checks.pooling import GLOBAL_POOL, MONOTONE, POOL_CONVOLUTION, POOL_ORDER
from harness.checks.real import (
    DENORMAL,
    GRADED,
    IDENTITY,
    NEAR_OVERFLOW,
    POSITIVE,
    WIDE_RANGE,
    ZERO_MEAN,
)
from harness.checks.resampling import STUFFING, SUBSAMPLING
from harness.checks.splitting import BATCH, CHANNELS, GROUPS
from harness.checks.state import CONCURRENCY, STALE_BIAS, STALE_FLIP, STALE_WEIGHTS, THREADS
from harness.checks.symmetry import REVERSAL, ROTATION, TRANSPOSITION
from harness.checks.taint import NAN_TAINT, READ_GUARDS
from harness.checks.weak import weaken

CHECKS: tuple[Check, ...] = (
    CONTRACT, LITERAL, INTEGERS, IMPULSES, OPERATOR, NAN_TAINT, READ_GUARDS,
    IDENTITY, REPEAT, ZERO_INPUT, NEGATION, SCALING,
    ZERO_MEAN, POSITIVE, GRADED, WIDE_RANGE, DENORMAL, NEAR_OVERFLOW, INFINITY,
    EQUIVARIANCE, LAYOUT, STALE_WEIGHTS, STALE_BIAS, STALE_FLIP, CONCURRENCY, THREADS,
    REVERSAL, TRANSPOSITION, ROTATION, BATCH, CHANNELS, GROUPS, SUBSAMPLING, STUFFING, SEPARABLE, COMPOSITION,
    LINEAR_INPUT, LINEAR_WEIGHTS, ADJOINT, ADJOINT_CONV, TRANSPOSED, TOEPLITZ, CIRCULANT, EIGENVALUES,
    POOL_CONVOLUTION, POOL_ORDER, MONOTONE, GLOBAL_POOL, ALGORITHM_CLASS,
)  # fmt: skip

__all__ = ["CHECKS", "Check", "Problem", "RunEnded", "Trial", "weaken"]
