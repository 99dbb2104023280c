"""The operator's own who-may-what: ask it, test it, and compare two versions of it."""

from sovereign.access.cases import Differing, differing
from sovereign.access.decide import Access, Decision, served

__all__ = ["Access", "Decision", "Differing", "differing", "served"]
