"""`python -m sovereign` is the same command as `sovereign`."""

from sovereign.cli import main

main()
