"""All signals together: who vouches, what is lacking, and every way to cheat."""

import random
from datetime import timedelta
from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign.attestation.judge import required, weigh, why
from sovereign.attestation.papers import Finding, Reading, Report, sealed
from sovereign.attestation.signals import Asked
from tests.attestation.making import (
    ANCHOR_KEYS,
    CLAIM,
    FACILITY,
    HOST,
    NEAR,
    NOW,
    OTHER_HOST,
    STRANGER,
    asked,
    changed,
    evidence,
    report,
    reports,
    rules,
    statement,
)

SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
SILENCE = Reading("ionos", fault="no answer in time")


def findings(question: Asked, answer: bytes, *signed: bytes) -> dict[str, Finding]:
    return {each.signal: each for each in weigh(question, answer, signed).findings}


def test_everything_that_is_good_is_vouched_for_by_three() -> None:
    """The yes: provider, operator and anchors would all have to lie."""
    found = weigh(asked(), evidence(), [statement()])
    assert (found.verdict, found.suffices) == ("proves", True)
    assert found.vouchers == ("anchors", "operator", "provider")
    assert {each.verdict for each in found.findings} == {"proves"}
    assert why(*_told(found)) == "vouched for by anchors, operator, provider"


GOOD = {
    "metadata": {"reading": Reading("ionos", "de/fra", "de/fra")},
    "round-trip": {"reports": reports()},
}
LACKING = {"metadata": {"reading": SILENCE}, "round-trip": {"reports": ()}}


@pytest.mark.parametrize("needed", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "there", [c for n in range(4) for c in combinations(("metadata", "statement", "round-trip"), n)]
)
def test_exactly_as_many_vouchers_are_enough_as_the_policy_says(
    needed: int, there: tuple[str, ...]
) -> None:
    """One missing is not a contradiction: the policy says whether the rest will do."""
    brought: dict[str, object] = {}
    for name, good in GOOD.items():
        brought |= good if name in there else LACKING[name]
    signed = [statement()] if "statement" in there else []
    found = weigh(asked(rules=rules(needed)), evidence(**brought), signed)
    assert len(found.vouchers) == len(there)
    assert found.suffices is (len(there) >= needed)
    assert (found.verdict == "proves") is (found.suffices and bool(there))


def test_two_signals_of_one_voucher_count_once() -> None:
    """Two papers of the same organisation are one word."""
    given = rules(2)
    same = tuple(changed(each, vouched_by="operator") for each in given.signals[:2])
    two = changed(given, signals=(*same, given.signals[2]))
    found = weigh(asked(rules=two), evidence(reports=()), [statement()])
    assert (found.vouchers, found.suffices) == (("operator",), False)


def test_a_signal_that_must_be_there_cannot_be_made_up_for() -> None:
    """A profile that wants distance measured is not content with signatures."""
    strict = asked(rules=rules(1, ("round-trip",)))
    assert not weigh(strict, evidence(reports=()), [statement()]).suffices
    assert weigh(strict, evidence(), []).suffices


@pytest.mark.parametrize("profile", ["immune", "eea"])
@pytest.mark.parametrize(
    "answer",
    [
        evidence(reading=Reading("ionos", "us/las", "us/las")),
        evidence(reports=(report("frankfurt", 90),)),
        evidence(OTHER_HOST),
    ],
    ids=["provider-says-las-vegas", "ninety-milliseconds", "another-key"],
)
def test_what_contradicts_decides_under_every_profile(answer: bytes, profile: str) -> None:
    """Also where nobody has to vouch: a lie is not the lack of a proof."""
    found = weigh(asked(profile=profile), answer, [statement()])
    assert (found.verdict, found.suffices) == ("contradicts", False)


BAD = {
    "metadata": {"reading": Reading("ionos", "us/las", "us/las")},
    "round-trip": {"reports": (*reports(), report("warsaw", 90))},
}


@pytest.mark.parametrize(("worse", "other"), list(product(BAD, [GOOD, LACKING])))
def test_adding_what_contradicts_never_improves(
    worse: str, other: dict[str, dict[str, object]]
) -> None:
    """Whatever else is there, good or missing."""
    brought: dict[str, object] = {}
    for name in BAD:
        brought |= (BAD if name == worse else other)[name]
    for signed in ([], [statement()]):
        found = weigh(asked(rules=rules(0, ())), evidence(**brought), signed)
        assert (found.verdict, found.suffices) == ("contradicts", False)


# --- attacks ---------------------------------------------------------------------------------


def test_a_replayed_answer_is_noticed() -> None:
    """It was good once; the challenge is drawn anew each time."""
    found = findings(asked(nonce="cd" * 32), evidence())
    assert found["host-key"].verdict == "contradicts"
    assert "another challenge" in found["host-key"].reason
    assert found["metadata"].verdict == "unknown"


def test_an_answer_signed_by_another_key_is_against_the_host() -> None:
    """The name is the same, the machine is not."""
    found = findings(asked(), evidence(OTHER_HOST), statement())
    assert found["host-key"].verdict == "contradicts"
    assert found["round-trip"].verdict == "unknown"


def test_an_answer_in_the_name_of_another_host_is_against_it() -> None:
    """One machine must not stand in for two."""
    assert findings(asked(), evidence(host="gpu2"))["host-key"].verdict == "contradicts"


@pytest.mark.parametrize(("off_s", "verdict"), [(60, "proves"), (61, "unknown"), (-61, "unknown")])
def test_a_clock_that_is_off_makes_an_answer_worth_nothing(off_s: int, verdict: str) -> None:
    """Neither for nor against: what is dated wrongly cannot be judged."""
    found = findings(asked(), evidence(at=NOW + off_s * SECOND))
    assert found["host-key"].verdict == verdict
    assert found["metadata"].verdict == verdict


def test_when_our_own_clock_was_moved_anchors_do_not_agree_with_it() -> None:
    """A controller that is set back a year would find old statements in force again."""
    early = asked(now=NOW - 365 * DAY)
    found = findings(early, evidence(at=NOW - 365 * DAY), statement())
    assert found["round-trip"].verdict == "unknown"
    assert "clock" in found["round-trip"].reason
    assert found["statement"].verdict == "unknown"


def test_a_host_whose_key_is_not_pinned_proves_nothing() -> None:
    """Anybody can sign with a key of their own."""
    found = weigh(asked(host_key=None), evidence(), [statement()])
    assert (found.verdict, found.suffices, found.vouchers) == ("unknown", False, ())


@pytest.mark.parametrize(
    ("note", "says"),
    [
        (statement(until=NOW), "ended"),
        (statement(from_=NOW + SECOND), "begins"),
        (statement(host="gpu2"), "another host"),
        (statement(host_key=str(OTHER_HOST.verifier)), "another host key"),
        (statement(until=NOW + 84 * DAY), "longer than the policy"),
        (statement(STRANGER), "no pinned attester"),
        (statement()[:-8] + b"AAAAAA==", "no pinned attester"),
        (b"sovereign-place-statement v1\n", "no pinned attester"),
        (evidence(FACILITY), "no pinned attester"),  # signed, and another kind of document
    ],
)
def test_a_statement_that_does_not_hold_counts_for_nothing(note: bytes, says: str) -> None:
    """Expired, about somebody else, forged, or no statement at all."""
    found = findings(asked(), evidence(), note)["statement"]
    assert found.verdict == "unknown"
    assert says in found.reason


def test_a_statement_holds_until_its_last_moment() -> None:
    """The edge: valid before `until`, ended at it."""
    last = statement(until=NOW + SECOND)
    assert findings(asked(), b"", last)["statement"].verdict == "proves"
    assert findings(asked(now=NOW + SECOND), b"", last)["statement"].verdict == "unknown"


def test_a_statement_that_it_stands_elsewhere_outweighs_one_that_it_stands_here() -> None:
    """Two attesters who disagree are not one who agrees."""
    elsewhere = statement(place="hetzner:fsn1")
    for signed in ((statement(), elsewhere), (elsewhere, statement())):
        assert findings(asked(), evidence(), *signed)["statement"].verdict == "contradicts"


@pytest.mark.parametrize(
    ("note", "says"),
    [
        (report("frankfurt", 1, nonce="cd" * 32), "another run"),
        (report("frankfurt", 1, host_key=str(OTHER_HOST.verifier)), "another host key"),
        (report("frankfurt", 1, at=NOW - 61 * SECOND), "clock of frankfurt"),
        (report("stockholm", 1), "no anchor of the policy"),
        (
            sealed(
                Report(ANCHOR_KEYS["frankfurt"].name, str(HOST.verifier), "ab" * 32, NOW, 20, 1, 2),
                HOST,
            ).decode(),
            "no anchor of the policy",
        ),
    ],
    ids=["replayed", "of-another-host", "old", "of-no-anchor", "forged-by-the-host"],
)
def test_a_report_that_does_not_hold_is_as_if_it_were_not_there(note: str, says: str) -> None:
    """A host writes what it likes into its answer; only an anchor's signature makes a time."""
    found = findings(asked(), evidence(reports=(note,)))["round-trip"]
    assert found.verdict == "unknown"
    assert says in found.reason


def test_a_lying_anchor_is_contradicted_by_those_that_do_not_lie() -> None:
    """Frankfurt says it is beside it; from Warsaw it takes as long as from overseas."""
    lie = (report("frankfurt", 0.2), report("warsaw", 95), report("paris", 80))
    found = findings(asked(), evidence(reports=lie))["round-trip"]
    assert found.verdict == "contradicts"
    assert "warsaw" in found.reason


@pytest.mark.parametrize(
    ("reading", "verdict"),
    [
        (Reading("ionos", "de/fra", ""), "proves"),
        (Reading("ionos", "", "de/fra"), "proves"),
        (Reading("ionos", "de/txl", ""), "contradicts"),
        (Reading("ionos", "de/fra1", ""), "contradicts"),  # never by its beginning
        (Reading("aws", "de/fra", ""), "contradicts"),
        (Reading("ionos"), "unknown"),
        (SILENCE, "unknown"),
        (None, "unknown"),
    ],
)
def test_metadata_are_compared_word_for_word(reading: Reading | None, verdict: str) -> None:
    """Look-alikes are the oldest trick: nothing is matched by its beginning."""
    assert findings(asked(), evidence(reading=reading))["metadata"].verdict == verdict


@pytest.mark.parametrize(
    ("zone", "region", "reading", "verdict"),
    [
        ("fr-par-2", "fr-par", Reading("scaleway", "fr-par-2", "fr-par"), "proves"),
        ("fr-par", "fr-par", Reading("scaleway", "fr-par-2", "fr-par"), "proves"),
        ("fr-par-2", "fr-par", Reading("scaleway", "", "fr-par"), "consistent"),
        ("fr-par-2", "fr-par", Reading("scaleway", "fr-par-1", "fr-par"), "contradicts"),
        ("fr-par-2", "fr-par", Reading("scaleway", "", "nl-ams"), "contradicts"),
    ],
)
def test_a_region_is_less_than_a_zone(
    zone: str, region: str, reading: Reading, verdict: str
) -> None:
    """A provider that names a region only has not said which of its buildings."""
    claim = changed(CLAIM, place=f"scaleway:{zone}", provider="scaleway", zone=zone, region=region)
    found = findings(asked(claim=claim), evidence(reading=reading))
    assert found["metadata"].verdict == verdict


def test_a_host_that_leaves_a_bad_report_out_is_not_thereby_near() -> None:
    """It chooses what it brings; what is not there shows nothing."""
    assert findings(asked(), evidence(reports=()))["round-trip"].verdict == "unknown"
    some = findings(asked(), evidence(reports=(report("warsaw", NEAR[2][1]),)))
    assert some["round-trip"].verdict == "consistent"


# --- whatever is brought -----------------------------------------------------------------------

READINGS = st.sampled_from(
    [
        None,
        SILENCE,
        Reading("ionos", "de/fra", "de/fra"),
        Reading("ionos", "", "de/fra"),
        Reading("ionos", "us/las", "us/las"),
        Reading("aws", "de/fra", ""),
    ]
)
NOTES = st.lists(
    st.sampled_from(
        [
            statement(),
            statement(place="hetzner:fsn1"),
            statement(until=NOW),
            statement(host_key=str(OTHER_HOST.verifier)),
            statement(STRANGER, place="hetzner:fsn1"),
            b"no statement",
        ]
    ),
    max_size=4,
)
REPORTS = st.lists(
    st.sampled_from(
        [
            *reports(),
            report("frankfurt", 90),
            report("paris", 0.5),
            report("warsaw", 95, samples=3),
            report("frankfurt", 1, nonce="cd" * 32),
            report("stockholm", 1),
        ]
    ),
    max_size=5,
)
ANSWERS = st.builds(
    lambda signer, reading, brought: evidence(signer, reading=reading, reports=tuple(brought)),
    st.sampled_from([HOST, HOST, HOST, OTHER_HOST]),
    READINGS,
    REPORTS,
)
PROFILES = st.sampled_from(["immune", "eea"])


@given(READINGS, REPORTS, NOTES, st.randoms(use_true_random=False))
def test_the_order_in_which_things_are_brought_never_matters(
    reading: Reading | None, brought: list[str], notes: list[bytes], chosen: random.Random
) -> None:
    """Not even in the words: whoever judges again must get the same."""
    mixed, signed = chosen.sample(brought, len(brought)), chosen.sample(notes, len(notes))
    one = weigh(asked(), evidence(reading=reading, reports=tuple(brought)), notes)
    two = weigh(asked(), evidence(reading=reading, reports=tuple(mixed)), signed)
    assert one == two


@given(READINGS, REPORTS, NOTES, PROFILES, st.sampled_from(["metadata", "statement", "round-trip"]))
def test_adding_a_signal_that_disagrees_never_lets_anything_pass(
    reading: Reading | None, brought: list[str], notes: list[bytes], profile: str, added: str
) -> None:
    """Whatever else speaks for the place, and however loudly."""
    if added == "metadata":
        reading = Reading("ionos", "us/las", "us/las")
    elif added == "statement":
        notes = [*notes, statement(place="hetzner:fsn1")]
    else:
        brought = [*brought, report("frankfurt", 90)]
    answer = evidence(reading=reading, reports=tuple(brought))
    found = weigh(asked(profile=profile), answer, notes)
    assert (found.verdict, found.suffices) == ("contradicts", False)
    assert {f.signal: f.verdict for f in found.findings}[added] == "contradicts"


@given(ANSWERS, NOTES, NOTES, PROFILES)
def test_what_contradicts_is_not_taken_back_by_more_papers(
    answer: bytes, notes: list[bytes], more: list[bytes], profile: str
) -> None:
    """Nobody signs themselves out of it."""
    before = weigh(asked(profile=profile), answer, notes)
    if before.verdict == "contradicts":
        assert weigh(asked(profile=profile), answer, [*notes, *more]).verdict == "contradicts"


@given(READINGS, REPORTS, NOTES, st.sampled_from(["metadata", "statement", "round-trip"]))
def test_a_signal_that_is_missing_is_unknown_and_never_a_voucher(
    reading: Reading | None, brought: list[str], notes: list[bytes], missing: str
) -> None:
    """Leaving something out gains nobody a voucher."""
    whole = weigh(asked(), evidence(reading=reading, reports=tuple(brought)), notes)
    reading = None if missing == "metadata" else reading
    brought = [] if missing == "round-trip" else brought
    notes = [] if missing == "statement" else notes
    found = weigh(asked(), evidence(reading=reading, reports=tuple(brought)), notes)
    assert {f.signal: f.verdict for f in found.findings}[missing] == "unknown"
    assert set(found.vouchers) <= set(whole.vouchers)


@given(ANSWERS | st.just(b""), NOTES, PROFILES)
def test_nothing_is_proved_without_somebody_who_vouched(
    answer: bytes, notes: list[bytes], profile: str
) -> None:
    """And who vouched is exactly who proved something; unknown and consistent are no pass."""
    found = weigh(asked(profile=profile), answer, notes)
    by = {each.id: each.vouched_by for each in asked().rules.signals}
    proved = {by[f.signal] for f in found.findings if f.verdict == "proves" and f.signal in by}
    assert set(found.vouchers) == proved
    assert found.verdict != "proves" or (found.vouchers and found.suffices)
    if found.suffices:
        assert len(found.vouchers) >= required(asked().rules, profile).vouchers


def test_a_profile_that_no_row_is_about_asks_for_everybody() -> None:
    """Silence in the policy is no permission."""
    assert not weigh(asked(profile="made-up"), evidence(reports=()), [statement()]).suffices
    assert weigh(asked(profile="made-up"), evidence(), [statement()]).suffices


def _told(found: object) -> tuple[object, ...]:
    return tuple(getattr(found, name) for name in ("verdict", "suffices", "vouchers", "findings"))
