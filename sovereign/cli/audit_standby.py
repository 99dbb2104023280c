"""`sovereign audit standby …`: a second machine for the logs, and whoever sends to it."""

import resource
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from sovereign import eventlog, fleet
from sovereign.audit import remembered
from sovereign.audit.copies.standby_client import Client, Where
from sovereign.audit.copies.standby_send import (
    NO_STATE,
    Lag,
    Sender,
    Source,
    lag_of,
    refuse_split,
    snapshots,
)
from sovereign.audit.note import VerifierKey
from sovereign.cli.audit_args import bytes_of, deployed
from sovereign.cli.output import HomeOption, JsonFlag, give, home_of, say, table
from sovereign.errors import (
    BadInput,
    DeclarationMissing,
    HistorySplit,
    KeyMissing,
    ProcessFailed,
    SovereignError,
    StandbyBehind,
    StandbyUnreachable,
    TileMissing,
)
from sovereign.policy import THIS_HOST
from sovereign.residency import is_loopback
from sovereign.settings import Home, Round, standby_file

app = typer.Typer(
    help="A second machine that holds files and proofs, and nothing that could sign.",
    no_args_is_help=True,
)
DEFAULT_LISTEN = "127.0.0.1:8420"
ROUND_EVERY_S = 1.0
BACKOFF_MAX_S = 5.0
DRAIN_S = 5
CONNECTIONS_MAX = 16

ToOption = Annotated[
    str, typer.Option("--to", help="URL of the standby; by default that of the settings.")
]
TokenOption = Annotated[
    Path | None, typer.Option("--token-file", help="File with the shared secret.")
]
CaOption = Annotated[
    Path | None, typer.Option("--tls-ca", help="Certificates the other side is trusted by.")
]
CertOption = Annotated[Path | None, typer.Option("--tls-cert", help="Our own certificate.")]
TlsKeyOption = Annotated[Path | None, typer.Option("--tls-key", help="Its private key.")]
PointOption = Annotated[
    int | None,
    typer.Option("--recovery-point", min=1, max=3600, help="Seconds that may be lost."),
]


def add_to(audit: typer.Typer) -> None:
    """Hang the commands on `sovereign audit`."""
    audit.add_typer(app, name="standby")


@app.command()
def keys(home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """The verifier keys of this site's logs, one a line: what a standby is given, once, by hand."""
    found = [str(m.vkey) for m in fleet.members(deployed(home)) if m.vkey is not None]
    if as_json:
        give({"vkeys": found})
        return
    for vkey in found:
        say(vkey)


@app.command()
def serve(
    folder: Annotated[Path, typer.Option("--folder", help="Where the copies lie.")],
    vkeys: Annotated[Path, typer.Option("--vkeys", help="File with a verifier key a line.")],
    token_file: Annotated[Path, typer.Option("--token-file", help="File with the shared secret.")],
    listen: Annotated[str, typer.Option(help="address:port to listen on.")] = DEFAULT_LISTEN,
    tls_cert: CertOption = None,
    tls_key: TlsKeyOption = None,
    tls_ca: CaOption = None,
    home: HomeOption = None,
) -> None:
    """Be the standby, in the foreground.

    On more than loopback it needs a declared place and a certificate. With --tls-ca a sender
    must show a certificate of it, beside the token.
    """
    import uvicorn

    from sovereign.audit.copies.standby import Standby
    from sovereign.audit.copies.standby_http import StandbyApp
    from sovereign.gateway.listener import BoundedProtocol

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    eventlog.tame()
    _refuse_open(home_of(home), listen, tls_cert)
    standby = Standby(folder, vkeys_in(vkeys))
    try:
        config = uvicorn.Config(
            StandbyApp(standby, token_in(token_file)),
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
            ssl_certfile=tls_cert,
            ssl_keyfile=tls_key,
            ssl_ca_certs=str(tls_ca) if tls_ca else None,
            ssl_cert_reqs=ssl.CERT_REQUIRED if tls_ca else ssl.CERT_NONE,
        )
        bound = _bound(listen)
        for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn drains, then asks once more
            signal.signal(number, lambda *_: None)
        eventlog.emit("standby-started", listen=listen, logs=len(standby.origins))
        uvicorn.Server(config).run(sockets=[bound])
    finally:
        standby.close()
    eventlog.emit("standby-stopped")


def _refuse_open(home: Home, listen: str, cert: Path | None) -> None:
    if is_loopback(listen):
        return
    if home.settings.place == THIS_HOST:
        raise DeclarationMissing(
            f"{listen} can be reached from other machines, and this host's place is not declared",
            found="place: this-host",
            accepted="a listener on loopback, or a declared place",
            next_step="sovereign places declare --country CC --under CC --entity NAME",
        )
    if cert is None:
        raise BadInput(
            f"records would be sent to {listen} in the clear",
            accepted="--tls-cert and --tls-key, or a listener on loopback",
        )


def _bound(listen: str) -> socket.socket:
    host, _, port = listen.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), int(port)), family=family)
    except (OSError, ValueError) as error:
        raise ProcessFailed(
            f"the standby cannot listen on {listen}",
            found=getattr(error, "strerror", None) or type(error).__name__,
            accepted="address:port, free",
        ) from error


@app.command()
def push(
    to: ToOption = "",
    token_file: TokenOption = None,
    follow: Annotated[
        bool, typer.Option("--follow/--once", help="Round after round until stopped, or one.")
    ] = False,
    recovery_point: PointOption = None,
    tls_ca: CaOption = None,
    tls_cert: CertOption = None,
    tls_key: TlsKeyOption = None,
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Send what is new of this site's logs to the standby. Exit 1 when it is behind afterwards."""
    where = deployed(home)
    limit = recovery_point or where.settings.standby.recovery_point_s
    with Client(_where(where, to, token_file, tls_ca, tls_cert, tls_key)) as client:
        sender = Sender(client, sources_of(where))
        if follow:
            eventlog.tame()
            stop = threading.Event()
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: stop.set())

            def send() -> list[Lag]:
                sender.sources = tuple(sources_of(where))
                return sender.round()

            following(send, stop, limit, told=partial(_tell, where))
            return
        _show(sender.round(), limit, as_json=as_json)


def following(
    send: Callable[[], list[Lag]],
    stop: threading.Event,
    recovery_point_s: float,
    every_s: float = ROUND_EVERY_S,
    told: Callable[[str, float], None] = lambda code, seconds: None,
) -> None:
    """Round after round; every change of how it goes is an event, and nothing ends it.

    `standby-behind` is the alert: what is acknowledged here has been nowhere else for longer
    than the recovery point, whatever the reason. `told` hears after each round what was wrong
    with it, "" for nothing, and for how many seconds the oldest record has been here alone.
    """
    fault, behind, caught_up_at = "", False, time.monotonic()
    pause = 0.0
    while not stop.wait(pause):
        try:
            lags = send()
            lag_s = max((lag.seconds for lag in lags), default=0.0)
            if fault:
                eventlog.emit("standby-answers")
            fault, pause, caught_up_at = "", every_s, time.monotonic()
        except (HistorySplit, StandbyUnreachable, TileMissing, OSError) as error:
            code = getattr(error, "code", "state-unreadable")
            if code != fault:
                eventlog.emit(code, exception=type(error).__name__)
            fault, pause = code, min(max(pause, every_s) * 2, BACKOFF_MAX_S)
            lag_s = time.monotonic() - caught_up_at
        if (lag_s > recovery_point_s) != behind:
            behind = not behind
            name = StandbyBehind.code if behind else "standby-caught-up"
            eventlog.emit(name, seconds=int(lag_s), limit=int(recovery_point_s))
        told(fault or (StandbyBehind.code if behind else ""), lag_s)
    with suppress(SovereignError, OSError):
        send()  # what the writers published when they closed


def _tell(home: Home, code: str, seconds: float) -> None:
    """Say how the last round went, for the controller to write down; the next says it again."""
    path = standby_file(home)
    fresh = path.with_suffix(".new")
    with suppress(OSError):
        fresh.write_bytes(msgspec.json.encode(Round(datetime.now(UTC), code, int(seconds))))
        fresh.replace(path)


@app.command()
def status(
    to: ToOption = "",
    token_file: TokenOption = None,
    recovery_point: PointOption = None,
    tls_ca: CaOption = None,
    tls_cert: CertOption = None,
    tls_key: TlsKeyOption = None,
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """How far the standby is behind, in records and seconds. Exit 1 over the recovery point.

    Exit 70 when it holds more of a log than is here, or another history of it.
    """
    where = deployed(home)
    with Client(_where(where, to, token_file, tls_ca, tls_cert, tls_key)) as client:
        held = client.held()
    found = snapshots(sources_of(where))  # after asking: what the copy has, is here by now
    for shot in found:
        refuse_split(shot, held.get(shot.source.origin, NO_STATE))
    lags = [lag_of(shot, held.get(shot.source.origin, NO_STATE).size) for shot in found]
    limit = recovery_point or where.settings.standby.recovery_point_s
    _show(lags, limit, as_json=as_json)


def _where(
    home: Home,
    to: str,
    token_file: Path | None,
    tls_ca: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
) -> Where:
    """The standby that was named, what was left out taken from the settings.

    Raises:
        BadInput: none is set.
    """
    chosen = home.settings.standby
    url, token = to or chosen.url, token_file or _path(chosen.token_file)
    if not url or token is None:
        raise BadInput(
            "there is no standby to send to",
            accepted="--to URL --token-file FILE, or standby.url and standby.token_file",
        )
    return Where(
        url,
        token_in(token),
        tls_ca or _path(chosen.tls_ca),
        tls_cert or _path(chosen.tls_cert),
        tls_key or _path(chosen.tls_key),
    )


def _path(text: str) -> Path | None:
    return Path(text) if text else None


def _show(lags: list[Lag], recovery_point_s: int, *, as_json: bool) -> None:
    """The lags; ends with `standby-behind` when one is over the recovery point."""
    late = [lag for lag in lags if lag.entries and lag.seconds > recovery_point_s]
    rows = sorted(lags, key=lambda lag: lag.origin)
    if as_json:
        logs = [
            {
                "origin": r.origin,
                "size": r.size,
                "held": r.held,
                "behind_s": round(r.seconds if r.entries else 0, 1),
            }
            for r in rows
        ]
        give({"ok": not late, "recovery_point_s": recovery_point_s, "logs": logs})
        if late:
            raise typer.Exit(1)
        return
    shown = [(r.origin, r.size, r.entries, f"{r.seconds if r.entries else 0:.1f} s") for r in rows]
    table(("log", "records", "not yet there", "oldest of these"), shown)
    if late:
        worst = max(late, key=lambda lag: lag.seconds)
        raise StandbyBehind(
            f"{worst.entries} records of {worst.origin} are on this machine alone",
            found=f"the oldest for {worst.seconds:.0f} s",
            accepted=f"{recovery_point_s} s",
            next_step="sovereign audit standby push --follow, and see why it does not keep up",
        )


def sources_of(home: Home) -> list[Source]:
    """Every log of the site whose key is pinned."""
    return [
        Source(
            member.vkey,
            fleet.reader(member.folder),
            home.trust / f"{member.writer}-{member.stream}{remembered.OTHERS[0]}",
        )
        for member in fleet.members(home)
        if member.vkey is not None
    ]


def vkeys_in(path: Path) -> list[VerifierKey]:
    """The keys in a file, one a line; lines that begin with # say something to people.

    Raises:
        BadInput: it cannot be read, a line is no key, or there is none.
    """
    try:
        lines: Iterable[str] = bytes_of(path).decode().splitlines()
    except UnicodeDecodeError:
        raise BadInput(f"{path} holds no verifier keys", accepted="one a line") from None
    wanted = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not wanted:
        raise KeyMissing(
            f"{path} names no log", accepted="what sovereign audit standby keys printed"
        )
    return [VerifierKey.parse(line) for line in wanted]


def token_in(path: Path) -> str:
    """The secret in a file.

    Raises:
        BadInput: it cannot be read, or is no text.
    """
    try:
        return bytes_of(path).decode("ascii").strip()
    except UnicodeDecodeError:
        raise BadInput(f"{path} holds no token", accepted="one line of ASCII") from None
