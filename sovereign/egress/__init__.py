"""Where this site may connect to, as a firewall that says no to everything else.

What is declared and allowed (`declared.py`), at addresses that were pinned (`pins.py`), becomes a
list of openings (`plan.py`) and that a ruleset (`ruleset.py`): all of it pure, so the same policy,
declarations and pins give the same text on every machine. `firewall.py` alone talks to the kernel;
`flows.py` compares what was tried with what was declared.

It opens nothing that `residency.decide` refuses, and follows no name to where it leads today.
"""
