"""Running backends: processes, shared memory, limits, the plan and its execution.

Foreign code runs in workers only (or in this process on demand); the process that started them judges.
"""
