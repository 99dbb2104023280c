"""Verdicts for an auditor: controls, the checks that answer them, and how they are shown."""
