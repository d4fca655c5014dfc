"""What a page says of the machine that a benchmark ran on, from the run's environment; what is not there is left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from harness.text import writable
from reports.benchmark import Benchmark
from reports.quantities import digits, duration, percent, size


def machine_facts(made: Benchmark) -> Iterator[tuple[str, str]]:
    """What of the machine bears on the figures; what is not known is left out."""
    environment = made.run.info.environment
    host = _mapping(environment.get("host_environment"))
    processor, frequency = _mapping(host.get("processor")), _mapping(host.get("frequency"))
    memory, kernel, clock = (_mapping(host.get(n)) for n in ("memory", "kernel", "clock"))
    threads = sorted({t.threads for t in made.raw})
    named: list[tuple[str, object]] = [
        ("processor", processor.get("model") or _mapping(environment.get("machine")).get("processor")),
        ("threads", f"{_joined(threads)} allowed, {processor.get('usable_cores', '?')} cores usable" if threads else ""),
        ("caches", _caches(host.get("caches"))),
        ("clock rate", _clock_rate(frequency)),
        ("hypervisor", host.get("hypervisor")),
        ("memory", _bytes_of(memory)),
        ("kernel", kernel.get("release")),
        ("timer", _timer(clock)),
        ("during the run", _load(_mapping(environment.get("noise")))),
        ("source", _source(_mapping(environment.get("git")))),
        ("backends", "; ".join(_backends(_mapping(environment.get("backends"))))),
        ("packages", ", ".join(f"{n} {v}" for n, v in _mapping(environment.get("packages")).items())),
        ("BLAS", environment.get("blas")),
        ("variables", ", ".join(f"{n}={v}" for n, v in _mapping(environment.get("variables")).items())),
        ("fingerprint", made.run.info.host),
    ]
    for name, value in named:
        if value:
            yield name, writable(value, 1_000)


def _backends(held: Mapping[str, Any]) -> Iterator[str]:
    """Each backend with its version, and what its devices tell besides their names."""
    for name, value in held.items():
        facts = _mapping(value)
        told: dict[str, Any] = {}
        for device in facts.get("devices", ()):
            told |= {n: v for n, v in _mapping(device).items() if n not in ("name", "machine")}
        inside = _joined(f"{n} {v}" for n, v in told.items())
        yield " ".join(filter(None, (name, str(facts.get("version") or ""), inside and f"({inside})")))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _joined(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))


def _caches(held: object) -> str:
    found = [_mapping(c) for c in held] if isinstance(held, list | tuple) else []
    kept = [c for c in found if c.get("kind") != "Instruction" and isinstance(c.get("size"), int | float)]
    return ", ".join(f"L{c.get('level', '?')} {size(c['size'])}" for c in kept)


def _clock_rate(frequency: Mapping[str, Any]) -> str:
    said = [f"governor {_joined(frequency['governor'])}"] if isinstance(frequency.get("governor"), list | tuple) else []
    if isinstance(frequency.get("cpuinfo_hz"), int | float):
        said.append(f"{frequency['cpuinfo_hz'] / 1e9:.2f} GHz")
    if isinstance(frequency.get("turbo"), bool):
        said.append(f"turbo {'on' if frequency['turbo'] else 'off'}")
    return ", ".join(said)


def _bytes_of(memory: Mapping[str, Any]) -> str:
    said = [size(memory["bytes"])] if isinstance(memory.get("bytes"), int | float) else []
    if pages := memory.get("transparent_hugepages"):
        said.append(f"huge pages {pages}")
    return ", ".join(said)


def _timer(clock: Mapping[str, Any]) -> str:
    said = [str(clock["source"])] if clock.get("source") else []
    for name, word in (("step_seconds", "steps of"), ("reading_seconds", "a reading takes")):
        if isinstance(clock.get(name), int | float):
            said.append(f"{word} {duration(clock[name])}")
    return ", ".join(said)


def _load(noise: Mapping[str, Any]) -> str:
    said = []
    for name, words in (("steal", "taken by the hypervisor"), ("others", "by other processes")):
        if isinstance(noise.get(name), int | float):
            said.append(f"{percent(noise[name])} of processor time {words}")
    load = noise.get("load", noise.get("loadavg"))
    if load is not None:
        said.append(f"load {_joined([f'{v:.1f}' for v in load]) if isinstance(load, list | tuple) else load}")
    return ", ".join(said)


def _source(git: Mapping[str, Any]) -> str:
    if not git.get("commit"):
        return ""
    branch = f" on {git['branch']}" if git.get("branch") else ""
    return f"{str(git['commit'])[:12]}{branch}{', with uncommitted changes' if git.get('dirty') else ''}"


def roof_rows(made: Benchmark) -> Iterator[tuple[str, ...]]:
    """A row a device: its name, threads, peaks, bandwidths, and how they were had."""
    for device, roof in made.roofs.items():
        peaks = [f"{t} {digits(f / 1e9)}" for t, f in _mapping(roof.get("flops")).items()]
        rates = [f"{digits(r / 1e9)} ({size(b)})" for b, r in roof.get("bandwidth", ())]
        how = [f"{n}: {text}" for n, text in _mapping(roof.get("how")).items()]
        yield tuple(
            writable(t, 1_000) for t in (device, roof.get("threads") or "", ", ".join(peaks), ", ".join(rates), "; ".join(how))
        )
