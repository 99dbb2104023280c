"""Prepare a home that the real gateway serves from: settings, key, logs and an attestation.

Nothing of the gateway is replaced. What a controller would have written, that the engine stands
at an allowed place and answers, is written once for the length of the run.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sovereign import settings as settings_files
from sovereign.audit import trail
from sovereign.keystore import Key, Keystore, new_id
from sovereign.registry import Endpoint, Registry, utcnow
from sovereign.settings import GatewaySettings, Home, Settings

SITE = "bench"
MODEL = "ministral-3-3b-instruct-2512"
PLACE = "scaleway:fr-par-2"
VOUCHED_FOR = timedelta(hours=1)
"""Longer than any run; a controller's word holds for seconds."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A home, and the secret of the one key it knows."""

    home: Home
    secret: str


def prepare(root: Path, *, port: int, upstream: str) -> Prepared:
    """Make a home under `root` whose gateway listens on `port` and whose engine is `upstream`."""
    root.mkdir(mode=0o700, parents=True)
    chosen = Settings(site=SITE, place=PLACE, gateway=GatewaySettings(listen=f"127.0.0.1:{port}"))
    (root / settings_files.FILE_NAME).write_text(settings_files.render(chosen))
    home = settings_files.load(root)
    trail.create(home.audit, home.keys, home.trust, "gateway", SITE)
    _vouch(home, upstream)
    return Prepared(home, _key(home))


def _vouch(home: Home, upstream: str) -> None:
    now = utcnow()
    endpoint = Endpoint(
        id="mock",
        engine="vllm",
        address=upstream,
        models=(MODEL,),
        place=PLACE,
        model_digest="sha256:" + "0" * 64,
        attested_at=now,
        expires_at=now + VOUCHED_FOR,
        quarantine="",
        reason="",
    )
    Registry(home.registry, writable=True).write([endpoint], planned_on=0)


def _key(home: Home) -> str:
    """A key for personal data whose data subject comes in a header, so that one is named."""
    store = Keystore(home.keystore)
    store.create()
    key = Key(
        id=new_id(),
        tenant="bench",
        purpose="benchmark",
        basis="legitimate-interests",
        data="personal",
        subject="header",
        created_at=utcnow(),
    )
    return store.add(key)


Command = Callable[[Home], list[str]]
"""How the gateway of a home is started."""
