"""What is wrong with an output, in the words that a kernel's author needs.

Every hypothesis tries to reproduce the wrong output from the oracle's data: with the kernel reversed, with another
padding, with operands rounded. Only one that reproduces it is reported; what no hypothesis reproduces is described by
where it is wrong, and nothing is guessed.
"""

from harness.diagnose.engine import diagnose
from harness.diagnose.evidence import Evidence, Finding
from harness.diagnose.hypothesis import HYPOTHESES, Hypothesis

__all__ = ["HYPOTHESES", "Evidence", "Finding", "Hypothesis", "diagnose"]
