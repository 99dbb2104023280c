"""`sovereign audit restore`: put logs back from a standby, or from a folder of logs."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from sovereign import fleet
from sovereign.audit.copies.standby_client import Client, Where
from sovereign.audit.note import VerifierKey
from sovereign.cli.audit_args import bytes_of
from sovereign.cli.audit_standby import CaOption, CertOption, TlsKeyOption, token_in, vkeys_in
from sovereign.cli.output import HomeOption, JsonFlag, give, home_of, say, table
from sovereign.errors import KeyMissing


def add_to(audit: typer.Typer) -> None:
    """Hang the command on `sovereign audit`."""
    audit.command("restore")(restore_)


def restore_(
    source: Annotated[str, typer.Option("--from", help="A folder of logs, or a standby's URL.")],
    vkeys: Annotated[
        Path, typer.Option("--vkeys", help="File with a verifier key a line: what is put back.")
    ],
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="For a standby: file with the secret.")
    ] = None,
    checkpoint: Annotated[
        list[Path] | None, typer.Option(help="A checkpoint kept elsewhere; may be repeated.")
    ] = None,
    accept_loss: Annotated[
        bool,
        typer.Option("--accept-loss", help="Go on although the copy lacks what is known."),
    ] = False,
    tls_ca: CaOption = None,
    tls_cert: CertOption = None,
    tls_key: TlsKeyOption = None,
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Put logs back on an empty machine from a copy, verified under keys from elsewhere.

    The folder is a standby's, or one that holds WRITER/STREAM. A writer goes on only with its
    own private key; without it the logs are there to be read and verified.
    """
    from sovereign.audit.copies.restore import Copy, Target, restore
    from sovereign.audit.log import utcnow

    where, wanted = home_of(home), vkeys_in(vkeys)
    target = Target(where.audit, where.keys, where.trust)
    kept = [bytes_of(path) for path in checkpoint or []]
    if source.startswith(("http://", "https://")):
        if token_file is None:
            raise KeyMissing("a standby gives nothing without its token", accepted="--token-file")
        with Client(Where(source, token_in(token_file), tls_ca, tls_cert, tls_key)) as client:
            copies = [Copy(vkey, _reading(client, vkey.name)) for vkey in wanted]
            done = restore(
                copies, target, utcnow, source="standby", kept=kept, accept_loss=accept_loss
            )
    else:
        copies = [Copy(vkey, fleet.reader(_inside(Path(source), vkey))) for vkey in wanted]
        done = restore(copies, target, utcnow, source="folder", kept=kept, accept_loss=accept_loss)
    if as_json:
        give(
            {
                "logs": [
                    {
                        "origin": r.origin,
                        "dir": str(r.folder),
                        "size": r.size,
                        "lost": r.lost,
                        "reopened": r.reopened,
                    }
                    for r in done
                ]
            }
        )
        return
    rows = [(r.origin, r.size, r.lost, "goes on" if r.reopened else "to be read") for r in done]
    table(("log", "records", "known to be lost", "writer"), rows)
    say("check it: sovereign audit verify")


def _reading(client: Client, origin: str) -> Callable[[str], bytes | None]:
    return lambda path: client.read(origin, path)


def _inside(folder: Path, vkey: VerifierKey) -> Path:
    """Where a log lies in a copy: below its site, as in a standby, or without it."""
    site, writer, stream = vkey.name.split("/")
    whole = folder / site / writer / stream
    return whole if whole.is_dir() else folder / writer / stream
