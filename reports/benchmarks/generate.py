"""`python -m reports.benchmarks.generate`: write `parameters.json` from the catalogue and the registry; `--check` compares.

The cases are a list with a reason each. A suite runs every case on every backend at every commit, a process each, so it
holds one layer of each kind, and the smallest that networks have: at most `MOST_FLOPS`, 50 ms or less for most backends.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

from .parameters import FILE, Parameters, labelled

#: Of the data; any number would do.
SEED = 20261122
#: One: what waits for a second core measures who else is on the machine.
THREADS = 1
#: Half a GFLOP/s, plain loops on one old core, take 80 ms for it.
MOST_FLOPS = 40_000_000
#: Case to what it is there for.
CASES: Mapping[str, str] = {
    "perf-tcn-residual-1x1": "the cost of a call: one product an output",
    "perf-wavenet-residual-1x1": "1x1 along 8000 samples",
    "perf-mobilenetv2-block3-project": "1x1 that narrows, a large picture",
    "perf-mobilenetv2-block15-expand": "1x1 that widens, a small picture",
    "perf-googlenet-5a-pool-proj": "1x1 over 832 channels",
    "perf-mobilenetv2-classifier": "a matrix times a vector, with a bias",
    "perf-googlenet-5a-3x3": "dense 3x3, stride 1: what Winograd is for",
    "perf-mobilenetv2-conv1": "3x3 with stride 2 of the three channels of a picture",
    "perf-googlenet-3a-5x5": "5x5, few channels",
    "perf-googlenet-5b-5x5": "5x5 over 7x7: most windows reach over the border",
    "perf-mobilenetv2-block12-dw": "depthwise 3x3",
    "perf-mobilenetv2-block2-dw": "depthwise 3x3 with stride 2",
    "perf-mobilenetv2-block17-dw": "depthwise 3x3 of 960 channels over 7x7",
    "perf-tcn-block-d1": "seven taps along one axis",
    "perf-tcn-block-d64": "the same, dilated by 64",
    "perf-resnet50-pool1": "overlapping maxima, stride 2",
    "perf-vgg16-pool3": "2x2 maxima",
    "perf-googlenet-4a-pool": "3x3 maxima, stride 1",
    "perf-c3d-pool4": "maxima on three axes",
    "perf-mobilenetv2-avgpool": "the mean of a whole picture",
    "perf-inceptionv3-pool-avg": "3x3 means",
}


def current() -> Parameters:
    """The parameters as the catalogue and the built-in backends make them today.

    Raises
    ------
    ValueError
        If a case of `CASES` is not in the catalogue, or too large.
    """
    from harness.catalogue import load_catalogue, packaged_files
    from harness.registry import Registry

    known = {c.id: c for c in load_catalogue(packaged_files()).cases}
    labels = []
    for name in CASES:
        case = known.get(name)
        if case is None or case.spec is None:
            raise ValueError(f"case {name} is not in the catalogue: choose another in {__file__}")
        if case.spec.flops > MOST_FLOPS:
            raise ValueError(f"case {name} has {case.spec.flops / 1e6:.0f} MFLOP, more than {MOST_FLOPS / 1e6:.0f}")
        labels.append(labelled(name, case.version))
    built_in = [n for n, place in Registry.installed().entries.items() if place.startswith("backends.")]
    return Parameters(tuple(labels), tuple(built_in), SEED, THREADS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the file; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m reports.benchmarks.generate", description="The benchmarks' parameters.")
    parser.add_argument("--check", action="store_true", help="exit with 1 where the file is stale")
    options = parser.parse_args(arguments)
    text = current().text()
    if not options.check:
        FILE.write_text(text, encoding="utf-8")
        return 0
    if not FILE.is_file() or FILE.read_text(encoding="utf-8") != text:
        sys.stderr.write(f"{FILE}: the parameters are stale: python -m reports.benchmarks.generate\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
