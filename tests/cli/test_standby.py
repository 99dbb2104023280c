"""The commands of the standby: what they send, show and refuse, and that a round always comes."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sovereign import fleet
from sovereign.audit.copies.standby_client import Client, Where
from sovereign.audit.copies.standby_send import Lag
from sovereign.audit.note import VerifierKey
from sovereign.cli.audit_standby import following, sources_of, token_in, vkeys_in
from sovereign.errors import BadInput, HistorySplit, KeyMissing, StandbyUnreachable
from sovereign.settings import Home, Settings, StandbySettings, render
from sovereign.supervisor.watch import children_of, command_of
from tests.audit.standing import TOKEN, served
from tests.cli.running import sovereign
from tests.retention.site import Site

EVENT = "local/gateway/event"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    it = Site(tmp_path / "site")
    yield it
    it.close()


def keys_of(site: Site) -> list[VerifierKey]:
    return [m.vkey for m in fleet.members(site.home) if m.vkey is not None]


# --- one round after the other ------------------------------------------------------------------


class Told:
    """Event lines, and a sender that does what a test says, round by round."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rounds: list[object]) -> None:
        self.lines: list[tuple[str, dict[str, object]]] = []
        self.stop = threading.Event()
        self._rounds = iter(rounds)
        monkeypatch.setattr("sovereign.cli.audit_standby.eventlog.emit", self.emit)

    def emit(self, event: str, **fields: object) -> None:
        self.lines.append((event, fields))

    def send(self) -> list[Lag]:
        found = next(self._rounds, None)
        if found is None:
            self.stop.set()
            return []
        if isinstance(found, Exception):
            raise found
        assert isinstance(found, Lag)
        return [found]

    def names(self) -> list[str]:
        return [name for name, _ in self.lines]


def lag(entries: int, seconds: float) -> Lag:
    return Lag(EVENT, 100, 100 - entries, seconds)


def test_each_change_is_told_once_and_no_error_ends_the_rounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A page for each second of a night would be read by nobody."""
    gone = StandbyUnreachable("gone")
    told = Told(
        monkeypatch,
        [lag(0, 0.0), lag(3, 9.0), lag(9, 11.0), lag(9, 12.0), gone, gone, lag(0, 0.0)],
    )
    monkeypatch.setattr("sovereign.cli.audit_standby.BACKOFF_MAX_S", 0.001)
    following(told.send, told.stop, 10, every_s=0.001)
    assert told.names()[:2] == ["standby-behind", "standby-unreachable"]
    assert set(told.names()[2:]) == {"standby-caught-up", "standby-answers"}
    assert len(told.names()) == 4
    assert told.lines[0][1] == {"seconds": 11, "limit": 10}


def test_a_standby_that_does_not_answer_is_behind_once_the_point_has_passed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody can say how far it is; what counts is since when nothing more came there."""
    told = Told(monkeypatch, [StandbyUnreachable("gone")] * 8)
    monkeypatch.setattr("sovereign.cli.audit_standby.BACKOFF_MAX_S", 0.02)
    following(told.send, told.stop, 0.03, every_s=0.01)
    assert told.names()[:2] == ["standby-unreachable", "standby-behind"]


def test_a_fork_is_named_and_the_rounds_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other logs must still reach the second machine."""
    split, broken = HistorySplit("two"), OSError(5, "input/output error")
    told = Told(monkeypatch, [split, split, broken, split, lag(0, 0.0)])
    heard: list[str] = []
    following(told.send, told.stop, 10, every_s=0.001, told=lambda code, _: heard.append(code))
    faults = ["history-split", "state-unreadable", "history-split"]
    assert told.names() == [*faults, "standby-answers"]
    assert heard[:5] == ["history-split", *faults, ""]


def test_the_last_round_comes_after_the_writers_have_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What they published at their end is sent too, or it waits for the next start."""
    told = Told(monkeypatch, [lag(0, 0.0), lag(0, 0.0)])
    told.stop.set()
    following(told.send, told.stop, 10)
    assert next(told._rounds, None) is not None, "one was sent, not none and not both"


# --- what is set, and what it starts ------------------------------------------------------------


def test_a_site_with_a_standby_has_a_process_that_sends(tmp_path: Path) -> None:
    """It is kept running like the others, and it is none where nothing is set."""
    without = Home(tmp_path, Settings())
    chosen = StandbySettings(url="https://standby.example:8420", token_file="/x")
    home = Home(tmp_path, Settings(standby=chosen))
    assert children_of(without) == ("engine", "gateway", "controller")
    assert children_of(home) == ("engine", "gateway", "controller", "standby")
    words = command_of(home, "standby")
    assert words[3:7] == ["audit", "standby", "push", "--follow"]
    assert command_of(home, "gateway")[3:5] == ["serve", "gateway"]


def test_the_keys_are_listed_as_serve_and_restore_read_them(site: Site, tmp_path: Path) -> None:
    """They are carried over by hand; nothing else is believed there."""
    done = sovereign(site.home.root, "audit", "standby", "keys")
    path = tmp_path / "vkeys.txt"
    path.write_text(f"# carried over by hand\n\n{done.out}")
    assert vkeys_in(path) == keys_of(site)
    path.write_text("# nothing\n")
    with pytest.raises(KeyMissing):
        vkeys_in(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput):
        vkeys_in(path)
    with pytest.raises(BadInput):
        token_in(path)


def test_without_a_standby_nothing_is_sent_and_it_says_how_to_name_one(site: Site) -> None:
    """Exit 2: it was asked wrongly."""
    for words in (("push",), ("status",), ("push", "--to", "http://127.0.0.1:9")):
        done = sovereign(site.home.root, "audit", "standby", *words)
        assert (done.code, done.error) == (2, "bad-input")
        assert "standby.url" in done.err


@pytest.mark.parametrize(
    ("more", "code", "word"),
    [
        (["--listen", "192.0.2.1:8420"], 1, "place-undeclared"),
        (["--listen", "127.0.0.1:TAKEN"], 3, "process-failed"),
        (["--token-file", "/dev/null"], 2, "bad-input"),
    ],
)
def test_a_standby_does_not_listen_where_it_should_not(
    site: Site, tmp_path: Path, more: list[str], code: int, word: str
) -> None:
    """Records would be sent to it; the operator says where it stands, and there is a secret."""
    vkeys, token = tmp_path / "vkeys.txt", tmp_path / "token"
    vkeys.write_text("".join(f"{key}\n" for key in keys_of(site)))
    token.write_text(TOKEN)
    words = ["--folder", str(tmp_path / "s"), "--vkeys", str(vkeys), "--token-file", str(token)]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words += [each.replace("TAKEN", str(taken.getsockname()[1])) for each in more]
        done = sovereign(tmp_path / "home", "audit", "standby", "serve", *words)
    assert (done.code, done.error) == (code, word)


def test_off_loopback_records_are_not_sent_in_the_clear(site: Site, tmp_path: Path) -> None:
    """A declared place says where a machine stands, not who listens on the way."""
    vkeys, token = tmp_path / "vkeys.txt", tmp_path / "token"
    vkeys.write_text(f"{keys_of(site)[0]}\n")
    token.write_text(TOKEN)
    home = tmp_path / "home"
    home.mkdir()
    (home / "sovereign.yaml").write_text(render(Settings(place="static:here")))
    words = ["--folder", str(tmp_path / "s"), "--vkeys", str(vkeys), "--token-file", str(token)]
    done = sovereign(home, "audit", "standby", "serve", *words, "--listen", "192.0.2.1:8420")
    assert (done.code, done.error) == (2, "bad-input")
    assert "in the clear" in done.err


# --- against a standby that runs ----------------------------------------------------------------


def test_push_status_and_restore_say_what_they_did(site: Site, tmp_path: Path) -> None:
    """The four commands of the page, in the order in which a site meets them."""
    site.decide(30)
    site.settle()
    with served(tmp_path / "second", keys_of(site)) as (where, _):
        token = tmp_path / "second/token"
        root = site.home.root
        chosen = StandbySettings(url=where.url, token_file=str(token))
        (root / "sovereign.yaml").write_text(render(Settings(standby=chosen)))
        time.sleep(1.2)
        before = sovereign(root, "audit", "standby", "status", "--recovery-point", "1")
        assert (before.code, before.error) == (1, "standby-behind")
        done = sovereign(root, "audit", "standby", "push")
        assert (done.code, done.err) == (0, "")
        shown = sovereign(root, "audit", "standby", "status", "--json").json
        assert shown["ok"] is True
        assert {log["origin"] for log in shown["logs"]} == {key.name for key in keys_of(site)}
        assert all(log["size"] == log["held"] > 0 for log in shown["logs"])
        member = site.member(EVENT)
        newer = (member.folder / "checkpoint").read_bytes()
        site.decide(3)
        site.settle()
        assert sovereign(root, "audit", "standby", "push").code == 0
        (member.folder / "checkpoint").write_bytes(newer)
        ahead = sovereign(root, "audit", "standby", "status")
        assert (ahead.code, ahead.error) == (70, "history-split")
        site.close()
        note = root / "trust/gateway-event.standby"
        assert note.read_bytes().startswith(EVENT.encode())

        words = ["--from", where.url, "--vkeys", str(tmp_path / "second/vkeys.txt")]
        fresh = tmp_path / "fresh"
        without = sovereign(fresh, "audit", "restore", *words)
        assert (without.code, without.error) == (3, "key-missing")
        back = sovereign(fresh, "audit", "restore", *words, "--token-file", str(token))
        assert back.code == 0, back.err
        assert "to be read" in back.out
        assert sovereign(fresh, "audit", "verify").code == 0
    copies = ["--from", str(tmp_path / "second/copies"), "--vkeys", words[3]]
    assert sovereign(tmp_path / "third", "audit", "restore", *copies, "--json").code == 0
    plain = ["--from", str(fresh / "audit"), "--vkeys", words[3]]
    assert sovereign(tmp_path / "fourth", "audit", "restore", *plain, "--json").code == 0


def test_a_set_is_verified_by_one_key_on_the_command_line(site: Site) -> None:
    """`--part` is for who was given a part on purpose."""
    from sovereign.controller.watching import Watching

    Watching(site.home, site.controller, lambda _: True).look(site.clock.now)
    site.settle()
    key = str(site.member("local/controller/evidence").vkey)
    folders = [str(site.member(name).folder) for name in (EVENT, "local/controller/evidence")]
    done = sovereign(site.home.root, "audit", "verify", *folders, "--vkey", key, "--json")
    assert done.code == 1
    assert {f["code"] for log in done.json["logs"] for f in log["findings"]} == {"log-absent"}
    part = sovereign(site.home.root, "audit", "verify", *folders, "--vkey", key, "--part")
    assert part.code == 0
    assert sovereign(site.home.root, "audit", "verify", "--part").code == 2


# --- TLS, both ways -----------------------------------------------------------------------------


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """Made with openssl: an authority, and a certificate each for a standby and a site."""
    folder = tmp_path / "tls"
    folder.mkdir()

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    for name in ("ca", "stranger"):
        openssl("req", "-x509", *curve, "-subj", f"/CN={name}", "-keyout", f"{name}.key",
                "-out", f"{name}.crt")  # fmt: skip
    for name in ("standby", "site"):
        openssl("req", "-x509", *curve, "-subj", f"/CN={name}", "-CA", "ca.crt", "-CAkey",
                "ca.key", "-addext", "subjectAltName=IP:127.0.0.1", "-addext",
                "basicConstraints=critical,CA:FALSE", "-keyout", f"{name}.key",
                "-out", f"{name}.crt")  # fmt: skip
    return folder


def test_with_certificates_each_side_knows_the_other(
    site: Site, tmp_path: Path, certificates: Path
) -> None:
    """The token alone would be for whoever could read it once."""
    tls = certificates
    more = ["--tls-cert", str(tls / "standby.crt"), "--tls-key", str(tls / "standby.key")]
    more += ["--tls-ca", str(tls / "ca.crt")]
    site.settle()
    with served(tmp_path / "second", keys_of(site), None, *more) as (where, _):
        url = where.url.replace("http:", "https:")
        good = Where(url, TOKEN, tls / "ca.crt", tls / "site.crt", tls / "site.key")
        _until(lambda: _answers(good))
        for bad in (
            Where(url, TOKEN, tls / "ca.crt"),
            Where(url, TOKEN, tls / "ca.crt", tls / "stranger.crt", tls / "stranger.key"),
            Where(url, TOKEN, tls / "stranger.crt", tls / "site.crt", tls / "site.key"),
            Where(url, "x" * 36, tls / "ca.crt", tls / "site.crt", tls / "site.key"),
            Where(where.url, TOKEN),
        ):
            assert not _answers(bad), bad
        assert _answers(good)


def _answers(where: Where) -> bool:
    try:
        with Client(where) as client:
            return bool(client.held())
    except StandbyUnreachable:
        return False


def _until(done: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not done():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_sender_that_is_told_to_stop_ends_cleanly(site: Site, tmp_path: Path) -> None:
    """systemd and the supervisor both ask first."""
    with served(tmp_path / "second", keys_of(site)) as (where, _):
        words = ["audit", "standby", "push", "--follow", "--to", where.url]
        words += ["--token-file", str(tmp_path / "second/token"), "--home", str(site.home.root)]
        process = subprocess.Popen(
            [sys.executable, "-m", "sovereign", *words], stderr=subprocess.PIPE
        )
        try:
            _until(lambda: _held(where) > 0)
            site.decide(3)
            site.close()
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait(30)
        assert process.stderr is not None
        events = [json.loads(line)["event"] for line in process.stderr.read().splitlines()]
        assert events == []
        assert _held(where) == fleet.size_of(site.member(EVENT)), "the end was sent too"
    assert sources_of(site.home)[0].memory is not None


def _held(where: Where) -> int:
    with Client(where) as client:
        state = client.held().get(EVENT)
        return state.size if state else 0
