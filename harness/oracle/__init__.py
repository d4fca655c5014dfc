"""What the right output is, to more than twice the working precision, and how far from it is still right.

No backend is imported here and no code is shared with one.
"""

from harness.oracle.bound import tolerance
from harness.oracle.exact import exact_element, fsum_reference
from harness.oracle.wide import Reference, reference
from harness.oracle.windows import receptive_field

__all__ = ["Reference", "exact_element", "fsum_reference", "receptive_field", "reference", "tolerance"]
