"""What may be where: the truth table first, then the properties no policy file can break."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign.errors import NaiveTime
from sovereign.policy import Policy, Rule
from sovereign.residency import DEFAULT_DENY, Question, decide, is_loopback

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
EEA = frozenset(
    "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IS IT LI LT LU LV MT NL NO PL PT RO SE SI SK".split()
)
LOOK_ALIKES = [
    "aws:eu-west-2",
    "aws:eu-central-2",
    "gcp:europe-west2",
    "gcp:europe-west6",
    "azure:uksouth",
    "azure:switzerlandnorth",
    "ovh:UK1",
    "exoscale:ch-gva-2",
    "exoscale:ch-dk-2",
    "upcloud:uk-lon1",
    "seeweb:ch-lug1",
]


def ask(policy: Policy, place: str, data: str = "personal", verb: str = "process", **more: object):
    return decide(policy, Question(place, data, verb, more.pop("at", NOW), **more))


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


@pytest.mark.parametrize("place", LOOK_ALIKES)
def test_every_look_alike_is_in_the_table_and_refused_by_name(eea: Policy, place: str) -> None:
    """A region code that reads European and is not is how data leaves unnoticed."""
    assert place in eea.places
    answer = ask(eea, place)
    assert answer.verdict == "refuse"
    assert answer.rule == "personal-data-stays-in-eea"


@pytest.mark.parametrize("data", ["personal", "special-category"])
@pytest.mark.parametrize("verb", ["store", "process", "send"])
def test_under_eea_a_fresh_row_is_allowed_exactly_when_country_and_law_are_eea(
    eea: Policy, data: str, verb: str
) -> None:
    """The table decides, both ways; nothing matches by prefix or by luck."""
    for place in eea.places.values():
        at = datetime.combine(place.checked_on, datetime.min.time(), UTC) + timedelta(days=1)
        expected = place.country in EEA and place.under in EEA
        assert ask(eea, place.code, data, verb, at=at).allowed is expected, place.code


def test_what_immune_allows_has_no_owner_outside_the_eea(eea: Policy, immune: Policy) -> None:
    """Immune is eea and the whole chain of owners; it can only ever allow less."""
    for place in immune.places.values():
        expected = ask(eea, place.code).allowed and all(p.country in EEA for p in place.parents)
        assert ask(immune, place.code).allowed is expected, place.code


def test_a_row_is_fresh_for_365_days_and_unknown_on_the_366th(eea: Policy) -> None:
    """Facts about ownership rot; an old one is as good as none."""
    checked = datetime.combine(
        eea.places["scaleway:fr-par-2"].checked_on, datetime.min.time(), UTC
    )
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
        ask(eea, "scaleway:fr-par-2", at=datetime(2026, 11, 24))  # noqa: DTZ001 - the point


def test_adequate_allows_what_the_commission_found_adequate_and_only_while_it_lasts(
    adequate: Policy,
) -> None:
    """Adequacy has dates and a scope; both are looked at."""
    london = "upcloud:uk-lon1"  # operator Finnish, machine in the United Kingdom
    uk = next(finding for finding in adequate.adequacy if finding.country == "GB")
    assert uk.until is not None
    assert ask(adequate, london).allowed
    policy = replace(adequate, adequacy=())
    assert not ask(policy, london).allowed


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
    asked_at=st.datetimes(datetime(2025, 1, 1), datetime(2029, 1, 1), timezones=st.just(UTC)),
    listener=st.sampled_from(["", "127.0.0.1:1", "0.0.0.0:1", "nonsense"]),
)


@given(st.lists(RULES, max_size=6), QUESTIONS, st.randoms())
def test_the_order_of_rules_never_matters(eea: Policy, rules: list[Rule], question, random) -> None:
    """A policy is a set of promises; a file can be sorted without anybody being hurt."""
    shuffled = rules.copy()
    random.shuffle(shuffled)
    first = decide(replace(eea, residency=tuple(rules)), question)
    second = decide(replace(eea, residency=tuple(shuffled)), question)
    assert (first.allowed, first.rule if rules else "") == (
        second.allowed,
        second.rule if rules else "",
    )


@given(st.lists(RULES, max_size=5), RULES, QUESTIONS)
def test_adding_a_condition_never_allows_more(
    eea: Policy, rules: list[Rule], added: Rule, question: Question
) -> None:
    """Rules that only forbid (known, fresh, chain) can be added without reading the others."""
    condition = replace(added, kind="chain")
    before = decide(replace(eea, residency=tuple(rules)), question)
    after = decide(replace(eea, residency=(*rules, condition)), question)
    assert before.allowed or not after.allowed


@given(QUESTIONS)
def test_a_place_nobody_knows_is_refused_whatever_is_asked(eea: Policy, question: Question) -> None:
    """Unknown means no, in every profile and for every class."""
    assert not decide(eea, replace(question, place="nowhere:zz")).allowed


@given(st.dates(date(2024, 1, 1), date(2030, 1, 1)), QUESTIONS)
def test_what_eea_refuses_for_a_missing_fact_stays_refused_under_immune(
    eea: Policy, immune: Policy, checked: date, question: Question
) -> None:
    """A stricter profile never forgives an old or absent row."""
    aged = {code: replace(place, checked_on=checked) for code, place in eea.places.items()}
    loose = decide(replace(eea, places=aged), question)
    strict = decide(replace(immune, places=aged), question)
    assert loose.allowed or not strict.allowed
