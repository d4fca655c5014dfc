"""What of the machine bears on a figure: processor, caches, clocks, hypervisor, load; and which machines compare at all.

Apart from `harness.cli.facts`, which names the software. Read from /proc and /sys. What is not there is left out, what
may not be read is listed under `unreadable`; nothing is guessed.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from harness.run.limits import usable_cores

CPU = Path("/sys/devices/system/cpu")
#: Prefixes of the flags by which libraries choose their code.
_FLAGS = ("sse4_2", "avx", "fma", "f16c", "amx", "asimd", "sve", "bf16", "i8mm", "sme2")
#: Beyond these a figure is to be doubted: a hypervisor's theft of 1 in 50 is more than most differences looked for.
STEAL, OTHERS = 0.02, 0.1


@dataclass(frozen=True)
class Cache:
    """A cache of one of the cores that this process may use.

    Attributes
    ----------
    level : int
    kind : {'Data', 'Instruction', 'Unified'}
    size : int
        Bytes.
    shared : str
        The processors that share it, as the kernel lists them: `0-3,8`; empty where that is not told.
    """

    level: int
    kind: str
    size: int
    shared: str = ""

    def sharers(self, cores: Sequence[int]) -> int:
        """How many of `cores` share it, 1 at least."""
        return max(1, len(set(cores) & set(listed(self.shared))))


def environment(load: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Facts that bear on a timing, in JSON's types.

    Parameters
    ----------
    load : mapping, optional
        What `Load.stop` said of the time that matters; without it the load of the next 0.1 s is read.

    Returns
    -------
    dict
        `processor`, `caches`, `frequency`, `throttled`, `hypervisor` (empty for none), `memory`, `kernel`, `clock`, `load`,
        and the files that could not be read under `unreadable`. A fact that this machine does not tell is left out.
    """
    reader = _Reader()
    facts = {
        "processor": _processor(reader),
        "caches": [asdict(c) for c in caches()],
        "frequency": _frequency(reader),
        "throttled": _throttled(reader),
        "hypervisor": hypervisor(),
        "memory": _memory(reader),
        "kernel": _kernel(reader),
        "clock": _clock(reader),
        "load": dict(load) if load is not None else _load_now(),
    }
    return {**{k: v for k, v in facts.items() if v is not None and v != {}}, "unreadable": sorted(reader.refused)}


def fingerprint() -> str:
    """A digest of what keeps the figures of two machines from being compared.

    Processor, the flags that choose code, usable cores, cache sizes, whether there is a hypervisor, memory in GiB, system
    and architecture: all stay as they are over a restart. Names of hosts and versions of software are not in it.

    Examples
    --------
    >>> len(fingerprint()), fingerprint() == fingerprint()
    (12, True)
    """
    cpu = _processor(_Reader())
    facts = {
        "processor": [cpu.get(name) for name in ("vendor", "model", "family", "number", "stepping")],
        "flags": cpu["flags"],
        "cores": usable_cores(),
        "caches": [[c.level, c.kind, c.size] for c in caches()],
        "hypervisor": bool(hypervisor()),
        "memory": round(_physical_bytes() / 2**30),
        "system": [platform.system(), platform.machine()],
    }
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=6).hexdigest()


def governor_warnings(environment: Mapping[str, Any]) -> list[str]:
    """What a reader is to know before believing figures of a machine; empty if nothing speaks against them.

    Parameters
    ----------
    environment : mapping
        As `environment` gives it.

    Examples
    --------
    >>> governor_warnings({"hypervisor": "KVM", "load": {"steal": 0.05}})
    ['A hypervisor (KVM) shares this machine with others that cannot be seen from here.', 'The hypervisor took 5.0 % of the \
processor time for others.']
    """
    frequency, load = environment.get("frequency", {}), environment.get("load", {})
    cores = environment.get("processor", {}).get("usable_cores", 1)
    said = []
    if slow := sorted(set(frequency.get("governor", ())) & {"powersave", "conservative", "userspace"}):
        # intel_pstate and amd-pstate in active mode call powersave what raises the clock under load.
        managed = str(frequency.get("driver", "")).endswith("pstate") or "epp" in str(frequency.get("driver", ""))
        if not (managed and slow == ["powersave"]):
            said.append(f"The frequency governor is {', '.join(slow)}: set it to performance.")
    if frequency.get("turbo") is True:
        said.append("Turbo is on: the clock depends on temperature and on what other cores do.")
    if name := environment.get("hypervisor", ""):
        said.append(f"A hypervisor ({name}) shares this machine with others that cannot be seen from here.")
    if load.get("steal", 0.0) > STEAL:
        said.append(f"The hypervisor took {load['steal']:.1%} of the processor time for others.".replace("%", " %"))
    if load.get("others", 0.0) > OTHERS:
        said.append(f"Other processes took {load['others']:.0%} of the processor time.".replace("%", " %"))
    elif load.get("loadavg", [0.0])[0] > cores:
        said.append(f"The load average is {load['loadavg'][0]:.1f} on {cores} usable cores.")
    if load.get("throttled", 0) > 0:
        said.append(f"The processor was throttled {load['throttled']} times meanwhile: it is too hot.")
    return said


@dataclass(frozen=True)
class Load:
    """Counters at the beginning of a stretch of time; `stop` says what happened in it.

    Attributes
    ----------
    when : float
        By the monotonic clock, seconds.
    ticks : mapping of str to int
        /proc/stat's processor time by kind, of all processors together; empty where there is none.
    own : float
        Seconds of processor time of this process, of its children that ended, and of `pids`.
    throttled : int
    pids : tuple of int
        Processes that count as our own besides.
    """

    when: float
    ticks: Mapping[str, int]
    own: float
    throttled: int
    pids: tuple[int, ...] = ()

    @classmethod
    def start(cls, pids: Sequence[int] = ()) -> Self:
        """Read the counters now.

        Parameters
        ----------
        pids : sequence of int
            Workers, say, that are still running when the time is over.
        """
        throttled = sum(_throttled(_Reader()).values())
        return cls(time.monotonic(), _ticks(), _own_seconds(pids), throttled, tuple(pids))

    def stop(self) -> dict[str, Any]:
        """What happened since `start`, in JSON's types.

        Returns
        -------
        dict
            `seconds`; `steal`, the share of all processors' time that the hypervisor gave to others; `others`, the share that
            processes other than our own took; `throttled`, how often the processor was; `loadavg`, now.
        """
        said: dict[str, Any] = {"seconds": time.monotonic() - self.when}
        ticks = _ticks()
        spent = {name: max(0, ticks[name] - self.ticks[name]) for name in ticks if name in self.ticks}
        if total := sum(spent.values()):
            busy = sum(spent[name] for name in ("user", "nice", "system", "irq", "softirq"))
            own = max(0.0, _own_seconds(self.pids) - self.own) * os.sysconf("SC_CLK_TCK")
            said["steal"] = spent["steal"] / total
            said["others"] = max(0.0, busy - own) / total  # ticks are coarse: a short stretch is off by a tick or two
        if counts := _throttled(_Reader()):
            said["throttled"] = max(0, sum(counts.values()) - self.throttled)
        with contextlib.suppress(OSError):
            said["loadavg"] = list(os.getloadavg())
        return said


def caches() -> list[Cache]:
    """Caches of the first core that this process may use, by level; by `getconf` where the kernel does not list them."""
    core = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    reader, found = _Reader(), []
    for place in sorted((CPU / f"cpu{core}" / "cache").glob("index*")):
        level, size = reader.number(place / "level"), _bytes(reader.text(place / "size"))
        if level and size:
            found.append(Cache(level, reader.text(place / "type") or "", size, reader.text(place / "shared_cpu_list") or ""))
    return sorted(found or _getconf_caches(), key=lambda c: (c.level, c.kind))


def hypervisor() -> str:
    """The hypervisor's name, `unnamed` where only its presence shows, empty for none that shows."""
    reader = _Reader()
    product = " ".join(filter(None, (reader.text(Path(f"/sys/class/dmi/id/{n}")) for n in ("sys_vendor", "product_name"))))
    if "hypervisor" not in _cpuinfo().get("flags", "").split():
        kind = reader.text(Path("/sys/hypervisor/type"))
        return kind or ("virtual" if "virtual" in product.lower() or "kvm" in product.lower() else "")
    sources = reader.text(CPU.parent / "clocksource/clocksource0/available_clocksource") or ""
    known = {"kvm": "KVM", "hyperv": "Hyper-V", "xen": "Xen"}
    return next((name for mark, name in known.items() if mark in sources), product or "unnamed")


def listed(text: str) -> list[int]:
    """The numbers of a kernel's list.

    Examples
    --------
    >>> listed("0-2,8")
    [0, 1, 2, 8]
    """
    spans = [part.partition("-") for part in text.split(",") if part.strip()]
    return [n for low, _, high in spans for n in range(int(low), int(high or low) + 1)]


class _Reader:
    """Reads small files, and keeps the names of those that exist but may not be read."""

    def __init__(self) -> None:
        self.refused: set[str] = set()

    def text(self, path: Path) -> str | None:
        try:
            return path.read_text(encoding="utf-8", errors="replace").strip()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            self.refused.add(str(path))
            return None

    def number(self, path: Path) -> int | None:
        text = self.text(path)
        return int(text) if text is not None and text.lstrip("-").isdecimal() else None

    def chosen(self, path: Path) -> str | None:
        """Of `always [madvise] never` the word in brackets."""
        text = self.text(path)
        return None if text is None else text.partition("[")[2].partition("]")[0] or text


def _told(**facts: Any) -> dict[str, Any]:
    """The facts that are there."""
    return {name: value for name, value in facts.items() if value is not None}


def _cpuinfo() -> dict[str, str]:
    """The first processor's entry of /proc/cpuinfo, by its own names."""
    text = _Reader().text(Path("/proc/cpuinfo")) or ""
    pairs = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _processor(reader: _Reader) -> dict[str, Any]:
    info = _cpuinfo()
    flags = (info.get("flags") or info.get("Features") or "").split()
    return _told(
        model=info.get("model name") or info.get("Model") or platform.processor() or None,
        vendor=info.get("vendor_id") or info.get("CPU implementer"),
        family=info.get("cpu family") or info.get("CPU architecture"),
        number=info.get("model") or info.get("CPU part"),
        stepping=info.get("stepping") or info.get("CPU revision"),
        microcode=info.get("microcode"),
        flags=sorted(f for f in set(flags) if f.startswith(_FLAGS)),
        usable_cores=usable_cores(),
        online=reader.text(CPU / "online"),
        smt=reader.text(CPU / "smt/control"),
    )


def _frequency(reader: _Reader) -> dict[str, Any]:
    """Governors, driver and limits, as the frequency policies say; turbo; the clock as the kernel knows it."""
    policies = sorted((CPU / "cpufreq").glob("policy*"))
    governors = {reader.text(p / "scaling_governor") for p in policies} - {None}
    limits = [reader.number(p / f"scaling_{end}_freq") for p in policies for end in ("min", "max")]
    no_turbo, boost = reader.number(CPU / "intel_pstate/no_turbo"), reader.number(CPU / "cpufreq/boost")
    mhz = _cpuinfo().get("cpu MHz", "")
    return _told(
        governor=sorted(str(g) for g in governors) or None,
        driver=reader.text(policies[0] / "scaling_driver") if policies else None,
        hz=[1000 * f for f in (min(known), max(known))] if (known := [f for f in limits if f]) else None,
        turbo=(no_turbo == 0) if no_turbo is not None else (boost == 1) if boost is not None else None,
        cpuinfo_hz=round(float(mhz) * 1e6) if mhz.replace(".", "", 1).isdecimal() else None,
    )


def _throttled(reader: _Reader) -> dict[str, int]:
    """How often the cores and their packages were too hot since the machine was started."""
    counts: dict[str, int] = {}
    for file in sorted(CPU.glob("cpu[0-9]*/thermal_throttle/*_throttle_count")):
        if (count := reader.number(file)) is not None:
            name = file.name.removesuffix("_throttle_count")
            counts[name] = counts.get(name, 0) + count
    return counts


def _memory(reader: _Reader) -> dict[str, Any]:
    pages = Path("/sys/kernel/mm/transparent_hugepage")
    return _told(
        bytes=_physical_bytes() or None,
        transparent_hugepages=reader.chosen(pages / "enabled"),
        numa_nodes=reader.text(CPU.parent / "node/online"),
        numa_balancing=reader.number(Path("/proc/sys/kernel/numa_balancing")),
    )


def _kernel(reader: _Reader) -> dict[str, Any]:
    text = reader.text(Path("/proc/cmdline"))
    words = None if text is None else [w for w in text.split() if w.startswith(("isolcpus", "nohz_full", "mitigations"))]
    return _told(
        release=platform.release(),
        aslr=reader.number(Path("/proc/sys/kernel/randomize_va_space")),
        parameters=words,
    )


def _clock(reader: _Reader) -> dict[str, Any]:
    """The clock source, and the timer as it is: what it claims, its smallest step seen, what a reading costs."""
    readings = [time.perf_counter_ns() for _ in range(2001)]
    steps = [later - sooner for sooner, later in itertools.pairwise(readings)]
    return _told(
        source=reader.text(CPU.parent / "clocksource/clocksource0/current_clocksource"),
        claimed_seconds=time.get_clock_info("perf_counter").resolution,
        step_seconds=min((s for s in steps if s > 0), default=0) * 1e-9,
        reading_seconds=statistics.median(steps) * 1e-9,
    )


def _load_now() -> dict[str, Any]:
    start = Load.start()
    time.sleep(0.1)
    return start.stop()


def _ticks() -> dict[str, int]:
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")  # guests are in user and nice
    words = (_Reader().text(Path("/proc/stat")) or "").partition("\n")[0].split()
    return dict(zip(names, map(int, words[1 : 1 + len(names)]), strict=True)) if len(words) > len(names) else {}


def _own_seconds(pids: Sequence[int]) -> float:
    times = os.times()
    total = times.user + times.system + times.children_user + times.children_system
    for pid in pids:
        text = _Reader().text(Path(f"/proc/{pid}/stat")) or ""
        # The name, in parentheses, may hold spaces; after it the 12th to 15th words are its time and its children's.
        total += sum(map(int, text.rpartition(")")[2].split()[11:15])) / os.sysconf("SC_CLK_TCK")
    return total


def _bytes(text: str | None) -> int:
    """`2048K` in bytes; 0 for what is no size."""
    digits = (text or "").rstrip("KMG")
    return int(digits) * {"K": 2**10, "M": 2**20, "G": 2**30}.get((text or "")[len(digits) :], 1) if digits.isdecimal() else 0


def _getconf_caches() -> list[Cache]:
    tool = shutil.which("getconf")
    names = {"LEVEL1_DCACHE_SIZE": (1, "Data"), "LEVEL2_CACHE_SIZE": (2, "Unified"), "LEVEL3_CACHE_SIZE": (3, "Unified")}
    found = []
    for name, (level, kind) in names.items() if tool else ():
        said = subprocess.run([str(tool), name], capture_output=True, text=True, check=False)  # noqa: S603
        if size := _bytes(said.stdout.strip()):
            found.append(Cache(level, kind, size))
    return found


def _physical_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0
