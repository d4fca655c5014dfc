"""Facts about the machine and the environment, for `doctor` and for the record of a run.

Nothing heavy is imported: versions come from the installed metadata, so that asking for numba's
costs no numba.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harness.run.limits import usable_cores

#: Distributions whose versions can change a result or a timing.
PACKAGES = (
    "convproof", "numpy", "numba", "llvmlite", "scipy", "pyopencl", "pocl-binary-distribution", "intel-opencl-rt", "ml_dtypes",
    "pandas", "torch", "onnxruntime",
)  # fmt: skip
#: Variables that choose a driver, a cache or a store; those that set threads are `harness.run.limits`'s.
VARIABLES = (
    "PYOPENCL_CTX", "OCL_ICD_VENDORS", "POCL_DEVICES", "POCL_CACHE_DIR", "NUMBA_CACHE_DIR", "CONVPROOF_STORE",
    "CONVPROOF_TUNED",
)  # fmt: skip


def intel_driver() -> Path | None:
    """Intel's OpenCL driver for processors where pip installs it: the .icd file beside it names a folder that is not there."""
    path = Path(sys.prefix) / "lib" / "libintelocl.so"
    return path if path.is_file() else None


def machine() -> dict[str, str]:
    """Python, platform, processor, cores, memory: names to text."""
    return {
        "python": f"{platform.python_version()} ({platform.python_implementation()}, {sys.executable})",
        "platform": platform.platform(),
        "processor": processor(),
        "cores": f"{usable_cores()} usable of {os.cpu_count() or 1}",
        "memory": str(memory_bytes()),
    }


def processor() -> str:
    """The processor's model as the kernel names it, or its architecture."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model", "cpu model"):
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown"


def memory_bytes() -> int:
    """Physical memory, or the control group's limit where that is less; 0 where neither can be told."""
    try:
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limit = Path(file).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if limit.isdecimal():
            physical = min(physical, int(limit))
    return physical


def packages() -> dict[str, str]:
    """Versions of the installed ones of `PACKAGES`."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def blas() -> str:
    """The BLAS that NumPy was built with: name and version. Imports NumPy."""
    import numpy as np

    config = np.show_config(mode="dicts")
    found = config.get("Build Dependencies", {}).get("blas", {}) if isinstance(config, dict) else {}
    return f"{found.get('name', 'unknown')} {found.get('version', '')}".strip()


def variables() -> dict[str, str]:
    """Those of `VARIABLES` and of the thread counts that are set."""
    from harness.run.limits import THREAD_VARIABLES

    return {name: os.environ[name] for name in (*THREAD_VARIABLES, *VARIABLES) if name in os.environ}


def memfd() -> str:
    """Empty if memory can be shared by descriptor, else why not."""
    if not hasattr(os, "memfd_create"):
        return "this platform has no memfd_create"
    try:
        os.close(os.memfd_create("convproof-doctor"))
    except OSError as error:
        return f"memfd_create fails: {error.strerror}"
    return ""


def linker() -> str | None:
    """Where `ld` is, with which PoCL links its kernels; None where there is none."""
    return shutil.which("ld") or shutil.which("ld.lld")


def valgrind() -> str | None:
    """Where valgrind is, which counts instructions; None where there is none."""
    return shutil.which("valgrind")


def folder_bytes(folder: Path) -> int:
    """Bytes of the files under `folder`; 0 where it does not exist."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118 - a Path a file is slow
            except OSError:
                continue
    return total


def caches() -> dict[str, Path]:
    """The folders where results and compiled kernels are kept."""
    from platformdirs import user_cache_path

    return {
        "convproof": user_cache_path("convproof"),
        "pocl": Path(os.environ.get("POCL_CACHE_DIR") or user_cache_path("pocl") / "kcache"),
        "pyopencl": user_cache_path("pyopencl"),
    }


def writable(path: Path) -> str:
    """Empty if a file can be made at `path` (its folder is, or could be, made), else why not."""
    if path.exists():
        if path.is_dir():
            return "it is a folder"
        return "" if os.access(path, os.W_OK) else "it is read-only"
    folder = next(p for p in path.absolute().parents if p.exists())
    if not folder.is_dir():
        return f"{folder} is not a folder"
    return "" if os.access(folder, os.W_OK | os.X_OK) else f"{folder} is read-only"
