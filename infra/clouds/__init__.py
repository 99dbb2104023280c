"""One file a cloud, each written in that cloud's own words.

There is no common base: a cloud takes a `Site` and gives `Outputs` (`infra/shapes.py`), and
how it gets there is its own affair. What three files do alike may one day be shared.
"""
