"""A home with a gateway's log in it, written record by record, to judge the accounting by."""

from pathlib import Path

from bench.home import SITE
from sovereign import settings
from sovereign.audit import record, trail
from sovereign.audit.log import utcnow
from sovereign.audit.trail import Trail
from sovereign.settings import Home, Settings

WAIT_S = 20


def head(name: str) -> bytes:
    """The head of an answer that names this record."""
    return f"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-sovereign-record: {name}".encode()


def written(root: Path, *calls: tuple[str, str]) -> tuple[Home, list[str]]:
    """Write a decision for each call, and its completion; return the home and their names.

    Args:
        calls: verdict and outcome of each; no completion is written for the outcome "".
    """
    (root / settings.FILE_NAME).write_text(settings.render(Settings(site=SITE)))
    home = settings.load(root)
    trail.create(home.audit, home.keys, home.trust, "gateway", SITE)
    with Trail.open(home.audit, home.keys, "gateway", SITE, utcnow) as log:
        return home, [_call(log, number, *call) for number, call in enumerate(calls)]


def _call(log: Trail, number: int, verdict: str, outcome: str) -> str:
    decided = log.record(
        "decision",
        request=number,
        tenant="t",
        key="key_1",
        purpose="p",
        basis="contract",
        data="personal",
        verb="process",
        model="m",
        asked_at=record.written(utcnow()),
        verdict=verdict,
        rule="r",
        policy="sha256:0",
    ).result(WAIT_S)
    if outcome:
        log.record(
            "completion",
            decision=decided.index,
            outcome=outcome,
            status=200,
            tokens_in=1,
            tokens_out=1,
            latency_us=1,
            finish="stop",
        ).result(WAIT_S)
    return decided.name
