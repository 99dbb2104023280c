"""What may be where: the truth table first, then the properties no policy file can break."""

import random
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign.errors import NaiveTime
from sovereign.policy import Policy, Rule
from sovereign.policy.shapes import Owner
from sovereign.residency import DEFAULT_DENY, Decision, Question, decide, is_loopback

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
# fmt: off
EEA = frozenset({  # written a second time, so that the list of the policy cannot drift unseen
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE",
    "IS", "IT", "LI", "LT", "LU", "LV", "MT", "NL", "NO", "PL", "PT", "RO", "SE", "SI", "SK",
})
# fmt: on
LOOK_ALIKES = {
    "aws:eu-west-2": "GB",
    "aws:eu-central-2": "CH",
    "gcp:europe-west2": "GB",
    "gcp:europe-west6": "CH",
    "azure:uksouth": "GB",
    "azure:switzerlandnorth": "CH",
    "ovh:UK1": "GB",
    "ovh:BHS1": "CA",
    "ovh:BHS3": "CA",
    "ovh:BHS5": "CA",
    "ovh:BHS7": "CA",
    "ovh:EU-WEST-LZ-ZRH-A": "CH",
    "exoscale:ch-gva-2": "CH",
    "exoscale:ch-dk-2": "CH",
    "upcloud:uk-lon1": "GB",
    "seeweb:ch-lug1": "CH",
    "otc:eu-ch2": "CH",
    "ionos:gb/lhr": "GB",
    "ibm:eu-gb": "GB",
    "oracle:eu-zurich-1": "CH",
}
"""Codes that read European and lie outside the EEA, with the country they lie in."""


def ask(
    policy: Policy,
    place: str,
    data: str = "personal",
    verb: str = "process",
    *,
    at: datetime = NOW,
    listener: str = "",
) -> Decision:
    return decide(policy, Question(place, data, verb, at, listener))


def morning(day: date) -> datetime:
    """The first moment of a day, in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


@pytest.mark.parametrize(
    ("place", "allowed"),
    [
        ("scaleway:fr-par-2", True),
        ("outscale:eu-west-2", True),  # Outscale's eu-west-2 is France
        ("aws:eu-west-2", False),  # AWS's is London
        ("aws:eu-central-1", False),  # Frankfurt, operator under US law
        ("exoscale:at-vie-1", False),  # Vienna, operator under Swiss law
        ("azure:norwayeast", False),  # in the EEA, operator under US law
        ("nowhere:zz-1", False),
        ("", False),
    ],
)
def test_personal_data_is_processed_only_where_place_and_operator_are_both_eea(
    eea: Policy, place: str, allowed: bool
) -> None:
    """The German data centre of a US firm is the case every reviewer asks about."""
    assert ask(eea, place).allowed is allowed


@pytest.mark.parametrize(("place", "country"), LOOK_ALIKES.items())
@pytest.mark.parametrize("verb", ["store", "process", "send"])
def test_every_look_alike_is_in_the_table_and_refused_by_name(
    eea: Policy, immune: Policy, place: str, country: str, verb: str
) -> None:
    """A region code that reads European and is not is how data leaves unnoticed."""
    assert eea.places[place].country == country
    answer = ask(eea, place, verb=verb)
    assert (answer.verdict, answer.rule) == ("refuse", "personal-data-stays-in-eea")
    assert not ask(immune, place, verb=verb).allowed


def test_the_same_region_code_is_judged_by_whose_it_is(eea: Policy) -> None:
    """One word, two clouds: a look-up without the provider would get one of each pair wrong."""
    for code, ours, theirs in [("eu-west-2", "outscale", "aws"), ("eu-de", "otc", "ibm")]:
        assert ask(eea, f"{ours}:{code}").allowed
        assert not ask(eea, f"{theirs}:{code}").allowed
        assert not ask(eea, code).allowed


@pytest.mark.parametrize("written", ["SCALEWAY:FR-PAR-2", "scaleway:fr-par-", "scaleway:fr-par-22"])
def test_a_code_is_looked_up_whole(eea: Policy, written: str) -> None:
    """A prefix that matches is how a new region slips in."""
    assert ask(eea, "scaleway:fr-par-2").allowed
    answer = ask(eea, written)
    assert (answer.allowed, answer.rule) == (False, "place-is-known")


@pytest.mark.parametrize("data", ["personal", "special-category"])
@pytest.mark.parametrize("verb", ["store", "process", "send"])
def test_under_eea_a_fresh_row_is_allowed_exactly_when_country_and_law_are_eea(
    eea: Policy, data: str, verb: str
) -> None:
    """The table decides, both ways; nothing matches by prefix or by luck."""
    for place in eea.places.values():
        at = morning(place.checked_on) + timedelta(days=1)
        expected = place.country in EEA and place.under in EEA
        assert ask(eea, place.code, data, verb, at=at).allowed is expected, place.code


@pytest.mark.parametrize("data", ["operational", "secret", "weights", "backup-ciphertext"])
@pytest.mark.parametrize("place", ["aws:eu-central-1", "exoscale:at-vie-1", "upcloud:uk-lon1"])
def test_what_is_left_behind_is_kept_where_people_are(eea: Policy, data: str, place: str) -> None:
    """Metadata, keys, weights and backups say as much as the prompts they come from."""
    assert ask(eea, "scaleway:fr-par-2", data, "store").allowed
    assert not ask(eea, place, data, "store").allowed


@pytest.mark.parametrize(
    ("place", "verb", "allowed"),
    [
        ("psf:package-index", "send", True),
        ("psf:package-index", "store", False),
        ("aws:us-east-1", "process", False),
        ("ovh:SGP1", "send", False),  # known, and in no country that public files are asked from
        ("scaleway:fr-par", "store", True),
    ],
)
def test_public_files_may_be_asked_for_abroad_and_nothing_more(
    eea: Policy, place: str, verb: str, allowed: bool
) -> None:
    """A package comes from where its index is; that is no reason to keep anything there."""
    assert ask(eea, place, "public", verb).allowed is allowed


def test_backups_are_never_read_where_they_rest(eea: Policy) -> None:
    """No rule speaks of processing ciphertext, so silence refuses it even in France."""
    answer = ask(eea, "scaleway:fr-par-2", "backup-ciphertext", "process")
    assert (answer.allowed, answer.rule) == (False, DEFAULT_DENY)


def test_what_immune_allows_has_no_owner_outside_the_eea(eea: Policy, immune: Policy) -> None:
    """Immune is eea and the whole chain of owners; it can only ever allow less."""
    parents = (Owner("Example Holding", "FR"), Owner("Example Fund", "MX"))
    owned = replace(eea.places["scaleway:fr-par-2"], code="example:owned", parents=parents)
    places = {**immune.places, owned.code: owned}
    eea, immune = replace(eea, places=places), replace(immune, places=places)
    for place in places.values():
        expected = ask(eea, place.code).allowed and (
            place.parents is not None and all(p.country in EEA for p in place.parents)
        )
        assert ask(immune, place.code).allowed is expected, place.code
    assert ask(eea, owned.code).allowed
    answer = ask(immune, owned.code)
    assert (answer.allowed, answer.rule) == (False, "no-owner-outside-eea")


@pytest.mark.parametrize(("parents", "allowed"), [(None, False), ((), True)])
def test_owners_nobody_looked_up_are_not_owners_nobody_has(
    immune: Policy, parents: tuple[Owner, ...] | None, allowed: bool
) -> None:
    """Unknown is never a pass: only a chain that was looked up can be found clean."""
    place = replace(immune.places["scaleway:fr-par-2"], parents=parents)
    policy = replace(immune, places={place.code: place})
    assert ask(policy, place.code).allowed is allowed


def test_a_row_is_fresh_for_365_days_and_unknown_on_the_366th(eea: Policy) -> None:
    """Facts about ownership rot; an old one is as good as none."""
    checked = morning(eea.places["scaleway:fr-par-2"].checked_on)
    assert ask(eea, "scaleway:fr-par-2", at=checked + timedelta(days=365)).allowed
    late = ask(eea, "scaleway:fr-par-2", at=checked + timedelta(days=366))
    assert (late.allowed, late.rule) == (False, "place-facts-are-fresh")
    early = ask(eea, "scaleway:fr-par-2", at=checked - timedelta(days=1))
    assert (early.allowed, early.rule) == (False, "place-facts-are-fresh")


@pytest.mark.parametrize(
    ("listener", "allowed"),
    [
        ("127.0.0.1:8080", True),
        ("[::1]:8080", True),
        ("0.0.0.0:8080", False),
        ("192.0.2.1:8080", False),
        ("localhost:8080", False),  # a name can be made to mean anything
        ("", False),
    ],
)
def test_this_host_is_admitted_on_loopback_only(eea: Policy, listener: str, allowed: bool) -> None:
    """A machine whose country nobody declared may serve itself and nobody else."""
    answer = ask(eea, "this-host", listener=listener)
    assert (answer.allowed, answer.rule) == (allowed, "nothing-leaves-this-host")
    assert is_loopback(listener) is allowed


def test_a_class_of_data_no_rule_names_is_refused(eea: Policy) -> None:
    """Silence means no."""
    answer = ask(eea, "scaleway:fr-par-2", data="of-a-class-nobody-named")
    assert (answer.allowed, answer.rule) == (False, DEFAULT_DENY)


def test_a_question_without_a_time_zone_is_not_answered(eea: Policy) -> None:
    """Freshness judged in an unknown zone could be off by a day."""
    with pytest.raises(NaiveTime):
        ask(eea, "scaleway:fr-par-2", at=NOW.replace(tzinfo=None))


def test_adequate_allows_what_the_commission_found_adequate_and_only_while_it_lasts(
    eea: Policy, adequate: Policy
) -> None:
    """Adequacy has dates; the first and the last day are looked at."""
    london = "upcloud:uk-lon1"  # operator Finnish, machine in the United Kingdom
    uk = next(finding for finding in adequate.adequacy if finding.country == "GB")
    assert uk.from_ is not None
    assert uk.until is not None
    assert ask(adequate, london).allowed
    assert not ask(eea, london).allowed

    def at(moment: datetime) -> bool:
        """Whether it is allowed then, had the row been looked at the day before."""
        row = replace(adequate.places[london], checked_on=moment.date() - timedelta(days=1))
        return ask(replace(adequate, places={london: row}), london, at=moment).allowed

    assert not at(morning(uk.from_) - timedelta(seconds=1))
    assert at(morning(uk.from_))
    assert at(morning(uk.until) + timedelta(hours=23))
    assert not at(morning(uk.until) + timedelta(days=1))


def test_without_its_decision_a_country_is_not_adequate(adequate: Policy) -> None:
    """A repealed decision is a deleted row; nothing else needs to change."""
    assert ask(adequate, "exoscale:at-vie-1").allowed  # Vienna, operator Swiss
    rest = tuple(finding for finding in adequate.adequacy if finding.country != "CH")
    assert not ask(replace(adequate, adequacy=rest), "exoscale:at-vie-1").allowed


def test_a_finding_for_some_recipients_counts_for_none(adequate: Policy) -> None:
    """We cannot see who is certified, so Beauharnois is refused though Canada has a decision."""
    assert any(finding.country == "CA" for finding in adequate.adequacy)
    assert not ask(adequate, "ovh:BHS5").allowed


def test_the_united_states_are_not_adequate_as_a_whole(adequate: Policy) -> None:
    """Only certified organisations are covered, and we cannot see who is."""
    assert not ask(adequate, "aws:eu-central-1").allowed


RULES = st.builds(
    Rule,
    id=st.from_regex(r"[a-z]{1,8}", fullmatch=True),
    kind=st.sampled_from(["known", "fresh", "place", "adequacy", "chain", "this-host"]),
    verbs=st.frozensets(st.sampled_from(["store", "process", "send"])),
    data=st.frozensets(st.sampled_from(["personal", "public"])),
    countries=st.frozensets(st.sampled_from(["FR", "DE", "US", "CH"])),
    under=st.frozensets(st.sampled_from(["FR", "DE", "US", "CH"])),
    max_age_days=st.none() | st.integers(0, 800),
    listeners=st.sampled_from([frozenset(), frozenset({"loopback"})]),
    because=st.just("because"),
    source=st.just("source"),
)
PLACES = ["scaleway:fr-par-2", "aws:eu-central-1", "exoscale:ch-gva-2", "nowhere:zz", "this-host"]
QUESTIONS = st.builds(
    Question,
    place=st.sampled_from(PLACES),
    data=st.sampled_from(["personal", "public", "unheard-of"]),
    verb=st.sampled_from(["store", "process", "send", "publish"]),
    asked_at=st.integers(-16_000, 20_000).map(lambda hours: NOW + timedelta(hours=hours)),
    listener=st.sampled_from(["", "127.0.0.1:1", "0.0.0.0:1", "nonsense"]),
)


@given(st.lists(RULES, max_size=6, unique_by=lambda rule: rule.id), QUESTIONS, st.randoms())
def test_the_order_of_rules_never_matters(
    eea: Policy, rules: list[Rule], question: Question, chance: random.Random
) -> None:
    """A policy is a set of promises; a file can be sorted without anybody being hurt."""
    shuffled = rules.copy()
    chance.shuffle(shuffled)
    ours, theirs = (replace(eea, residency=tuple(order)) for order in (rules, shuffled))
    assert decide(ours, question) == decide(theirs, question)


@given(st.lists(RULES, max_size=5), RULES, st.sampled_from(["known", "fresh", "chain"]), QUESTIONS)
def test_adding_a_condition_never_allows_more(
    eea: Policy, rules: list[Rule], added: Rule, kind: str, question: Question
) -> None:
    """Rules that only forbid (known, fresh, chain) can be added without reading the others."""
    condition = replace(added, kind=kind)
    before = decide(replace(eea, residency=tuple(rules)), question)
    after = decide(replace(eea, residency=(*rules, condition)), question)
    assert before.allowed or not after.allowed


@given(QUESTIONS)
def test_a_place_nobody_knows_is_refused_whatever_is_asked(
    eea: Policy, immune: Policy, adequate: Policy, question: Question
) -> None:
    """Unknown means no, in every profile and for every class."""
    for policy in (eea, immune, adequate):
        assert not decide(policy, replace(question, place="nowhere:zz")).allowed


@given(st.lists(RULES, max_size=6), QUESTIONS)
def test_no_set_of_rules_allows_a_place_nobody_knows(
    eea: Policy, rules: list[Rule], question: Question
) -> None:
    """Not even a badly written policy can let data go nowhere."""
    policy = replace(eea, residency=tuple(rules))
    assert not decide(policy, replace(question, place="nowhere:zz")).allowed


@given(st.dates(date(2024, 1, 1), date(2030, 1, 1)), QUESTIONS)
def test_what_eea_refuses_for_a_missing_fact_stays_refused_under_immune(
    eea: Policy, immune: Policy, checked: date, question: Question
) -> None:
    """A stricter profile never forgives an old or absent row."""
    aged = {code: replace(place, checked_on=checked) for code, place in eea.places.items()}
    loose = decide(replace(eea, places=aged), question)
    strict = decide(replace(immune, places=aged), question)
    assert loose.allowed or not strict.allowed
