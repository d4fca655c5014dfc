"""A shell starts background jobs with the interrupt ignored, and processes inherit that: tests interrupt runs."""

import signal

signal.signal(signal.SIGINT, signal.default_int_handler)
