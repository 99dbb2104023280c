"""An export of made-up logs, and the verifier that lies in it, run where nothing is installed."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sovereign.audit import proof, record, tiles
from sovereign.audit.checkpoint import read as read_checkpoint
from sovereign.audit.exports.export import Asked, Draft, Part, bundles_of
from sovereign.audit.note import SignerKey
from sovereign.audit.search import Source
from tests.audit.loglab import erasure, files

SITE = "test.example"
EVENT, EVIDENCE, SECURITY = (
    f"{SITE}/{each}" for each in ("gateway/event", "controller/evidence", "operator/security")
)
KEYS = {
    origin: SignerKey(origin, Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32))
    for number, origin in enumerate((EVENT, EVIDENCE, SECURITY), 1)
}
BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 24, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
VERIFIER = Path(__file__).resolve().parents[2] / "sovereign/audit/exports/offline_verifier.py"
PYTHON_TAKES_AT_MOST_S = 120


@cache
def event(number: int, at: datetime) -> bytes:
    """A decision, under a policy whose digest is all zeros."""
    fields: dict[str, str | int] = {
        "request": number,
        "tenant": "hr",
        "key": "key_1",
        "purpose": "p",
        "basis": "contract",
        "data": "personal",
        "verb": "process",
        "model": "m",
        "asked_at": record.written(at),
        "verdict": "allow",
        "rule": "r",
        "policy": POLICY,
    }
    return record.encode("decision", fields, at, b"\x01" * 16)


TEXT = b'{"a policy":"in its canonical form"}'
POLICY = sha256(TEXT).hexdigest()


def minutely(count: int) -> list[bytes]:
    """A decision a minute."""
    return [event(i, BEGIN + i * MINUTE) for i in range(count)]


def observations(count: int) -> list[bytes]:
    """What a controller's log holds, every ten minutes."""
    said: dict[str, str | int] = {"endpoint": "e", "what": "w", "found": "nothing"}
    return [
        record.encode("observation", said, BEGIN + 10 * i * MINUTE, b"\x02" * 16)
        for i in range(count)
    ]


@dataclass
class Lab:
    """Logs in memory, each as its files; `export` writes them to a folder."""

    logs: dict[str, dict[str, bytes]]
    kept: dict[str, tuple[bytes, ...]]
    stamped: dict[str, dict[str, bytes]] = field(default_factory=dict)
    erased_once_read: tuple[str, str] = ("", "")
    """Origin and path of a file that is erased right after it was read."""

    @classmethod
    def of(
        cls,
        events: Iterable[bytes],
        evidence: Iterable[bytes] = (),
        gone: Iterable[int] = (),
        kept: Iterable[bytes] = (),
    ) -> "Lab":
        """A gateway's log of these events, from which the bundles `gone` are gone."""
        logs = {
            EVENT: files(list(events), KEYS[EVENT]),
            EVIDENCE: files([*observations(3), *evidence], KEYS[EVIDENCE]),
            SECURITY: files([_created(SECURITY)], KEYS[SECURITY]),
        }
        size = read_checkpoint(logs[EVENT]["checkpoint"], KEYS[EVENT].verifier)
        assert size is not None
        for number in gone:
            path = tiles.bundle_path(number, tiles.width_of(0, number, size.size))
            del logs[EVENT][path]
        return cls(logs, {EVENT: tuple(kept)})

    def export(
        self,
        target: Path,
        since: datetime | None = None,
        until: datetime | None = None,
        whole: Iterable[str] = (EVENT, EVIDENCE, SECURITY),
    ) -> Path:
        """Write the export as the command does; the operator's record of it is made up here."""
        asked = Asked(SITE, since, until, "audit", POLICY, NOW)
        parts = [self._part(origin, asked, whole=origin in set(whole)) for origin in self.logs]
        draft = Draft.begin(target, asked, parts)
        draft.patience_s = 0.0  # no retention run goes on in memory
        draft.write({POLICY: TEXT})
        draft.finish(proven(draft.manifest))
        return target

    def _part(self, origin: str, asked: Asked, *, whole: bool) -> Part:
        there, key = self.logs[origin], KEYS[origin].verifier
        signed = read_checkpoint(there["checkpoint"], key)
        assert signed is not None

        def read(path: str) -> bytes | None:
            found = there.get(path)
            if (origin, path) == self.erased_once_read:
                there.pop(path, None)
            return found

        source = Source(origin, signed.size, read)
        first, last = bundles_of(source, asked.since, asked.until) if whole else (0, 0)
        kept = self.kept.get(origin, ())
        stamped = self.stamped.get(origin, {})
        return Part(source, key, signed.root, there["checkpoint"], kept, first, last, stamped)


def _created(origin: str) -> bytes:
    return record.encode("log-created", {"origin": origin}, BEGIN, b"\x03" * 16)


def proven(manifest: str) -> bytes:
    """The operator's record of an export, proved out of its log."""
    said: dict[str, str | int] = {
        "by": "operator",
        "reason": "audit",
        "log": EVENT,
        "first": 0,
        "count": 0,
        "manifest": manifest,
        "policy": POLICY,
    }
    entry = record.encode("log-exported", said, NOW, b"\x04" * 16)
    there = files([_created(SECURITY), entry], KEYS[SECURITY])
    return proof.prove(there.get, KEYS[SECURITY].verifier, 1)


def receipts(*ranges: tuple[int, int]) -> list[bytes]:
    """Receipts for entries of the gateway's log."""
    return [erasure(EVENT, first, last) for first, last in ranges]


# --- the verifier ----------------------------------------------------------------------------


def loaded(export: Path) -> ModuleType:
    """The verifier that lies in an export, in this process; nothing is left in the export."""
    path = export / "verify.py"
    module = ModuleType("verify_of_export")
    sys.modules["verify_of_export"] = module
    exec(compile(path.read_bytes(), path, "exec"), module.__dict__)  # noqa: S102 - our own file
    return module


def pin_of(export: Path) -> str:
    """What whoever exported tells the auditor."""
    return str(loaded(export).fingerprint(export))


@dataclass(frozen=True)
class Verdict:
    """How it ended. `codes` are the findings by log; those of the export itself under ""."""

    code: int
    said: dict[str, Any]

    @property
    def codes(self) -> dict[str, set[str]]:
        by_log = {log["origin"]: log["findings"] for log in self.said["logs"]}
        found = {**by_log, "": self.said["findings"]}
        return {name: {f["code"] for f in each} for name, each in found.items() if each}

    @property
    def flat(self) -> set[str]:
        return set().union(*self.codes.values())

    def log(self, origin: str = EVENT) -> dict[str, Any]:
        (found,) = [log for log in self.said["logs"] if log["origin"] == origin]
        return dict(found)


def verdict(
    export: Path,
    pin: str | None = None,
    kept: Iterable[bytes] = (),
    vkeys: Iterable[str] = (),
    by: ModuleType | None = None,
) -> Verdict:
    """What the verifier says of an export, in this process; by default with the right pin."""
    module = by or loaded(VERIFIER.parent if not (export / "verify.py").exists() else export)
    keys = [module.key_of(each) for each in vkeys]
    known = "" if keys else module.fingerprint(export) if pin is None else pin
    found = module.verify(export, known, keys, list(kept))
    return Verdict(found.exit_code, module.told(found))


def alone(export: Path, *words: str) -> tuple[int, str, str]:
    """Run `verify.py` in an interpreter that has `cryptography` and nothing else of ours."""
    bare = export.parent / "bare"
    if not bare.exists():
        bare.mkdir()
        for name in ("cryptography", "cffi", "_cffi_backend"):
            spec = importlib.util.find_spec(name)
            assert spec is not None
            assert spec.origin is not None
            found = Path(spec.origin)
            found = found.parent if spec.submodule_search_locations else found
            (bare / found.name).symlink_to(found)
    program = (
        "import importlib.util, runpy, sys\n"
        "sys.path.append(sys.argv[1])\n"
        "assert importlib.util.find_spec('sovereign') is None, 'the project is visible'\n"
        "assert importlib.util.find_spec('msgspec') is None, 'more is visible'\n"
        "path = sys.argv[2]; sys.argv = sys.argv[2:]\n"
        "runpy.run_path(path, run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, str(bare), str(export / "verify.py"), *words],
        cwd=export.parent,
        env={},
        capture_output=True,
        text=True,
        check=False,
        timeout=PYTHON_TAKES_AT_MOST_S,
    )
    return done.returncode, done.stdout, done.stderr


def alone_json(export: Path, *words: str) -> Verdict:
    """The same, with its JSON."""
    code, out, err = alone(export, *words, "--json")
    assert not err, err
    return Verdict(code, json.loads(out))
