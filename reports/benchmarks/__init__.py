"""The asv suite. asv imports this folder as a package called `benchmarks`, so its modules name each other relatively.

Here stands only what holds for every commit that asv installs; what is timed, and the harness that judges it, are
that commit's own.
"""
