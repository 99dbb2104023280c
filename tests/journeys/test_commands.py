"""What programs read from the command line: shapes and exit codes that never change."""

import base64
import shutil
import time
from contextlib import suppress
from pathlib import Path

import pytest

from sovereign.audit.note import VerifierKey
from tests.journeys.deployed import MODEL, Site

COPIES_MAX = 5


def test_status_in_json(site: Site) -> None:
    """A monitoring script reads these names."""
    status = site.asked("status")
    assert status["gateway"]["url"] == site.url
    assert status["gateway"]["up"] is True
    (engine,) = status["engines"]
    assert engine["models"] == [MODEL]
    assert engine["usable"] is True
    assert status["place"] == {"code": "this-host", "declared": False}
    assert {log["origin"] for log in status["audit"]["logs"]} >= {"local/gateway/event"}
    assert {c["name"]: c["state"] for c in status["processes"]} == dict.fromkeys(
        ("engine", "gateway", "controller"), "running"
    )


def test_audit_status_in_json(site: Site) -> None:
    """An auditor copies folder and key from here: nine logs, each with a key that parses."""
    logs = site.asked("audit", "status")["logs"]
    assert {log["origin"] for log in logs} == {
        f"local/{writer}/{stream}"
        for writer in ("gateway", "controller", "operator")
        for stream in ("event", "security", "evidence")
    }
    for log in logs:
        assert {"dir", "origin", "vkey", "size"} <= set(log)
        assert Path(log["dir"]).is_dir()
        assert VerifierKey.parse(log["vkey"]).name == log["origin"]
        assert log["size"] >= 1


def test_key_create_in_json(site: Site) -> None:
    """Another program makes keys; the secret is in this answer and nowhere else."""
    made = site.asked("key", "create", "--tenant", "hr", "--purpose", "screening")
    assert made["key"].startswith("sov_")
    assert made["id"].startswith("key_")
    assert site.record(made["record"])["key"] == made["id"]
    listed = site.asked("key", "list")["keys"]
    assert made["id"] in [k["id"] for k in listed]
    assert made["key"] not in str(listed)
    site.asked("key", "revoke", made["id"])


@pytest.mark.parametrize(
    ("place", "verdict", "code"),
    [("scaleway:fr-par-2", "allow", 0), ("aws:eu-central-1", "refuse", 1)],
)
def test_decide_in_json(site: Site, place: str, verdict: str, code: int) -> None:
    """The same four words whatever the answer is."""
    words = ("--place", place, "--class", "personal", "--verb", "process")
    answer = site.asked("decide", *words, code=code)
    assert answer["verdict"] == verdict
    assert all(answer[name] for name in ("rule", "because", "source"))


def test_verify_is_0_on_a_sound_log(site: Site) -> None:
    """The everyday case."""
    verified = site.asked("audit", "verify")
    assert verified["ok"] is True
    assert {log["state"] for log in verified["logs"]} == {"sound"}


def copied(site: Site, to: Path) -> Site:
    """A copy of a home, as an auditor might take one. It is a running site: a copy that caught it
    between two files is taken again."""
    for number in range(COPIES_MAX):
        copy = Site(to / f"copy-{number}")
        with suppress(shutil.Error):
            shutil.copytree(site.home, copy.home, ignore=shutil.ignore_patterns("run", "logs"))
            if copy.run("audit", "verify")[0] == 0:
                return copy
        time.sleep(1)
    pytest.fail("no sound copy could be taken")


def test_verify_is_1_and_names_the_finding_after_one_byte_was_edited(
    site: Site, tmp_path: Path
) -> None:
    """In a copy, with --home, as an auditor would work."""
    copy = copied(site, tmp_path)
    folder = copy.home / "audit" / "gateway" / "event"
    bundle = max((folder / "tile" / "entries").glob("*.p/*"), key=lambda p: int(p.name))
    raw = bytearray(bundle.read_bytes())
    at = raw.index(b'"verdict":"') + 11
    raw[at] ^= 1
    bundle.write_bytes(bytes(raw))
    code, said = site.run("audit", "verify", "--home", str(copy.home))
    assert code == 1
    assert "local/gateway/event" in said
    found = site.asked("audit", "verify", "--home", str(copy.home), code=1)
    assert found["ok"] is False
    bad = [log for log in found["logs"] if log["state"] == "finding"]
    assert [log["origin"] for log in bad] == ["local/gateway/event"]
    assert all(f["code"] and f["where"] and f["says"] for f in bad[0]["findings"])


def test_verify_is_3_without_a_key(site: Site, tmp_path: Path) -> None:
    """Nothing can be said about a log whose key nobody pinned, and that is not a yes."""
    folder = str(site.home / "audit" / "gateway" / "event")
    code, said = site.run("audit", "verify", folder)
    assert code == 3
    assert "key-missing" in said
    copy = copied(site, tmp_path)
    for pin in (copy.home / "trust").iterdir():
        pin.unlink()
    assert site.run("audit", "verify", "--home", str(copy.home))[0] == 3


def test_verify_with_a_key_from_elsewhere(site: Site, tmp_path: Path) -> None:
    """Files and a public key are all an auditor needs; another log's key is not it."""
    logs = {log["origin"]: log for log in site.asked("audit", "status")["logs"]}
    event, security = logs["local/gateway/event"], logs["local/gateway/security"]
    assert site.run("audit", "verify", event["dir"], "--vkey", event["vkey"])[0] == 0
    assert site.run("audit", "verify", event["dir"], "--vkey", security["vkey"])[0] == 1


def test_verify_is_1_for_a_log_cut_short_against_a_kept_checkpoint(
    site: Site, tmp_path: Path
) -> None:
    """An older state, correctly signed, put in the place of the newer one."""
    copy = copied(site, tmp_path)
    record = site.chat().headers["x-sovereign-record"]
    site.record(record)
    (event,) = (
        log
        for log in site.asked("audit", "status")["logs"]
        if log["origin"] == "local/gateway/event"
    )
    newer = tmp_path / "kept-checkpoint"
    newer.write_bytes((Path(event["dir"]) / "checkpoint").read_bytes())
    older = copy.home / "audit" / "gateway" / "event"
    words = ("audit", "verify", str(older), "--vkey", event["vkey"])
    assert site.run(*words)[0] == 0
    assert site.run(*words, "--checkpoint", str(newer))[0] == 1


def test_a_record_is_proved_by_one_file_and_a_key(site: Site, tmp_path: Path) -> None:
    """What a client was given in a header can be shown to a judge without the rest of the log."""
    record = site.chat().headers["x-sovereign-record"]
    site.record(record)
    proof = tmp_path / "proof"
    assert site.run("audit", "prove", record, "--output", str(proof))[0] == 0
    (event,) = (
        log
        for log in site.asked("audit", "status")["logs"]
        if log["origin"] == "local/gateway/event"
    )
    assert site.run("audit", "check", str(proof), "--vkey", event["vkey"])[0] == 0
    lines = proof.read_bytes().split(b"\n")
    entry = base64.b64decode(lines[1].removeprefix(b"extra "))
    changed = entry.replace(b'"verdict":"allow"', b'"verdict":"allaw"')
    assert changed != entry
    lines[1] = b"extra " + base64.b64encode(changed)
    proof.write_bytes(b"\n".join(lines))
    assert site.run("audit", "check", str(proof), "--vkey", event["vkey"])[0] == 1
