"""The second trust domain by hand: a site, a witness and an authority that run, and the commands.

Everything is real: the witness is `sovereign witness serve`, the authority is `openssl ts`.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from sovereign.audit.note import SignerKey, VerifierKey
from sovereign.audit.trail import Trail
from sovereign.audit.witnesses import cosignature
from sovereign.audit.witnesses.cosignature import CosignerKey, CosignerSecret
from sovereign.audit.witnesses.witness_home import WitnessHome
from sovereign.registry import utcnow
from tests.audit import witnesslab as lab
from tests.audit.scenario import KEY
from tests.audit.witness_process import NAME, Served, made, serving
from tests.cli.conftest import Run
from tests.engines.running import free_port
from tests.needs import need
from tests.tools import tsa

SHIPPED = Path(__file__).resolve().parents[2] / "policies"
EVENT = "local/gateway/event"


@dataclass
class Place:
    """A site, the policy it runs under, and the witness' folder on another machine."""

    root: Path
    home: Path
    run: Run

    @property
    def policies(self) -> Path:
        return self.root / "policies"

    def choose(self, section: str, **chosen: object) -> None:
        """Write a section of rules/audit.yaml as an operator would."""
        path = self.policies / "rules/audit.yaml"
        said = yaml.safe_load(path.read_text())
        said[section] |= chosen
        path.write_text(yaml.safe_dump(said))

    def record(self, count: int) -> None:
        """A gateway that was up for a moment."""
        home = self.home
        arguments = (home / "audit", home / "keys/audit", "gateway", "local", utcnow)
        with Trail.open(*arguments) as trail:
            for _ in range(count):
                trail.record("policy-loaded", policy="x", profile="eea").result(10)


@pytest.fixture
def place(tmp_path: Path, site: Path, run: Run) -> Place:
    it = Place(tmp_path, site, run)
    shutil.copytree(SHIPPED, it.policies)
    (it.home / "sovereign.yaml").write_text(f"version: 1\npolicies: {it.policies}\n")
    return it


@pytest.fixture
def served(place: Place) -> Iterator[Served]:
    """A witness of another organisation that knows the site's logs."""
    folder = WitnessHome(place.root / "elsewhere")
    folder.make_key(NAME, "ed25519")
    for pin in (place.home / "trust").glob("*.vkey"):
        folder.trust(VerifierKey.parse(pin.read_text()))
    with serving(folder) as running:
        yield running


def listed(served: Served, **changed: object) -> list[dict[str, object]]:
    witness = {
        "id": "north",
        "key": str(served.key),
        "url": served.url,
        "organisation": "North",
        "own": False,
        "place": "scaleway:fr-par-2",
    }
    return [witness | changed]


def test_nothing_changes_where_nobody_is_configured_and_it_is_said(place: Place) -> None:
    """The shipped policy names nobody: sound stays sound, and the line below says what is open."""
    done = place.run("audit", "verify")
    assert done.code == 0
    assert "witnesses: not-configured for 9 of 9 logs" in done.out
    assert "time stamps: not-configured for 9 of 9 logs" in done.out
    assert place.run("audit", "cosign").code == 3
    assert place.run("audit", "timestamp").code == 3
    assert place.run("audit", "tlog-policy").out.endswith("\nquorum none\n")


def test_a_quorum_is_a_finding_until_it_is_met_by_hand(place: Place, served: Served) -> None:
    """Missing, asked for, met: with the exit code of each."""
    place.choose("witnesses", quorum=1, known=listed(served))
    missing = place.run("audit", "verify", "--json")
    assert missing.code == 1
    findings = {f["code"] for log in missing.json["logs"] for f in log["findings"]}
    assert findings == {"witness-quorum"}
    asked = place.run("audit", "cosign", "--json")
    assert asked.code == 0, asked
    assert len(asked.json["asked"]) == 9
    met = place.run("audit", "verify")
    assert met.code == 0, met.out
    assert "witnesses: met for 9 of 9 logs" in met.out
    report = place.run("report", "--json")
    states = {c["id"]: c["state"] for c in report.json["controls"]}
    assert states["logs-witnessed"] == "pass"


def test_an_auditor_judges_the_quorum_of_what_was_handed_over(place: Place, served: Served) -> None:
    """Files, keys, cosigned checkpoints and her own policy; neither site nor witness is asked."""
    place.choose("witnesses", quorum=1, known=listed(served))
    assert place.run("audit", "cosign").code == 0
    note = place.home / "cosigned/gateway-event/north.note"
    log = str(place.home / "audit/gateway/event")
    asked = ("audit", "verify", log, "--vkey", str(place.home / "trust/gateway-event.vkey"))
    by = ("--policies", str(place.policies))
    met = place.run(*asked, *by, "--checkpoint", str(note), "--json")
    assert met.code == 0, met.out
    (seen,) = met.json["outside"]
    assert seen["witnesses"]["state"] == "met"
    assert [said["id"] for said in seen["witnesses"]["said"]] == ["north"]
    lacking = place.run(*asked, *by)
    assert (lacking.code, "witness-quorum" in lacking.out) == (1, True)
    unasked = place.run(*asked)
    assert unasked.code == 0, "no policy given, nothing asked of others"


def test_a_proof_carries_the_witness_line_when_that_is_asked_for(
    place: Place, served: Served
) -> None:
    """One file for a stranger: the record, the log's signature, and somebody else's."""
    place.choose("witnesses", quorum=1, known=listed(served))
    name = "local/gateway/evidence"
    proof = str(place.root / "record.tlog-proof")
    asked = ("audit", "prove", f"{name}#0", "--output", proof)
    assert place.run(*asked, "--witnessed").error == "tile-missing", "nobody has signed yet"
    assert place.run("audit", "cosign").code == 0
    place.record(300)
    told = place.run(*asked, "--witnessed")
    assert told.code == 0, "from the log as it stood when it was signed"
    assert f"--witness {served.key}" in told.out.replace("\n", ""), "and how to check just that"
    pin = str(place.home / "trust/gateway-evidence.vkey")
    check = ("audit", "check", proof, "--vkey", pin)
    assert place.run(*check, "--witness", str(served.key)).code == 0
    stranger = str(CosignerSecret.generate(NAME).verifier)
    assert place.run(*check, "--witness", stranger).code == 1
    assert place.run(*check, "--witness", "rubbish").code == 2
    assert place.run(*asked).code == 0
    assert place.run(*check).code == 0
    assert place.run(*check, "--witness", str(served.key)).code == 1, "the newest was not signed"
    late = ("audit", "prove", f"{name}#200", "--witnessed")
    assert place.run(*late).error == "tile-missing"


def test_our_own_witness_alone_waits_for_a_person(place: Place, served: Served) -> None:
    """It is shown, it is no finding, and the report does not pass over it."""
    place.choose("witnesses", known=listed(served, own=True, place="this-host"))
    assert place.run("audit", "cosign").code == 0
    done = place.run("audit", "verify")
    assert done.code == 0
    assert "witnesses: own-only for 9 of 9 logs" in done.out
    states = {c["id"]: c["state"] for c in place.run("report", "--json").json["controls"]}
    assert states["logs-witnessed"] == "manual_pending"


def test_a_site_put_back_whole_is_found_by_asking_the_witness(place: Place, served: Served) -> None:
    """Logs, pins, kept checkpoints, cosignatures: all as they were. Only the witness knows."""
    place.choose("witnesses", quorum=1, known=listed(served))
    assert place.run("audit", "cosign").code == 0
    shutil.copytree(place.home, place.root / "older")
    place.record(20)
    assert place.run("audit", "cosign").code == 0
    shutil.rmtree(place.home)
    (place.root / "older").rename(place.home)
    assert place.run("audit", "verify").code == 0, "nothing here can tell"
    asked = place.run("audit", "cosign")
    assert asked.code == 1
    assert "witness-ahead" in asked.out
    found = place.run("audit", "verify")
    assert found.code == 1
    assert "cut-short" in found.out

    kept = place.root / "kept"
    there = ("--url", served.url, "--output", str(kept))
    gateway = "local/gateway/evidence"
    assert place.run("witness", "checkpoint", gateway, *there).code == 0
    folder = place.home / "audit/gateway/evidence"
    pin = place.home / "trust/gateway-evidence.vkey"
    by_hand = place.run(
        "audit", "verify", str(folder), "--vkey", str(pin), "--checkpoint", str(kept)
    )
    assert (by_hand.code, "cut-short" in by_hand.out) == (1, True)


def test_time_stamps_are_asked_for_kept_and_checked_offline(place: Place) -> None:
    """A token of `openssl ts` over each log; afterwards nobody is asked, and openssl agrees."""
    lacking = tsa.missing()
    need(not lacking, f"no {', '.join(lacking)}", "apt install openssl")
    authority = tsa.made(place.root / "tsa")
    entry = {
        "id": "time",
        "organisation": "Time",
        "own": False,
        "place": "scaleway:fr-par-2",
        "anchor": authority.anchor,
        "eidas": False,
    }
    with tsa.serving(authority) as url:
        place.choose("timestamps", authorities=[entry | {"url": url}])
        missing = place.run("audit", "verify")
        assert (missing.code, "timestamp-missing" in missing.out) == (1, True)
        assert place.run("audit", "timestamp").code == 0
    done = place.run("audit", "verify")
    assert (done.code, "time stamps: met for 9 of 9 logs" in done.out) == (0, True)
    for token in (place.home / "cosigned").glob("*/time-*.tsr"):
        data = token.with_suffix(".checkpoint").read_bytes()
        assert authority.verifies(token.read_bytes(), data)
    assert place.run("audit", "timestamp").code == 3, "nobody answers there any more"
    assert place.run("audit", "verify").code == 0, "what was kept still holds"

    another = tsa.made(place.root / "another")
    place.choose("timestamps", authorities=[entry | {"url": url, "anchor": another.anchor}])
    other = place.run("audit", "verify")
    assert (other.code, "timestamp-missing" in other.out) == (1, True)


# --- being a witness --------------------------------------------------------------------------


def test_a_witness_is_made_by_hand_and_says_what_it_has_signed(run: Run, home: Path) -> None:
    """Key, logs, serving, status: each an explicit verb, none a side effect."""
    none = run("witness", "status")
    assert (none.code, none.error) == (3, "key-missing")
    assert run("witness", "serve").code == 3
    assert not (home / "witness").exists()
    key = run("witness", "key", "--name", NAME)
    assert key.code == 0
    vkey = CosignerKey.parse(key.out)
    assert run("witness", "key", "--name", NAME).code == 2, "there is one already"
    assert run("witness", "key", "--name", "other", "--algorithm", "ml-dsa-44").code == 2
    mode = (home / "witness/keys/ed25519.key").stat().st_mode & 0o777
    assert mode == 0o600
    assert run("witness", "trust", str(KEY.verifier)).code == 0
    assert "known already" in run("witness", "trust", str(KEY.verifier)).out
    assert run("witness", "trust", "rubbish").code == 2
    with serving(WitnessHome(home / "witness")) as running:
        there = lab.log(7)
        assert running.add(lab.body(there, 7, 0)).status == 200
        status = run("witness", "status", "--json").json
        assert status["vkeys"] == [str(vkey)]
        assert [(each["origin"], each["size"], each["fork"]) for each in status["logs"]] == [
            (KEY.name, 7, False)
        ]
        shown = run("witness", "checkpoint", KEY.name).out.encode()
        asked = run("witness", "checkpoint", KEY.name, "--url", running.url).out.encode()
        assert shown == asked
        assert cosignature.read(shown, vkey) is not None
        assert run("witness", "checkpoint", "never.example").error == "tile-missing"
        assert run("witness", "serve", "--listen", "127.0.0.1:1").error == "log-locked"
        assert running.add(lab.body(lab.log(7, salt="x"), 7, 7)).status == 422
    forked = run("witness", "status")
    assert (forked.code, "seen" in forked.out) == (1, True)


def test_a_witness_signs_with_both_kinds_once_it_has_both(run: Run, home: Path) -> None:
    """The newer key is added under the same name, and the older one goes on."""
    run("witness", "key", "--name", NAME)
    both = run("witness", "key", "--name", NAME, "--algorithm", "ml-dsa-44", "--json").json
    keys = [CosignerKey.parse(vkey) for vkey in both["vkeys"]]
    assert {key.algorithm for key in keys} == {0x04, 0x06}
    run("witness", "trust", str(KEY.verifier))
    with serving(WitnessHome(home / "witness")) as running:
        there = lab.log(7)
        lines = running.add(lab.body(there, 7, 0)).body
    assert all(cosignature.read(there["checkpoint"] + lines, key) for key in keys)


def test_a_witness_without_its_memory_does_not_start(run: Run, home: Path) -> None:
    """An empty memory would sign anything once; the newest checkpoints give it back."""
    other = SignerKey.generate("test.example/controller/evidence")
    folder = made(home / "witness", KEY, other)
    shutil.rmtree(folder.seen)
    refused = run("witness", "serve")
    assert (refused.code, refused.error) == (3, "log-missing")
    kept = home / "kept"
    kept.write_bytes(lab.log(9)["checkpoint"])
    strange = home / "strange"
    strange.write_bytes(lab.log(9, key=lab.STRANGER)["checkpoint"])
    assert run("witness", "restore", str(strange), "--others-never").code == 2
    forgotten = run("witness", "restore", str(kept))
    assert (forgotten.code, other.name in forgotten.err) == (2, True), "it could be rolled back"
    assert run("witness", "serve").code == 3, "nothing was written"
    assert run("witness", "restore", str(kept), "--others-never").code == 0
    assert run("witness", "restore", str(kept), "--others-never").code == 2, "it is remembered"
    with serving(folder) as running:
        assert running.add(lab.body(lab.log(5), 5, 0)).body == b"9\n"


def test_it_does_not_listen_beyond_loopback_at_an_undeclared_place(run: Run, home: Path) -> None:
    """As everywhere: what others can reach needs the operator's word about where it stands."""
    made(home / "witness")
    refused = run("witness", "serve", "--listen", f"0.0.0.0:{free_port()}")
    assert (refused.code, refused.error) == (1, "place-undeclared")
