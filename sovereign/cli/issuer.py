"""`sovereign issuer …`: which identity providers are believed, and what a token would be taken for.

Neither changes anything, and neither is recorded: a gateway records what it decides itself.
"""

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sovereign.cli.key_args import certificate_given, show_facts
from sovereign.cli.output import HomeOption, JsonFlag, give, home_of, policy_of, say, table
from sovereign.errors import BadInput
from sovereign.registry import utcnow
from sovereign.settings import Home

if TYPE_CHECKING:
    from sovereign.gateway.refusal import Denied
    from sovereign.keystore import Key
    from sovereign.policy import Policy

app = typer.Typer(help="List identity providers, and check a token.", no_args_is_help=True)
UNDETERMINED = 503
"""The one status of a token's refusal that says nothing about the token."""


def _file(home: Home) -> Path:
    """The site's file of issuers.

    Raises:
        BadInput: it has none.
    """
    from sovereign.gateway.callers.tokens import issuers_file

    path = issuers_file(home)
    if path is None:
        raise BadInput(
            "this site takes no tokens: `gateway.issuers` names no file",
            accepted="a file as docs/formats/issuers.md describes",
            next_step="docs/guide/identity.md",
        )
    return path


@app.command("list")
def list_(home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """Every provider, where it stands, and whether the rules let it: 1 when one is refused."""
    where = home_of(home)
    policy, path = policy_of(where), _file(where)
    from sovereign.gateway.callers.issuers import judge, load

    judged = [(each, judge(policy, each, utcnow())) for each in load(path, policy)]
    if as_json:
        give(
            {
                "issuers": [
                    {
                        "id": each.id,
                        "issuer": each.issuer,
                        "keys": each.keys,
                        "place": each.place,
                        "bindings": [binding.id for binding in each.bindings],
                        "verdict": decision.verdict,
                        "rule": decision.rule,
                        "because": f"{decision.found}. {decision.because}",
                    }
                    for each, decision in judged
                ]
            }
        )
    else:
        rows = [(d.verdict, each.id, each.place, d.rule, each.issuer) for each, d in judged]
        table(("verdict", "id", "place", "rule", "issuer"), rows)
    raise typer.Exit(0 if all(decision.allowed for _, decision in judged) else 1)


@app.command()
def check(
    certificate: Annotated[
        Path | None, typer.Option(help="The certificate it would come beside (RFC 8705).")
    ] = None,
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Read a token from input, and say what a gateway would take it for: 1 when it is refused.

    The provider is asked for its keys, as a gateway does. The token is not kept or shown.
    """
    where = home_of(home)
    policy, path = policy_of(where), _file(where)
    from sovereign.gateway.callers.oidc_token import TOKEN_MAX_CHARS
    from sovereign.gateway.refusal import Denied

    try:
        token = sys.stdin.readline(TOKEN_MAX_CHARS + 2).strip()
    except UnicodeDecodeError:
        token = ""
    if not token or not token.isascii():
        raise BadInput("no token on input", accepted="one line: the token, without `Bearer`")
    thumbprint = certificate_given(certificate).thumbprint if certificate else ""
    try:
        key = asyncio.run(_key(policy, where, path, token, thumbprint))
    except Denied as denied:
        raise typer.Exit(_tell_refusal(denied, as_json=as_json)) from None
    shown: dict[str, Any] = {
        name: getattr(key, name)
        for name in ("id", "tenant", "purpose", "basis", "data", "subject", "models", "roles")
    }
    if as_json:
        give({"allowed": True, **shown})
        return
    say(f"allow: it stands for {key.id}")
    show_facts(shown)


async def _key(policy: "Policy", home: Home, path: Path, token: str, thumbprint: str) -> "Key":
    """What the token stands for, of a tenant that is there and may be used.

    Raises:
        Denied: it would be refused.
    """
    from sovereign.gateway.callers.issuers import load
    from sovereign.gateway.callers.oidc import Tokens
    from sovereign.gateway.refusal import Denied
    from sovereign.keystore import Keystore

    tokens = Tokens(policy, load(path, policy), utcnow())
    try:
        key, _ = await tokens.find(token, thumbprint, utcnow())
    finally:
        await tokens.close()
    known = Keystore(home.keystore).known()
    if key.tenant not in known.secrets:
        raise Denied("token-not-bound", "the token is for a tenant this site does not know")
    if key.tenant in known.suspended:
        raise Denied("tenant-suspended", f"the tenant of the key {key.id} is suspended")
    return key


def _tell_refusal(denied: "Denied", *, as_json: bool) -> int:
    if as_json:
        said = {"code": denied.code, "because": denied.message, "rule": denied.rule or None}
        give({"allowed": False, **said})
    else:
        say(f"refuse: {denied.code}: {denied.message}")
        say(f"  more     docs/runbooks/{denied.code}.md")
    return 3 if denied.status == UNDETERMINED else 1
