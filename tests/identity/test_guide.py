"""The guide, performed: each command that stands in it is run, in the order it stands in."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from sovereign.audit import trail as trails
from sovereign.audit.trail import WRITERS
from sovereign.gateway.callers.issuers import load
from sovereign.gateway.tls import Certificate
from tests.docs.reading import DOCS
from tests.gateway import site as gateways
from tests.gateway.certificates import issued
from tests.identity.authority import authority
from tests.identity.issuing import write
from tests.identity.listening import port_of
from tests.identity.signer import Signer, showing
from tests.needs import need
from tests.simulated.engine import engine

GUIDE = DOCS / "guide/identity.md"


def commands() -> Iterator[str]:
    """Every command of the guide, a line that ends in a backslash with the next."""
    text = GUIDE.read_text().replace(" \\\n", " ")
    yield from re.findall(r"^    \$ (.*)$", text, re.MULTILINE)


def issuer_of(shown: str) -> dict[str, Any]:
    """The issuer of the guide's file, at a place this test can serve it from."""
    (block,) = re.findall(r"```yaml\n(version: 1\nissuers:.*?)```", GUIDE.read_text(), re.DOTALL)
    path = Path(os.environ["SOVEREIGN_HOME"]) / "guide.yaml"
    path.write_text(block)
    (issuer,) = load(path, gateways.EEA)
    return {**msgspec.to_builtins(issuer), "keys": shown, "place": "this-host"}


def performed(line: str, folder: Path, home: Path, given: dict[str, str], port: int) -> str:
    """Run one command as a person would in a shell; what it printed."""
    environment = {
        **{name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ},
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "SOVEREIGN_HOME": str(home),
        "NO_PROXY": "*",
        **given,
    }
    done = subprocess.run(
        ["/bin/sh", "-c", line.replace(":8080", f":{port}")],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, (line, done.returncode, done.stdout, done.stderr)
    return done.stdout


async def test_the_guide_works_as_it_stands(tmp_path: Path, monkeypatch: Any) -> None:
    """It is followed by somebody who has ten minutes and a client waiting."""
    need(shutil.which("curl"), "no curl", "apt-get install curl")
    home, signer = tmp_path / "home", Signer("https://id.example.org")
    home.mkdir()
    monkeypatch.setenv("SOVEREIGN_HOME", str(home))
    signer.add("k1")
    prepared(tmp_path)
    (home / "sovereign.yaml").write_text("version: 1\ngateway: {issuers: issuers.yaml}\n")
    clients = authority(tmp_path / "clients")
    client, server = clients.issue("client"), issued(tmp_path / "tls", "localhost")
    for source, name in (
        (client.certificate, "client.pem"),
        (client.key, "client.key"),
        (server.certificate, "gateway.pem"),
    ):
        shutil.copy(source, tmp_path / name)
    with showing(signer.key_set) as shown:
        bounds: dict[str, Any] = {
            "issuers": write(home, issuer_of(shown.url)),
            "tls_certificate": str(server.certificate),
            "tls_key": str(server.key),
            "tls_clients_ca": str(clients.certificate),
        }
        async with engine() as it, gateways.site(home, it.address, **bounds) as ours:
            for writer in set(WRITERS) - {"gateway"}:
                where = (ours.home.audit, ours.home.keys, ours.home.trust)
                await asyncio.to_thread(trails.create, *where, writer, "local")
            certificate = Certificate(ours.home.settings.gateway)
            async with port_of(ours) as plain, port_of(ours, certificate) as secured:
                token = signer.token(groups=["contracts"])
                given = {"KEY": "", "KEY_ID": "", "TOKEN": token}
                ran = 0
                for line in commands():
                    if line.startswith("curl"):
                        await gateways.until(lambda: knows_all(ours))
                    port = secured if "https://" in line else plain
                    out = await asyncio.to_thread(performed, line, tmp_path, home, given, port)
                    ran += 1
                    secret = re.search(r"^sov_\S+$", out, re.MULTILINE)
                    if secret and not given["KEY"]:
                        (key_id,) = re.findall(r"^  id +(key_\w+)$", out, re.MULTILINE)
                        given |= {"KEY": secret[0], "KEY_ID": key_id}
                assert ran >= 16
                archiving = ours.gateway.view.known.keys[f"spki:{spki(client)}"]
                assert (archiving.tenant, archiving.purpose) == ("legal", "archiving")


def spki(client: Any) -> str:
    from sovereign.keystore import certificate

    return certificate.read(client.certificate.read_bytes()).public_key


def knows_all(ours: gateways.Site) -> bool:
    """The gateway's own watch has seen what the last command wrote."""
    known, stored = ours.gateway.view.known, ours.keystore.known()
    return (known.keys, known.suspended) == (stored.keys, stored.suspended)


def prepared(folder: Path) -> None:
    """The command `sovereign` of this tree, first on the path."""
    program = folder / "bin" / "sovereign"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m sovereign "$@"\n')
    program.chmod(0o755)
