"""Benchmarks: `python -m bench NAME`. What each figure means stands in docs/benchmarks.md."""
