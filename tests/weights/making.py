"""A small set of weights as its publisher has it, and a mirror that serves it, or nearly."""

import json
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

from sovereign.engines import digest
from tests.gateway.certificates import Files

TEMPLATE = "{% for m in messages %}[INST] {{ m['content'] }} [/INST]{% endfor %}"
TENSORS = "model.safetensors"
CONFIG: dict[str, object] = {
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 1000,
}


def tensors(values: int = 200_000) -> bytes:
    """A safetensors file with one tensor of so many 16-bit numbers."""
    entry = {"dtype": "BF16", "shape": [values], "data_offsets": [0, 2 * values]}
    header = json.dumps({"lm_head.weight": entry}).encode()
    data = b"".join(struct.pack("<H", each % 65_536) for each in range(values))
    return struct.pack("<Q", len(header)) + header + data


def published(folder: Path, **more: bytes) -> Path:
    """The folder of a set with its manifest beside it; `more` are files by name."""
    files = {
        "config.json": json.dumps(CONFIG).encode(),
        "tokenizer.json": b'{"model": {"vocab": {"auto_map": 1}}}',
        "tokenizer_config.json": json.dumps({"chat_template": TEMPLATE}).encode(),
        TENSORS: tensors(),
        "LICENSE": b"Apache License\n",
    }
    for name, content in (files | more).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    folder.with_name(f"{folder.name}.sha256").write_text(digest.manifest(folder))
    return folder


def pin_of(folder: Path) -> str:
    return digest.model_digest(folder)


@dataclass
class Ways:
    """How a mirror behaves.

    `breaks` are the lengths after which its answers break off, in turn; with `waits` it stands
    still in the middle of the tensors until that is set.
    """

    breaks: list[int] = field(default_factory=list)
    ranges: bool = True
    lengths: bool = True
    redirect: str = ""
    endless: bool = False
    waits: Event | None = None
    asked: list[tuple[str, str, str]] = field(default_factory=list)


@contextmanager
def mirror(root: Path, ways: Ways, certificate: Files | None = None) -> Iterator[str]:
    """The files below `root` over HTTP on loopback; gives `http://127.0.0.1:PORT`, or with a
    certificate for it `https://localhost:PORT`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            wanted = self.headers.get("Range", "")
            ways.asked.append((self.command, self.path, wanted))
            path = root / self.path.lstrip("/")
            if ways.redirect and self.path.endswith(TENSORS):
                self.send_response(302)
                self.send_header("Location", f"{ways.redirect}{self.path}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if not path.is_file():
                self.send_error(404)
                return
            self._give(path.read_bytes(), wanted, body=body)

        def _give(self, whole: bytes, wanted: str, *, body: bool) -> None:
            start = int(wanted.removeprefix("bytes=")[:-1]) if wanted and ways.ranges else 0
            if start >= len(whole):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
            if ways.lengths:
                self.send_header("Content-Length", str(len(whole) - start))
            else:
                self.send_header("Connection", "close")
            self.end_headers()
            if body:
                self._write(whole[start:])

        def _write(self, part: bytes) -> None:
            if ways.endless and len(part) > 100_000:
                with suppress(OSError):  # whoever reads has had enough
                    for _ in range(200):
                        self.wfile.write(bytes(1024 * 1024))
            cut = ways.breaks.pop(0) if ways.breaks and len(part) > 100_000 else len(part)
            if ways.waits is not None and len(part) > 100_000:
                self.wfile.write(part[:100_000])
                ways.waits.wait(60)
                part, cut = part[100_000:], cut - 100_000
            self.wfile.write(part[:cut])
            self.close_connection = self.close_connection or cut < len(part)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A caller that leaves is what some tests are about; nothing is printed for it."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    base = f"http://127.0.0.1:{server.server_address[1]}"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.certificate, certificate.key)
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        base = f"https://localhost:{server.server_address[1]}"
    serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    serving.start()
    try:
        yield base
    finally:
        server.shutdown()
        server.server_close()
        serving.join(10)
