"""A shell starts background jobs with the interrupt ignored, and processes inherit that: tests interrupt runs.

What the user's cache holds of tuning is not used.
"""

import os
import signal

os.environ["CONVPROOF_TUNED"] = ""

signal.signal(signal.SIGINT, signal.default_int_handler)

#: Not to be imported in search of doctests: the one answers for a whole process what kernels ask about their device, the
#: other fixes its numbers of threads by its arguments.
collect_ignore = ["opencl_as_gpu.py", "fft_check.py"]
