"""Where what requests touch is, as the command line shows it; and whose facts grow old."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from sovereign.cli import places
from tests.cli.conftest import Run

SAID = """\
version: 1
place: scaleway:fr-par-2
standby: {url: "https://10.0.0.9:8420", place: "STANDBY"}
dependencies:
  - {id: nightly, kind: backup, place: "hetzner:fsn1"}
  - {id: time-ptb, kind: time}
  - {id: no-custody, kind: key-custody, place: none}
"""
RESOLVER = '  - {id: resolver, kind: dns, place: "scaleway:fr-par"}\n'


def said(site: Path, standby: str, more: str = "") -> None:
    (site / "sovereign.yaml").write_text(SAID.replace("STANDBY", standby) + more)


def test_all_that_requests_touch_is_shown_and_allowed(site: Path, run: Run) -> None:
    """The sentence a data protection officer signs: everything is where it may be."""
    said(site, "ovh:GRA", RESOLVER)
    done = run("decide", "--all", "--json")
    assert (done.code, done.json["refused"], done.json["unknown"]) == (0, None, [])
    shown = {row["dependency"]: row["verdict"] for row in done.json["dependencies"]}
    assert shown["nightly"] == shown["standby"] == shown["time-ptb"] == "allow"
    assert shown["no-custody"] == "none"


def test_the_first_refused_is_named_with_its_rule_and_where_its_place_is_said(
    site: Path, run: Run
) -> None:
    """Whoever has to mend it needs the setting, not the law alone."""
    said(site, "aws:eu-central-1", RESOLVER)
    done = run("decide", "--all")
    assert done.code == 1
    for word in ("standby", "personal-data-stays-in-eea", "standby.place", "law of US"):
        assert word in done.out
    assert run("decide", "--all", "--json").json["shuts"] is True


def test_what_nobody_said_is_unknown_and_no_pass(site: Path, run: Run) -> None:
    """An answer that leaves something out must not look like a whole one."""
    said(site, "ovh:GRA")
    done = run("decide", "--all")
    assert (done.code, "dns" in done.out) == (3, True)
    verdict = {row["id"]: row["state"] for row in run("report", "--json").json["controls"]}
    assert verdict["dependencies-placed"] == "unknown"


def test_without_a_place_and_without_all_it_says_what_to_ask(run: Run) -> None:
    """A question without a place means nothing."""
    done = run("decide")
    assert (done.code, "--all" in done.err) == (2, True)


def test_facts_of_places_in_use_are_foretold_to_grow_old(
    site: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that nobody looks up for a year refuses a whole fleet; somebody must know before."""
    said(site, "ovh:GRA")
    assert run("places", "check").code == 0
    monkeypatch.setattr(places, "utcnow", lambda: datetime(2027, 10, 1, tzinfo=UTC))
    done = run("places", "check", "--json")
    (first, *_) = done.json["places"]
    assert done.code == 1
    assert {"hetzner:fsn1", "ovh:GRA"} <= {row["place"] for row in done.json["places"]}
    assert 0 < first["days_left"] <= 90
    assert run("places", "check", "--days", "7").code == 0


def test_a_place_that_is_in_no_table_is_always_too_old(site: Path, run: Run) -> None:
    """It was never looked up."""
    said(site, "made-up:nowhere")
    done = run("places", "check", "--json")
    (row,) = done.json["places"]
    assert (done.code, row["place"], row["checked_on"]) == (1, "made-up:nowhere", "never")


@pytest.mark.parametrize("country", ["XX", "UK", "de", "EU"])
def test_a_code_of_no_country_is_not_declared(run: Run, country: str) -> None:
    """It would refuse for ever, or stand in a report as if it meant something."""
    done = run("places", "declare", "--country", country, "--under", "DE", "--entity", "We")
    assert (done.code, done.error) == (2, "bad-input")
