"""What the gateway knows at this moment of keys and endpoints, at most a second old.

Both come from files that others write: keys from the command line, endpoints from the
controller. They are re-read on a timer and swapped whole, so a request sees one state.
A file that cannot be read leaves the last state in place; endpoints then refuse by
themselves when their attestation expires, and `stale_since` makes `readyz` say so.
"""

import asyncio
import sqlite3
from dataclasses import dataclass
from datetime import datetime

from sovereign import eventlog
from sovereign.keystore import Keystore, Known
from sovereign.registry import Registry, Snapshot, utcnow

REFRESH_S = 0.5
STALE_KEYS_MAX_S = 30
"""A key revoked while the store cannot be read must not live on: after this, nobody is known."""


@dataclass(frozen=True, slots=True)
class View:
    """Keys by fingerprint, tenants' secrets, endpoints by the model they serve."""

    known: Known
    snapshot: Snapshot
    read_at: datetime


class Watching:
    """Keeps `current` fresh until stopped."""

    def __init__(self, keystore: Keystore, registry: Registry) -> None:
        self._keystore = keystore
        self._registry = registry
        self.current = self._read()

    def _read(self) -> View:
        return View(self._keystore.known(), self._registry.snapshot(), utcnow())

    async def run(self) -> None:
        """Re-read both files every `REFRESH_S` seconds, for ever."""
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                self.current = await asyncio.to_thread(self._read)
            except (sqlite3.Error, OSError, ValueError) as error:
                eventlog.emit("view-unreadable", exception=type(error).__name__)
                self._forget_keys_when_too_old()

    def _forget_keys_when_too_old(self) -> None:
        age_s = (utcnow() - self.current.read_at).total_seconds()
        if age_s > STALE_KEYS_MAX_S:
            self.current = View(Known({}, {}), self.current.snapshot, self.current.read_at)
