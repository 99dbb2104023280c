"""Any sequence of changes to keys and tenants, against what a reader of the log would expect."""

from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from sovereign.gateway.call import Call
from sovereign.gateway.callers.identify import identify
from sovereign.gateway.refusal import Denied
from sovereign.gateway.view import View
from sovereign.keystore import Keystore, new_id
from sovereign.registry import Snapshot
from tests.supervisor.test_keystore import key

BEGAN = datetime(2026, 11, 25, tzinfo=UTC)
TENANTS = st.sampled_from(["acme", "hr", "legal"])
HOURS = st.integers(0, 48)


@dataclass
class Meant:
    """What is expected of a secret."""

    key_id: str
    tenant: str
    ends: datetime | None = None
    revoked: bool = False


def outcome(answer: Coroutine[Any, Any, Any]) -> str:
    """The id a call is taken for, or the code it is refused with; nothing here may wait."""
    try:
        answer.send(None)
    except StopIteration as done:
        return str(done.value.id)
    except Denied as denied:
        return denied.code
    raise AssertionError("a look-up waited")


class Changes(RuleBasedStateMachine):
    """An operator in a hurry."""

    secrets = Bundle("secrets")

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.store = Keystore(Path(self.folder.name) / "keys.sqlite")
        self.store.create()
        self.now = BEGAN
        self.meant: dict[str, Meant] = {}
        self.suspended: set[str] = set()

    def teardown(self) -> None:
        self.folder.cleanup()

    @rule(target=secrets, tenant=TENANTS, hours=st.none() | HOURS)
    def create(self, tenant: str, hours: int | None) -> str:
        ends = None if hours is None else self.now + timedelta(hours=hours)
        made = key(id=new_id(), tenant=tenant, created_at=self.now, expires_at=ends)
        secret = self.store.add(made)
        self.meant[secret] = Meant(made.id, tenant, ends)
        return secret

    @rule(target=secrets, secret=secrets, hours=HOURS)
    def rotate(self, secret: str, hours: int) -> str:
        old = self.meant[secret]
        made = msgspec.structs.replace(
            self.store.key(old.key_id), id=new_id(), replaces=old.key_id, revoked_at=None
        )
        until = self.now + timedelta(hours=hours)
        _, new = self.store.rotate(old.key_id, made, until)
        self.meant[new] = Meant(made.id, old.tenant, old.ends)
        old.ends = until if old.ends is None else min(until, old.ends)
        return new

    @rule(secret=secrets)
    def revoke(self, secret: str) -> None:
        self.store.revoke(self.meant[secret].key_id, self.now)
        self.meant[secret].revoked = True

    @rule(secret=secrets, hours=HOURS)
    def expire(self, secret: str, hours: int) -> None:
        self.meant[secret].ends = self.now + timedelta(hours=hours)
        self.store.expire(self.meant[secret].key_id, self.now + timedelta(hours=hours))

    @rule(tenant=TENANTS, at_all=st.booleans())
    def suspend(self, tenant: str, at_all: bool) -> None:
        self.store.create_tenant(tenant, self.now)
        self.store.suspend(tenant, self.now if at_all else None)
        (self.suspended.add if at_all else self.suspended.discard)(tenant)

    @rule(hours=HOURS)
    def wait(self, hours: int) -> None:
        self.now += timedelta(hours=hours)

    @invariant()
    def every_secret_is_taken_for_what_was_last_said_of_it(self) -> None:
        view = View(self.store.known(), Snapshot(0, ()), self.now)
        for secret, meant in self.meant.items():
            assert outcome(identify(_call(secret), view, self.now)) == self.expected(meant)
        assert outcome(identify(_call("sov_none"), view, self.now)) == "key-missing-or-unknown"

    def expected(self, meant: Meant) -> str:
        if meant.revoked or (meant.ends is not None and meant.ends <= self.now):
            return "key-inactive"
        return "tenant-suspended" if meant.tenant in self.suspended else meant.key_id


def _call(secret: str) -> Call:
    async def nothing(*_: Any) -> Any:
        raise AssertionError("nobody reads or writes here")

    header = (b"authorization", f"Bearer {secret}".encode())
    scope = {"type": "http", "method": "POST", "path": "/", "headers": [header]}
    return Call(scope, nothing, nothing)


TestNoSequenceLetsAnybodyIn = Changes.TestCase
TestNoSequenceLetsAnybodyIn.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None
)
