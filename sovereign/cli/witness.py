"""`sovereign witness …`: be a witness for other people's logs, and ask one what it has signed."""

import resource
import signal
import socket
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sovereign import eventlog
from sovereign.audit.witnesses.witness_home import WitnessHome
from sovereign.cli.audit_args import bytes_of, keys_given
from sovereign.cli.output import HomeOption, JsonFlag, facts, give, home_of, say, table, write_file
from sovereign.errors import DeclarationMissing, ProcessFailed, StateUnreadable, TileMissing
from sovereign.policy import THIS_HOST
from sovereign.residency import is_loopback
from sovereign.settings import Home

if TYPE_CHECKING:
    from sovereign.audit.witnesses.witness import Witness

app = typer.Typer(
    help="Witness the logs of others: sign that they only grew.", no_args_is_help=True
)
DEFAULT_LISTEN = "127.0.0.1:8090"
CONNECTIONS_MAX = 256
DRAIN_S = 5
StateOption = Annotated[
    Path | None, typer.Option("--state", help="Folder of the witness; by default HOME/witness.")
]
OriginArgument = Annotated[str, typer.Argument(help="Name of a log, as in its verifier key.")]


class Algorithm(StrEnum):
    """What a witness signs with."""

    ED25519 = "ed25519"
    ML_DSA_44 = "ml-dsa-44"


@app.command()
def key(
    name: Annotated[
        str, typer.Option(help="Make a key under this name, such as witness.example/w1.")
    ] = "",
    algorithm: Annotated[Algorithm, typer.Option(help="Kind of the key to make.")] = (
        Algorithm.ED25519
    ),
    home: HomeOption = None,
    state: StateOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the verifier keys of this witness; with --name, make one first.

    Hand them to the operators whose logs you witness. Nothing else ever makes one.
    """
    where = _witness(home, state)
    if name:
        where.make_key(name, algorithm.value)
    shown = [str(secret.verifier) for secret in where.signers()]
    if as_json:
        give({"vkeys": shown, "state": str(where.root)})
        return
    for vkey in shown:
        say(vkey)


@app.command()
def trust(
    vkey: Annotated[list[str], typer.Argument(help="Verifier key of a log, or a file with one.")],
    home: HomeOption = None,
    state: StateOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Know a log: from the next start on its checkpoints are looked at."""
    where = _witness(home, state)
    where.signers()
    given = keys_given(vkey)
    added = {log.name: where.trust(log) for log in given}
    if as_json:
        give({"logs": added})
        return
    for origin, new in added.items():
        say(f"{origin}: {'known from the next start on' if new else 'known already'}")


@app.command()
def serve(
    listen: Annotated[str, typer.Option(help="address:port to listen on.")] = DEFAULT_LISTEN,
    home: HomeOption = None,
    state: StateOption = None,
) -> None:
    """Be the witness, in the foreground (C2SP tlog-witness over HTTP).

    Listening on more than loopback needs a declared place, as everywhere.
    """
    from sovereign.audit.disk import RealDisk
    from sovereign.audit.log import utcnow
    from sovereign.audit.witnesses.witness import Witness

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _refuse_undeclared(home_of(home), listen)
    where = _witness(home, state)
    witness = Witness(RealDisk(where.seen), where.signers(), where.logs(), utcnow)
    try:
        bound = _bound(listen)
        eventlog.tame()
        eventlog.emit("witness-started", listen=listen, logs=len(where.logs()))
        _answer(witness, bound)
        failure = witness.failure
    finally:
        witness.close()
    eventlog.emit("witness-stopped")
    if failure:
        raise StateUnreadable(
            "the witness could not remember what it would have signed; it signed nothing more",
            found=failure,
            accepted="a disk that keeps what it is given",
            next_step="start it anew once the disk works; it looks first at what is there",
        )


def _answer(witness: "Witness", bound: socket.socket) -> None:
    """Answer until told to end, or until the witness can remember nothing more."""
    import uvicorn

    from sovereign.audit.witnesses.witness_http import WitnessApp
    from sovereign.gateway.listener import BoundedProtocol

    server: uvicorn.Server

    def stop() -> None:
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn drains, then asks once more
        signal.signal(number, lambda *_: None)
    server = uvicorn.Server(
        uvicorn.Config(
            WitnessApp(witness, stop),
            loop="uvloop",
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS_MAX,
            timeout_graceful_shutdown=DRAIN_S,
        )
    )
    server.run(sockets=[bound])


@app.command()
def status(home: HomeOption = None, state: StateOption = None, as_json: JsonFlag = False) -> None:
    """Each log this witness knows, and what it has signed of it. Exit 1 when a fork was seen."""
    where = _witness(home, state)
    rows = [
        (origin, tree.size, _time(at), forked) for origin, tree, at, forked in where.remembered()
    ]
    if as_json:
        give(
            {
                "state": str(where.root),
                "vkeys": [str(secret.verifier) for secret in where.signers()],
                "logs": [
                    {"origin": o, "size": s, "signed_at": at or None, "fork": f}
                    for o, s, at, f in rows
                ],
            }
        )
    else:
        shown = [(o, s, at or "never", "seen" if f else "none") for o, s, at, f in rows]
        table(("log", "records", "signed at", "fork"), shown)
        facts({"witness": where.signers()[0].name, "state": where.root})
    raise typer.Exit(1 if any(forked for *_, forked in rows) else 0)


@app.command()
def checkpoint(
    origin: OriginArgument,
    url: Annotated[str, typer.Option(help="Ask the witness at this address instead.")] = "",
    output: Annotated[Path | None, typer.Option(help="Write it here.")] = None,
    home: HomeOption = None,
    state: StateOption = None,
    as_json: JsonFlag = False,
) -> None:
    """The newest checkpoint this witness has signed of a log, to verify that log with.

    `sovereign audit verify FOLDER --vkey KEY --checkpoint FILE` then finds a log that was cut
    short together with everything that its operator remembers of it.
    """
    if url:
        from sovereign.audit.witnesses.submit import newest_of

        signed = newest_of(url, origin)
    else:
        signed = _witness(home, state).signed(origin)
    if signed is None:
        raise TileMissing(f"this witness has signed nothing of {origin}", next_step="ask another")
    if output is not None:
        write_file(output, signed)
    if as_json:
        give({"origin": origin, "checkpoint": signed.decode(errors="replace")})
        return
    if output is not None:
        say(f"written {output}")
        return
    say(signed.decode().removesuffix("\n"))


@app.command()
def restore(
    file: Annotated[list[Path], typer.Argument(help="The newest cosigned checkpoint of each log.")],
    others_never: Annotated[
        bool, typer.Option("--others-never", help="The other logs were never signed here.")
    ] = False,
    home: HomeOption = None,
    state: StateOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Remember every log again, after the memory was lost, from the newest checkpoints.

    Ask the logs' operators, other witnesses and auditors for theirs, and take the largest of
    each log: records beyond it could be signed away.
    """
    where = _witness(home, state)
    trees = where.put_back([bytes_of(path) for path in file], others_never=others_never)
    if as_json:
        give({"remembered": {tree.origin: tree.size for tree in trees}})
        return
    for tree in trees:
        say(f"{tree.origin}: {tree.size} records are remembered")


def _witness(home: Path | None, state: Path | None) -> WitnessHome:
    return WitnessHome(state or home_of(home).root / "witness")


def _time(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat() if at else ""


def _refuse_undeclared(home: Home, listen: str) -> None:
    if home.settings.place == THIS_HOST and not is_loopback(listen):
        raise DeclarationMissing(
            f"{listen} can be reached from other machines, and this host's place is not declared",
            found="place: this-host",
            accepted="a listener on loopback, or a declared place",
            next_step="sovereign places declare --country CC --under CC --entity NAME",
        )


def _bound(listen: str) -> socket.socket:
    host, _, port = listen.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), int(port)), family=family)
    except (OSError, ValueError) as error:
        raise ProcessFailed(
            f"the witness cannot listen on {listen}",
            found=getattr(error, "strerror", None) or type(error).__name__,
            accepted="address:port, free",
        ) from error
