"""Witnesses, time-stamping authorities and reading reasons: what the policy accepts of them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from sovereign import policy as policies
from sovereign.audit.note import SignerKey
from sovereign.audit.witnesses.cosignature import ML_DSA_44, CosignerSecret
from sovereign.errors import PolicyUnreadable
from sovereign.policy import Policy
from sovereign.policy.shapes import AuditFile
from sovereign.policy.yamlfile import read_as
from tests.tools import tsa

VKEY = str(CosignerSecret.generate("witness.example/w1").verifier)
OTHER = str(CosignerSecret.generate("witness.example/w2", ML_DSA_44).verifier)
WITNESS = {
    "id": "north",
    "key": VKEY,
    "url": "https://witness.example",
    "organisation": "North",
    "own": False,
    "place": "scaleway:fr-par-2",
}


@dataclass(frozen=True)
class Edited:
    """A copy of the shipped policy, of which a section of rules/audit.yaml can be written anew."""

    root: Path

    def write(self, name: str, chosen: dict[str, object]) -> Path:
        path = self.root / "rules/audit.yaml"
        said = yaml.safe_load(path.read_text())
        said[name] = {**said[name], **chosen}
        path.write_text(yaml.safe_dump(said, sort_keys=False))
        return path

    def with_section(self, name: str, **chosen: object) -> Policy:
        self.write(name, chosen)
        return policies.load(self.root)

    def refused(self, name: str, **chosen: object) -> PolicyUnreadable:
        """By the file's own shape; the places it names need the whole policy."""
        path = self.write(name, chosen)
        with pytest.raises(PolicyUnreadable) as refusal:
            read_as(path, AuditFile)
        return refusal.value

    def refused_as_a_whole(self, name: str, **chosen: object) -> PolicyUnreadable:
        self.write(name, chosen)
        with pytest.raises(PolicyUnreadable) as refusal:
            policies.load(self.root)
        return refusal.value


@pytest.fixture
def edited(copy: Path) -> Edited:
    return Edited(copy)


def test_the_shipped_policy_asks_nobody_and_names_the_reasons_to_read(eea: Policy) -> None:
    """Whom to trust is each organisation's own choice; why one may read is a closed list."""
    assert eea.audit.witnesses.quorum == 0
    assert eea.audit.witnesses.known == ()
    assert eea.audit.timestamps.authorities == ()
    assert [reason.id for reason in eea.audit.reading.reasons] == [
        "incident",
        "subject-request",
        "audit",
        "authority-request",
        "operations",
        "billing",
        "policy-change",
    ]
    assert all(reason.because for reason in eea.audit.reading.reasons)


def test_a_policy_written_before_these_sections_loads(edited: Edited) -> None:
    """Nobody's policy stops loading because there is more to say; silence asks nobody."""
    path = edited.root / "rules/audit.yaml"
    said = yaml.safe_load(path.read_text())
    for name in ("witnesses", "timestamps", "reading"):
        del said[name]
    path.write_text(yaml.safe_dump(said))
    old = policies.load(edited.root).audit
    assert (old.witnesses.quorum, old.timestamps.authorities, old.reading.reasons) == (0, (), ())


def test_a_witness_is_taken_up_and_changes_the_digest(edited: Edited, eea: Policy) -> None:
    """Every record names the policy, and so who was trusted."""
    first = edited.with_section("witnesses", quorum=1, known=[WITNESS])
    assert first.audit.witnesses.known[0].key == VKEY
    assert first.digest != eea.digest
    second = {**WITNESS, "id": "south", "key": OTHER, "organisation": "South"}
    both = edited.with_section("witnesses", quorum=2, known=[WITNESS, second])
    turned = edited.with_section("witnesses", quorum=2, known=[second, WITNESS])
    assert both.digest == turned.digest != first.digest, "the order never matters"


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"key": "rubbish"}, "no verifier key"),
        ({"key": VKEY[:-4]}, "no verifier key"),
        ({"key": VKEY.replace("witness", "mistress")}, "no verifier key"),
        ({"key": str(SignerKey.generate("witness.example").verifier)}, "no verifier key"),
        ({"url": "ftp://witness.example"}, "url"),
        ({"url": "https://user:secret@witness.example"}, "url"),  # pragma: allowlist secret
        ({"url": "https://witness.example/?key=1"}, "url"),
        ({"id": "With Spaces"}, "id"),
        ({"own": "perhaps"}, "own"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_witness_that_is_none_is_refused_with_its_line(
    edited: Edited, changed: dict[str, object], told: str
) -> None:
    """A slip in a key would be a witness that never answers, or somebody else's."""
    error = edited.refused("witnesses", quorum=0, known=[{**WITNESS, **changed}])
    assert told in error.message
    line = int(error.message.split("audit.yaml:")[1].split(":")[0])
    lines = (edited.root / "rules/audit.yaml").read_text().splitlines()
    assert lines[line - 1].strip(), "the line that is named is there"
    assert 10 < line <= len(lines)


@pytest.mark.parametrize("lacking", ["key", "url", "organisation", "own", "place"])
def test_who_holds_the_key_and_where_must_be_said(edited: Edited, lacking: str) -> None:
    """Without these nobody can tell whether a word counts, or whether it may be asked for."""
    entry = {name: value for name, value in WITNESS.items() if name != lacking}
    assert lacking in edited.refused("witnesses", known=[entry]).message


@pytest.mark.parametrize(
    ("quorum", "known"),
    [
        (1, []),
        (1, [{**WITNESS, "own": True, "place": "this-host"}]),
        (2, [WITNESS, {**WITNESS, "id": "second", "key": OTHER}]),
    ],
    ids=["nobody", "ours-alone", "one-organisation-twice"],
)
def test_a_quorum_that_could_never_be_met_is_refused(
    edited: Edited, quorum: int, known: list[dict[str, object]]
) -> None:
    """A finding that no operator can mend teaches everybody to ignore findings."""
    error = edited.refused("witnesses", quorum=quorum, known=known)
    assert "cannot be met" in error.message
    edited.with_section("witnesses", quorum=quorum - 1, known=known)


def test_one_witness_does_not_stand_there_twice(edited: Edited) -> None:
    """Under two names it would count for two."""
    again = {**WITNESS, "organisation": "South"}
    assert "'north' stands twice" in edited.refused("witnesses", known=[WITNESS, again]).message
    renamed = {**again, "id": "south"}
    assert "stands twice" in edited.refused("witnesses", known=[WITNESS, renamed]).message


def test_asking_more_rarely_than_a_word_counts_is_refused(edited: Edited) -> None:
    """Every word would be late by plan."""
    for section in ("witnesses", "timestamps"):
        error = edited.refused(section, interval_s=601, max_age_s=600)
        assert "longer than max_age_s" in error.message
        edited.with_section(section, interval_s=600, max_age_s=600)


@pytest.mark.parametrize(
    ("place", "own", "good"),
    [
        ("scaleway:fr-par-2", False, True),
        ("aws:us-east-1", False, True),  # known, and refused when it would be asked
        ("scaleway:nowhere", False, False),
        ("this-host", True, True),
        ("this-host", False, False),  # somebody else's machine is not this one
    ],
)
def test_a_witness_stands_at_a_place_of_the_table(
    edited: Edited, place: str, own: bool, good: bool
) -> None:
    """Where a checkpoint goes is asked like everything else, and unknown is no answer."""
    entry = {**WITNESS, "place": place, "own": own}
    if good:
        edited.with_section("witnesses", known=[entry])
    else:
        error = edited.refused_as_a_whole("witnesses", known=[entry])
        assert "no place of the table" in error.message


@pytest.fixture(scope="module")
def anchor(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tsa.made(tmp_path_factory.mktemp("tsa") / "a").anchor


@pytest.mark.parametrize(
    ("spoil", "good"),
    [
        (lambda pem: pem, True),
        (lambda pem: "", False),
        (lambda pem: pem + pem, False),
        (lambda pem: pem.replace("A", "B"), False),
        (lambda pem: "tsa.pem", False),
    ],
    ids=["one", "none", "two", "spoiled", "a-path"],
)
def test_an_authority_is_pinned_by_exactly_one_certificate(
    edited: Edited, anchor: str, spoil: Callable[[str], str], good: bool
) -> None:
    """It stands in the policy itself, so that the digest covers it."""
    entry = {name: value for name, value in WITNESS.items() if name != "key"}
    entry = {**entry, "anchor": spoil(anchor), "eidas": True}
    if good:
        assert edited.with_section("timestamps", authorities=[entry]).audit.timestamps.authorities
    else:
        error = edited.refused("timestamps", authorities=[entry])
        assert "exactly one certificate" in error.message


def test_a_reason_to_read_stands_once_and_says_why(edited: Edited) -> None:
    """Its id is what a record of reading names for years."""
    reason = {"id": "incident", "because": "Something went wrong."}
    assert "stands twice" in edited.refused("reading", reasons=[reason, dict(reason)]).message
    assert "because" in edited.refused("reading", reasons=[{"id": "incident"}]).message
