"""A site that takes tokens: its file of issuers, and a gateway that was started with it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.gateway.site import Site, site
from tests.identity.signer import AUDIENCE, Shown, Signer, showing
from tests.simulated.engine import engine

BINDING = {"id": "staff", "tenant": "acme", "purpose": "tests", "basis": "contract"}


def write(folder: Path, *issuers: dict[str, Any]) -> str:
    """Write the file; JSON is YAML too."""
    path = folder / "issuers.yaml"
    path.write_text(json.dumps({"version": 1, "issuers": issuers}))
    return str(path)


def said(url: str, **more: Any) -> dict[str, Any]:
    """One issuer as the file says it."""
    issuer = {
        "id": "corp",
        "issuer": "https://id.example",
        "audience": AUDIENCE,
        "keys": url,
        "place": "this-host",
        "algorithms": ["ES256", "RS256", "PS256", "EdDSA"],
        "bindings": [BINDING],
    }
    return issuer | more


class Issued:
    """A signer, the server of its keys, and a served site that believes it."""

    def __init__(self, signer: Signer, shown: Shown, it: Site) -> None:
        self.signer = signer
        self.shown = shown
        self.site = it

    async def ask(self, token: str, **more: Any) -> tuple[int, str]:
        """The status of a chat with this token, and the code of its refusal."""
        reply = await self.site.chat(secret=token, **more)
        return reply.status, "" if reply.status == 200 else str(reply.error["code"])


@asynccontextmanager
async def issued(tmp_path: Path, **more: Any) -> AsyncIterator[Issued]:
    """A site that believes one issuer; `more` is said of it in the file."""
    signer = Signer()
    signer.add("k1")
    with showing(signer.key_set) as shown:
        path = write(tmp_path, said(shown.url, **more))
        async with engine() as it, site(tmp_path / "home", it.address, issuers=path) as ours:
            yield Issued(signer, shown, ours)
