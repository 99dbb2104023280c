"""Each check's yes, no and unknown, on real files and real sockets; unknown never passes."""

import os
import socket
import sqlite3
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sovereign import policy as policies
from sovereign.attestation import kept, running
from sovereign.audit import trail as trails
from sovereign.audit.trail import KEPT_SUFFIX, WRITERS, Trail
from sovereign.audit.witnesses import cosignature, cosigned
from sovereign.audit.witnesses.cosignature import CosignerSecret
from sovereign.engines import ENGINES
from sovereign.evidence import checks
from sovereign.evidence.checks import CHECKS, JOURNAL, Site, answer
from sovereign.evidence.verdict import State, Verdict, exit_code
from sovereign.fleet import members
from sovereign.host import EngineProcess
from sovereign.policy import Policy, shapes
from sovereign.registry import Endpoint, Registry, utcnow
from sovereign.settings import ControllerSettings, EngineSettings, GatewaySettings, Home, Settings
from sovereign.sinks import safely
from sovereign.sinks.hosts import Host
from tests.attestation import site as attested_site
from tests.controller.listening import listening
from tests.controller.seen import ENVIRONMENT, POLICY, attested
from tests.engines.running import free_port
from tests.sinks.test_hosts import entries

PASS, FAIL, UNKNOWN = State.PASS, State.FAIL, State.UNKNOWN
NOT_APPLICABLE = State.NOT_APPLICABLE


def site_at(root: Path, policy: Policy = POLICY, **chosen: Any) -> Site:
    return Site(Home(root, Settings(**chosen)), policy, utcnow())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with the logs of a gateway in it."""
    it = site_at(tmp_path)
    home = it.home
    trails.create(home.audit, home.keys, home.trust, "gateway", "local")
    with Trail.open(home.audit, home.keys, "gateway", "local", utcnow) as trail:
        trail.record("policy-loaded", policy="x", profile="eea").result(10)
    return replace(it, now=utcnow())


def state(site: Site, check: str) -> State:
    found: Verdict = answer(site, check)
    assert found.found
    return found.state


def register(site: Site, *endpoints: Endpoint) -> None:
    Registry(site.home.registry, writable=True).write(endpoints, planned_on=0)


def test_the_checks_that_controls_name_are_exactly_those_that_exist() -> None:
    """A control without its check would be unknown for ever, a check without one never asked."""
    assert {control.check for control in POLICY.controls.values()} == set(CHECKS)


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_no_check_passes_on_a_site_that_is_not_there(tmp_path: Path, name: str) -> None:
    """An empty folder has no faults, and proves nothing."""
    empty = site_at(tmp_path / "nothing", engine=EngineSettings(listen=f"127.0.0.1:{free_port()}"))
    assert state(empty, name) is UNKNOWN


def test_a_check_nobody_wrote_is_unknown(site: Site) -> None:
    """A typing error in a control must not make it green."""
    assert state(site, "everything_is_fine") is UNKNOWN


@pytest.mark.parametrize(
    "error",
    [
        OSError(13, "Permission denied"),
        sqlite3.DatabaseError("file is not a database"),
        checks.msgspec.DecodeError("x"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    ],
)
def test_a_check_that_cannot_look_is_unknown_and_never_ends_the_report(
    site: Site, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Four verdicts and one unknown are worth more than a trace."""

    def blind(_: Site) -> Verdict:
        raise error

    monkeypatch.setitem(CHECKS, "places_fresh", blind)
    assert state(site, "places_fresh") is UNKNOWN
    told = "Permission denied" if isinstance(error, OSError) else type(error).__name__
    assert told in answer(site, "places_fresh").found


def test_whole_logs_pass_a_spoilt_one_fails_and_one_without_a_pin_is_unknown(site: Site) -> None:
    """The three answers of the control that everything else rests on."""
    assert state(site, "log_verifies") is UNKNOWN  # a writer without any log is not looked past
    home = site.home
    for writer in WRITERS:
        trails.create(home.audit, home.keys, home.trust, writer, home.settings.site)
    assert state(site, "log_verifies") is PASS
    event = next(m for m in members(home) if (m.writer, m.stream) == ("gateway", "event"))
    pin = site.home.trust / "gateway-event.vkey"
    text = pin.read_text()
    pin.unlink()
    assert state(site, "log_verifies") is FAIL  # it was pinned when it was looked at last
    pin.with_suffix(KEPT_SUFFIX).unlink()
    assert state(site, "log_verifies") is UNKNOWN
    pin.write_text(text)
    assert state(site, "log_verifies") is PASS
    bundle = max((event.folder / "tile/entries/000.p").iterdir(), key=lambda p: int(p.name))
    raw = bytearray(bundle.read_bytes())
    raw[-20] ^= 1
    bundle.write_bytes(raw)
    assert state(site, "log_verifies") is FAIL


def test_a_pin_that_is_no_key_is_unknown_not_whole(site: Site) -> None:
    """Whoever damages the pin must not gain by it."""
    for damaged in (b"not a key\n", b"\xff\xfe\x00"):
        (site.home.trust / "gateway-event.vkey").write_bytes(damaged)
        assert state(site, "log_verifies") is UNKNOWN


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, PASS),
        ({"expires_at": None, "attested_at": None}, UNKNOWN),
        ({"quarantine": "telemetry-on", "reason": "r"}, PASS),  # it answers nobody
        ({"place": "aws:eu-central-1"}, FAIL),
        ({"place": "nowhere:x"}, FAIL),
        ({"address": "10.0.0.1:8081"}, FAIL),
        ({"place": "aws:eu-central-1", "quarantine": "residency-refused"}, PASS),
        ({"place": "scaleway:fr-par-2", "address": "10.0.0.1:8081"}, PASS),
    ],
)
def test_places_pass_when_allowed_and_vouched_for_now(
    site: Site, more: dict[str, Any], expected: State
) -> None:
    """Judged again by the policy of this moment, not by what the controller thought."""
    register(site, attested(site.now, **more))
    assert state(site, "places_fresh") is expected


@pytest.mark.parametrize("seconds", [29, 30])
def test_a_place_is_unknown_from_the_moment_its_attestation_ends(site: Site, seconds: int) -> None:
    """The edge is the second at which the gateway begins to refuse."""
    register(site, attested(site.now))
    later = replace(site, now=site.now + timedelta(seconds=seconds))
    assert state(later, "places_fresh") is (PASS if seconds < 30 else UNKNOWN)


@pytest.mark.parametrize(
    ("zone", "profile", "expected"),
    [
        ("", "eea", NOT_APPLICABLE),  # nobody is asked for
        ("", "immune", UNKNOWN),
        ("fsn1", "eea", PASS),
        ("fsn1", "immune", UNKNOWN),  # one voucher of two
        ("ash", "eea", FAIL),
        ("ash", "immune", FAIL),
    ],
)
def test_a_place_is_vouched_for_by_as_many_as_the_policy_asks_for(
    tmp_path: Path, zone: str, profile: str, expected: State
) -> None:
    """What an auditor reads of it: a contradiction fails, and too little is not known."""
    home, policy = attested_site.made(tmp_path), policies.load(attested_site.SHIPPED, profile)
    at = Site(home, policy, utcnow())
    register(at, attested(at.now, place=attested_site.PLACE))
    if zone:
        outcome = running.run_here(home, policy, utcnow, fetch=attested_site.saying(zone))
        kept.keep(home, outcome, kept.signed(outcome, running.signing_key(home)))
    assert state(at, "places_vouched") is expected


def test_a_damaged_registry_is_unknown(site: Site) -> None:
    """SQLite says so in an exception of its own."""
    site.home.registry.write_bytes(b"SQLite format 3\0" + bytes(200))
    assert state(site, "places_fresh") is UNKNOWN


def test_telemetry_is_judged_by_the_environment_of_the_running_process(tmp_path: Path) -> None:
    """All variables of a real process as demanded; then one that is not."""
    for environment, expected in (
        (ENVIRONMENT, PASS),
        ({**ENVIRONMENT, "DO_NOT_TRACK": "0"}, FAIL),
        ({**ENVIRONMENT, "HTTPS_PROXY": "http://x"}, FAIL),
    ):
        with listening("127.0.0.1", environment=environment) as (_, ports):
            asked = site_at(tmp_path, engine=EngineSettings(listen=f"127.0.0.1:{ports[0]}"))
            assert state(asked, "telemetry_off") is expected


@pytest.mark.parametrize(
    ("hosts", "gateway", "place", "expected"),
    [
        (("127.0.0.1",), "127.0.0.1:8080", "this-host", PASS),
        (("127.0.0.1", "127.0.0.2"), "127.0.0.1:8080", "this-host", PASS),
        (("127.0.0.1", "0.0.0.0"), "127.0.0.1:8080", "this-host", FAIL),  # noqa: S104 - the case
        (("0.0.0.0",), "127.0.0.1:8080", "own:lab", FAIL),  # noqa: S104 - the case
        (("127.0.0.1",), "0.0.0.0:8080", "this-host", FAIL),
        (("127.0.0.1",), "0.0.0.0:8080", "own:lab", PASS),
    ],
)
def test_ports_are_judged_by_the_sockets_the_process_holds(
    tmp_path: Path, hosts: tuple[str, ...], gateway: str, place: str, expected: State
) -> None:
    """Only the gateway may be reached, and only from where its place lets it."""
    with listening(*hosts) as (_, ports):
        asked = site_at(
            tmp_path,
            place=place,
            engine=EngineSettings(listen=f"127.0.0.1:{ports[0]}"),
            gateway=GatewaySettings(listen=gateway),
        )
        assert state(asked, "ports_closed") is expected


@pytest.mark.parametrize("check", ["telemetry_off", "ports_closed"])
def test_a_process_that_cannot_be_read_is_unknown(
    site: Site, check: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An auditor without root sees less, and is told that, not a pass."""
    monkeypatch.setattr(checks.host, "observe", lambda *_: EngineProcess(7, None, None))
    assert state(site, check) is UNKNOWN


def test_on_a_managed_host_the_observer_is_asked(tmp_path: Path) -> None:
    """Its silence is unknown; it is never replaced by a look that sees less."""
    chosen = ControllerSettings(observe_socket=str(tmp_path / "nobody"))
    with socket.socket() as ours:
        ours.bind(("127.0.0.1", 0))
        ours.listen()
        address = f"127.0.0.1:{ours.getsockname()[1]}"
        asked = site_at(tmp_path, controller=chosen, engine=EngineSettings(listen=address))
        assert state(asked, "ports_closed") is UNKNOWN


def test_retention_is_met_by_a_new_site_and_unknown_where_a_folder_cannot_be_read(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its failing is told in tests/retention, with the clock moved."""
    assert state(site, "retention_met") is PASS
    site.home.logs.mkdir()
    real = safely.opened

    def shut(root: Path, inside: str = "") -> AbstractContextManager[int]:
        if root == site.home.logs:
            raise PermissionError(13, "Permission denied")
        return real(root, inside)

    monkeypatch.setattr(safely, "opened", shut)
    assert state(site, "retention_met") is UNKNOWN


def on_a_host(site: Site, root: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The same site as services of a host whose `/` is a folder of this test."""
    there = Host(True, root, root / "proc", frozenset((4711,)), ())
    monkeypatch.setattr(Host, "of", lambda _: there)
    chosen = ControllerSettings(observe_socket="/run/observe")
    return replace(site, home=Home(site.home.root, Settings(controller=chosen)))


def test_on_a_managed_host_retention_is_unknown_for_the_journal_unless_something_fails(
    site: Site, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The output of its processes is in journald; where nobody can read it that is no pass."""
    managed = on_a_host(site, tmp_path_factory.mktemp("host"), monkeypatch)
    assert answer(managed, "retention_met") == Verdict(UNKNOWN, JOURNAL)
    without = {name: kept for name, kept in POLICY.retention.items() if name != "event"}
    failing = replace(managed, policy=replace(POLICY, retention=without))
    assert state(failing, "retention_met") is FAIL


@pytest.mark.parametrize(
    ("days", "chosen", "expected"),
    [(1, "30day", PASS), (32, "30day", FAIL), (1, "31day", FAIL), (1, "", FAIL)],
)
def test_on_a_managed_host_the_journal_is_judged_by_its_age_and_by_what_it_is_set_to_keep(
    site: Site,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    days: int,
    chosen: str,
    expected: State,
) -> None:
    """What will be overdue in a month is a finding today."""
    root = tmp_path_factory.mktemp("host")
    managed = on_a_host(site, root, monkeypatch)
    when = site.now - timedelta(days=days)
    folder = root / "var/log/journal/machine"
    folder.mkdir(parents=True)
    (folder / "system.journal").write_bytes(entries(when, when))
    (root / "etc/systemd").mkdir(parents=True)
    (root / "etc/systemd/journald.conf").write_text(f"MaxRetentionSec={chosen}\n")
    assert state(managed, "retention_met") is expected


def test_a_class_without_a_rule_fails_retention_at_once(site: Site) -> None:
    """Silence means we may not keep it."""
    without = {name: kept for name, kept in POLICY.retention.items() if name != "event"}
    asked = replace(site, policy=replace(POLICY, retention=without))
    assert state(asked, "retention_met") is FAIL


@pytest.mark.parametrize(
    ("states", "code"),
    [
        ([], 3),
        ([PASS], 0),
        ([PASS, State.NOT_APPLICABLE], 0),
        ([PASS, UNKNOWN], 3),
        ([PASS, State.MANUAL_PENDING], 3),
        ([UNKNOWN, FAIL], 1),
        ([PASS, FAIL], 1),
    ],
)
def test_the_exit_code_is_that_of_the_worst_verdict(states: list[State], code: int) -> None:
    """A pipeline reads one number: no failure may hide behind a pass, no unknown be one."""
    assert exit_code(states) == code


def test_every_state_that_is_not_known_keeps_the_exit_code_from_nought() -> None:
    """A state added later must be thought about here."""
    silent = {each for each in State if exit_code([PASS, each]) == 0}
    assert silent == {PASS, State.NOT_APPLICABLE}


def test_what_is_demanded_of_this_tests_own_process_is_not_there() -> None:
    """The check can fail: a process that was not started by an adapter does not pass it."""
    rules = ENGINES["llamacpp"].required_environment()
    assert any(os.environ.get(rule.name) != rule.must_be for rule in rules)


def test_logs_that_nobody_outside_has_seen_are_never_called_witnessed(site: Site) -> None:
    """Nobody asked does not apply; ours alone wait for a person; too few fail; enough pass."""
    assert state(site, "logs_witnessed") is State.NOT_APPLICABLE
    ours = outside_world(site, own=True, quorum=0)
    assert state(ours, "logs_witnessed") is State.MANUAL_PENDING
    cosigned_by_one(ours)
    assert state(ours, "logs_witnessed") is State.MANUAL_PENDING, "whatever ours have signed"
    theirs = outside_world(site, own=False, quorum=1)
    assert state(theirs, "logs_witnessed") is PASS, "the same signatures, held by somebody else"
    late = replace(theirs, now=theirs.now + timedelta(seconds=3602))
    assert state(late, "logs_witnessed") is FAIL
    assert "cosignature-stale" in answer(late, "logs_witnessed").found


COSIGNER = CosignerSecret.generate("witness.example")


def outside_world(site: Site, *, own: bool, quorum: int) -> Site:
    """The site under a policy that lists one witness."""
    who = shapes.Witness(
        "w", str(COSIGNER.verifier), "http://w.example", "Witness", own, "scaleway:fr-par-2"
    )
    audit = msgspec.structs.replace(
        site.policy.audit, witnesses=shapes.Witnesses(quorum, known=(who,))
    )
    return replace(site, policy=replace(site.policy, audit=audit))


def cosigned_by_one(site: Site) -> None:
    """What a run of the controller leaves: a cosigned checkpoint beside each log."""
    for member in members(site.home):
        signed = (member.folder / "checkpoint").read_bytes()
        text = signed.decode().rpartition("\n\n")[0] + "\n"
        line = cosignature.cosign(text, COSIGNER, int(site.now.timestamp()))
        folder = cosigned.folder_of(site.home.trust, member.writer, member.stream)
        cosigned.keep_note(folder, "w", signed + line)
