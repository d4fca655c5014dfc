"""Is `fft` faster than what one would call instead? A command, too slow for CI: `python tests/fft_check.py [THREADS] [NAME]`.

Long one-dimensional inputs and large kernels, batch 1, float32, of one channel and of several. By turns: `fft`, the sum of
`scipy.signal.oaconvolve` over pairs of channels, and PyTorch's convolution where it is installed, all in this process and with
as many threads (oaconvolve knows none). A ratio is of medians, how much longer the other takes, with its interval; where turns
differ much, a machine with neighbours, so does that. The results are compared, too.
"""

import os
import sys
import time

THREADS = sys.argv[1] if len(sys.argv) > 1 else "1"
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = (
    THREADS  # before NumPy is imported
)

from statistics import median  # noqa: E402

import numpy as np  # noqa: E402

from backends.fft import backend  # noqa: E402
from harness.spec import ConvSpec  # noqa: E402
from harness.statistics import ratio  # noqa: E402

#: Turns of each, and seconds that a turn takes at least.
TURNS, TURN = 9, 0.02
CASES = {
    "1d 1,000,000 * 1,001": ConvSpec("conv", (1_000_000,), (1001,)),
    "1d 100,000 * 101": ConvSpec("conv", (100_000,), (101,)),
    "1d 100,000 * 4,001": ConvSpec("conv", (100_000,), (4001,)),
    "1d 16,384 * 129, 8 channels": ConvSpec("conv", (16_384,), (129,), in_channels=8, out_channels=8),
    "1d 16,384 * 129, 32 channels": ConvSpec("conv", (16_384,), (129,), in_channels=32, out_channels=32),
    "2d 512x512 * 31x31": ConvSpec("conv", (512, 512), (31, 31)),
    "2d 1024x1024 * 63x63": ConvSpec("conv", (1024, 1024), (63, 63)),
    "2d 128x128 * 31x31, 4 channels": ConvSpec("conv", (128, 128), (31, 31), in_channels=4, out_channels=4),
    "2d 56x56 * 31x31, 16 channels": ConvSpec("conv", (56, 56), (31, 31), 1, 16, 16, padding=((15, 15),) * 2),
    "2d 56x56 * 31x31, 32 channels": ConvSpec("conv", (56, 56), (31, 31), 1, 32, 32, padding=((15, 15),) * 2),
    "2d 56x56 * 31x31, depthwise 64": ConvSpec(
        "conv", (56, 56), (31, 31), in_channels=64, out_channels=64, groups=64, padding=((15, 15),) * 2
    ),
}  # fmt: skip


def pairs_of_channels(spec, x, w, out):
    """The same by oaconvolve."""
    from scipy.signal import oaconvolve

    x = np.pad(x, ((0, 0), (0, 0), *spec.padding)) if any(map(any, spec.padding)) else x
    w = np.flip(w, tuple(range(2, w.ndim)))
    channels, rows = spec.in_channels // spec.groups, spec.out_channels // spec.groups
    for m in range(spec.out_channels):
        first = m // rows * channels
        out[0, m] = sum(oaconvolve(x[0, first + c], w[m, c], "valid") for c in range(channels))


def torchs(spec, x, w):
    """A call of PyTorch's, or None where it is not installed."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(int(THREADS))
    fn = (torch.nn.functional.conv1d, torch.nn.functional.conv2d)[spec.rank - 1]
    padding = [lo for lo, _ in spec.padding]
    tx, tw = torch.from_numpy(x), torch.from_numpy(w)

    def call():
        with torch.inference_mode():
            return fn(tx, tw, padding=padding, groups=spec.groups).numpy()

    return call


def seconds(call):
    """Of one call, the mean of as many as fill a turn."""
    start, calls = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < TURN or not calls:
        call()
        calls += 1
    return spent / calls


def main():
    """Print a row for each case; 1 if the results differ or another is faster."""
    bad = 0
    print(f"{THREADS} threads, float32\n\n| case | fft | oaconvolve / fft | torch / fft |\n|---|---|---|---|")
    for name, spec in CASES.items():
        if sys.argv[2:] and sys.argv[2] not in name:
            continue
        rng = np.random.default_rng(0)
        x, w = (rng.normal(size=shape).astype(np.float32) for shape in (spec.x_shape, spec.w_shape))
        out, other = np.empty(spec.out_shape, np.float32), np.empty(spec.out_shape, np.float32)
        with backend.prepare(spec, "cpu") as prepared:
            calls = {"fft": lambda: prepared.run(x, w, None, out), "oa": lambda: pairs_of_channels(spec, x, w, other)}  # noqa: B023
            if torch := torchs(spec, x, w):
                calls["torch"] = torch
            for call in calls.values():
                call()
            differ = np.abs(out - other).max() / np.abs(other).max()
            told = {key: [] for key in calls}
            for turn in range(TURNS):
                keys = list(calls)
                for key in keys[turn % len(keys) :] + keys[: turn % len(keys)]:
                    told[key].append(seconds(calls[key]))
        found = []
        for key in ("oa", "torch"):
            if key not in told:
                found.append("-")
                continue
            r = ratio([([ours], [theirs]) for ours, theirs in zip(told["fft"], told[key], strict=True)], 0.95)
            found.append(f"{r.value:.2f} [{r.low:.2f}, {r.high:.2f}]")
            bad += r.high < 1
        bad += differ > 1e-5
        print(
            f"| {name} | {median(told['fft']) * 1e3:.2f} ms | {' | '.join(found)} |{'' if differ <= 1e-5 else ' <- differs'}",
            flush=True,
        )
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
