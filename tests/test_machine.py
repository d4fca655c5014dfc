"""What bears on a timing is read, never guessed; equal machines have equal fingerprints."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.run.limits import usable_cores
from harness.timing import machine
from harness.timing.machine import Cache, Load, environment, fingerprint, governor_warnings, listed

LINUX = pytest.mark.skipif(not Path("/proc/stat").exists(), reason="reads /proc")


def test_the_environment_is_json():
    facts = environment()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["processor"]["usable_cores"] == usable_cores()
    assert 0 < facts["clock"]["step_seconds"] < 1e-3


def test_a_load_that_the_caller_measured_is_taken():
    start = time.monotonic()
    assert environment({"steal": 0.5})["load"] == {"steal": 0.5}
    assert time.monotonic() - start < 30


@LINUX
def test_what_this_process_does_is_not_the_work_of_others():
    """A busy second is our own; shares lie between 0 and 1 to the accuracy of ticks."""
    load = Load.start()
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    said = load.stop()
    assert 0 <= said["steal"] <= 1
    capacity = said["seconds"] * (os.cpu_count() or 1)
    assert 0 <= said["others"] <= 1.1 - 0.3 / capacity
    assert len(said["loadavg"]) == 3


@LINUX
def test_a_worker_that_is_named_is_our_own(monkeypatch):
    """A child that still runs counts when it is named, and once only when it ended meanwhile."""
    worker = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        own, others = machine._own_seconds([worker.pid]), machine._own_seconds([])
        end = time.monotonic() + 20
        while machine._own_seconds([worker.pid]) - own < 0.2 and time.monotonic() < end:
            time.sleep(0.05)
        assert machine._own_seconds([worker.pid]) - own > machine._own_seconds([]) - others + 0.1
    finally:
        worker.kill()
        worker.wait()
    assert abs(machine._own_seconds([worker.pid]) - machine._own_seconds([])) < 0.05


def test_a_fingerprint_is_the_same_in_another_process():
    code = "from harness.timing.machine import fingerprint; print(fingerprint())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert other.stdout.strip() == fingerprint()
    assert len(fingerprint()) == 12


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("usable_cores", lambda: 977),
        ("hypervisor", lambda: "" if machine.hypervisor() else "KVM"),
        ("_physical_bytes", lambda: 977 << 30),
        ("caches", lambda: [Cache(1, "Data", 977)]),
    ],
)
def test_machines_that_do_not_compare_have_other_fingerprints(monkeypatch, name, value):
    before, replaced = fingerprint(), value()
    monkeypatch.setattr(machine, name, lambda: replaced)
    assert fingerprint() != before


def test_a_few_megabytes_are_not_another_machine(monkeypatch):
    """A new kernel reserves more or less for itself."""
    prints = []
    for size in ((24 << 30) - (300 << 20), (24 << 30) - (340 << 20)):
        monkeypatch.setattr(machine, "_physical_bytes", lambda size=size: size)
        prints.append(fingerprint())
    assert prints[0] == prints[1]


def test_a_quiet_machine_of_fixed_clock_needs_no_warning():
    facts = {
        "processor": {"usable_cores": 4},
        "frequency": {"governor": ["performance"], "turbo": False},
        "hypervisor": "",
        "load": {"steal": 0.0, "others": 0.01, "loadavg": [0.5, 0.5, 0.5]},
    }
    assert governor_warnings(facts) == []
    assert governor_warnings({}) == []


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        ({"frequency": {"governor": ["powersave"], "driver": "acpi-cpufreq"}}, "governor is powersave"),
        ({"frequency": {"turbo": True}}, "Turbo"),
        ({"hypervisor": "Xen"}, "Xen"),
        ({"load": {"steal": 0.021}}, "2.1 %"),
        ({"load": {"others": 0.5}}, "50 %"),
        ({"load": {"loadavg": [5.9, 0, 0]}, "processor": {"usable_cores": 2}}, "load average is 5.9 on 2"),
        ({"load": {"throttled": 3}}, "throttled 3 times"),
    ],
)
def test_what_spoils_figures_is_said(facts, word):
    (said,) = governor_warnings(facts)
    assert word in said


def test_a_governor_that_the_processor_overrules_is_no_warning():
    """Active intel_pstate calls `powersave` what raises the clock under load."""
    assert governor_warnings({"frequency": {"governor": ["powersave"], "driver": "intel_pstate"}}) == []


def test_what_may_not_be_read_is_listed_and_what_is_not_there_is_absent(tmp_path):
    reader = machine._Reader()
    assert reader.text(tmp_path / "absent") is None
    assert reader.text(tmp_path) is None  # a folder stands for whatever else fails
    assert reader.refused == {str(tmp_path)}


def test_a_machine_without_proc_and_sys_says_less(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "CPU", tmp_path / "cpu")
    monkeypatch.setattr(machine, "_cpuinfo", dict)
    monkeypatch.setattr(machine, "_ticks", dict)
    facts = environment()
    assert "steal" not in facts["load"]
    assert "frequency" not in facts
    assert "throttled" not in facts
    assert governor_warnings({**facts, "hypervisor": "", "load": {}}) == []
    assert len(fingerprint()) == 12


@pytest.mark.parametrize(("text", "size"), [("48K", 49152), ("2M", 1 << 21), ("512", 512), ("", 0), (None, 0), ("K", 0)])
def test_sizes_are_read_as_the_kernel_writes_them(text, size):
    assert machine._bytes(text) == size


def test_sharers_are_counted_among_the_cores_in_use():
    assert listed("0-3,8,10-11\n".strip()) == [0, 1, 2, 3, 8, 10, 11]
    assert Cache(3, "Unified", 1, "0-3,8").sharers([2, 3, 4]) == 2
    assert Cache(3, "Unified", 1).sharers([2, 3, 4]) == 1
