"""`sovereign attest …`: who besides its operator vouches for where a host is.

`run`, `show` and `verify` are about attestations, `bind`, `challenge` and `answer` about the keys
of hosts; signing a statement and being an anchor need no site: `attest_outside.py`.
"""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from sovereign.attestation import checked, gather, kept, running, site, standing
from sovereign.attestation.judge import HostPlace, why
from sovereign.attestation.papers import Attestation, fingerprint
from sovereign.audit.note import SignerKey, VerifierKey
from sovereign.audit.trail import pin_path
from sovereign.cli.output import HomeOption, JsonFlag, facts, give, home_of, policy_of, say, table
from sovereign.errors import BadInput, KeyMissing
from sovereign.policy import DEFAULT_PROFILE, THIS_HOST, load
from sovereign.policy.kept import written
from sovereign.registry import utcnow
from sovereign.settings import Home
from sovereign.supervisor.deployment import operator_trail

app = typer.Typer(help="Have others vouch for where a host is.", no_args_is_help=True)
UNKNOWN = 3
OPERATOR_ONLY = "its operator's word"
HostOption = Annotated[str, typer.Option(help="Name of a host; empty: this one.")]


@app.command()
def run(
    host: HostOption = "",
    evidence: Annotated[
        Path | None, typer.Option(help="What another host answered to its challenge.")
    ] = None,
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Challenge a host now, judge what it brings, record and keep the outcome.

    Exit 0 when whoever the profile asks for vouched, 1 when not or when something contradicts, 3
    when nothing could be learned.
    """
    where = home_of(home)
    policy, name = policy_of(where), host or site.host_of(where)
    _refuse_nowhere(site.place_of(where, name))
    if evidence is not None:
        given = running.take_challenge(where, name, utcnow())
        outcome = running.judged(where, policy, name, given.nonce, _read(evidence), utcnow())
    elif name != site.host_of(where):
        raise BadInput(
            f"{name} is another host: its answer has to be brought here",
            next_step=f"sovereign attest challenge {name}",
        )
    else:
        outcome = running.run_here(where, policy, utcnow)
    note = kept.signed(outcome, running.signing_key(where))
    if outcome.verdict == "contradicts":  # refusing is the safe side, recorded or not
        kept.keep(where, outcome, note)
    with operator_trail(where, ("evidence",)) as log:
        record = log.record("place-attested", **running.fields(outcome, note)).result().name
    kept.keep(where, outcome, note)
    stands = standing.standing(where, policy, name, site.place_of(where, name), utcnow())
    shut = stands is not None and stands.verdict == "disagrees"
    _show_one(outcome, {"record": record, "state": _state(stands)}, as_json=as_json)
    raise typer.Exit(1 if shut else _code(outcome))


@app.command()
def show(home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """What stands about the place of every host of this site, under the policy of now.

    Exit 1 when a host is shut for it.
    """
    where = home_of(home)
    policy, now = policy_of(where), utcnow()
    stands = standing.of_site(where, policy, now)
    rows = []
    for endpoint, (host, place) in site.hosts(where).items():
        found = stands.get(endpoint)
        rows.append(
            {
                "endpoint": endpoint,
                "host": host,
                "place": place,
                "state": _state(found),
                "until": found.until.isoformat() if found and found.until else "",
                "says": found.reason if found else OPERATOR_ONLY,
            }
        )
    if as_json:
        give({"profile": policy.profile, "hosts": rows})
    else:
        columns = ("endpoint", "host", "place", "state", "until", "says")
        table(columns, [[row[name] for name in columns] for row in rows])
    raise typer.Exit(1 if any(r["state"] in ("disagrees", "unproven") for r in rows) else 0)


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="The attestation.")],
    vkey: Annotated[str, typer.Option(help="The controller's verifier key, or its file.")] = "",
    trust: Annotated[
        Path | None,
        typer.Option(
            help="Folder with hosts/NAME.vkey and attesters/NAME.vkey; default: --home's."
        ),
    ] = None,
    policies: Annotated[
        Path | None, typer.Option(help="Policy folder, to compare its rules and points with.")
    ] = None,
    proof: Annotated[
        Path | None, typer.Option(help="Proof of its record, by `sovereign audit prove`.")
    ] = None,
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Judge an attestation again from what it carries, with public keys only; nothing is asked.

    Exit 0 when it holds and whoever its profile asks for vouched, 1 when not, 3 without a key.
    """
    note = _read(file)
    folder = trust or home_of(home).trust
    trusted = _trusted(note, vkey, folder, policies)
    found = checked.check(note, trusted)
    outcome = found.outcome
    if outcome is None:
        _say({"verdict": "unsound", "faults": list(found.faults)}, as_json=as_json)
        raise typer.Exit(1)
    faults = [*found.faults, *_unrecorded(note, proof, trusted.controller, folder)]
    more = {
        "faults": faults,
        "taken by its word": [*found.unpinned, *([] if proof else ["record"])],
        "in force": outcome.at <= utcnow() < outcome.expires_at,
    }
    _show_one(outcome, more, as_json=as_json)
    raise typer.Exit(1 if faults else _code(outcome))


@app.command()
def bind(
    host: HostOption = "",
    public: Annotated[
        Path | None,
        typer.Option(help="Public key of another host: a vkey, or a line `ssh-ed25519 …`."),
    ] = None,
    replace: Annotated[bool, typer.Option(help="Though another key is pinned.")] = False,
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Pin the key of a host when it is set up; this one's is made where there is none. Recorded."""
    where = home_of(home)
    name = host or site.host_of(where)
    place = site.place_of(where, name)
    if public is None and name != site.host_of(where):
        raise BadInput(f"{name} is another host", accepted="--public FILE with its key")
    key = _public(public, name) if public is not None else _own(where, name).verifier
    path = site.pin_path(where.trust, name)
    before = site.pinned(where.trust, name)
    if before not in (None, key) and not replace:
        raise BadInput(
            f"another key of {name} is pinned, and everything that speaks for it is bound to that",
            found=fingerprint(before) if before else "",
            next_step="the same with --replace, when the host was set up anew",
        )
    said = {"host": name, "fingerprint": fingerprint(key), "vkey": str(key)}
    with operator_trail(where, ("evidence",)) as log:
        record = log.record("host-bound", **said, by="operator").result().name
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    written(path, f"{key}\n".encode())
    _say({**said, "place": place, "record": record}, as_json=as_json)


@app.command()
def challenge(
    host: Annotated[str, typer.Argument(help="Name of another host of this site.")],
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Draw a challenge for another host; its answer counts once, within ten minutes."""
    given = running.give_challenge(home_of(home), host, utcnow())
    _say({"host": host, "challenge": given.nonce}, as_json=as_json)


@app.command()
def answer(
    nonce: Annotated[str, typer.Argument(help="The challenge, 64 hex digits.")],
    to: Annotated[Path, typer.Option(help="File for the answer, to be brought back.")],
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Answer a challenge as this host: ask metadata service and anchors, sign what came."""
    if len(nonce) != 64 or not set(nonce) <= set("0123456789abcdef"):
        raise BadInput("this is no challenge", found=nonce[:80], accepted="64 hex digits")
    where = home_of(home)
    policy, name = policy_of(where), site.host_of(where)
    claim = site.claim_of(where, policy, name, where.settings.place)
    rules = running.permitted(policy, utcnow())
    note = gather.evidence(claim, rules, nonce, site.host_signer(where), utcnow)
    to.write_bytes(note)
    _say({"host": name, "answer": str(to), "bytes": len(note)}, as_json=as_json)


# --- saying it -----------------------------------------------------------------------------------


def _state(stands: HostPlace | None) -> str:
    return stands.verdict if stands else "operator"


def _code(outcome: Attestation) -> int:
    if outcome.verdict == "contradicts":
        return 1
    if outcome.verdict == "unknown":
        return UNKNOWN
    return 0 if outcome.suffices else 1


def _show_one(outcome: Attestation, more: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        named = {name.replace(" ", "_"): value for name, value in more.items()}
        give({**kept.as_json(outcome), **named})
        return
    claim = outcome.claim
    told = why(outcome.verdict, outcome.suffices, outcome.vouchers, outcome.findings)
    say(f"{outcome.verdict}: {claim.host} is at {claim.place} ({told})")
    rows = [(f.signal, f.verdict, f.vouched_by or "-", f.reason) for f in outcome.findings]
    table(("signal", "verdict", "voucher", "why"), rows)
    facts({"at": _time(outcome.at), "until": _time(outcome.expires_at), "profile": outcome.profile})
    facts({name: _word(value) for name, value in more.items()})


def _time(at: datetime) -> str:
    return at.isoformat(timespec="seconds")


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) or "none" if isinstance(value, list) else str(value)


def _say(said: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        give(said)
    else:
        facts({name: _word(value) for name, value in said.items()})


# --- reading keys --------------------------------------------------------------------------------


def _refuse_nowhere(place: str) -> None:
    if place == THIS_HOST:
        raise BadInput(
            "this-host is in no country, so there is no place to vouch for",
            accepted="a declared place, or one of facts/places.yaml",
            next_step="sovereign places declare --country CC --under CC --entity NAME",
        )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} cannot be read", found=error.strerror or "") from None


def _own(where: Home, name: str) -> SignerKey:
    """The key of this host; made where there is none and the settings name none."""
    path = site.host_key_path(where)
    if not path.exists() and not where.settings.attestation.host_key:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(SignerKey.generate(name).dump())
    return site.host_signer(where)


def _public(path: Path, name: str) -> VerifierKey:
    """A key as notes have it, or as ssh has it."""
    text = _read(path).decode(errors="replace").strip()
    if not text.startswith("ssh-"):
        return VerifierKey.parse(text)
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    try:
        key = load_ssh_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise BadInput(f"{path} holds no Ed25519 key", accepted="ssh_host_ed25519_key.pub")
    return VerifierKey(name, key.public_bytes_raw())


def _trusted(note: bytes, vkey: str, folder: Path, policies: Path | None) -> checked.Trusted:
    controller = _controller(vkey, folder)
    found = checked.check(note, checked.Trusted(controller)).outcome
    host = site.pinned(folder, found.claim.host) if found is not None else None
    profile = found.profile if found is not None else DEFAULT_PROFILE
    policy = load(policies, profile) if policies is not None else None
    return checked.Trusted(controller, host, site.attesters(folder), policy)


def _unrecorded(
    note: bytes, proof: Path | None, controller: VerifierKey, folder: Path
) -> tuple[str, ...]:
    """A run is recorded by whoever ran it: the controller, or somebody at the command line."""
    if proof is None:
        return ()
    pin = pin_path(folder, "operator", kept.STREAM)
    operators = [VerifierKey.parse(pin.read_text())] if pin.is_file() else []
    fault = checked.unrecorded(note, _read(proof), [controller, *operators])
    return (fault,) if fault else ()


def _controller(vkey: str, folder: Path) -> VerifierKey:
    if vkey:
        path = Path(vkey)
        return VerifierKey.parse(path.read_text() if path.is_file() else vkey)
    pin = pin_path(folder, kept.WRITER, kept.STREAM)
    if not pin.is_file():
        raise KeyMissing(
            "nothing can be said of an attestation without the controller's public key",
            found=f"{pin} is not there",
            accepted="--vkey KEY, or --trust with controller-evidence.vkey",
        )
    return VerifierKey.parse(pin.read_text())
