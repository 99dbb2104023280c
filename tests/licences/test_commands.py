"""`sovereign licence` as a person types it, and what of it the log and the controller hold."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from infra import plan as infra_plan
from infra.stack import FOLDER as STACKS
from sovereign import acknowledged, fleet, licence, settings
from sovereign import policy as policies
from sovereign.controller.plan import plan
from sovereign.errors import BadInput, LicenceRefused
from sovereign.licence import ELSEWHERE, Standing
from sovereign.registry import utcnow
from sovereign.settings import Home
from sovereign.supervisor import deployment
from tests.cli.conftest import Run
from tests.controller.seen import NOW, POLICY, VALID, showing, sight, wanted

MODEL, RETIRED = "codestral-22b-v0.1", "mixtral-8x7b-instruct-v0.1"
WORDS = ("licence", "acknowledge", "codestral", "--approver", "legal-counsel")


def day(offset: int) -> str:
    return f"{utcnow() + timedelta(days=offset):%Y-%m-%d}"


def acknowledgement(name: str, ends: datetime) -> licence.Acknowledgement:
    text = POLICY.models[MODEL].licence
    said = (name, MODEL, text, ELSEWHERE, "legal-counsel", "testing")
    return licence.Acknowledgement(*said, NOW, ends)


@pytest.fixture
def elsewhere(site: Path) -> Path:
    """A site that says it is not production."""
    (site / settings.FILE_NAME).write_text(f"version: 1\nenvironment: {ELSEWHERE}\n")
    return site


def evidence(home: Path) -> list[dict[str, object]]:
    it = settings.load(home)
    log = next(m for m in fleet.members(it) if m.origin == "local/operator/evidence")
    return [entry for _, entry in fleet.records(log, 0, 1000)]


def test_terms_are_acknowledged_listed_and_revoked(elsewhere: Path, run: Run) -> None:
    """The whole life of one, each step durable before it is said."""
    assert run("licence", "check", "codestral").code == 1
    asked = (*WORDS, "--purpose", "testing", "--expires", day(30))
    made = run(*asked, "--json")
    assert made.code == 0, made.err
    assert made.json["record"].startswith("local/operator/evidence#")
    assert run("licence", "check", "codestral").code == 0
    (row,) = run("licence", "list", "--json").json["acknowledgements"]
    assert (row["state"], row["model"], row["purpose"]) == ("in-force", MODEL, "testing")
    name = row["acknowledgement"]
    assert run("licence", "revoke", name, "--approver", "legal-counsel").code == 0
    (row,) = run("licence", "list", "--json").json["acknowledgements"]
    assert row["state"] == "not-in-force"
    assert "revoked" in row["says"]
    assert run("licence", "check", "codestral").code == 1
    again = run("licence", "revoke", name, "--approver", "legal-counsel")
    assert (again.code, again.error) == (2, "bad-input")


def test_the_record_says_role_purpose_and_end_and_names_nobody(elsewhere: Path, run: Run) -> None:
    """An exact set of fields: there is no room for a name or a remark."""
    run(*WORDS, "--purpose", "testing", "--expires", day(30))
    (entry,) = [e for e in evidence(elsewhere) if e["type"] == acknowledged.MADE]
    assert entry.keys() - {"v", "type", "at", "salt"} == {
        "acknowledgement",
        "model",
        "licence",
        "environment",
        "approver",
        "purpose",
        "expires_at",
        "policy",
    }


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        (("--purpose", "fun", "--expires", day(30)), "unknown-name"),
        (("--purpose", "testing", "--expires", day(-1)), "bad-input"),
        (("--purpose", "testing", "--expires", day(400)), "bad-input"),
        (("--purpose", "testing", "--expires", "soon"), "bad-input"),
    ],
)
def test_what_the_policy_does_not_name_or_allow_is_not_recorded(
    elsewhere: Path, run: Run, changed: tuple[str, ...], error: str
) -> None:
    """A record of it would look like a permission."""
    done = run(*WORDS, *changed)
    assert (done.code, done.error) == (2, error)
    assert acknowledged.everything(settings.load(elsewhere)) == ()


def test_in_production_no_acknowledgement_is_taken(site: Path, run: Run) -> None:
    """Refused outright means that nobody can answer for it, either."""
    done = run(*WORDS, "--purpose", "testing", "--expires", day(30))
    assert (done.code, done.error) == (1, "licence-refused")
    assert acknowledged.everything(settings.load(site)) == ()


def test_a_dry_run_records_nothing(elsewhere: Path, run: Run) -> None:
    """Whoever approves wants to see it first."""
    done = run(*WORDS, "--purpose", "testing", "--expires", day(30), "--dry-run", "--json")
    assert (done.json["dry_run"], done.json["record"]) == (True, None)
    assert acknowledged.everything(settings.load(elsewhere)) == ()


def test_a_log_whose_key_is_not_pinned_acknowledges_nothing(elsewhere: Path, run: Run) -> None:
    """Whoever can write files could otherwise write permissions."""
    run(*WORDS, "--purpose", "testing", "--expires", day(30))
    it = settings.load(elsewhere)
    (pin,) = it.trust.glob("operator-evidence*.vkey")
    pin.unlink()
    assert acknowledged.standing_or_none(it, POLICY, MODEL).acknowledgements == ()


def test_an_open_model_is_decided_without_looking_at_any_log(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first deployment on a laptop must depend on nothing new."""

    def never(_home: Home) -> tuple[licence.Acknowledgement, ...]:
        raise AssertionError("the log was read")

    monkeypatch.setattr(acknowledged, "everything", never)
    found = acknowledged.standing(settings.load(site), policies.load(), "smollm2-135m-instruct")
    assert found == Standing()


def test_the_controller_shuts_what_is_not_acknowledged_and_vouches_no_longer_than_that() -> None:
    """The gateway refuses at the very end of it, even when the controller has stopped."""
    seen = sight(asked_for=replace(wanted(), model=MODEL))
    (shut,) = plan(POLICY, (seen,), showing(), NOW).steps
    assert (shut.verb, shut.endpoint.quarantine) == ("quarantine", "licence-refused")
    ends = NOW + VALID / 4
    standing = Standing(ELSEWHERE, (acknowledgement("ack_1", ends),))
    (open_,) = plan(POLICY, (seen,), showing(), NOW, licences=standing).steps
    assert (open_.verb, open_.endpoint.expires_at) == ("attest", ends)
    (shut,) = plan(POLICY, (seen,), showing(open_.endpoint), ends, licences=standing).steps
    assert (shut.verb, shut.endpoint.quarantine) == ("quarantine", "licence-refused")


def test_what_is_vouched_for_until_its_acknowledgement_ends_is_not_vouched_for_again() -> None:
    """Each round of the last minutes would otherwise leave a record that says nothing."""
    seen, ends = sight(asked_for=replace(wanted(), model=MODEL)), NOW + VALID / 4
    licences = Standing(ELSEWHERE, (acknowledgement("ack_1", ends),))
    (made,) = plan(POLICY, (seen,), showing(), NOW, licences=licences).steps
    later = ends - timedelta(seconds=1)
    assert plan(POLICY, (seen,), showing(made.endpoint), later, licences=licences).steps == ()


def test_a_longer_acknowledgement_lengthens_what_is_vouched_for_and_a_revoked_one_shortens() -> (
    None
):
    """What the gateway goes by follows the log within a round, both ways."""
    seen, short, long = (
        sight(asked_for=replace(wanted(), model=MODEL)),
        NOW + VALID / 4,
        NOW + VALID,
    )
    both = (acknowledgement("ack_1", short), acknowledgement("ack_2", long))
    (made,) = plan(POLICY, (seen,), showing(), NOW, licences=Standing(ELSEWHERE, both[:1])).steps
    (more,) = plan(
        *(POLICY, (seen,), showing(made.endpoint), NOW), licences=Standing(ELSEWHERE, both)
    ).steps
    assert (more.verb, more.endpoint.expires_at) == ("attest", long)
    left = (both[0], replace(both[1], revoked_at=NOW))
    (less,) = plan(
        *(POLICY, (seen,), showing(more.endpoint), NOW), licences=Standing(ELSEWHERE, left)
    ).steps
    assert (less.verb, less.endpoint.expires_at) == ("attest", short)


def test_the_log_is_read_again_only_once_it_has_grown(elsewhere: Path, run: Run) -> None:
    """A controller asks every few seconds; a revocation must count in its next round."""
    run(*WORDS, "--purpose", "testing", "--expires", day(30))
    reading = acknowledged.Reading(settings.load(elsewhere), POLICY)
    (given,) = reading.standing([MODEL]).acknowledgements
    assert reading.standing([MODEL]) is reading.standing([MODEL])
    assert run("licence", "revoke", given.id, "--approver", "legal-counsel").code == 0
    (ended,) = reading.standing([MODEL]).acknowledgements
    assert ended.revoked_at is not None


def test_a_log_that_is_damaged_acknowledges_nothing_until_it_is_mended(
    elsewhere: Path, run: Run
) -> None:
    """An edited record must not let anything serve, and mending the log must be enough."""
    run(*WORDS, "--purpose", "testing", "--expires", day(30))
    it = settings.load(elsewhere)
    bundles = (it.audit / "operator" / "evidence" / "tile" / "entries").rglob("*.p/*")
    bundle = max(bundles, key=lambda path: int(path.name))
    whole = bundle.read_bytes()
    bundle.write_bytes(whole.replace(b"legal-counsel", b"legal-council"))
    reading = acknowledged.Reading(it, POLICY)
    assert reading.standing([MODEL]) == Standing(ELSEWHERE)
    assert run("licence", "check", "codestral").code == 3
    bundle.write_bytes(whole)
    assert len(reading.standing([MODEL]).acknowledgements) == 1


def test_a_deployment_of_what_may_not_serve_changes_no_setting(elsewhere: Path, run: Run) -> None:
    """Refused before an engine or weights are looked for; the site goes on with what it has."""
    before = (elsewhere / settings.FILE_NAME).read_bytes()
    wished = deployment.Choices(model=MODEL)
    with pytest.raises(LicenceRefused, match=r"codestral-22b-v0.1 may not serve: nothing was"):
        deployment.begin(elsewhere, wished)
    assert (elsewhere / settings.FILE_NAME).read_bytes() == before
    run(*WORDS, "--purpose", "testing", "--expires", day(30))
    with pytest.raises(BadInput, match="weights"):  # the licence lets it; now it has to be there
        deployment.begin(elsewhere, wished)


def test_a_plan_is_refused_by_the_licence_until_it_is_acknowledged(
    elsewhere: Path, run: Run, tmp_path: Path
) -> None:
    """Machines that may not serve their model would be paid for nothing."""
    written = (STACKS / "static-example.yaml").read_text().replace(RETIRED, MODEL)
    said: list[str] = []
    for environment, rules in (("production", ["licence-non-production"]), (ELSEWHERE, [])):
        (tmp_path / "mine.yaml").write_text(f"{written}\nenvironment: {environment}\n")
        run(*WORDS, "--purpose", "testing", "--expires", day(30))
        made = infra_plan.make("mine", settings.load(elsewhere), said.append, tmp_path)
        assert [answer.rule for answer in made.refused] == rules
        assert environment in made.licence
