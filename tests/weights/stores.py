"""Real stores on loopback that hold a set of weights: a bucket, a registry; and a hub, nearly."""

import hashlib
import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit

from tests.engines.running import free_port
from tests.tools import versitygw
from tests.tools.debian import unpacked

KEY, SECRET, REGION = "site", "a-made-up-secret", "fr-par"  # pragma: allowlist secret
USER, PASSWORD = "puller", "puller-secret"  # pragma: allowlist secret
_HASHED = "$2b$05$ScF9itUcTL8SVwaTLjBxeuFWsPKPEIPwMy0WPNm3d3tIEejEIsEcC"  # pragma: allowlist secret
READY_S = 60
OCI = "application/vnd.oci.image.manifest.v1+json"
TITLE = "org.opencontainers.image.title"


@contextmanager
def _serving(words: list[str], port: int, env: Mapping[str, str], log: Path) -> Iterator[None]:
    with log.open("wb") as out:
        it = subprocess.Popen(words, env={**os.environ, **env}, stdout=out, stderr=out)
        try:
            _until_open(it, port, log)
            yield
        finally:
            it.terminate()
            with suppress(subprocess.TimeoutExpired):
                it.wait(20)
            it.kill()
            it.wait(20)


def _until_open(it: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + READY_S
    while time.monotonic() < until and it.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError(log.read_text()[-2000:])


@contextmanager
def bucket(root: Path, work: Path) -> Iterator[str]:
    """VersityGW over the folders below `root`, each of which is a bucket."""
    port = free_port()
    words = [str(versitygw.program()), "--port", f"127.0.0.1:{port}", "--region", REGION]
    env = {"ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET}
    with _serving([*words, "posix", str(root)], port, env, work / "bucket.log"):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def registry(work: Path, *, shut: bool = False) -> Iterator[str]:
    """Debian's docker-registry, empty; `shut`: it asks for name and password."""
    program, port = unpacked("docker-registry"), free_port()
    config = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(work / "registry")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    if shut:
        (work / "htpasswd").write_text(f"{USER}:{_HASHED}\n")
        config["auth"] = {"htpasswd": {"realm": "here", "path": str(work / "htpasswd")}}
    (work / "registry.yml").write_text(json.dumps(config))
    words = [str(program.program("/usr/bin/docker-registry")), "serve", str(work / "registry.yml")]
    with _serving(words, port, program.environment(), work / "registry.log"):
        yield f"http://127.0.0.1:{port}"


def push(url: str, name: str, tag: str, folder: Path, headers: Mapping[str, str]) -> str:
    """Push a folder as an artefact, as `oras push` does; return the manifest's digest."""
    config = b"{}"
    layers = [
        {**_push_blob(url, name, (folder / each).read_bytes(), headers), "annotations": note}
        for each, note in ((path.name, {TITLE: path.name}) for path in sorted(folder.iterdir()))
    ]
    said = {
        "schemaVersion": 2,
        "mediaType": OCI,
        "artifactType": "application/vnd.example.weights",
        "config": {
            **_push_blob(url, name, config, headers),
            "mediaType": "application/vnd.oci.empty.v1+json",
        },
        "layers": layers,
    }
    raw = json.dumps(said).encode()
    more = {**headers, "Content-Type": OCI}
    status, _ = _send(url, "PUT", f"/v2/{name}/manifests/{tag}", raw, more)
    assert status == 201, status
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def _push_blob(url: str, name: str, raw: bytes, headers: Mapping[str, str]) -> dict[str, object]:
    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    status, location = _send(url, "POST", f"/v2/{name}/blobs/uploads/", b"", headers)
    assert status == 202, status
    parts = urlsplit(location)
    path = f"{parts.path}?{parts.query}&digest={digest}"
    more = {**headers, "Content-Type": "application/octet-stream"}
    status, _ = _send(url, "PUT", path, raw, more)
    assert status == 201, status
    return {"mediaType": "application/octet-stream", "digest": digest, "size": len(raw)}


def _send(
    url: str, method: str, path: str, raw: bytes, headers: Mapping[str, str]
) -> tuple[int, str]:
    line = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        line.request(method, path, body=raw, headers=dict(headers))
        answer = line.getresponse()
        answer.read()
        return answer.status, answer.getheader("location", "")
    finally:
        line.close()


@dataclass
class Hub:
    """A hub with one repository, whose large files lie in a store at another address.

    `token`: it is gated, and this opens it. `changed`: files of which other bytes are given than
    the commit has. `asked` has method, path, range and who asked, in turn.
    """

    folder: Path
    commit: str = "a" * 40
    repository: str = "mistralai/mine"
    token: str = ""
    large: int = 10_000
    page: int = 3
    store: str = ""
    changed: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str, str, str]] = field(default_factory=list)

    def entries(self) -> list[dict[str, object]]:
        """What the API lists, in its own form."""
        return [self._entry(path) for path in sorted(self.folder.iterdir())]

    def _entry(self, path: Path) -> dict[str, object]:
        raw = path.read_bytes()
        git = hashlib.sha1(b"blob %d\0%b" % (len(raw), raw), usedforsecurity=False).hexdigest()
        said: dict[str, object] = {"type": "file", "path": path.name, "size": len(raw), "oid": git}
        if len(raw) > self.large:
            oid = hashlib.sha256(raw).hexdigest()
            said["lfs"] = {"oid": oid, "size": len(raw), "pointerSize": 134}
        return said


class _Hub(BaseHTTPRequestHandler):
    """GET and HEAD as the hub's documentation has them, for one repository."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        who, wanted = self.headers.get("Authorization", ""), self.headers.get("Range", "")
        self.hub.asked.append((self.command, self.path, wanted, who))
        parts = urlsplit(self.path)
        api = f"/api/models/{self.hub.repository}/tree/{self.hub.commit}"
        resolve = f"/{self.hub.repository}/resolve/{self.hub.commit}/"
        if parts.path.startswith("/store/"):
            name = parts.path.removeprefix("/store/")
            self._give(200, self._raw(name), ranged=True)
        elif self.hub.token and who != f"Bearer {self.hub.token}":
            self._give(401 if not who else 403, b"", {"X-Error-Code": "GatedRepo"})
        elif parts.path == api:
            self._list(parse_qs(parts.query))
        elif parts.path.startswith(resolve):
            self._resolve(unquote(parts.path.removeprefix(resolve)))
        else:
            self._give(404, b"", {"X-Error-Code": "RepoNotFound"})

    def _list(self, query: dict[str, list[str]]) -> None:
        start = int(query.get("cursor", ["0"])[0])
        entries = self.hub.entries()
        end = start + self.hub.page
        host = f"http://{self.headers['Host']}"
        following = f'<{host}{urlsplit(self.path).path}?recursive=true&cursor={end}>; rel="next"'
        more = {"Link": following} if end < len(entries) else {}
        self._give(200, json.dumps(entries[start:end]).encode(), more)

    def _resolve(self, name: str) -> None:
        path = self.hub.folder / name
        if not path.is_file():
            self._give(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        raw = path.read_bytes()
        etag = f'"{hashlib.sha256(raw).hexdigest()}"'
        said = {"X-Repo-Commit": self.hub.commit, "ETag": etag}
        if len(raw) > self.hub.large:
            where = f"{self.hub.store}/store/{name}?X-Amz-Signature=0&response-content-type=x"
            self._give(302, b"", {**said, "Location": where, "X-Linked-Size": str(len(raw))})
        else:
            self._give(200, self._raw(name), said)

    def _raw(self, name: str) -> bytes:
        return self.hub.changed.get(name) or (self.hub.folder / name).read_bytes()

    def _give(
        self,
        status: int,
        raw: bytes,
        more: Mapping[str, str] | None = None,
        *,
        ranged: bool = False,
    ) -> None:
        wanted = self.headers.get("Range", "") if ranged else ""
        start = int(wanted.removeprefix("bytes=")[:-1]) if wanted else 0
        self.send_response(206 if start else status)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(raw) - 1}/{len(raw)}")
        for name, value in (more or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(raw) - start))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(raw[start:])

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """A server on loopback whose questions `handler` answers."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        serving.join(10)


@contextmanager
def hub(it: Hub) -> Iterator[str]:
    """The hub on loopback. Files in its store are asked for at `it.store`, by default its own."""
    with listening(type("Handler", (_Hub,), {"hub": it})) as base:
        it.store = it.store or base
        yield base
