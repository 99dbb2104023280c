"""What others say of a log: witnesses that cosign it, authorities that date it."""
