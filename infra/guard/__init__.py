"""The guard: every resource of a plan is asked about, and what nobody knows is refused."""
