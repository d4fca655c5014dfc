"""The planted faults that are held to a check: each is failed by the check that is meant for it.

`MEANT` names, for each check, faults of `backends.planted` that it fails on some case of `smoke` (and of `ALSO`, cases of
the gate that smoke lacks). Those before the bar are *alone*: no check that runs before that one sees them, so that they
show that the check is needed. `wrong_backends.py:backends.flipped_kernel` reaches a fault by a file's name.
"""

from dataclasses import dataclass

from backends import planted
from backends.planted.channels import EveryGroupReadsGroup0, FlippedKernel, GroupIsModulo
from backends.planted.precision import significant

__all__ = ["WRONG", "EveryGroupReadsGroup0", "FlippedKernel", "GroupIsModulo", "Wrong", "backends", "significant"]

#: Check to (alone | others).
MEANT = {
    "contract": """
        last-column-not-written | corner-not-written accumulates-into-out writes-past-out input-modified-in-place
        flips-weights-in-place
    """,
    "literal": """
        flip-ignored | flipped-kernel pads-swapped stride-dilation-swapped dilation-ignored every-group-reads-group0
        group-is-modulo bias-twice bias-ignored reflect-repeats-the-edge circular-reads-zeros
        circular-needs-high-padding pads-made-symmetric pads-interleaved max-starts-from-zero
        row-pitch-of-the-other-axis reads-past-the-input weights-packed-by-shape taps-in-random-order last-writer-wins
        stride-of-the-first-axis last-column-zero-in-the-tail-8 tail-starts-at-the-vector-count-8 last-row-dropped
        ceil-for-floor first-column-masked fft-declared-direct
    """,
    "integers": """
        sum-wraps-to-int16 | dilation-of-the-first-axis depthwise-ignores-dilation channel-tail-zero-8
        bias-of-the-wrong-group bias-after-rounding circular-axes-swapped replicate-reads-one-in
        avg-always-divides-by-k overhang-counted output-padding-is-zero transposed-weights-out-first weights-in-first
        window-in-padding-copies-its-neighbour crop-ignored first-sample-for-all unsigned-bytes accumulates-in-f16
        accumulates-in-the-input-type tf32 bfloat16-operands four-bits indices-in-f16 pairs-saturate
    """,
    "impulses": "separable-path-ignores-dilation | wrong-from-the-third-call skips-zero-channels sparse-run-overflows",
    "operator": "lone-impulse-at-the-border |",
    "nan_taint": "reads-one-tap-more | max-swallows-nan",
    "read_guards": "max-reads-past-the-input |",
    "identity": "two-bfloat16-terms | multiplication-by-one-is-a-copy",
    "repeat": "flag-never-cleared | repeats-from-an-f16-cache",
    "zero_input": "zero-input-gives-zero |",
    "negation": "rounds-downward |",
    "scaling": "small-numbers-are-noise |",
    "zero_mean": "long-sums-in-twenty-bits | weights-through-text",
    "positive": "avg-truncates |",
    "graded": "fixed-point32 | winograd-declared-direct",
    "wide_range": "fixed-point48 |",
    "denormal": "flushes-subnormals |",
    "near_overflow": "scales-to-keep-subnormals |",
    "infinity": "clips-to-finite |",
    "equivariance": "results-kept-by-checksum |",
    "layouts": "strides-ignored |",
    "stale_weights": "weights-kept-by-checksum | results-kept-by-input bias-kept-with-weights",
    "stale_bias": "key-lacks-bias |",
    "stale_flip": "key-lacks-flip |",
    "concurrency": "scratch-shared |",
}
#: Cases besides smoke on which a fault is looked for.
ALSO = {
    "bias-after-rounding": ("basic-type-bias-*",),
    "weights-in-first": ("topology-tcn-block-d4",),
    "long-sums-in-twenty-bits": ("topology-resnet50-res2a-branch2b",),
}


@dataclass(frozen=True)
class Wrong:
    """A planted fault and the check that is meant for it."""

    planted: planted.Fault
    caught_by: str
    alone: bool

    @property
    def name(self):
        return self.planted.name

    @property
    def fault(self):
        return self.planted.what

    @property
    def attribute(self):
        """Its name in `backends`."""
        return self.planted.attribute

    @property
    def also(self):
        return ALSO.get(self.name, ())


class Backends:
    """Every planted fault's backend, a fresh one each time, by its name with `_`."""

    def __getattr__(self, name):
        return getattr(planted, name)

    def __dir__(self):
        return dir(planted)


backends = Backends()


def _meant():
    by_name = {f.name: f for f in planted.FAULTS}
    for check, names in MEANT.items():
        alone, _, others = names.partition("|")
        yield from (Wrong(by_name[n], check, True) for n in alone.split())
        yield from (Wrong(by_name[n], check, False) for n in others.split())


WRONG = list(_meant())
