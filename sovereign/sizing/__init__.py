"""How much memory a model takes, how fast it can be at most, and which machines hold it.

Everything here but `reading/` is arithmetic: an architecture out of the policy's facts, a
number format, a load and a card go in; bytes, seconds and their formulas come out. No clock, no
file, no network. Figures are of three kinds and never mixed: exact (parameters, weights, the
cache), estimated with a range (what an engine needs beside them), and bounds (what physics lets
no engine pass).
"""

GIB = 1024**3
"""Memory is counted in GiB, as drivers do; sizes of files and rates in powers of ten."""
