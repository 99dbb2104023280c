"""`sovereign subject export`: what a person is given who asks what is kept about them."""

import json
from pathlib import Path

import pytest

from sovereign import fleet
from sovereign.keystore import Keystore
from sovereign.settings import Home
from sovereign.subjects import pseudonym
from tests.cli.conftest import Run
from tests.cli.running import Done
from tests.cli.test_hold import TERMS, day
from tests.cli.test_subject import Ask, ask, recorded

__all__ = ["ask", "recorded"]
"""Fixtures of the test beside this one."""
SAID = """version: 1
organisation: {name: Example GmbH, contact: Example street 1, representative: none, officer: none}
processing:
  - {tenant: acme, role: controller, subjects: [employees]}
"""


def export(ask: Ask, name: str, *more: str) -> Done:
    return ask(name, "export", "--reason", "subject-request", *more)


def test_a_person_gets_every_record_with_why_for_how_long_and_who_receives_it(
    recorded: Home, ask: Ask
) -> None:
    """GDPR Art. 15(1): the copy alone is half an answer."""
    (recorded.root / "sovereign.yaml").write_text(SAID)
    found = export(ask, "ann").json
    assert (
        sorted(e["said"]["type"] for e in found["entries"]) == ["completion"] * 3 + ["decision"] * 3
    )
    assert {(e["purpose"], e["basis"], e["portable"]) for e in found["entries"]} == {
        ("tests", "contract", True)
    }
    assert all(e["until"] > e["at"][:10] for e in found["entries"])
    assert [a["purpose"] for a in found["purposes"]] == ["tests"]
    assert found["limits"][0]["max_days"] == 365
    assert found["recipients"]
    assert {"rights", "source", "automated", "never_kept"} <= found.keys()
    assert found["organisation"]["name"] == "Example GmbH"


def test_nobody_elses_records_and_no_key_or_salt_are_in_it(recorded: Home, ask: Ask) -> None:
    """Art. 15(4): the copy does not touch the rights of others."""
    ann, ben = export(ask, "ann").json["entries"], export(ask, "ben").json["entries"]
    assert len(ben) == 2
    assert not {e["record"] for e in ann} & {e["record"] for e in ben}
    assert not any({"salt", "subject"} & e["said"].keys() for e in (*ann, *ben))


def test_the_folder_has_a_page_and_a_document_that_only_its_owner_reads(
    recorded: Home, ask: Ask, tmp_path: Path
) -> None:
    """A program takes the one elsewhere (Art. 20), a person reads the other."""
    out = tmp_path / "ann"
    done = export(ask, "ann", "--out", str(out))
    assert done.json["written_to"] == str(out)
    document = json.loads((out / "data.json").read_text())
    page = (out / "README.md").read_text()
    assert all(entry["record"] in page for entry in document["entries"])
    assert "not legal advice" in page
    assert {path.stat().st_mode & 0o077 for path in (out, *out.iterdir())} == {0}


def test_a_folder_that_is_there_is_left_alone_and_nothing_is_read(
    recorded: Home, ask: Ask, tmp_path: Path
) -> None:
    """What was written for one person must not be mixed with what is another's."""
    assert export(ask, "ann", "--out", str(tmp_path)).code == 2
    assert not any("log-read" in str(r) for r in security(recorded))


def security(home: Home) -> list[object]:
    members = [m for m in fleet.members(home) if m.origin == "local/operator/security"]
    return [r for m in members for _, r in fleet.records(m, 0, 10_000)]


def test_what_nobody_said_is_listed_and_is_no_success(recorded: Home, ask: Ask) -> None:
    """An answer with blanks goes out only when somebody has seen them."""
    done = export(ask, "ann")
    assert done.code == 3
    assert "name of the organisation" in done.json["unknown"]
    (recorded.root / "sovereign.yaml").write_text(SAID)
    assert "name of the organisation" not in export(ask, "ann").json["unknown"]


def test_a_record_that_a_hold_keeps_says_so(recorded: Home, ask: Ask, run: Run) -> None:
    """It does not go when its class does, and the person is told."""
    ann = pseudonym(Keystore(recorded.keystore).known().secrets["acme"], "ann")
    placed = run("hold", "place", *TERMS, "--expires", day(9), "--subject", ann, "--json").json
    found = export(ask, "ann").json
    assert found["holds"] == [placed["hold"]]
    assert [e["hold"] for e in found["entries"]] == [placed["hold"]] * 6


@pytest.mark.parametrize("reason", ["", "curiosity"])
def test_exporting_needs_a_reason_and_is_recorded(recorded: Home, ask: Ask, reason: str) -> None:
    """As all reading; a copy of everything about a person most of all."""
    assert ask("ann", "export", *(["--reason", reason] if reason else [])).code == 2
    assert not [r for r in security(recorded) if "log-read" in str(r)]
    export(ask, "ann")
    read = [r for r in security(recorded) if "log-read" in str(r)]
    assert len(read) == len([m for m in fleet.members(recorded) if m.stream == "event"])
    assert "ann" not in str(read)


def test_a_person_of_whom_nothing_is_kept_is_told_so(recorded: Home, ask: Ask) -> None:
    """Art. 15(1) begins with the confirmation whether there is anything."""
    assert export(ask, "nobody").json["entries"] == []
