"""Fabricated benchmark runs: several backends, refusals, f64, device times, a noisy machine."""

import random
from dataclasses import replace
from math import exp

from harness.catalogue import load_catalogue
from harness.records import Job, Record, Status, Verdict
from harness.samples import Series, Timing
from harness.store import RunInfo, RunRow, Store
from reports.changes import Change

CASES = [c for c in load_catalogue().cases if c.spec is not None]
#: Name, device, factor, fixed seconds, error in units of u A.
BACKENDS = (
    ("naive", "cpu", 9.0, 4e-6, 1.1),
    ("im2col", "cpu", 1.6, 30e-6, 0.7),
    ("winograd", "cpu", 1.0, 60e-6, 9.0),
    ("opencl-direct", "pthread-Intel(R) Xeon(R) Processor", 2.2, 180e-6, 1.0),
)
REFUSED = "FAIL: 1.3 times the roof: the output cannot have been computed in this time"
GIB = 2**30
ENVIRONMENT = {
    "machine": {"processor": "Intel(R) Xeon(R) Processor @ 2.80GHz", "cores": "2 usable of 2", "memory": str(8 * GIB)},
    "packages": {"numpy": "2.4.6", "numba": "0.68.1"},
    "backends": {name: {"version": "1"} for name, *_ in BACKENDS},
    "git": {"commit": "540c306" + "a" * 33, "dirty": True, "branch": "main"},
    "host_environment": {
        "processor": {"model": "Intel(R) Xeon(R) Processor @ 2.80GHz", "usable_cores": 2, "flags": ["avx2", "avx512f", "fma"]},
        "caches": [
            {"level": 1, "kind": "Data", "size": 32768, "shared": "0"},
            {"level": 1, "kind": "Instruction", "size": 32768, "shared": "0"},
            {"level": 2, "kind": "Unified", "size": 2**20, "shared": "0"},
            {"level": 3, "kind": "Unified", "size": 33 * 2**20, "shared": "0-1"},
        ],
        "frequency": {"cpuinfo_hz": 2800000000},
        "hypervisor": "KVM",
        "memory": {"bytes": 8 * GIB, "transparent_hugepages": "madvise"},
        "kernel": {"release": "6.1.0"},
        "clock": {"source": "kvm-clock", "step_seconds": 4e-8, "reading_seconds": 5e-8},
        "load": {"seconds": 81.2, "steal": 0.034, "others": 0.22, "loadavg": [3.1, 2.2, 1.4]},
        "unreadable": [],
    },
    "roofs": {
        "cpu": {
            "device": "cpu",
            "threads": 2,
            "flops": {"f32": 141e9, "f64": 70e9},
            "bandwidth": [[16384, 410e9], [524288, 160e9], [17301504, 62e9], [138412032, 17e9]],
            "how": {"f32": "multiply-add loop, 12 vectors of 512 bits", "bandwidth": "triad in float32"},
        }
    },
    "noise": {"steal": 0.034, "others": 0.22, "load": 3.1},
    "warnings": [
        "A hypervisor (KVM) shares this machine with others that cannot be seen from here.",
        "The hypervisor took 3.4 % of the processor time for others.",
    ],
}


def run_row(exit_code=1, **info):
    known = {
        "seed": 7,
        "command": ("convproof", "bench", "perf"),
        "version": "0.1",
        "selection": ("perf",),
        "started": "2026-11-22T13:33:01Z",
        "environment": ENVIRONMENT,
        "host": "a1b2c3d4e5f6",
    }
    return RunRow("20261122-133301-5f2a", RunInfo(**known | info), exit_code=exit_code, seconds=81.2)


def drawn(rng, median, count, processes):
    """Skewed samples, a process a little off, some calls interrupted."""
    series = []
    for _ in range(processes):
        middle = median * exp(rng.gauss(0, 0.01))
        series.append(
            tuple(
                middle * (1 + abs(rng.gauss(0, 0.02)) + (rng.random() < 0.02) * rng.random()) for _ in range(count // processes)
            )
        )
    return series


def timing(rng, case, backend, device, factor, fixed, samples=200, processes=5, refused=""):
    spec = case.spec
    seconds = (fixed + factor * spec.flops / 20e9 + spec.bytes / 8e9) * exp(rng.gauss(0, 0.25))
    walls = drawn(rng, seconds, samples, processes)
    series = [Series("wall", "warm", n, w) for n, w in enumerate(walls)]
    series += [Series("wall", "cold", 0, (1.4 * seconds, 1.5 * seconds)), Series("setup", "cold", 0, (12 * seconds,))]
    series += [Series("setup", "warm", 0, (2 * seconds,)), Series("cpu", "warm", 0, walls[0])]
    if backend == "im2col":
        series += [Series("phase:pack", "warm", 0, (0.4 * seconds,)), Series("phase:kernel", "warm", 0, (0.5 * seconds,))]
    if backend.startswith("opencl"):
        series += [Series("device", "warm", 0, (0.6 * seconds,)), Series("phase:transfer", "warm", 0, (0.2 * seconds,))]
    return Timing(
        *(case.id, backend, device, tuple(series), refused),
        threads=2, flops=spec.flops, bytes=spec.bytes, peak_bytes=48 << 20, stopped="interval within 1 %",
        roof=None if device != "cpu" else min(1.2, spec.flops / seconds / 141e9 * 3), digest=case.version,
        details={"dtype": spec.in_dtype, "algorithm": "direct"},
    )  # fmt: skip


def benchmark_run(rows=60, samples=200, seed=1):
    """So many timings, a refusal and an unsupported pair now and then, and the verdicts beside which they stand."""
    rng = random.Random(seed)
    cases = sorted(CASES, key=lambda c: (c.spec.in_dtype not in ("f32", "f64"), c.spec.flops < 1000, rng.random()))
    timings, records = [], []
    for number in range(rows):
        if len(timings) >= rows:
            break
        case = cases[number % len(cases)]
        if number >= len(cases):
            case = replace(case, id=f"{case.id}-{number}")
        for place, (backend, device, factor, fixed, error) in enumerate(BACKENDS):
            if backend == "winograd" and number % 3 == 1:
                job = Job(case.id, backend, "-", "contract")
                records.append(Record(job, Verdict(Status.UNSUPPORTED, "its kernels have 3 taps an axis"), digest=case.version))
                continue
            refused = ""
            if (number + 3 * place) % 17 == 5:
                refused = REFUSED if place % 2 else "NOT_RUN: the budget was spent before it was reached"
            failed = refused == REFUSED
            timings.append(timing(rng, case, backend, device, factor, fixed, samples, refused=refused))
            for check in ("contract", "integers", "zero_mean"):
                units = error * exp(rng.gauss(0, 0.4)) if check == "zero_mean" else 0.0 if check == "integers" else None
                bound = None if units is None else units / 10
                verdict = Verdict(Status.PASS, compared=100, error_units=units, error_bound=bound)
                records.append(Record(Job(case.id, backend, device, check), verdict, 0.01, digest=case.version))
            timed = Verdict(Status.FAIL, refused.partition(": ")[2]) if failed else Verdict(Status.PASS)
            records.append(Record(Job(case.id, backend, device, "timed"), timed, 0.2, digest=case.version))
    timings = sorted(timings[:rows], key=lambda t: (t.case, t.backend, t.device))
    return timings, records


def changes(timings):
    """A change of each kind."""
    kinds = (
        ("SLOWER", "time", 1.31, 1.22, 1.40),
        ("SLOWER", "time", 3.9, 3.5, 4.4),
        ("FASTER", "time", 0.61, 0.58, 0.66),
        ("INCONCLUSIVE", "time", 1.08, 0.91, 1.31),
        ("LESS ACCURATE", "error", 4.0, 4.0, 4.0),
        ("SAME", "time", 1.0, 0.99, 1.01),
        ("SAME", "time", 1.003, 0.995, 1.012),
    )
    return [
        Change(t.case, t.backend, t.device, quantity, verdict, ratio, low, high, 1e-4, 1e-4 * ratio)
        for t, (verdict, quantity, ratio, low, high) in zip((t for t in timings if not t.refused), kinds, strict=False)
    ]


def stored(path, timings, records, row=None):
    """A store with that run; its id."""
    row = row or run_row()
    with Store.open(path) as store:
        run = store.begin(row.info)
        store.write(run, records)
        for t in timings:
            store.write_timing(run, t)
        store.finish(run, row.exit_code, row.seconds)
    return run
