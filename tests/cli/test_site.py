"""What the commands do to a site on the disk: keys, places, proofs, and erasing."""

import json
from pathlib import Path

import pytest

from sovereign import settings
from sovereign.audit.trail import Trail
from sovereign.keystore import Keystore, fingerprint
from sovereign.registry import utcnow
from sovereign.supervisor import deployment
from tests.cli.conftest import Run
from tests.cli.running import Done

KEY = ("key", "create", "--tenant", "hr", "--purpose", "cv-screening")
DECLARE = ("places", "declare", "--country", "DE", "--under", "DE", "--entity", "Example GmbH")


def rows(run: Run, log: str) -> list[dict[str, object]]:
    """The records of a log, oldest first."""
    done = run("audit", "tail", "--log", log, "-n", "100", "--json")
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def test_a_key_is_shown_once_stored_as_a_hash_and_recorded(run: Run, site: Path) -> None:
    """Whoever reads our disk must not be able to use it."""
    made = run(*KEY, "--subject", "header", "--days", "30", "--json").json
    assert made["key"].startswith("sov_")
    assert made["id"].startswith("key_")
    for path in site.rglob("*"):
        assert not path.is_file() or made["key"].encode() not in path.read_bytes(), path
    known = Keystore(site / "keys.sqlite").known().keys
    assert known[fingerprint(made["key"])].id == made["id"]
    last = rows(run, "local/operator/security")[-1]
    assert (last["type"], last["key"], last["tenant"]) == ("key-created", made["id"], "hr")
    assert last["record"] == made["record"]


def test_keys_are_listed_without_their_secret_and_revoked_by_their_id(run: Run, site: Path) -> None:
    """Revoking twice keeps the first time, and both are recorded."""
    made = run(*KEY, "--json").json
    listed = run("key", "list", "--json")
    assert [k["state"] for k in listed.json["keys"]] == ["active"]
    assert made["key"] not in listed.out
    first = run("key", "revoke", made["id"], "--json").json
    again = run("key", "revoke", made["id"], "--json").json
    assert first["revoked_at"] == again["revoked_at"]
    assert [k["state"] for k in run("key", "list", "--json").json["keys"]] == ["revoked"]
    assert "revoked" in run("key", "list").out
    assert rows(run, "local/operator/security")[-1]["type"] == "key-revoked"


@pytest.mark.parametrize(
    "wrong",
    [
        ("--basis", "because"),
        ("--data", "rumours"),
        ("--subject", "guess"),
        ("--model", "gpt-5"),
    ],
)
def test_a_key_of_unknown_words_is_not_made(run: Run, site: Path, wrong: tuple[str, str]) -> None:
    """A basis that is no basis would stand in every record of the key."""
    done = run(*KEY, *wrong)
    assert (done.code, done.error) == (2, "unknown-name")
    assert "accepted" in done.err
    assert not (site / "keys.sqlite").exists()


def test_revoking_a_key_that_is_not_there_is_said_not_swallowed(run: Run, site: Path) -> None:
    """A typing error must not leave a stolen key alive and its owner asleep."""
    assert run("key", "revoke", "key_nobody").error == "unknown-name"


def test_a_key_that_cannot_be_recorded_is_not_given(
    run: Run, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another command holds the operator's log: try again, and nothing was made."""
    monkeypatch.setattr(deployment, "OPERATOR_WAITS_S", 0.2)
    home = settings.load(site)
    with Trail.open(home.audit, home.keys, "operator", "local", utcnow):
        done = run(*KEY)
    assert (done.code, done.error) == (3, "log-locked")
    assert run("key", "list", "--json").json["keys"] == []


def test_a_declared_place_is_in_the_policy_in_the_settings_and_in_the_log(
    run: Run, site: Path
) -> None:
    """The operator's word, dated, and found again in three places that agree."""
    before = run("policy", "digest").out
    done = run(*DECLARE, "--name", "cellar", "--parent", "Example Holding=FR", "--json")
    assert done.json["place"] == "own:cellar"
    place = run("places", "show", "own:cellar", "--json").json
    assert (place["country"], place["under"], place["entity"]) == ("DE", "DE", "Example GmbH")
    assert place["parents"] == [{"entity": "Example Holding", "country": "FR"}]
    assert place["checked_on"] == f"{utcnow():%Y-%m-%d}"
    assert settings.load(site).settings.place == "own:cellar"
    assert run("policy", "digest").out != before
    assert run("decide", "--place", "own:cellar").code == 0
    last = rows(run, "local/operator/evidence")[-1]
    assert (last["type"], last["place"], last["record"]) == (
        "place-declared",
        "own:cellar",
        done.json["record"],
    )
    assert run("status", "--json").json["place"] == {"code": "own:cellar", "declared": True}


def test_a_place_outside_is_declared_as_it_is_and_refused_by_the_policy(
    run: Run, site: Path
) -> None:
    """Declaring is saying where one is, not being allowed to be there."""
    words = ("places", "declare", "--country", "DE", "--under", "US", "--entity", "Example Inc")
    assert run(*words).code == 0
    assert run("decide", "--place", "own:this-site").code == 1


@pytest.mark.parametrize(
    "words",
    [
        ("--country", "Germany"),
        ("--country", "de"),
        ("--under", "EU1"),
        ("--parent", "Holding"),
        ("--name", "my site"),
        ("--name", "x:y"),
        ("--name", ""),
    ],
)
def test_a_declaration_that_means_nothing_is_refused_and_nothing_changes(
    run: Run, site: Path, words: tuple[str, str]
) -> None:
    """A place the loader cannot read would stop the whole site at its next start."""
    done = run(*DECLARE, *words)
    assert (done.code, done.error) == (2, "bad-input")
    assert not (site / "own-places.yaml").exists()
    assert run("policy", "check").code == 0


def test_a_declaration_that_cannot_be_recorded_does_not_count(
    run: Run, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A place that nobody can be shown must not let a gateway listen to the world."""
    monkeypatch.setattr(deployment, "OPERATOR_WAITS_S", 0.2)
    home = settings.load(site)
    with Trail.open(home.audit, home.keys, "operator", "local", utcnow):
        assert run(*DECLARE).error == "log-locked"
    assert settings.load(site).settings.place == "this-host"
    assert not (site / "own-places.yaml").exists()


def test_a_place_can_be_declared_before_anything_is_deployed(run: Run, home: Path) -> None:
    """The order a careful person takes: say where this is, then listen."""
    done = run(*DECLARE, "--json")
    assert (done.code, done.json["record"]) == (0, "")
    assert settings.load(home).settings.place == "own:this-site"


def test_creating_logs_is_said_and_done_once(run: Run, home: Path) -> None:
    """An explicit verb, and harmless the second time."""
    words = ("audit", "create", "--writer", "gateway", "--writer", "operator", "--json")
    assert run(*words).json == {"created": {"gateway": True, "operator": True}}
    assert run(*words).json == {"created": {"gateway": False, "operator": False}}
    assert run("audit", "verify").code == 0


def test_status_of_the_logs_gives_what_an_auditor_takes_along(run: Run, site: Path) -> None:
    """Folder, name, key and size of each: with the key the folder can be verified elsewhere."""
    for log in run("audit", "status", "--json").json["logs"]:
        assert set(log) == {"origin", "dir", "vkey", "size", "checkpoint"}
        done = run("audit", "verify", log["dir"], "--vkey", log["vkey"], "--json")
        assert (done.code, done.json["ok"]) == (0, True)


def test_several_logs_are_verified_together_each_under_its_own_key(run: Run, site: Path) -> None:
    """Receipts stand in another log than what they excuse; an auditor gets them as a set."""
    logs = run("audit", "status", "--json").json["logs"][:3]
    keys = [word for log in reversed(logs) for word in ("--vkey", log["vkey"])]
    done = run("audit", "verify", *(log["dir"] for log in logs), *keys, "--json")
    assert (done.code, done.json["ok"]) == (0, True)
    done = run("audit", "verify", *(log["dir"] for log in logs), *keys[:4], "--json")
    assert (done.code, done.json["ok"]) == (3, False)
    states = [log["state"] for log in done.json["logs"]]
    assert sorted(states) == ["not determined: no pinned key", "sound", "sound"]


def test_a_checkpoint_to_keep_comes_with_the_status(run: Run, site: Path, tmp_path: Path) -> None:
    """Without one that was kept, a log cut short cannot be told from a short one."""
    log = run("audit", "status", "--json").json["logs"][0]
    kept = tmp_path / "kept"
    kept.write_text(log["checkpoint"])
    words = ("--vkey", log["vkey"], "--checkpoint", str(kept))
    assert run("audit", "verify", log["dir"], *words).code == 0


def test_a_folder_is_not_judged_without_a_key_from_elsewhere(run: Run, site: Path) -> None:
    """A log that brings its own key agrees with itself whatever was done to it."""
    done = run("audit", "verify", str(site / "audit/gateway/event"))
    assert (done.code, done.error) == (3, "key-missing")
    (site / "trust/gateway-event.vkey").unlink()
    assert run("audit", "verify").code == 3


def test_a_spoilt_log_ends_with_1_and_names_the_finding(run: Run, site: Path) -> None:
    """The one exit code a monitor watches for."""
    tile = next(iter((site / "audit/gateway/event/tile/0/000.p").iterdir()))
    tile.write_bytes(bytes(32))
    done = run("audit", "verify", "--json")
    assert (done.code, done.json["ok"]) == (1, False)
    (spoilt,) = [log for log in done.json["logs"] if log["state"] == "finding"]
    assert spoilt["origin"] == "local/gateway/event"
    assert {finding["code"] for finding in spoilt["findings"]} >= {"entry-differs"}
    assert "more: docs/runbooks/audit-finding.md" in run("audit", "verify").out


def test_a_kept_checkpoint_shows_that_a_log_was_cut_short(run: Run, site: Path) -> None:
    """What an auditor kept is stronger than anything the site can say."""
    log = site / "audit/operator/security"
    before = {path: path.read_bytes() for path in log.rglob("*") if path.is_file()}
    run(*KEY)
    kept = site / "kept"
    kept.write_bytes((log / "checkpoint").read_bytes())
    for path in log.rglob("*"):
        if path.is_file():
            path.unlink() if path not in before else path.write_bytes(before[path])
    vkey = str(site / "trust/operator-security.vkey")
    assert run("audit", "verify", str(log), "--vkey", vkey).code == 0
    done = run("audit", "verify", str(log), "--vkey", vkey, "--checkpoint", str(kept), "--json")
    assert done.code == 1
    assert [f["code"] for f in done.json["logs"][0]["findings"]] == ["cut-short"]


def test_a_record_is_proved_and_the_proof_checked_offline(
    run: Run, site: Path, tmp_path: Path
) -> None:
    """One file and one key, on another machine."""
    record = run(*KEY, "--json").json["record"]
    vkey = (site / "trust/operator-security.vkey").read_text().strip()
    proof = tmp_path / "proof"
    assert run("audit", "prove", record, "--output", str(proof)).code == 0
    assert run("audit", "prove", record, "--json").json["proof"] == proof.read_text()
    shown = run("audit", "check", str(proof), "--vkey", vkey, "--json").json
    assert shown["ok"] is True
    assert f"{shown['record']['origin']}#{shown['record']['index']}" == record
    assert json.loads(shown["record"]["entry"])["type"] == "key-created"
    other = (site / "trust/gateway-event.vkey").read_text().strip()
    assert run("audit", "check", str(proof), "--vkey", other).code == 1
    assert run("audit", "check", str(proof)).error == "key-missing"


@pytest.mark.parametrize(
    ("record", "code", "name"),
    [
        ("local/gateway/event#0", 0, ""),
        ("local/gateway/event#99", 2, "out-of-range"),
        ("local/gateway/nothing#0", 2, "unknown-name"),
        ("local/gateway/event", 2, "bad-input"),
        ("#0", 2, "bad-input"),
        ("local/gateway/event#-1", 2, "bad-input"),
        ("local/gateway/event#²", 2, "bad-input"),
    ],
)
def test_a_record_that_is_not_there_is_a_mistake_with_a_name(
    run: Run, site: Path, record: str, code: int, name: str
) -> None:
    """A wrong number is answered, not traced."""
    done: Done = run("audit", "prove", record)
    assert (done.code, done.error if code else "") == (code, name), done.err


def test_a_file_that_is_no_key_is_bad_input(run: Run, site: Path, tmp_path: Path) -> None:
    """The wrong file in a hurry."""
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\0")
    for given in (str(binary), "no-key", "local/gateway/event+0+AAAA"):
        done = run("audit", "verify", str(site / "audit/gateway/event"), "--vkey", given)
        assert (done.code, done.error) == (2, "bad-input")


def fill(site: Path, run: Run) -> None:
    run(*DECLARE)
    run(*KEY)
    for name in ("logs", "models", "run"):
        (site / name).mkdir()
        (site / name / "x").touch()


def test_stopping_keeps_everything(run: Run, site: Path) -> None:
    """`make destroy` by itself is a way to stop, not to forget."""
    fill(site, run)
    before = sorted(site.rglob("*"))
    assert run("down", "--json").json == {
        "stopped": False,
        "erased": [],
        "audit_log_kept": True,
    }
    assert sorted(site.rglob("*")) == before


def test_erasing_keeps_the_audit_log_and_what_verifies_it(run: Run, site: Path) -> None:
    """What was done stays provable after the site is gone."""
    fill(site, run)
    done = run("down", "--erase", "--json").json
    assert done["audit_log_kept"] is True
    assert {path.name for path in site.iterdir()} == {"audit", "trust", "keys"}
    assert run("audit", "verify").code == 0
    again = run("down", "--erase", "--json").json
    assert again["erased"] == []


def test_the_audit_log_goes_only_when_it_is_said_twice(run: Run, site: Path) -> None:
    """One option too many in a history must not cost the evidence."""
    fill(site, run)
    before = sorted(site.rglob("*"))
    for words in (
        ("--erase", "--erase-audit-log"),
        ("--erase", "--yes-erase-audit-log"),
        ("--erase-audit-log", "--yes-erase-audit-log"),
    ):
        assert run("down", *words).code == 2
        assert sorted(site.rglob("*")) == before
    done = run("down", "--erase", "--erase-audit-log", "--yes-erase-audit-log")
    assert done.code == 0
    assert [path for path in site.rglob("*") if path.is_file()] == []
