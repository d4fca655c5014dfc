"""`python -m harness.cli`: the command where its script is not on the path."""

from harness.cli import main

main(prog_name="convproof")
