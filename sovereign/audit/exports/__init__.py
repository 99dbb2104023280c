"""The folder an auditor takes away, and the verifier that goes with it."""
