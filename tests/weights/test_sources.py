"""Buckets, hubs, registries and bundles: each source against a real one, where there is one."""

import base64
import hashlib
import io
import json
import tarfile
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from sovereign import settings
from sovereign.engines import digest
from sovereign.errors import BadInput, WeightsUnsafe
from sovereign.weights import bundle, hub
from sovereign.weights.asking import Asker
from sovereign.weights.bringing import Pace
from sovereign.weights.mirror import BucketKey
from tests.cli.conftest import Run
from tests.weights import stores
from tests.weights.making import TENSORS, Ways, mirror, pin_of, published, tensors
from tests.weights.test_fetch import MODEL, declare, records, sets, words

TOKEN = "hf_made_up"  # pragma: allowlist secret


@pytest.fixture
def set_(tmp_path: Path) -> Path:
    return published(tmp_path / "srv" / "weights" / "mine")


def listed(site: Path) -> dict[str, bytes]:
    (found,) = sets(site)
    return {path.name: path.read_bytes() for path in found.path.iterdir()}


def has(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- a bucket ---------------------------------------------------------------------------------


def test_a_set_comes_out_of_a_bucket_that_only_its_key_opens(
    site: Path, run: Run, set_: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Object stores in the EEA all speak this signature; a real one has to accept ours."""
    with stores.bucket(set_.parents[1], tmp_path) as url:
        declare(site, url, "scaleway:fr-par-2")
        asked = words(f"s3+{url}/weights/mine", pin_of(set_))
        done = run(*asked)
        assert (done.code, done.error) == (3, "weights-unfetched")
        assert "AWS_ACCESS_KEY_ID" in done.err
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", stores.KEY)
        assert run(*asked).code == 2  # half a key
        monkeypatch.setenv("AWS_REGION", stores.REGION)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-one")
        assert run(*asked).error == "weights-unfetched"
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", stores.SECRET)
        done = run(*asked)
    assert done.code == 0, done.err
    assert listed(site) == has(set_)
    assert [entry["place"] for entry in records(site)] == ["scaleway:fr-par-2"]


def test_the_signature_is_the_one_of_the_published_example() -> None:
    """The provider's documentation signs this question; a slip would be found at a customer's."""
    key = BucketKey(
        "AKIAIOSFODNN7EXAMPLE",  # pragma: allowlist secret
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",  # pragma: allowlist secret
        "us-east-1",
    )
    when = datetime(2013, 5, 24, tzinfo=UTC)
    found = key.sign("GET", "https://examplebucket.s3.amazonaws.com/?lifecycle=", when)
    expected = "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
    assert found["Authorization"].rpartition("Signature=")[2] == expected


# --- a hub ------------------------------------------------------------------------------------


def test_a_set_comes_from_a_pinned_commit_of_a_hub(
    site: Path, run: Run, set_: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pages, with a redirect to its store, and without what could run."""
    repository = tmp_path / "repository"
    published(repository, **{"modeling.py": b"evil", "pytorch_model.bin": b"\x80"})
    (repository / ".gitattributes").write_bytes(b"* lfs")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with stores.hub(stores.Hub(repository)) as store:
        at = stores.Hub(repository, token=TOKEN, store=store)
        with stores.hub(at) as url:
            declare(site, url)
            file = site / settings.FILE_NAME
            more = (
                f"  - id: s\n    kind: mirror\n    place: this-host\n    listener: '{store[7:]}'\n"
            )
            file.write_text(file.read_text() + more)
            given = f"hub+{url}/{at.repository}@{at.commit}"
            named = run("weights", "manifest", "--from", given)
            assert (named.code, named.out) == (0, digest.manifest(set_))
            done = run(*words(given, pin_of(set_)))
    assert done.code == 0, done.err
    assert listed(site) == has(set_)
    assert any("cursor=3" in path for _, path, _, _ in at.asked)
    assert all(who == f"Bearer {TOKEN}" for _, _, _, who in at.asked)


def test_the_store_of_a_hub_is_declared_too_and_never_hears_the_token(
    site: Path, run: Run, set_: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hubs hand out signed addresses of clouds elsewhere: that is where the bytes come from."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    elsewhere = stores.Hub(set_)
    with stores.hub(elsewhere) as store, stores.hub(stores.Hub(set_, store=store)) as url:
        declare(site, url)
        asked = words(f"hub+{url}/mistralai/mine@{'a' * 40}", pin_of(set_))
        done = run(*asked)
        assert (done.code, done.error) == (1, "residency-refused")
        assert elsewhere.asked == []
        file = site / settings.FILE_NAME
        more = f"  - id: s\n    kind: mirror\n    place: this-host\n    listener: '{store[7:]}'\n"
        file.write_text(file.read_text() + more)
        assert run(*asked).code == 0
    assert {who for _, _, _, who in elsewhere.asked} == {""}


def test_a_gated_repository_says_what_to_do(
    site: Path, run: Run, set_: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Terms have to be accepted by a person; `HTTP 401` alone sends nobody to the right page."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with stores.hub(stores.Hub(set_, token=TOKEN)) as url:
        declare(site, url)
        asked = words(f"hub+{url}/mistralai/mine@{'a' * 40}", pin_of(set_))
        for token, status in (("", 401), ("another", 403)):
            monkeypatch.setenv("HF_TOKEN", token)
            done = run(*asked)
            assert (done.code, done.error) == (3, "weights-unfetched")
            assert f"HTTP {status}" in done.err
            assert "accept the publisher's terms" in done.err
        assert "another" not in done.err


def test_a_hub_is_believed_neither_for_small_files_nor_for_large_ones(
    site: Path, run: Run, set_: Path
) -> None:
    """It names the commit; whether the bytes are the commit's is worked out here."""
    pin = pin_of(set_)
    for changed in ({"config.json": b"{}"}, {TENSORS: tensors(100_000)}):
        with stores.hub(stores.Hub(set_, changed=changed)) as url:
            declare(site, url)
            done = run(*words(f"hub+{url}/mistralai/mine@{'a' * 40}", pin))
        assert (done.code, done.error) == (1, "weights-differ"), done.err
        assert sets(site) == []


@pytest.mark.parametrize("commit", ["main", "a" * 39, "A" * 40, "v1.0", ""])
def test_a_branch_is_no_commit(commit: str) -> None:
    """`main` is other weights tomorrow."""
    asker = Asker(lambda _: pytest.fail("it was asked"))
    with pytest.raises(BadInput, match="names no commit"):
        hub.of(f"https://hub.example/mistralai/mine@{commit}", "", "", asker)


def test_the_hub_that_everybody_uses_is_refused_with_the_rule_and_the_mirror_to_use(
    site: Path, run: Run
) -> None:
    """Its operator is under the law of the United States; nothing was asked of it."""
    declare(site, "https://mirror.example:443", "scaleway:fr-par-2")
    done = run(*words(f"hf:mistralai/Mistral-7B-Instruct-v0.3@{'a' * 40}", "0" * 64))
    assert (done.code, done.error) == (1, "residency-refused")
    assert "weights-stay-in-eea" in done.err
    assert "my-mirror at mirror.example:443" in done.err


# --- a registry -------------------------------------------------------------------------------


def test_a_set_comes_out_of_a_real_registry_by_tag_or_digest_and_only_for_who_may(
    site: Path, run: Run, set_: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry that an organisation has for its containers holds weights as well."""
    pair = base64.b64encode(f"{stores.USER}:{stores.PASSWORD}".encode()).decode()
    with stores.registry(tmp_path, shut=True) as url:
        known = {"Authorization": f"Basic {pair}"}
        pushed = stores.push(url, "team/mine", "v0.3", set_, known)
        declare(site, url)
        asked = words(f"oci+{url}/team/mine:v0.3", pin_of(set_))
        done = run(*asked)
        assert (done.code, done.error) == (3, "weights-unfetched")
        assert "REGISTRY_USER" in done.err
        monkeypatch.setenv("REGISTRY_USER", stores.USER)
        monkeypatch.setenv("REGISTRY_PASSWORD", stores.PASSWORD)
        named = run("weights", "manifest", "--from", f"oci+{url}/team/mine@{pushed}")
        assert named.out == digest.manifest(set_)
        done = run(*asked)
        assert done.code == 0, done.err
        done = run(*words(f"oci+{url}/team/mine@sha256:{'0' * 64}", pin_of(set_)))
        assert (done.code, done.error) == (3, "weights-unfetched")
    assert listed(site) == has(set_)


class _Tokens(BaseHTTPRequestHandler):
    """A registry that wants a token, and the server it gets it from, in one."""

    protocol_version = "HTTP/1.1"
    folder: Path
    realm: str

    def do_GET(self) -> None:
        who, path = self.headers.get("Authorization", ""), self.path.partition("?")[0]
        layers = [_layer(each) for each in sorted(self.folder.iterdir())]
        blobs = {f"/v2/team/mine/blobs/{digest.model_digest(p)}": p for p in self.folder.iterdir()}
        if path == "/token":
            mine = "scope=repository%3Ateam%2Fmine%3Apull" in self.path
            token = "made-up" if mine and who.startswith("Basic ") else "nothing"
            self._give(200, json.dumps({"token": token}).encode())
        elif who != "Bearer made-up":
            self._give(401, b"")
        elif path in blobs:
            self._give(200, blobs[path].read_bytes())
        else:
            self._give(200, json.dumps({"layers": layers}).encode())

    def _give(self, status: int, raw: bytes) -> None:
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", f'Bearer realm="{self.realm}/token",service="r"')
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None:
        pass


def _layer(path: Path) -> dict[str, object]:
    said = {"digest": digest.model_digest(path), "size": path.stat().st_size}
    return {**said, "annotations": {stores.TITLE: path.name}}


def test_a_registry_that_wants_a_token_is_given_one_from_a_declared_server_only(
    site: Path, run: Run, set_: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says itself who hands tokens out: a password must not follow it anywhere."""
    monkeypatch.setenv("REGISTRY_USER", stores.USER)
    monkeypatch.setenv("REGISTRY_PASSWORD", stores.PASSWORD)
    handler = type("Handler", (_Tokens,), {"folder": set_, "realm": "https://192.0.2.1"})
    with stores.listening(handler) as url:
        declare(site, url)
        asked = words(f"oci+{url}/team/mine:v1", pin_of(set_))
        done = run(*asked)
        assert (done.code, done.error) == (1, "residency-refused")
        handler.realm = url
        done = run(*asked)
    assert done.code == 0, done.err
    assert listed(site) == has(set_)
    done = run(*asked)
    assert (done.code, done.error) == (3, "weights-unfetched")  # it is gone


# --- a stick ----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["stick.tar", "stick"])
def test_a_set_is_carried_to_a_site_without_a_network(
    site: Path, run: Run, set_: Path, tmp_path: Path, form: str
) -> None:
    """Out of one site and into another, by one file or one folder, under the same digest."""
    pin, target = pin_of(set_), tmp_path / form
    assert run(*words(set_, pin)).code == 0
    done = run("weights", "bundle", MODEL, "--to", str(target), "--json")
    assert (done.code, done.json["digest"]) == (0, pin), done.err
    assert run("weights", "bundle", MODEL, "--to", str(target)).error == "bad-input"
    (found,) = sets(site)
    found.path.rename(tmp_path / "gone")
    done = run(*words(target, pin))
    assert done.code == 0, done.err
    assert listed(site) == has(set_)


def test_the_same_set_gives_the_same_archive(
    site: Path, run: Run, set_: Path, tmp_path: Path
) -> None:
    """Two people who bundle can compare one hash; and `tar` itself reads it."""
    assert run(*words(set_, pin_of(set_))).code == 0
    for name in ("a.tar", "b.tar"):
        assert run("weights", "bundle", MODEL, "--to", str(tmp_path / name)).code == 0
    first, second = ((tmp_path / name).read_bytes() for name in ("a.tar", "b.tar"))
    assert hashlib.sha256(first).digest() == hashlib.sha256(second).digest()
    with tarfile.open(tmp_path / "a.tar") as archive:
        assert archive.getnames()[0] == f"{MODEL}.sha256"


def test_a_set_that_changed_on_disk_is_not_carried_anywhere(
    site: Path, run: Run, set_: Path, tmp_path: Path
) -> None:
    """The next site would trust the stick because this one made it."""
    assert run(*words(set_, pin_of(set_))).code == 0
    (found,) = sets(site)
    (found.path / "LICENSE").write_bytes(b"none")
    done = run("weights", "bundle", MODEL, "--to", str(tmp_path / "a.tar"))
    assert (done.code, done.error) == (1, "weights-differ")
    assert not (tmp_path / "a.tar").exists()


def archive(*members: tuple[str, bytes, bytes]) -> bytes:
    """A tar archive of members: name, type, content (or where a link leads)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            if kind == tarfile.REGTYPE:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            else:
                member.linkname = content.decode()
                tar.addfile(member)
    return out.getvalue()


FILE = tarfile.REGTYPE
HUGE_HEADER = tarfile.TarInfo("x")
HUGE_HEADER.type, HUGE_HEADER.size = tarfile.XHDTYPE, 2**40


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"not an archive" * 100,
        archive(("m/config.json", FILE, b"{}")),
        archive(("a.sha256", FILE, b""), ("b.sha256", FILE, b"")),
        archive(("m.sha256", FILE, b""), ("m.sha256", FILE, b"")),
        archive(("m.sha256", FILE, b""), ("other/a.json", FILE, b"")),
        archive(("m.sha256", FILE, b""), ("/etc/passwd", FILE, b"")),
        archive(("m.sha256", FILE, b""), ("m/a.json", tarfile.SYMTYPE, b"/etc/passwd")),
        archive(("m.sha256", FILE, b""), ("m/a.json", tarfile.LNKTYPE, b"m.sha256")),
        archive(("m.sha256", FILE, b""), ("m/a.json", tarfile.CHRTYPE, b"")),
        archive(("m.sha256", FILE, b""), ("m/a.json", FILE, b""), ("m/a.json", FILE, b"x")),
        archive(("m.sha256", FILE, b"0" * 2_000_000)),
        HUGE_HEADER.tobuf(tarfile.GNU_FORMAT) + bytes(2_000_000),
    ],
)
def test_an_archive_that_is_no_bundle_is_refused(tmp_path: Path, raw: bytes) -> None:
    """Links, devices, headers that eat the memory: archives are an old door."""
    file = tmp_path / "stick.tar"
    file.write_bytes(raw)
    with pytest.raises(WeightsUnsafe, match="no bundle of weights"):
        bundle.read(file, "this-host")


def test_names_that_lead_out_of_a_bundle_are_refused_by_its_manifest(
    site: Path, run: Run, tmp_path: Path
) -> None:
    """Nothing is unpacked; the names that count are the manifest's, and those are judged."""
    raw = f"{hashlib.sha256(b'x').hexdigest()}  ../../escape.json\n".encode()
    file = tmp_path / "stick.tar"
    file.write_bytes(archive(("m.sha256", FILE, raw), ("m/../../escape.json", FILE, b"x")))
    done = run(*words(file, hashlib.sha256(raw).hexdigest()))
    assert (done.code, done.error) == (1, "weights-unsafe")


# --- how it is brought ------------------------------------------------------------------------


def test_a_limit_holds_for_all_files_together() -> None:
    """Weights must not take the line that people's questions come in by."""
    now, waits = [0.0], list[float]()
    pace = Pace(4, 1000.0, wait=waits.append, clock=lambda: now[0])
    for _ in range(4):
        pace.take(500)
    assert waits == [0.5, 1.0, 1.5, 2.0]
    now[0] = 10.0
    pace.take(500)
    assert waits[-1] == 0.5
    Pace(4, 0, wait=waits.append).take(10**12)
    assert len(waits) == 5


def test_files_come_side_by_side_and_the_first_that_fails_ends_the_run(
    site: Path, run: Run, set_: Path
) -> None:
    """A hundred shards one after the other leave most of the line unused."""
    more = {f"model-{n}.safetensors": tensors(1000 + n) for n in range(6)}
    published(set_, **more)
    with mirror(set_.parent, Ways()) as url:
        declare(site, url)
        assert run(*words(f"{url}/mine", pin_of(set_)), "--parallel", "3").code == 0
    assert listed(site) == has(set_)
    (set_ / "model-3.safetensors").unlink()
    (found,) = sets(site)
    found.path.rename(found.path.with_name("gone"))
    with mirror(set_.parent, Ways()) as url:
        declare(site, url)
        done = run(*words(f"{url}/mine", "sha256:" + found.digest[7:]), "--parallel", "2")
    assert (done.code, done.error) == (3, "weights-unfetched")


def test_a_source_of_no_known_form_is_a_wrong_question(site: Path, run: Run) -> None:
    """`ftp://` is not silently a folder, nor is a query part of a name."""
    for given in ("ftp+https://a.example/x", "ftp://a.example/x", "https://a.example/x?y=1"):
        done = run(*words(given, "0" * 64))
        assert (done.code, done.error) == (2, "bad-input"), given


def test_the_list_that_a_hub_gives_is_believed_for_nothing(
    site: Path, run: Run, set_: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list of something else ends in a word, not in a trace."""
    entry = {"type": "file", "path": "config.json", "size": 2, "oid": "0"}
    lies: list[object] = [
        {},
        [1],
        [{"type": "symlink", "path": "config.json"}],
        [{**entry, "size": -1}],
        [{**entry, "size": "2"}],
        [{**entry, "lfs": {"oid": "../../x"}}],
        [{**entry, "size": 10**12}],
        [entry] * 3000,
    ]
    for lie in lies:
        monkeypatch.setattr(stores.Hub, "entries", lambda _, lie=lie: [lie])
        raw = json.dumps(lie).encode()
        monkeypatch.setattr(stores._Hub, "_list", lambda it, _, raw=raw: it._give(200, raw))
        with stores.hub(stores.Hub(set_)) as url:
            declare(site, url)
            done = run("weights", "manifest", "--from", f"hub+{url}/mistralai/mine@{'a' * 40}")
        assert (done.code, done.error) == (3, "weights-unfetched"), lie
