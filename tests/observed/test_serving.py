"""The process itself, as a supervisor starts it: what it shows, what it sends, when it refuses."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from cryptography import x509

from sovereign import settings as files
from sovereign.settings import GatewaySettings, Home, Settings, TracingSettings
from tests.engines.running import free_port
from tests.gateway.certificates import issued
from tests.gateway.site import CHAT, Site
from tests.observed.receiver import attributes, otlp, receiving, spans
from tests.observed.test_listeners import answers, fetched
from tests.observed.test_metrics import samples, value
from tests.simulated.engine import MODEL, engine

STOP_S = 40


def home_of(root: Path, **chosen: object) -> tuple[Home, Site]:
    """A deployed home with these settings, and the site that made it; its log is closed."""
    ours = Site(root, GatewaySettings())
    ours.trail.close()
    settings = Settings(**chosen)  # type: ignore[arg-type]
    (root / files.FILE_NAME).write_text(files.render(settings))
    return Home(root, settings), ours


@contextmanager
def serving(home: Home) -> Iterator[subprocess.Popen[bytes]]:
    """`sovereign serve gateway` until the block ends."""
    command = [sys.executable, "-m", "sovereign", "serve", "gateway", "--home", str(home.root)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        assert process.stderr is not None
        process.stderr.close()


async def test_the_process_shows_its_metrics_and_the_end_of_its_certificate(tmp_path: Path) -> None:
    """The one number that is not in the gateway: it comes from the file that is served."""
    tls, port, admin = issued(tmp_path / "tls", "gateway.example"), free_port(), free_port()
    gateway = GatewaySettings(
        listen=f"127.0.0.1:{port}",
        admin_listen=f"127.0.0.1:{admin}",
        tls_certificate=str(tls.certificate),
        tls_key=str(tls.key),
    )
    home, _ = home_of(tmp_path / "home", gateway=gateway)
    with serving(home) as process:
        status, body = await answers(f"http://127.0.0.1:{admin}/metrics")
    assert status == 200
    assert process.returncode in (0, -signal.SIGTERM)
    found = samples(body.decode())
    served = x509.load_pem_x509_certificate(tls.certificate.read_bytes())
    ends = value(found, "sovereign_certificate_expiry_timestamp_seconds")
    assert ends == served.not_valid_after_utc.timestamp()
    assert value(found, "sovereign_build_info", site="local", profile="eea") == 1
    assert value(found, "sovereign_audit_log_failed") == 0
    assert value(found, "process_resident_memory_bytes") > 0


async def test_the_process_sends_its_spans_before_it_ends(tmp_path: Path) -> None:
    """What happened just before a restart is what one looks for afterwards."""
    port = free_port()
    with receiving(otlp()) as target:
        gateway = GatewaySettings(listen=f"127.0.0.1:{port}", admin_listen="")
        tracing = TracingSettings(endpoint=f"{target.url}/v1/traces")
        home, ours = home_of(tmp_path / "home", gateway=gateway, tracing=tracing)
        async with engine() as it:
            ours.endpoint(it.address)
            with serving(home):
                assert (await answers(f"http://127.0.0.1:{port}/healthz"))[0] == 200
                body = msgspec.json.encode(
                    {"model": MODEL, "messages": [{"role": "user", "content": "Capital?"}]}
                )
                await asyncio.to_thread(_asked, port, ours.secret, body)
        found = spans(target.wait())
    servers = [attributes(s).get("http.route") for s in found if s.kind == 2]
    assert CHAT in servers


def _asked(port: int, secret: str, body: bytes) -> None:
    import urllib.request

    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{CHAT}", data=body, headers={"authorization": f"Bearer {secret}"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.status == 200


def test_no_gateway_starts_whose_spans_would_go_where_the_rules_forbid(tmp_path: Path) -> None:
    """Metadata of every call would leave before anybody noticed."""
    port = free_port()
    tracing = TracingSettings(endpoint="https://traces.example/v1/traces", place="aws:eu-central-1")
    gateway = GatewaySettings(listen=f"127.0.0.1:{port}", admin_listen="")
    home, _ = home_of(tmp_path / "home", gateway=gateway, tracing=tracing)
    command = [sys.executable, "-m", "sovereign", "serve", "gateway", "--home", str(home.root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "residency-refused: tracing.endpoint would" in done.stderr
    with pytest.raises(OSError, match="refused"):
        fetched(f"http://127.0.0.1:{port}/healthz")


def test_neither_library_is_loaded_where_nothing_is_shown_or_sent() -> None:
    """They cost memory and a tenth of a second, and are off for whoever wants neither."""
    program = (
        "import sys, sovereign.gateway.server; "
        "heavy = ('opentelemetry', 'prometheus', 'requests'); "
        "print([name for name in sys.modules if name.startswith(heavy)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
