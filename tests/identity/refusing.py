"""One call for each code with which an identity is refused, for the tests of every refusal."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from sovereign.gateway.callers.issuers import Issuer
from sovereign.gateway.callers.oidc import Tokens
from sovereign.gateway.view import Asked
from sovereign.registry import utcnow
from tests.gateway.site import EEA, Reply, Site
from tests.identity.issuing import said
from tests.identity.signer import Signer, showing
from tests.simulated.engine import Engine

Case = Callable[[Site, Engine, dict[str, str]], Awaitable[Reply]]


async def asking(ours: Site, asked: Asked) -> None:
    """Have a gateway that runs ask its clients for something else."""
    ours.gateway._watching._asked = asked
    await ours.seen()


def with_token(at: str = "", **claims: Any) -> Case:
    """A token of an issuer that is believed from now on, with these claims."""

    async def case(ours: Site, it: Engine, headers: dict[str, str]) -> Reply:
        signer = Signer()
        signer.add("k1")
        with showing(signer.key_set) as shown:
            issuer = msgspec.convert(said(at or shown.url), Issuer)
            tokens = Tokens(EEA, [issuer], utcnow())
            await asking(ours, Asked(tokens))
            reply = await ours.chat(secret=signer.token(**claims), headers=headers)
            await tokens.close()
            return reply

    return case


async def nobodys_token(ours: Site, it: Engine, headers: dict[str, str]) -> Reply:
    issuer = said("http://127.0.0.1:9/jwks")
    issuer["bindings"] = [{**issuer["bindings"][0], "tenant": "nobody"}]
    signer = Signer()
    signer.add("k1")
    with showing(signer.key_set) as shown:
        tokens = Tokens(EEA, [msgspec.convert(issuer | {"keys": shown.url}, Issuer)], utcnow())
        await asking(ours, Asked(tokens))
        return await ours.chat(secret=signer.token(), headers=headers)


async def suspended_tenant(ours: Site, it: Engine, headers: dict[str, str]) -> Reply:
    ours.keystore.suspend("acme", utcnow())
    await ours.seen()
    return await ours.chat(headers=headers)


async def no_certificate(ours: Site, it: Engine, headers: dict[str, str]) -> Reply:
    await asking(ours, Asked(certificate=True))
    return await ours.chat(headers=headers)


IDENTITY: dict[str, Case] = {
    "tenant-suspended": suspended_tenant,
    "certificate-refused": no_certificate,
    "token-refused": with_token(aud="elsewhere"),
    "token-expired": with_token(exp=1),
    "token-not-bound": nobodys_token,
    "identity-unavailable": with_token("http://127.0.0.1:9/jwks"),
}
