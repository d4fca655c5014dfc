"""The OpenCL backends as a GPU would be given them, on whatever device there is: groups of items, local memory, copies.

Reached by FILE.py:NAME, in a worker of its own: what the kernels ask about a device is answered for all of that process.
"""

from backends.opencl import direct as _direct
from backends.opencl import im2col as _im2col
from backends.opencl import runtime
from backends.opencl import winograd as _winograd

runtime.is_processor = lambda handle: False
runtime.shares_memory = lambda handle: False

direct, im2col, f43, f23 = _direct.backend, _im2col.backend, _winograd.backend, _winograd.backend_f23
