"""Where a log's signing key comes from: a file, a credential, the environment, a token."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from sovereign.audit import trail
from sovereign.audit.disk import RealDisk
from sovereign.audit.keys import custody, handover
from sovereign.audit.keys.handover import Site
from sovereign.audit.note import SignerKey, VerifierKey
from sovereign.audit.trail import Trail
from sovereign.audit.verify import verify
from sovereign.audit.witnesses import token
from sovereign.errors import BadInput, LogKeyUnusable, LogUnwritable
from tests.audit.scenario import KEY, ORIGIN, clock
from tests.cli.running import Done, sovereign
from tests.needs import need

SITE, STEM = "test.example", "gateway-event"
SOFTHSM = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "1234-not-a-secret"  # pragma: allowlist secret


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with the logs of a gateway, whose keys are files."""
    trail.create(tmp_path / "audit", tmp_path / "keys", tmp_path / "trust", "gateway", SITE)
    return tmp_path


def key_file(home: Path) -> Path:
    return home / "keys" / f"{STEM}.key"


def site(home: Path) -> Site:
    folder = home / "audit/gateway/event"
    return Site.of(folder, home / "keys", home / "trust", STEM, ORIGIN)


def write_one(home: Path) -> None:
    """Take the log up, write, close, and let a verifier with the pinned key judge it."""
    with Trail.open(home / "audit", home / "keys", "gateway", SITE, clock) as opened:
        assert opened.failure is None
    pin = VerifierKey.parse((home / "trust" / f"{STEM}.vkey").read_text())
    assert verify(RealDisk(home / "audit/gateway/event").read, pin).findings == ()


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640])
def test_a_key_of_its_owner_or_of_one_group_is_used(home: Path, mode: int) -> None:
    """The operator's key belongs to the group of the operators."""
    key_file(home).chmod(mode)
    write_one(home)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o602, 0o666, 0o777])
def test_a_key_that_others_can_read_or_change_is_refused_by_name(home: Path, mode: int) -> None:
    """Whoever reads it can sign another history; whoever changes it can stop the log."""
    key_file(home).chmod(mode)
    with pytest.raises(LogKeyUnusable) as said:
        write_one(home)
    assert f"{mode:04o}" in said.value.found
    assert str(key_file(home)) in said.value.message
    with pytest.raises(LogKeyUnusable):
        handover.rotate(site(home), handover.FILE, "scheduled", clock)


def test_a_key_from_a_systemd_credential_signs_and_is_on_no_disk_of_ours(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LoadCredentialEncrypted= gives it to the one process that is to have it."""
    secret = key_file(home).read_text()
    given = home / "credentials"
    given.mkdir()
    (given / "log-key").write_text(secret)
    (given / "log-key").chmod(0o400)
    key_file(home).write_text("credential:log-key\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(given))
    write_one(home)
    (given / "log-key").chmod(0o444)
    with pytest.raises(LogKeyUnusable):
        write_one(home)


def test_a_key_from_the_environment_signs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a platform hands secrets to a process in no other way."""
    secret = key_file(home).read_text()
    key_file(home).write_text("env:SOVEREIGN_LOG_KEY_GATEWAY_EVENT\n")
    monkeypatch.setenv("SOVEREIGN_LOG_KEY_GATEWAY_EVENT", secret)
    write_one(home)


@pytest.mark.parametrize(
    "reference",
    [
        "credential:../../etc/passwd",
        "credential:..",
        "credential:",
        "credential:a/b",
        "env:PATH",
        "env:SOVEREIGN_HOME",
        "env:",
        "pkcs11:token=logs",
        "pkcs11:token=a;object=b?module-path=/x.so",
        "pkcs11:token=a;object=b;pin-value=1?module-path=/x.so&pin-source=env:X",
        "file:/etc/passwd",
        "",
    ],
)
def test_a_reference_cannot_be_used_to_look_at_other_secrets(
    reference: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whoever can write a key file must not get at the rest of the machine with it."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(BadInput):
        custody.signer(reference.encode(), ORIGIN)


def test_what_is_missing_or_another_logs_is_said_without_a_secret(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A message may be read by more people than the key."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    other = SignerKey("test.example/gateway/security", KEY.private).dump()
    monkeypatch.setenv("SOVEREIGN_LOG_KEY_OTHER", other)
    missing = ("credential:log-key", "env:SOVEREIGN_LOG_KEY_NONE", "env:SOVEREIGN_LOG_KEY_OTHER")
    for reference in missing:
        with pytest.raises(LogKeyUnusable) as said:
            custody.signer(reference.encode(), ORIGIN)
        assert other.strip()[-20:] not in str(said.value.lines())
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(LogKeyUnusable):
        custody.signer(b"credential:log-key", ORIGIN)


def test_a_rotation_moves_a_key_out_of_its_file(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way from a file to something better is the same signed record as any other."""
    moved = SignerKey.generate(ORIGIN)
    monkeypatch.setenv("SOVEREIGN_LOG_KEY_NEW", moved.dump())
    first = str(site(home).pinned())
    done = handover.rotate(site(home), "env:SOVEREIGN_LOG_KEY_NEW", "moved", clock)
    assert done.new == str(moved.verifier)
    assert key_file(home).read_text() == "env:SOVEREIGN_LOG_KEY_NEW\n"
    write_one(home)
    there = RealDisk(home / "audit/gateway/event").read
    assert verify(there, VerifierKey.parse(first)).findings == ()


# --- a token ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A SoftHSM token of this module alone; the first part of a URI for keys in it."""
    need(SOFTHSM.exists(), "no SoftHSM", "apt-get install softhsm2")
    need(find_spec("pkcs11"), "no python-pkcs11", "install sovereign with its extra: pkcs11")
    place = tmp_path_factory.mktemp("softhsm")
    (place / "tokens").mkdir()
    (place / "softhsm2.conf").write_text(
        f"directories.tokendir = {place}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"
    )
    patch = pytest.MonkeyPatch()
    patch.setenv("SOFTHSM2_CONF", str(place / "softhsm2.conf"))
    patch.setenv("SOVEREIGN_LOG_KEY_PIN", PIN)
    subprocess.run(
        [
            "softhsm2-util",
            "--init-token",
            "--free",
            "--label=logs",
            f"--pin={PIN}",
            f"--so-pin={PIN}",
        ],
        check=True,
        capture_output=True,
        timeout=60,
        env={**os.environ, "SOFTHSM2_CONF": str(place / "softhsm2.conf")},
    )
    return f"?module-path={SOFTHSM}&pin-source=env:SOVEREIGN_LOG_KEY_PIN"


def uri(hsm: str, label: str, named: str = "logs") -> str:
    return f"pkcs11:token={named};object={label}{hsm}"


def test_a_log_signed_in_a_token_verifies_and_the_key_does_not_leave_it(
    home: Path, hsm: str
) -> None:
    """Copying the machine's disk then copies nothing that can sign."""
    where = uri(hsm, "gateway-event")
    token.make(where, custody.secret_of)
    token.make(where, custody.secret_of)  # once made, it stays
    first = str(site(home).pinned())
    done = handover.rotate(site(home), where, "moved", clock)
    assert key_file(home).read_text() == f"{where}\n"
    write_one(home)
    there = RealDisk(home / "audit/gateway/event").read
    assert verify(there, VerifierKey.parse(first)).findings == ()
    key = custody.load(key_file(home), ORIGIN)
    assert str(key.verifier) == done.new
    with pytest.raises(LogKeyUnusable):
        key.dump()
    with pytest.raises(LogKeyUnusable):
        key.private.private_bytes_raw()


def test_a_new_log_begins_in_a_token_by_command(hsm: str, tmp_path: Path) -> None:
    """An operator who wants no key in a file: use, create, verify, and later rotate."""
    where = uri(hsm, "by-command")
    given = {name: os.environ[name] for name in ("SOFTHSM2_CONF", "SOVEREIGN_LOG_KEY_PIN")}

    def run(*words: str) -> Done:
        return sovereign(tmp_path, "audit", *words, environment=given)

    use = ("key", "use", where, "--writer", "gateway", "--stream", "event")
    missing = run(*use)
    assert (missing.code, missing.error) == (3, "log-key-unusable")
    vkey = run(*use, "--make", "--json").json["vkey"]
    again = run(*use)
    assert (again.code, again.error) == (2, "bad-input"), "a key that is there is not replaced so"
    assert run("create", "--writer", "gateway").code == 0
    assert (tmp_path / "trust/gateway-event.vkey").read_text() == f"{vkey}\n"
    assert run("verify").code == 0
    listed = {log["log"]: log["from"] for log in run("key", "list", "--json").json["logs"]}
    assert listed == {
        "local/gateway/event": where,
        "local/gateway/security": "file",
        "local/gateway/evidence": "file",
    }
    assert PIN not in "".join(p.read_text() for p in (tmp_path / "keys").rglob("*.key"))
    rotate = ("key", "rotate", "--writer", "gateway", "--stream", "security", "--why", "moved")
    next_one = uri(hsm, "by-command-2")
    assert run(*rotate, "--to", next_one, "--make", "--dry-run").code == 0
    assert run(*rotate, "--to", next_one).code == 3, "the plan has made nothing"
    assert run(*rotate, "--to", next_one, "--make").code == 0
    assert run("verify").code == 0
    assert run(*rotate, "--to", "credential:x", "--make").code == 2


def test_two_logs_share_one_token_and_one_login(home: Path, hsm: str) -> None:
    """A gateway has three logs, and a token takes one login of a process."""
    keys = []
    for label in ("shared-1", "shared-2"):
        token.make(uri(hsm, label), custody.secret_of)
        keys.append(custody.signer(uri(hsm, label).encode(), ORIGIN))
    assert keys[0].verifier != keys[1].verifier
    for key in keys:
        key.private.public_key().verify(key.private.sign(b"text"), b"text")


@pytest.mark.parametrize("wrong", ["no such token", "no such key", "no such library"])
def test_a_token_that_does_not_give_the_key_is_said_in_our_words_without_the_pin(
    wrong: str, hsm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library's own error names neither what was asked nor what to do."""
    monkeypatch.setattr(token, "_SESSIONS", {})
    asked = {
        "no such token": uri(hsm, "x", "strange"),
        "no such key": uri(hsm, "strange"),
        "no such library": uri(hsm, "x").replace("libsofthsm2", "strange"),
    }[wrong]
    with pytest.raises(LogKeyUnusable) as said:
        custody.signer(asked.encode(), ORIGIN)
    assert PIN not in str(said.value.lines())


def test_a_wrong_pin_is_refused_and_not_repeated(hsm: str) -> None:
    """In a process of its own, since a token asks each process for its PIN once."""
    program = (
        "from sovereign.audit.keys import custody; from sovereign.errors import LogKeyUnusable\n"
        f"try: custody.signer({uri(hsm, 'x').encode()!r}, 'a')\n"
        "except LogKeyUnusable as error: print(error.lines())"
    )
    wrong = "9876-not-it"  # pragma: allowlist secret
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "SOVEREIGN_LOG_KEY_PIN": wrong},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "PinIncorrect" in done.stdout, done.stderr
    assert wrong not in done.stdout + done.stderr


def test_a_token_that_stops_answering_stops_the_log_as_a_failing_disk_does(
    home: Path, hsm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway then refuses inference; nothing is acknowledged that nobody signed."""
    where = uri(hsm, "stops")
    token.make(where, custody.secret_of)
    handover.rotate(site(home), where, "moved", clock)

    def gone(self: object, private: object, data: bytes) -> bytes:
        raise RuntimeError("the token was taken out")

    with Trail.open(home / "audit", home / "keys", "gateway", SITE, clock) as opened:
        monkeypatch.setattr(token._Session, "sign", gone)
        names = ("tenant", "key", "purpose", "basis", "data", "verb", "model", "verdict", "rule")
        at = "2026-11-24T12:00:00.000000Z"
        told = opened.record(
            "decision", **dict.fromkeys((*names, "policy"), "x"), request=1, asked_at=at
        )
        with pytest.raises(LogUnwritable):
            told.result(20)
        assert opened.failure is not None
    monkeypatch.undo()
