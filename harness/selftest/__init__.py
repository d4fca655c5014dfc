"""The gate's own test: planted faults, and which check kills each."""

from harness.selftest.faults import PlantedFault, load_faults, selected
from harness.selftest.kills import SUITES, Outcome, kills
from harness.selftest.matrix import Bench, Plan, examined

__all__ = ["SUITES", "Bench", "Outcome", "Plan", "PlantedFault", "examined", "kills", "load_faults", "selected"]
