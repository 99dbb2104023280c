"""The drill as a client of the site: keys of its own, and what a client can see of it.

The keys say who they are for, live an hour at most, and are noted before they are made, so that a
killed drill leaves none behind for good.
"""

import time
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from datetime import timedelta
from http.client import HTTPConnection, HTTPException

from sovereign import door
from sovereign.drills import processes, speech
from sovereign.drills.note import Noted
from sovereign.errors import EngineUnhealthy, ProcessFailed
from sovereign.gateway.app import ROUTES
from sovereign.keystore import Key, Keystore, new_id
from sovereign.policy import Policy
from sovereign.registry import Registry, utcnow
from sovereign.settings import Home
from sovereign.supervisor import control as supervising
from sovereign.supervisor.deployment import operator_trail

TENANT, BASIS, DATA = "sovereign-drill", "legitimate-interests", "personal"
KEYS_LIVE = timedelta(hours=1)
KNOWN_WITHIN_S, POLL_S = 15.0, 0.25


def models(home: Home, policy: Policy) -> dict[str, str]:
    """Which model each route that takes a body is asked for: the first that can answer it.

    Empty when no endpoint may be used now.
    """
    now = utcnow()
    usable = [e for e in Registry(home.registry).snapshot().endpoints if not e.quarantine]
    served = [name for each in usable if each.is_fresh(now) for name in each.models]
    found = {}
    for route in (route for route in ROUTES if route in speech.BODIES):
        able = [name for name in served if _can(policy, name, speech.NEEDS[route])]
        for name in (able or served)[:1]:
            found[route] = name
    return found


def _can(policy: Policy, name: str, needed: str) -> bool:
    known = policy.models.get(name)
    return known is not None and (not needed or needed in known.capabilities)


def make_keys(home: Home, note: Noted, purpose: str, sources: Iterable[str]) -> dict[str, str]:
    """A key for each source of a subject, recorded before it is made; secrets by source."""
    store, made = Keystore(home.keystore), {}
    if not home.keystore.exists():
        store.create()  # a site that let nobody in so far
    with operator_trail(home) as log:
        for source in sources:
            now = utcnow()
            key = Key(
                id=new_id(),
                tenant=TENANT,
                purpose=purpose,
                basis=BASIS,
                data=DATA,
                subject=source,
                created_at=now,
                expires_at=now + KEYS_LIVE,
            )
            note.key(key.id)
            named = {"key": key.id, "tenant": key.tenant, "purpose": key.purpose}
            log.record("key-created", **named, by="operator").result()
            made[source] = store.add(key)
    return made


def wait_until_known(home: Home, keys: Mapping[str, str]) -> None:
    """The gateway looks for keys twice a second.

    Raises:
        EngineUnhealthy: it does not answer, or does not know them in time.
    """
    deadline = time.monotonic() + KNOWN_WITHIN_S
    while time.monotonic() < deadline:
        if all(status(home, "/v1/models", secret) == 200 for secret in keys.values()):
            return
        time.sleep(POLL_S)
    raise EngineUnhealthy(
        f"the gateway did not answer with the drill's keys within {KNOWN_WITHIN_S:.0f} s",
        next_step="sovereign status",
    )


def status(home: Home, path: str, secret: str = "") -> int:
    """What the gateway answers to a GET, 0 when it does not."""
    headers = {"authorization": f"Bearer {secret}"} if secret else {}
    with suppress(OSError, HTTPException), closing(_door(home)) as connection:
        connection.request("GET", path, None, headers)
        return connection.getresponse().status
    return 0


def _door(home: Home) -> HTTPConnection:
    return door.connection(home.settings.gateway, KNOWN_WITHIN_S)


def is_ready(home: Home) -> bool:
    """True while a chat sent now would be answered."""
    return status(home, "/readyz") == 200


def pids(home: Home) -> dict[str, int]:
    """The running processes of the site by name, each the one that its supervisor started."""
    known = supervising.state(home)
    if known is not None:
        return {child.name: child.pid for child in known.children if child.state == "running"}
    found: dict[str, int] = {}
    for process in processes.of_site(home):
        found[process.name] = min(process.pid, found.get(process.name, process.pid))
    return found


def wait_for_another(home: Home, name: str, old: int, within_s: float) -> float:
    """Seconds until a process was another than `old`, and the site ready again.

    Raises:
        ProcessFailed: it was not in time.
    """
    started = time.monotonic()
    while time.monotonic() - started < within_s:
        if pids(home).get(name, old) != old and is_ready(home):
            return time.monotonic() - started
        time.sleep(POLL_S)
    raise ProcessFailed(
        f"{name} did not come back within {within_s:.0f} s", next_step="sovereign status"
    )
