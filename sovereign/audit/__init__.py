"""The audit log: one writer a log, append-only, verifiable by strangers.

The formats are C2SP's (tlog-tiles, tlog-checkpoint, signed-note, tlog-proof) over RFC 6962
hashing. `log.py` writes, `verify.py` checks and shares no code with the writer beyond the
pure arithmetic of `merkle.py`, `note.py`, `tiles.py` and `record.py`.
"""
