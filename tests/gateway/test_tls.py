"""The gateway behind TLS: which clients get in, and what a renewed certificate does."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn

from sovereign.door import connection
from sovereign.errors import SettingsUnreadable
from sovereign.gateway import loop
from sovereign.gateway.server import listening
from sovereign.gateway.tls import Certificate
from sovereign.settings import GatewaySettings, load
from tests.gateway.certificates import Files, issued
from tests.gateway.site import site, until
from tests.simulated.engine import engine


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return issued(tmp_path / "tls", "gateway.example")


def settings_of(files: Files, port: int = 8080) -> GatewaySettings:
    return GatewaySettings(
        listen=f"127.0.0.1:{port}",
        tls_certificate=str(files.certificate),
        tls_key=str(files.key),
    )


@asynccontextmanager
async def behind(certificate: Certificate, root: Path) -> AsyncIterator[int]:
    """The port of a gateway that serves with this certificate."""
    import socket

    async with engine() as it, site(root, it.address) as ours:
        config = listening(ours.gateway, certificate)
        assert config.get_loop_factory() is loop.BoundedLoop
        config.lifespan = "off"  # the site runs it
        config.timeout_graceful_shutdown = 1
        config.timeout_notify = 0
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            server = uvicorn.Server(config)
            running = asyncio.create_task(server.serve(sockets=[bound]))
            await until(lambda: server.started)
            try:
                yield bound.getsockname()[1]
            finally:
                server.should_exit = True
                await running


async def alive(settings: GatewaySettings) -> int:
    """The status of /healthz for somebody on this host."""

    def ask() -> int:
        to = connection(settings, 5)
        try:
            to.request("GET", "/healthz")
            return to.getresponse().status
        finally:
            to.close()

    return await asyncio.to_thread(ask)


async def shown(port: int, **how: object) -> tuple[str, str]:
    """The protocol spoken and the serial number of the certificate that is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for name, value in how.items():
        setattr(context, name, value)
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    spoken = writer.get_extra_info("ssl_object")
    certificate = spoken.getpeercert(binary_form=True)
    writer.close()
    return spoken.version(), certificate.hex()


async def test_the_gateway_answers_over_tls_and_to_nobody_without(
    tmp_path: Path, files: Files
) -> None:
    """A key that travels in the clear once is a key to be revoked."""
    async with behind(Certificate(settings_of(files)), tmp_path / "home") as port:
        assert await alive(settings_of(files, port)) == 200
        assert (await shown(port))[0] == "TLSv1.3"
        assert (await shown(port, maximum_version=ssl.TLSVersion.TLSv1_2))[0] == "TLSv1.2"
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"alive" not in await reader.read(1000)
        writer.close()


def test_a_handshake_that_drips_is_not_waited_for(
    tmp_path: Path, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not counted among the connections yet: at a minute each, they would be a crowd."""
    monkeypatch.setattr(loop, "HANDSHAKE_TIMEOUT_S", 0.5)

    async def dripped() -> bytes:
        async with behind(Certificate(settings_of(files)), tmp_path / "home") as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"\x16\x03\x01\x02\x00\x01")  # a ClientHello begins
            async with asyncio.timeout(10):
                heard = await reader.read(1000)
            writer.close()
            assert await alive(settings_of(files, port)) == 200
            return heard

    with asyncio.Runner(loop_factory=loop.BoundedLoop) as runner:
        assert runner.run(dripped()) == b""


async def test_tls_of_another_decade_is_refused(tmp_path: Path, files: Files) -> None:
    """TLS 1.1 is deprecated (RFC 8996)."""
    async with behind(Certificate(settings_of(files)), tmp_path / "home") as port:
        with (
            pytest.warns(DeprecationWarning, match="TLSVersion"),
            pytest.raises((ssl.SSLError, OSError)),
        ):
            await shown(
                port,
                minimum_version=ssl.TLSVersion.TLSv1,
                maximum_version=ssl.TLSVersion.TLSv1_1,
            )


async def test_a_client_on_this_host_takes_no_other_certificate_for_the_gateways(
    tmp_path: Path, files: Files
) -> None:
    """`status` and `deploy` send a key; they must know to whom."""
    other = issued(tmp_path / "other", "gateway.example")
    async with behind(Certificate(settings_of(other)), tmp_path / "home") as port:
        with pytest.raises(ssl.SSLCertVerificationError):
            await alive(settings_of(files, port))


async def test_a_renewed_certificate_is_taken_up_and_nobody_is_cut_off(
    tmp_path: Path, files: Files
) -> None:
    """Certificates live for weeks now; a restart for each would be a habit of outages."""
    async with behind(Certificate(settings_of(files)), tmp_path / "home") as port:
        kept = connection(settings_of(files, port), 5)
        await asyncio.to_thread(kept.connect)
        before = await shown(port)
        issued(files.certificate.parent, "gateway.example")
        await until_changed(port, before)
        assert await alive(settings_of(files, port)) == 200
        await asyncio.to_thread(kept.request, "GET", "/healthz")
        assert (await asyncio.to_thread(kept.getresponse)).status == 200
        kept.close()


async def until_changed(port: int, before: tuple[str, str]) -> None:
    for _ in range(150):
        if await shown(port) != before:
            return
        await asyncio.sleep(0.1)
    pytest.fail("the renewed certificate is not shown")


async def test_a_renewal_that_cannot_be_used_changes_nothing(
    tmp_path: Path, files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half a renewal, the certificate without its key, must not end the service."""
    certificate = Certificate(settings_of(files))
    async with behind(certificate, tmp_path / "home") as port:
        before = await shown(port)
        files.certificate.write_bytes(
            issued(tmp_path / "new", "x.example").certificate.read_bytes()
        )
        said = ""
        for _ in range(150):
            said += capsys.readouterr().err
            if "certificate-unusable" in said:
                break
            await asyncio.sleep(0.1)
        assert "certificate-unusable" in said
        assert await shown(port) == before


def test_a_key_that_others_can_read_is_refused(files: Files) -> None:
    """Who has it can be the gateway."""
    files.key.chmod(0o644)
    with pytest.raises(SettingsUnreadable, match="read by others"):
        Certificate(settings_of(files))
    files.key.chmod(0o640)
    Certificate(settings_of(files))


@pytest.mark.parametrize("wrong", ["gone", "empty", "another's"])
def test_a_certificate_that_is_none_is_refused_at_the_start(
    tmp_path: Path, files: Files, wrong: str
) -> None:
    """An error at the start is read by somebody; one at the first client is not."""
    if wrong == "gone":
        files.key.unlink()
    elif wrong == "empty":
        files.certificate.write_text("")
    else:
        files.key.write_bytes(issued(tmp_path / "other", "x.example").key.read_bytes())
    with pytest.raises(SettingsUnreadable, match="no certificate and its key"):
        Certificate(settings_of(files))


@pytest.mark.parametrize("half", ["tls_certificate", "tls_key"])
def test_half_of_tls_is_no_plain_http(tmp_path: Path, half: str) -> None:
    """A line that was forgotten must not turn encryption off."""
    (tmp_path / "sovereign.yaml").write_text(f"version: 1\ngateway: {{{half}: /etc/x.pem}}\n")
    with pytest.raises(SettingsUnreadable, match="belong together"):
        load(tmp_path)
