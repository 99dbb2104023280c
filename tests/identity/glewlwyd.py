"""A real identity provider: Debian's Glewlwyd, unpacked, with SQLite, on loopback.

It is set up by its own administration interface, as its administrator would, and asked for tokens
as any client would. `docs/OIDC.md` in its package names the parameters used here.
"""

import json
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from gzip import decompress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jwt.algorithms import ECAlgorithm

from tests.engines.running import free_port
from tests.identity.signer import made
from tests.tools.debian import Unpacked, unpacked

READY_WITHIN_S = 30.0
SCOPE = "sovereign"
"""It puts the scopes of a token into `aud`, so this is the audience too."""
SECRET = "an-app-secret-for-tests"  # pragma: allowlist secret


@dataclass
class Glewlwyd:
    """A running provider. `keys` are its private keys by id; the first one signs."""

    port: int
    keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    cookie: str = ""

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/oidc"

    @property
    def key_set(self) -> str:
        return f"{self.issuer}/jwks"

    def administer(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> None:
        """One step of administration; it has to succeed."""
        status, raw = self._ask(method, path, json.dumps(body or {}), "application/json")
        assert status == 200, (method, path, status, raw)

    def _ask(
        self, method: str, path: str, body: str, kind: str, **headers: str
    ) -> tuple[int, bytes]:
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            said = {"content-type": kind, **headers}
            if self.cookie and not headers:
                said["cookie"] = self.cookie
            connection.request(method, f"/api{path}", body, said)
            answer = connection.getresponse()
            given = answer.getheader("set-cookie")
            if given:
                self.cookie = given.partition(";")[0]
            return answer.status, answer.read()

    def set_up(self) -> None:
        """One client, one person, and the plugin that issues tokens."""
        first = {"username": "admin", "password": "password"}  # pragma: allowlist secret
        self.administer("POST", "/auth/", first)
        self.add_key("k1")
        self.administer("POST", "/mod/plugin/", {"module": "oidc", **self._plugin()})
        scope = {"name": SCOPE, "display_name": SCOPE, "password_required": True, "scheme": {}}
        self.administer("POST", "/scope/", scope)
        self.administer(
            "POST",
            "/client/",
            {
                "client_id": "app",
                "confidential": True,
                "enabled": True,
                "client_secret": SECRET,
                "token_endpoint_auth_method": ["client_secret_post"],
                "scope": [SCOPE],
                "authorization_type": ["client_credentials", "password"],
                "redirect_uri": ["http://127.0.0.1/none"],
            },
        )
        person = {"username": "ann", "name": "hr", "password": SECRET, "scope": [SCOPE]}
        self.administer("POST", "/user/", {**person, "enabled": True})

    def add_key(self, key_id: str) -> None:
        """Make another key of its own."""
        key = dict(ECAlgorithm.to_jwk(made("ES256"), as_dict=True))
        self.keys[key_id] = {**key, "kid": key_id, "alg": "ES256"}

    def rotate(self, *key_ids: str) -> None:
        """Show and sign with these keys from now on, the first one being the one that signs."""
        for key_id in key_ids:
            if key_id not in self.keys:
                self.add_key(key_id)
        self.keys = {key_id: self.keys[key_id] for key_id in key_ids}
        self.administer("PUT", "/mod/plugin/oidc", {"module": "oidc", **self._plugin()})
        self.administer("PUT", "/mod/plugin/oidc/reset")

    def _plugin(self) -> dict[str, Any]:
        return {
            "name": "oidc",
            "display_name": "tokens",
            "parameters": {
                "iss": self.issuer,
                "jwks-private": json.dumps({"keys": list(self.keys.values())}),
                "default-kid": next(iter(self.keys)),
                "jwks-show": True,
                "access-token-duration": 600,
                "refresh-token-duration": 600,
                "code-duration": 60,
                "refresh-token-rolling": True,
                "allow-non-oidc": True,
                "auth-type-code-enabled": True,
                "auth-type-token-enabled": False,
                "auth-type-none-enabled": False,
                "auth-type-password-enabled": True,
                "auth-type-client-enabled": True,
                "auth-type-refresh-enabled": True,
                "subject-type": "public",
                "additional-parameters": [{"user-parameter": "name", "token-parameter": "org"}],
            },
        }

    def token(self, **person: str) -> str:
        """A token for the application itself, or for a person who told it their password."""
        form = {"client_id": "app", "client_secret": SECRET, "scope": SCOPE}
        form |= (
            {"grant_type": "password", **person} if person else {"grant_type": "client_credentials"}
        )
        kind = "application/x-www-form-urlencoded"
        status, raw = self._ask("POST", "/oidc/token/", urlencode(form), kind, accept="*/*")
        assert status == 200, (status, raw)
        return str(json.loads(raw)["access_token"])

    def of_ann(self) -> str:
        """A token of a person."""
        return self.token(username="ann", password=SECRET)


@contextmanager
def serving(folder: Path) -> Iterator[Glewlwyd]:
    """A provider with a database of its own."""
    package, port = unpacked("glewlwyd"), free_port()
    _write(package, folder, port)
    program = package.program("/usr/bin/glewlwyd")
    with (folder / "glewlwyd.log").open("wb") as log:
        process = subprocess.Popen(
            [str(program), f"--config-file={folder / 'glewlwyd.conf'}"],
            env=package.environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        _wait(process, port, folder)
        it = Glewlwyd(port)
        it.set_up()
        yield it
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _write(package: Unpacked, folder: Path, port: int) -> None:
    scheme = package.program("/usr/share/doc/glewlwyd/database/init.sqlite3.sql.gz")
    with closing(sqlite3.connect(folder / "glewlwyd.sqlite")) as db:
        db.executescript(decompress(scheme.read_bytes()).decode())
    modules = package.root / "usr/lib/glewlwyd"
    (folder / "glewlwyd.conf").write_text(
        f"port={port}\n"
        'bind_address="127.0.0.1"\n'
        f'external_url="http://127.0.0.1:{port}"\n'
        'login_url="login.html"\n'
        'api_prefix="api"\n'
        'log_mode="console"\nlog_level="INFO"\n'
        "cookie_secure=0\n"
        'hash_algorithm="SHA512"\n'
        f'user_module_path="{modules / "user"}"\n'
        f'client_module_path="{modules / "client"}"\n'
        f'user_auth_scheme_module_path="{modules / "scheme"}"\n'
        f'plugin_module_path="{modules / "plugin"}"\n'
        f'database = {{ type = "sqlite3" path = "{folder / "glewlwyd.sqlite"}" }};\n'
    )


def _wait(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        with suppress(OSError), closing(HTTPConnection("127.0.0.1", port, timeout=2)) as knock:
            knock.request("GET", "/api/")
            knock.getresponse()
            return
        assert process.poll() is None, (folder / "glewlwyd.log").read_text()[-2000:]
        time.sleep(0.1)
    raise AssertionError(f"no answer within {READY_WITHIN_S} s")
