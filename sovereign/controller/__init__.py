"""The only loop: observe what is, plan what to change, act on it, record it."""
