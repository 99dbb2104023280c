"""What the gateway knows at this moment of keys and endpoints, at most a second old.

Both come from files that others write: keys from the command line, endpoints from the
controller. They are re-read on a timer and swapped whole, so a request sees one state.
A file that cannot be read leaves the last state in place; endpoints then refuse by
themselves when their attestation expires, and nobody is known once the keys are too old.
"""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sovereign import eventlog
from sovereign.keystore import Keystore, Known
from sovereign.registry import Registry, Snapshot, utcnow

if TYPE_CHECKING:
    from sovereign.gateway.callers.oidc import Tokens

REFRESH_S = 0.5
NEVER = datetime.min.replace(tzinfo=UTC)
STALE_KEYS_MAX_S = 30
"""A key revoked while the store cannot be read must not live on: after this, nobody is known."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client may show of itself besides a key, and whether it must show a certificate."""

    tokens: "Tokens | None" = None
    certificate: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """Keys by fingerprint, tenants' secrets, endpoints by the model they serve.

    `keys_read_at` is when the keys were last read, `registry_read_at` when the endpoints were.
    """

    known: Known
    snapshot: Snapshot
    keys_read_at: datetime
    registry_read_at: datetime = NEVER
    asked: Asked = field(default_factory=Asked)

    def keys_are_stale(self, now: datetime) -> bool:
        """True when the keys have not been readable for longer than a revoked one may live on."""
        return abs((now - self.keys_read_at).total_seconds()) > STALE_KEYS_MAX_S


class Watching:
    """Keeps `current` fresh until stopped."""

    def __init__(self, keystore: Keystore, registry: Registry, asked: Asked | None = None) -> None:
        self._keystore = keystore
        self._registry = registry
        self._asked = asked or Asked()
        self.current = self._read(View(Known({}, {}), Snapshot(0, ()), utcnow()))

    def _read(self, last: View) -> View:
        """Read both, each for itself: a registry that is busy must not keep a revoked key alive."""
        known, read_at = _known(self._keystore), utcnow()
        if known is None:
            stale = last.keys_are_stale(read_at)
            known, read_at = Known({}, {}) if stale else last.known, last.keys_read_at
        snapshot = _snapshot(self._registry)
        if snapshot is None:
            return View(known, last.snapshot, read_at, last.registry_read_at, self._asked)
        return View(known, snapshot, read_at, utcnow(), self._asked)

    async def run(self) -> None:
        """Re-read both files every `REFRESH_S` seconds, for ever."""
        while True:
            await asyncio.sleep(REFRESH_S)
            self.current = await asyncio.to_thread(self._read, self.current)


def _known(keystore: Keystore) -> Known | None:
    try:
        return keystore.known()
    except Exception as error:  # noqa: BLE001 - the watch must never end; its class is logged
        eventlog.emit("view-unreadable", file="keystore", exception=type(error).__name__)
        return None


def _snapshot(registry: Registry) -> Snapshot | None:
    try:
        return registry.snapshot()
    except Exception as error:  # noqa: BLE001 - as above
        eventlog.emit("view-unreadable", file="registry", exception=type(error).__name__)
        return None
