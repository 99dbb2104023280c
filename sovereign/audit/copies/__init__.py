"""A log on a second machine, and how it comes back from there."""
