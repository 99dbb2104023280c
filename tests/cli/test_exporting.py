"""`audit export`: recorded before it has a name, whole or not there, and verified elsewhere."""

import json
from hashlib import sha256
from pathlib import Path

import pytest

from sovereign import settings
from sovereign.audit.trail import Trail
from sovereign.registry import utcnow
from sovereign.supervisor import deployment
from tests.audit.exportlab import alone, alone_json
from tests.cli.conftest import Run
from tests.cli.test_reading import EVENT, SECURITY, calls, erase, lines

KEY = ("key", "create", "--tenant", "hr", "--purpose", "cv-screening")
EXPORT = ("audit", "export", "--reason", "audit", "--output")


def exported(run: Run) -> list[dict[str, object]]:
    """What is recorded of exports."""
    words = ("--type", "log-exported", "--reason", "audit", "--json")
    return lines(run("audit", "search", *words))


def test_an_export_of_a_site_verifies_elsewhere_with_the_pin_the_site_tells(
    run: Run, site: Path, tmp_path: Path
) -> None:
    """The whole way: from the command here to the exit code on the auditor's machine."""
    calls(site, 3)
    run(*KEY)
    target = tmp_path / "export"
    made = run(*EXPORT, str(target), "--json")
    assert (made.code, made.json["verdict"]["state"]) == (0, "sound")
    assert made.json["output"] == str(target)
    pin = made.json["pin"]
    assert pin == sha256((target / "keys.txt").read_bytes()).hexdigest()
    code, out, err = alone(target, "--pin", pin)
    assert (code, err, out.splitlines()[-1]) == (0, "", "sound")
    assert len(json.loads((target / "manifest.json").read_bytes())["logs"]) == 9
    assert alone(target)[0] == 3
    assert alone(target, "--pin", "0" * 64)[0] == 1


def test_an_export_is_recorded_with_every_log_and_the_digest_of_its_manifest(
    run: Run, site: Path, tmp_path: Path
) -> None:
    """Who was given what, and why, is answered by the log itself; so is whether a copy is it."""
    target = tmp_path / "export"
    made = run(*EXPORT, str(target), "--log", EVENT, "--json").json
    told = exported(run)
    assert [row["record"] for row in told] == made["records"]
    assert {row["log"]: row["count"] for row in told} == {
        EVENT: 1,
        "local/controller/evidence": 0,
        SECURITY: 0,
    }
    digest = sha256((target / "manifest.json").read_bytes()).hexdigest()
    assert {row["manifest"] for row in told} == {digest}
    assert {(row["by"], row["reason"]) for row in told} == {("operator", "audit")}
    assert told[0]["policy"] == run("policy", "digest").out.strip()


def test_the_policies_come_along_that_records_name_and_that_can_be_made_here(
    run: Run, site: Path, tmp_path: Path
) -> None:
    """Every decision can be computed again, by whoever holds the policy it was made under."""
    before = run("policy", "digest").out.strip()
    calls(site, 2, policy=before)
    place = ("--country", "DE", "--under", "DE", "--entity", "Example GmbH")
    assert run("places", "declare", *place).code == 0
    after = run("policy", "digest").out.strip()
    immune = run("policy", "digest", "--profile", "immune").out.strip()
    calls(site, 2, policy=after)
    calls(site, 1, policy=immune)
    calls(site, 1, policy="f" * 64)
    assert run(*EXPORT, str(tmp_path / "export")).code == 0
    found = {path.stem: path.read_bytes() for path in (tmp_path / "export/policies").iterdir()}
    assert found.keys() == {before, after, immune}
    assert all(sha256(text).hexdigest() == name for name, text in found.items())
    manifest = json.loads((tmp_path / "export/manifest.json").read_bytes())
    assert manifest["policies_not_here"] == ["f" * 64]


def test_a_part_of_the_time_and_of_the_logs_is_told_as_such(
    run: Run, site: Path, tmp_path: Path
) -> None:
    """The auditor sees what she did not get, and that it is not missing."""
    calls(site, 600)
    target = tmp_path / "export"
    made = run(*EXPORT, str(target), "--to", "1d", "--log", EVENT, "--json")
    assert made.code == 0
    said = alone_json(target, "--pin", made.json["pin"])
    assert said.log(EVENT)["not_in_this_export"] == 602 - 256
    assert {log["origin"] for log in said.said["logs"]} == {
        EVENT,
        "local/controller/evidence",
        SECURITY,
    }


@pytest.mark.parametrize("receipt", [True, False])
def test_erased_records_are_accounted_for_in_an_export_too(
    run: Run, site: Path, tmp_path: Path, receipt: bool
) -> None:
    """With its receipt an erasure is in order; without, the export is made and says so."""
    erase(site, run, receipt=receipt)
    target = tmp_path / "export"
    made = run(*EXPORT, str(target), "--log", EVENT, "--json")
    assert made.code == (0 if receipt else 1)
    said = alone_json(target, "--pin", made.json["pin"])
    assert said.code == made.code
    assert said.codes == ({} if receipt else {EVENT: {"bundle-missing"}})
    assert said.log(EVENT)["erased"] == (256 if receipt else 0)


def test_without_a_reason_nothing_is_exported(run: Run, site: Path, tmp_path: Path) -> None:
    """Handing over is reading, and more."""
    for words in ((), ("--reason", "because")):
        done = run("audit", "export", "--output", str(tmp_path / "export"), *words)
        assert done.code == 2
        assert "subject-request" in done.err
    assert list(tmp_path.glob("*export*")) == []
    assert exported(run) == []


@pytest.mark.parametrize(
    "words", [("--from", "yesterday"), ("--from", "1h", "--to", "2h"), ("--log", "nobody")]
)
def test_what_means_nothing_is_refused_before_anything_is_made(
    run: Run, site: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """Nothing is written, nothing is recorded."""
    assert run(*EXPORT, str(tmp_path / "export"), *words).code == 2
    assert list(tmp_path.glob("*export*")) == []
    assert exported(run) == []


def test_a_folder_that_holds_something_is_refused_and_kept(
    run: Run, site: Path, tmp_path: Path
) -> None:
    """Two exports in one folder would be none."""
    target = tmp_path / "export"
    target.mkdir()
    (target / "mine").touch()
    done = run(*EXPORT, str(target))
    assert (done.code, done.error) == (2, "bad-input")
    assert [path.name for path in target.iterdir()] == ["mine"]
    assert exported(run) == []
    (target / "mine").unlink()
    assert run(*EXPORT, str(target)).code == 0


def test_what_cannot_be_recorded_is_not_exported(
    run: Run, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record comes before the name; what was begun beside it goes."""
    monkeypatch.setattr(deployment, "OPERATOR_WAITS_S", 0.2)
    home = settings.load(site)
    with Trail.open(home.audit, home.keys, "operator", "local", utcnow):
        done = run(*EXPORT, str(tmp_path / "export"))
    assert (done.code, done.error) == (3, "log-locked")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_log_that_nobody_vouches_for_is_not_exported(
    run: Run, site: Path, tmp_path: Path
) -> None:
    """Its key would have to come out of its own folder."""
    (site / "trust/gateway-event.vkey").unlink()
    done = run(*EXPORT, str(tmp_path / "export"))
    assert (done.code, done.error) == (3, "key-missing")
    assert run(*EXPORT, str(tmp_path / "export"), "--log", SECURITY).code == 0


def test_a_second_export_has_the_first_as_its_past(run: Run, site: Path, tmp_path: Path) -> None:
    """An auditor who comes back compares with what she took along last time."""
    run(*KEY)
    assert run(*EXPORT, str(tmp_path / "one")).code == 0
    run(*KEY)
    made = run(*EXPORT, str(tmp_path / "two"), "--json").json
    kept = tmp_path / "one/logs" / SECURITY / "checkpoint"
    assert alone(tmp_path / "two", "--pin", made["pin"], "--checkpoint", str(kept))[0] == 0
    newer = tmp_path / "two/logs" / SECURITY / "checkpoint"
    said = alone_json(tmp_path / "one", "--pin", made["pin"], "--checkpoint", str(newer))
    assert (said.code, said.codes) == (1, {SECURITY: {"cut-short"}})


def test_an_export_of_a_log_whose_key_was_replaced_is_verified_under_either_key(
    run: Run, site: Path, tmp_path: Path
) -> None:
    """Whoever was given the old key is led to the new one by what both have signed."""
    old = (site / "trust/gateway-event.vkey").read_text()
    assert run("audit", "key", "rotate", "--writer", "gateway", "--stream", "event").code == 0
    assert (site / "trust/gateway-event.vkey").read_text() != old
    calls(site, 2)
    target = tmp_path / "export"
    made = run(*EXPORT, str(target), "--log", EVENT, "--json")
    assert made.code == 0
    assert alone(target, "--pin", made.json["pin"])[0] == 0
    keys = [*(target / "keys.txt").read_text().splitlines(), old.strip()]
    older = [word for key in keys if EVENT not in key or key in old for word in ("--vkey", key)]
    said = alone_json(target, *older)
    assert said.code == 0, said.said
    assert "replaced" in said.log(EVENT)["notes"][0]
    (target / "logs" / EVENT / "handover/1").unlink()
    said = alone_json(target, *older)
    assert (said.code, said.codes) == (1, {EVENT: {"checkpoint-foreign"}})
    said = alone_json(target, "--pin", made.json["pin"])
    assert (said.code, said.codes) == (1, {EVENT: {"handover-missing"}})


def test_our_own_command_verifies_an_export_under_keys_from_elsewhere(
    run: Run, site: Path, tmp_path: Path
) -> None:
    """Where the project is installed, the verb an auditor knows does it."""
    calls(site, 2)
    target = tmp_path / "export"
    assert run(*EXPORT, str(target)).code == 0
    keys = tmp_path / "keys"
    keys.write_bytes((target / "keys.txt").read_bytes())
    done = run("audit", "verify", str(target), "--vkey", str(keys), "--json")
    assert (done.code, done.json["ok"]) == (0, True)
    assert run("audit", "verify", str(target)).error == "key-missing"
    assert run("audit", "verify", str(target), "--vkey", "nonsense").error == "bad-input"
    assert run("audit", "verify", str(target), "--vkey", keys.read_text().split()[0]).code == 3
    next((target / "logs" / EVENT / "tile/entries/000.p").iterdir()).unlink()
    done = run("audit", "verify", str(target), "--vkey", str(keys))
    assert done.code == 1
    assert "bundle-missing" in done.out
