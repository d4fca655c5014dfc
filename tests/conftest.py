"""A shell starts background jobs with the interrupt ignored, and processes inherit that: tests interrupt runs.

What the user's cache holds of tuning is not used.
"""

import os
import signal

os.environ["CONVPROOF_TUNED"] = ""

signal.signal(signal.SIGINT, signal.default_int_handler)

#: Answers for a whole process what kernels ask about their device: not to be imported in search of doctests.
collect_ignore = ["opencl_as_gpu.py"]
