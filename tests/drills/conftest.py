"""A home with the logs of every writer, something in each, and an endpoint; no process."""

from datetime import timedelta
from pathlib import Path

import pytest

from sovereign.audit import trail as trails
from sovereign.audit.trail import WRITERS, Trail
from sovereign.keystore import Keystore
from sovereign.registry import Endpoint, Registry, utcnow
from sovereign.settings import Home, Settings

RECORDS = 300
"""More than a bundle, so that there is a whole one and one at the edge."""


def open_trail(home: Home, writer: str) -> Trail:
    return Trail.open(home.audit, home.keys, writer, "local", utcnow, trust=home.trust)


def write(home: Home, count: int) -> None:
    """Requests that were refused, and what else a site writes."""
    with open_trail(home, "gateway") as log:
        for number in range(count):
            fields = {"source": "s", "minute": "2026-11-24T12:00Z", "code": "route-unknown"}
            written = log.record("refusals", **fields, count=number)
        written.result(10)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    it = Home(tmp_path / "home", Settings())
    for writer in WRITERS:
        trails.create(it.audit, it.keys, it.trust, writer, "local")
    Keystore(it.keystore).create()
    write(it, RECORDS)
    now = utcnow()
    endpoint = Endpoint(
        id="local-llamacpp",
        engine="llamacpp",
        address="127.0.0.1:9",
        models=("smollm2-135m-instruct",),
        place="this-host",
        attested_at=now - timedelta(seconds=1),
        expires_at=now + timedelta(seconds=30),
        quarantine="",
        reason="",
    )
    Registry(it.registry, writable=True).write([endpoint], planned_on=0)
    return it
