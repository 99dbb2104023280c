"""A cloud that exists only on this machine, and says no as the real one would. See README.md."""
