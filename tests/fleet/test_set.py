"""What the register of a site says of its logs: which must be there, under which keys, how far."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sovereign import fleet
from sovereign.audit import log, record, tiles, trail, writers
from sovereign.audit.alive import Alive
from sovereign.audit.disk import RealDisk
from sovereign.audit.keys import handover
from sovereign.audit.note import SignerKey, VerifierKey
from sovereign.audit.trail import STREAMS, WRITERS
from sovereign.audit.verify import inspect
from sovereign.audit.writers import ALIVE_EVERY_S, GRACE, Register, Sighting, Sound, silences
from sovereign.controller.watching import Watching
from tests.audit.loglab import files
from tests.audit.scenario import NOW
from tests.retention.site import Site

REGISTER = "local/controller/evidence"
EVENT, SECURITY = "local/gateway/event", "local/gateway/security"
ALL = {f"local/{writer}/{stream}" for writer in WRITERS for stream in STREAMS}
EVERY = timedelta(seconds=ALIVE_EVERY_S)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    it = Site(tmp_path)
    yield it
    it.close()


def watched(site: Site, *, up: bool = True) -> Watching:
    """The controller looks once, as in each of its rounds."""
    watching = Watching(site.home, site.controller, lambda _: up)
    watching.look(site.clock.now)
    return watching


def published(site: Site) -> None:
    site.settle()


def given(site: Site, origins: set[str]) -> list[Path]:
    return [site.member(origin).folder for origin in sorted(origins)]


def key(site: Site, origin: str = REGISTER) -> VerifierKey:
    found = site.member(origin).vkey
    assert found is not None
    return found


def found_in(site: Site, origins: set[str], *, part: bool = False) -> dict[str, set[str] | None]:
    """Codes by origin, away from the machine, with the register's key alone; None: not known."""
    results = fleet.verify_folders(given(site, origins), [key(site)], [], part=part)
    return {
        r.origin: {f.code for f in r.findings} if r.determined else None
        for r in results
        if r.findings or not r.determined
    }


def found_here(site: Site) -> dict[str, set[str]]:
    results = fleet.verify(site.home)
    return {r.origin: {f.code for f in r.findings} for r in results if r.findings}


# --- which logs there must be -------------------------------------------------------------------


def test_one_log_and_its_key_tell_all_the_others(site: Site) -> None:
    """An auditor is given one key, and the whole site follows from it."""
    watched(site)
    published(site)
    assert found_in(site, ALL) == {}
    assert found_here(site) == {}
    results = fleet.verify_folders(given(site, ALL), [key(site)], [])
    assert {r.origin for r in results} == ALL
    assert all(r.determined and r.size > 0 for r in results)


def test_a_log_that_was_not_handed_over_is_missed_by_name(site: Site) -> None:
    """Leaving out the one log that shows it is the simplest way to hide something."""
    watched(site)
    published(site)
    assert found_in(site, ALL - {EVENT}) == {EVENT: {"log-absent"}}
    (absent,) = [
        r for r in fleet.verify_folders(given(site, ALL - {EVENT}), [key(site)], []) if r.findings
    ]
    assert absent.folder == site.member(EVENT).folder, "where it should be"


def test_a_part_may_be_asked_for_as_a_part(site: Site) -> None:
    """Who was given three logs on purpose wants to know about these three."""
    watched(site)
    published(site)
    assert found_in(site, {EVENT, REGISTER}, part=True) == {}
    assert found_in(site, {REGISTER}) == {}, "a single log is no set"


def test_a_log_taken_away_with_everything_that_remembers_it_is_missed_here_too(
    site: Site,
) -> None:
    """Whoever can delete a folder and a pin still cannot write in the controller's log."""
    watched(site)
    published(site)
    site.close()
    shutil.rmtree(site.home.audit / "gateway")
    for left in site.home.trust.glob("gateway-*"):
        left.unlink()
    gateways = {origin for origin in ALL if "/gateway/" in origin}
    assert found_here(site) == {origin: {"log-absent"} for origin in gateways}


def test_without_a_register_nothing_is_said_of_the_set(site: Site) -> None:
    """Logs of before there was one are as sound as they were."""
    published(site)
    assert found_in(site, {EVENT, REGISTER}) == {EVENT: None}
    assert found_here(site) == {}


# --- logs that nobody registered ----------------------------------------------------------------


def stranger(site: Site, name: str, signer: SignerKey | None = None) -> Path:
    """A log of its own making in the site's name."""
    folder = site.home.root / "handed" / name.replace("/", "-")
    folder.mkdir(parents=True)
    log.create(RealDisk(folder), signer or SignerKey.generate(name), site.clock)
    return folder


def test_a_log_in_the_sites_name_that_nobody_registered_is_a_finding(site: Site) -> None:
    """A gateway beside the others, whose calls appear in no report."""
    watched(site)
    published(site)
    folder = stranger(site, "local/gateway2/event")
    results = fleet.verify_folders([*given(site, ALL), folder], [key(site)], [])
    assert {r.origin: {f.code for f in r.findings} for r in results if r.findings} == {
        "local/gateway2/event": {"log-unregistered"}
    }


def test_a_log_of_another_site_is_none_of_this_registers_business(site: Site) -> None:
    """Several sites are verified in one call; each register speaks for its own."""
    watched(site)
    published(site)
    other = SignerKey.generate("elsewhere/gateway/event")
    folder = stranger(site, "elsewhere/gateway/event", other)
    results = fleet.verify_folders([*given(site, ALL), folder], [key(site), other.verifier], [])
    assert not [r for r in results if r.findings or not r.determined]


def test_a_log_under_another_key_than_the_registered_is_a_finding(site: Site) -> None:
    """The key came from whoever handed the log over; the register has the one that counts."""
    site.decide(3)
    published(site)
    watched(site)
    published(site)
    forger = SignerKey.generate(EVENT)
    folder = stranger(site, EVENT, forger)
    folders = [*given(site, ALL - {EVENT}), folder]
    results = fleet.verify_folders(folders, [key(site), forger.verifier], [])
    assert {r.origin: {f.code for f in r.findings} for r in results if r.findings} == {
        EVENT: {"log-unregistered", "cut-short"}
    }


def test_a_key_that_was_replaced_since_is_still_the_registered_logs(site: Site) -> None:
    """The controller is stopped while its own key is replaced; nothing is wrong meanwhile."""
    watched(site)
    published(site)
    site.close()
    home = site.home
    for origin in (EVENT, REGISTER):
        _, writer, stream = origin.split("/")
        folder = home.audit / writer / stream
        where = handover.Site.of(folder, home.keys, home.trust, f"{writer}-{stream}", origin)
        handover.rotate(where, handover.FILE, "scheduled", site.clock)
    assert found_here(site) == {}
    site.gateway, site.controller = site.open("gateway"), site.open("controller")
    watched(site)
    published(site)
    assert found_here(site) == {}
    assert found_in(site, ALL) == {}


def test_a_log_begun_since_the_controller_last_looked_is_given_time(site: Site) -> None:
    """A new log waits for the next round; calling it foreign meanwhile would be wrong."""
    watched(site)
    site.clock.now += timedelta(seconds=5)
    home = site.home
    key_ = SignerKey.generate("local/gateway2/event")
    folder = home.audit / "gateway2/event"
    folder.mkdir(parents=True)
    log.create(RealDisk(folder), key_, site.clock)
    trail.pin_path(home.trust, "gateway2", "event").write_text(f"{key_.verifier}\n")
    published(site)
    assert found_here(site) == {}
    Watching(site.home, site.controller, lambda _: True).look(site.clock.now)
    published(site)
    assert found_here(site) == {}, "and then it is registered"


# --- how far they had come ----------------------------------------------------------------------


@pytest.mark.parametrize("stream", ["event", "security"])
def test_a_log_cut_short_and_signed_again_is_shorter_than_the_controller_saw(
    site: Site, stream: str
) -> None:
    """Whoever has a gateway's key and disk can cut its log and all it remembers; not this."""
    site.decide(30)
    published(site)
    watched(site)
    published(site)
    origin = f"local/gateway/{stream}"
    member = site.member(origin)
    secret = SignerKey.parse((site.home.keys / f"gateway-{stream}.key").read_text())
    kept = all_entries(member.folder, secret.verifier)
    site.close()
    _rewrite(member.folder, kept[:1], secret)
    for left in site.home.trust.glob("gateway-*.checkpoint"):
        left.unlink()
    assert found_here(site) == {origin: {"cut-short"}}


def test_the_gateways_old_logs_put_back_with_all_they_remember_are_shorter_than_was_seen(
    site: Site, tmp_path: Path
) -> None:
    """Replayed whole, from a time when they were sound; the controller's log was not put back."""
    site.decide(5)
    site.gateway.close()
    shutil.copytree(site.home.audit / "gateway", tmp_path / "old")
    site.gateway = site.open("gateway")
    site.decide(30)
    published(site)
    watched(site)
    published(site)
    site.close()
    shutil.rmtree(site.home.audit / "gateway")
    shutil.copytree(tmp_path / "old", site.home.audit / "gateway")
    for left in site.home.trust.glob("gateway-*.checkpoint"):
        left.unlink()
    for stream in STREAMS:
        (site.home.audit / f"gateway/{stream}.checkpoint").unlink(missing_ok=True)
    gateways = {f"local/gateway/{stream}" for stream in STREAMS}
    assert found_here(site) == {origin: {"cut-short"} for origin in gateways}
    site.gateway, site.controller = site.open("gateway"), site.open("controller")


def test_a_log_written_anew_with_its_own_key_is_another_than_the_controller_saw(
    site: Site,
) -> None:
    """As long as before, signed as before, and one decision says something else."""
    site.decide(30)
    published(site)
    watched(site)
    published(site)
    member = site.member(EVENT)
    secret = SignerKey.parse((site.home.keys / "gateway-event.key").read_text())
    entries = all_entries(member.folder, secret.verifier)
    fields = {k: v for k, v in record.parse(entries[5]).items() if k not in _SET_HERE}
    entries[5] = record.encode("decision", {**fields, "verdict": "refuse"}, site.clock.now)
    site.close()
    _rewrite(member.folder, entries, secret)
    for left in site.home.trust.glob("gateway-*.checkpoint"):
        left.unlink()
    for stream in STREAMS:
        (site.home.audit / f"gateway/{stream}.checkpoint").unlink(missing_ok=True)
    assert found_here(site) == {EVENT: {"history-split"}}


def all_entries(folder: Path, vkey: VerifierKey) -> list[bytes]:
    """The entries of a short log."""
    _, width, raw = next(Sound.now(vkey, fleet.reader(folder), 0).bundles())
    return tiles.unpack(raw)[:width]


_SET_HERE = ("v", "type", "at", "salt")


def _rewrite(folder: Path, entries: list[bytes], secret: SignerKey) -> None:
    shutil.rmtree(folder)
    for path, content in files(entries, secret).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def test_a_log_that_grew_while_it_was_verified_is_not_called_short(site: Site) -> None:
    """The controller may see more than the verifier did a moment before."""
    site.decide(3)
    published(site)
    member = site.member(EVENT)
    early = fleet.inspect(fleet.reader(member.folder), key(site, EVENT))
    site.decide(300)
    published(site)
    watched(site)
    published(site)
    late = fleet.inspect(fleet.reader(site.member(REGISTER).folder), key(site))
    reports = fleet.judge_all([early, late])
    assert reports[EVENT].size < 300
    sound = fleet._sound([early, late], reports)
    assert list(writers.judge(sound, ALL)) == []


# --- gaps in a life -----------------------------------------------------------------------------


def test_a_writer_that_was_seen_up_and_said_nothing_is_a_finding(site: Site) -> None:
    """Its log was swapped for an hour, or it ran without one."""
    watching = Watching(site.home, site.controller, lambda _: True)
    with Alive(site.gateway, site.clock, every_s=3600):
        for _ in range(8):
            watching.look(site.clock.now)
            site.clock.now += EVERY
    published(site)
    assert found_here(site) == {SECURITY: {"writer-silent"}}
    assert found_in(site, ALL) == {SECURITY: {"writer-silent"}}


def test_a_writer_that_says_it_is_alive_is_left_in_peace(site: Site) -> None:
    """The same eight looks, and a sign of life at each."""
    watching = Watching(site.home, site.controller, lambda _: True)
    for _ in range(8):
        site.gateway.record(
            "writer-alive", since=record.written(site.clock.now), every_s=ALIVE_EVERY_S
        ).result(10)
        watching.look(site.clock.now)
        site.clock.now += EVERY
    published(site)
    assert found_here(site) == {}


def test_a_writer_that_was_down_is_not_accused(site: Site) -> None:
    """Maintenance is no gap: the controller saw that it was down."""
    watched(site, up=True)
    site.clock.now += timedelta(seconds=5)
    watched(site, up=False)
    site.clock.now += timedelta(hours=9)
    watched(site, up=True)
    published(site)
    assert found_here(site) == {}


def at(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


def seen(*minutes: float, up: bool = True) -> list[Sighting]:
    return [Sighting(at(each), up, EVERY) for each in minutes]


FOUR_LOOKS = seen(0, 15, 30, 45)


@pytest.mark.parametrize(
    ("since", "signs", "sightings", "expected"),
    [
        (0, [1, 16, 31, 44], FOUR_LOOKS, []),
        (0, [1, 44], FOUR_LOOKS, [(1, 44)]),
        (0, [], FOUR_LOOKS, [(0, 45)]),
        (0, [1, 1 + 17], seen(0, 15, 30), []),  # just within: fifteen minutes and two
        (0, [1, 18.1], seen(0, 15, 30), [(1, 18.1)]),  # just beyond
        (40, [], FOUR_LOOKS, []),  # what was before is erased
        (0, [], seen(0, 60, 120), []),  # the controller itself was down between the looks
        (0, [], [*seen(0), *seen(10, up=False), *seen(20)], []),
        (0, [], seen(0), []),
        (0, [], [], []),
    ],
)
def test_silence_is_what_lies_between_two_looks_on_time(
    since: float,
    signs: list[float],
    sightings: list[Sighting],
    expected: list[tuple[float, float]],
) -> None:
    """Each row is a story; the edge is fifteen minutes and the grace."""
    assert timedelta(minutes=2) == GRACE
    found = silences(at(since), [at(each) for each in signs], sightings)
    assert found == [(at(one), at(two)) for one, two in expected]
    assert silences(None, [], FOUR_LOOKS) == [], "everything is erased"


def test_a_life_begins_again_behind_what_was_erased(site: Site) -> None:
    """Old signs of life go on time; their absence is no silence."""
    for _ in range(300):
        site.gateway.record("writer-alive", since=record.written(site.clock.now), every_s=1).result(
            10
        )
        site.clock.now += timedelta(seconds=1)
    published(site)
    member = site.member(SECURITY)
    whole = Sound.now(key(site, SECURITY), fleet.reader(member.folder), 0)
    since, signs = writers.signs_of(whole)
    assert since is not None
    assert len(signs) >= 300
    (member.folder / "tile/entries/000").unlink()
    later, left = writers.signs_of(whole)
    assert later is not None
    assert later > since
    assert left == [sign for sign in signs if sign >= later]


# --- what the controller writes -----------------------------------------------------------------


def kinds(site: Site) -> list[str]:
    return [fields["type"] for _, fields in site.records(REGISTER)]


def test_a_round_in_which_nothing_changed_writes_nothing(site: Site) -> None:
    """A record every five seconds would be a log of nothing."""
    watched(site)
    published(site)
    before = kinds(site)
    assert before.count("writer-registered") == 9
    assert before.count("writer-seen") == 1
    assert before.count("log-seen") == 8, "all but the log it is written in"
    once = len(kinds(site))
    watching = Watching(site.home, site.controller, lambda _: True)
    for _ in range(20):
        watching.look(site.clock.now)
    published(site)
    written = kinds(site)[once:]
    assert written.count("writer-registered") == 9
    assert written.count("writer-seen") == 1


def test_the_register_is_written_whole_once_a_day(site: Site) -> None:
    """Old evidence is erased on time; the register must not go with it."""
    watching = watched(site)
    site.clock.now += timedelta(hours=23)
    watching.look(site.clock.now)
    site.clock.now += timedelta(hours=2)
    watching.look(site.clock.now)
    published(site)
    assert kinds(site).count("writer-registered") == 18


def test_a_log_that_takes_no_record_does_not_end_the_rounds(site: Site) -> None:
    """The controller vouches for engines first; it ends itself once it sees the log stopped."""
    watching = Watching(site.home, site.controller, lambda _: True)
    site.controller.close()
    watching.look(site.clock.now)
    site.controller = site.open("controller")


def test_a_registration_that_makes_no_sense_registers_nothing(site: Site) -> None:
    """A record is well formed long before what it says is."""
    good = str(key(site, EVENT))
    for named, vkey in ((EVENT, "nonsense"), (SECURITY, good)):
        site.controller.record("writer-registered", log=named, vkey=vkey).result(10)
    published(site)
    read = fleet.reader(site.member(REGISTER).folder)
    seen = inspect(read, key(site))
    assert seen.registered
    evidence = Sound.now(key(site), read, 0, seen.registered)
    register = Register.of(evidence)
    assert (register.keys, register.newest, register.key_of(EVENT)) == ({}, None, None)


def test_a_writer_gives_signs_of_life_from_start_to_end(site: Site) -> None:
    """The first at once, the last when it is told to stop."""
    site.clock.now = datetime(2026, 11, 24, tzinfo=UTC)
    with Alive(site.gateway, site.clock, every_s=0.01):
        while len([1 for _, f in site.records(SECURITY) if f["type"] == "writer-alive"]) < 3:
            site.gateway.seal_older({})
    published(site)
    signs = [f["type"] for _, f in site.records(SECURITY) if f["type"].startswith("writer-")]
    assert signs[:3] == ["writer-alive"] * 3
    assert signs[-1] == "writer-stopped"
