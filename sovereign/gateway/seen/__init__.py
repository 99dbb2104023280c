"""What is seen from outside: metrics, traces, the description of the interface."""
