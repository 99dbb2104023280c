"""`sovereign attest sign|serve`: vouch for a host from outside; neither needs a site.

Do it where the key is kept: an attester's on a machine of the attester's, an anchor's on a machine
whose place is known.
"""

import signal
import threading
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from sovereign.attestation import anchor
from sovereign.attestation.papers import Statement, sealed
from sovereign.attestation.site import HOST_NAME, PIN
from sovereign.audit.keys.custody import KeyFolder
from sovereign.audit.note import SignerKey, VerifierKey
from sovereign.cli.output import JsonFlag, facts, give, say
from sovereign.errors import BadInput, ProcessFailed
from sovereign.policy.kept import written
from sovereign.registry import utcnow

KeyOption = Annotated[Path, typer.Option(help="Private key to sign with.")]
NewKeyOption = Annotated[
    str, typer.Option(help="Make the key first, under this name; its public half is shown.")
]


def add_to(app: typer.Typer) -> None:
    """Hang the commands on `sovereign attest`."""
    app.command()(sign)
    app.command()(serve)


def sign(
    host: Annotated[str, typer.Option(help="Name of the host, as its site calls it.")],
    host_key: Annotated[str, typer.Option(help="Its verifier key, or the file with it.")],
    place: Annotated[str, typer.Option(help="Code of the place it stands at.")],
    key: KeyOption,
    to: Annotated[Path, typer.Option(help="File for the statement.")],
    days: Annotated[int, typer.Option(min=1, max=366, help="How long it holds.")] = 30,
    because: Annotated[str, typer.Option(help="How it is known; no names of people.")] = "",
    new_key_of: NewKeyOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Sign that the host with this key stands at this place, from now on for some days."""
    if not HOST_NAME.fullmatch(host):
        raise BadInput(f"{host!r} cannot name a host", accepted="lower case, digits, - and .")
    bound_to, signer, now = _vkey(host_key), _signer(key, new_key_of), utcnow()
    until = now + timedelta(days=days)
    paper = Statement(host, str(bound_to), place, now, until, because)
    written(to, sealed(paper, signer))
    said = {
        "statement": str(to),
        "host": host,
        "place": place,
        "until": until.isoformat(timespec="seconds"),
        "vkey": str(signer.verifier),
    }
    if as_json:
        give(said)
        return
    facts(said)
    say(f"  on the site: attestation/statements/, and the vkey in trust/attesters/NAME{PIN}")


def serve(
    key: KeyOption,
    hosts: Annotated[Path, typer.Option(help="Folder with NAME.vkey of those it measures.")],
    listen: Annotated[str, typer.Option(help="address:port, UDP.")] = "0.0.0.0:7411",
    samples: Annotated[int, typer.Option(min=3, max=200, help="Answers asked of each.")] = 20,
    new_key_of: NewKeyOption = "",
) -> None:
    """Be an anchor: measure how long known hosts take to answer, and sign what came of it."""
    signer = _signer(key, new_key_of)
    known = [_vkey(str(path)) for path in sorted(hosts.glob(f"*{PIN}"))]
    if not known:
        raise BadInput(f"{hosts} holds no key of a host", accepted=f"files NAME{PIN}")
    address, _, port = listen.rpartition(":")
    try:
        listening = anchor.bound(address.strip("[]"), int(port))
    except (OSError, ValueError, OverflowError) as error:
        raise ProcessFailed(f"an anchor cannot listen on {listen}", found=str(error)) from None
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    facts({"anchor": signer.name, "vkey": signer.verifier, "listen": listen, "hosts": len(known)})
    with listening:
        anchor.serve(
            anchor.Measuring(signer, known, samples, utcnow), listening, stopped=stop.is_set
        )


def _signer(path: Path, new_key_of: str) -> SignerKey:
    if new_key_of:
        if path.exists():
            raise BadInput(f"{path} is there already", accepted="a file that is not there yet")
        path.touch(mode=0o600)
        path.write_text(SignerKey.generate(new_key_of).dump())
    raw = KeyFolder(path.parent).read(path.name)
    if raw is None:
        raise BadInput(f"{path} is not there", next_step="the same with --new-key-of NAME")
    return SignerKey.parse(raw.decode(errors="replace"))


def _vkey(given: str) -> VerifierKey:
    path = Path(given)
    try:
        return VerifierKey.parse(path.read_text() if path.is_file() else given)
    except (OSError, UnicodeDecodeError):
        raise BadInput(f"{given[:80]} cannot be read as a verifier key") from None
