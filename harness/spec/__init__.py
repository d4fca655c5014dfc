"""What a convolution is: element types, the specification, its geometry and its cost.

This room imports nothing of the rest of the harness and no numpy, so that reading a
case, listing it or refusing it costs no array library. `harness.spec.host` is the one
module here that knows numpy; it is never imported from this package's `__init__`.
"""

from harness.spec.convspec import ConvSpec, SpecError, default_types
from harness.spec.dtypes import DTYPES, DType, dtype

__all__ = ["DTYPES", "ConvSpec", "DType", "SpecError", "default_types", "dtype"]
