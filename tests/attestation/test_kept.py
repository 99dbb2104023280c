"""A run on a site: what is kept of it, what stands afterwards, and what anybody can check."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from sovereign.attestation import kept, running
from sovereign.attestation import site as places
from sovereign.attestation.checked import Trusted, check
from sovereign.attestation.papers import Attestation, opened, sealed
from sovereign.attestation.standing import standing
from sovereign.audit.note import SignerKey, VerifierKey
from sovereign.audit.trail import pin_path
from sovereign.errors import BadInput, KeyMissing, LogKeyUnusable
from sovereign.policy import Policy
from sovereign.registry import utcnow
from sovereign.settings import Home
from tests.attestation.making import FACILITY, OTHER_HOST, changed
from tests.attestation.site import (
    EEA,
    IMMUNE,
    NEAR_MS,
    PLACE,
    anchored,
    bind,
    made,
    measuring,
    pin,
    saying,
    signed_now,
    silent,
)

POLICY = anchored(IMMUNE)


def run(home: Home, policy: Policy = POLICY, **reached: object) -> Attestation:
    """One run, kept; everything outside is as it should be unless told otherwise."""
    given = {"fetch": saying("fsn1"), "ask": measuring(NEAR_MS)} | reached
    outcome = running.run_here(home, policy, utcnow, **given)
    kept.keep(home, outcome, kept.signed(outcome, running.signing_key(home)))
    return outcome


def stands(home: Home, policy: Policy = POLICY, after: timedelta = timedelta(0)) -> tuple[str, str]:
    found = standing(home, policy, "local", home.settings.place, utcnow() + after)
    return (found.verdict, found.reason) if found else ("operator", "")


def controller(home: Home) -> VerifierKey:
    return VerifierKey.parse(pin_path(home.trust, "controller", "evidence").read_text())


def test_a_host_that_three_vouch_for_stands_vouched(tmp_path: Path) -> None:
    """The yes, from the host's key to what the controller reads each round."""
    home = made(tmp_path)
    signed_now(home)
    outcome = run(home)
    assert (outcome.verdict, outcome.vouchers) == ("proves", ("anchors", "operator", "provider"))
    assert outcome.expires_at == outcome.at + timedelta(seconds=POLICY.attestation.valid_s)
    assert stands(home)[0] == "vouched"


def test_under_the_shipped_default_nothing_is_asked_of_a_host_that_has_no_key(
    tmp_path: Path,
) -> None:
    """What worked before this existed works as it did."""
    home = made(tmp_path, bound=False)
    assert stands(home, EEA) == ("operator", "")
    assert stands(home, IMMUNE)[0] == "unproven"


def test_this_host_is_in_no_country_and_nobody_is_asked_about_it(tmp_path: Path) -> None:
    """The simple local case: not even a profile that asks for vouchers changes it."""
    home = made(tmp_path, place="this-host")
    assert stands(home, IMMUNE) == ("operator", "")


@pytest.mark.parametrize("policy", [EEA, IMMUNE], ids=["eea", "immune"])
def test_a_host_whose_provider_says_elsewhere_disagrees_under_every_profile(
    tmp_path: Path, policy: Policy
) -> None:
    """Nobody has to ask for vouchers to be told that the place is wrong."""
    home = made(tmp_path)
    run(home, policy, fetch=saying("ash"))
    verdict, reason = stands(home, policy)
    assert verdict == "disagrees"
    assert "hetzner:ash" in reason


def test_what_speaks_against_a_place_does_not_expire(tmp_path: Path) -> None:
    """Waiting must not open what a contradiction shut; only a newer run does."""
    home = made(tmp_path)
    run(home, fetch=saying("ash"))
    assert stands(home, after=timedelta(days=400))[0] == "disagrees"
    run(home)
    assert stands(home)[0] == "vouched"


FAR_MS = {"frankfurt": 95.0, "paris": 99.0, "warsaw": 101.0}


def test_a_host_that_was_found_elsewhere_does_not_get_by_with_silence(tmp_path: Path) -> None:
    """It brings its reports itself: leaving the bad ones out must not open what they shut."""
    home = made(tmp_path)
    signed_now(home)
    asks_one = anchored(EEA)
    run(home, asks_one, ask=measuring(FAR_MS))
    silence = run(home, asks_one, ask=lambda *_: None)
    assert (silence.verdict, silence.vouchers) == ("proves", ("operator", "provider"))
    verdict, reason = stands(home, asks_one)
    assert verdict == "disagrees"
    assert "it has said nothing since" in reason
    assert "95.0 ms" in reason
    run(home, asks_one)
    assert stands(home, asks_one)[0] == "vouched"
    run(home, asks_one, ask=lambda *_: None)
    assert stands(home, asks_one)[0] == "vouched"  # what was answered does not come back


def test_two_signals_that_contradicted_must_both_say_otherwise(tmp_path: Path) -> None:
    """One that comes round does not speak for the other."""
    home = made(tmp_path)
    run(home, ask=measuring(FAR_MS), fetch=silent)
    run(home, ask=lambda *_: None, fetch=saying("ash"))
    run(home, ask=lambda *_: None)
    assert "round-trip" in stands(home)[1]
    run(home, fetch=silent)
    assert stands(home)[0] != "disagrees"


def test_the_way_out_of_a_contradiction_that_was_false_is_the_policy(tmp_path: Path) -> None:
    """An anchor that lies is taken out of it, and what it said speaks no more."""
    home = made(tmp_path)
    signed_now(home)
    run(home, ask=measuring(NEAR_MS | {"warsaw": 300.0}))
    without = anchored(IMMUNE, "frankfurt", "paris")
    assert stands(home)[0] == "disagrees"
    assert stands(home, without)[0] == "vouched"
    run(home, without)
    assert stands(home, without)[0] == "vouched"


@pytest.mark.parametrize(
    ("after_s", "verdict"), [(0, "vouched"), (43_190, "vouched"), (43_201, "unproven")]
)
def test_an_attestation_ends_when_the_policy_says(
    tmp_path: Path, after_s: int, verdict: str
) -> None:
    """Half a day, and not a minute more."""
    home = made(tmp_path)
    run(home)
    assert stands(home, after=timedelta(seconds=after_s))[0] == verdict


def test_an_attestation_of_the_future_is_not_in_force(tmp_path: Path) -> None:
    """A clock that was set back must not bring anything to life."""
    home = made(tmp_path)
    run(home)
    assert stands(home, after=timedelta(hours=-2))[0] == "unproven"


def test_a_shorter_validity_counts_at_once(tmp_path: Path) -> None:
    """What was given for half a day under another policy is not owed."""
    home = made(tmp_path)
    run(home)
    rules = changed(POLICY.attestation, valid_s=3600)
    shorter = replace(POLICY, attestation=rules)
    assert stands(home, shorter, timedelta(seconds=3590))[0] == "vouched"
    assert stands(home, shorter, timedelta(seconds=3610))[0] == "unproven"


def test_an_attestation_ends_with_the_statement_it_rests_on(tmp_path: Path) -> None:
    """Or an expired signature would count for half a day more."""
    home, soon = made(tmp_path), utcnow() + timedelta(minutes=10)
    signed_now(home, until=soon)
    assert run(home, fetch=silent).expires_at == soon


def test_a_pin_that_is_taken_away_counts_at_once(tmp_path: Path) -> None:
    """Somebody left: what they signed is worth nothing from this moment on."""
    home = made(tmp_path)
    signed_now(home)
    run(home, fetch=silent)
    assert stands(home)[0] == "vouched"  # operator and anchors
    (home.trust / "attesters/facility.vkey").unlink()
    assert stands(home)[0] == "unproven"


def test_another_key_in_the_place_of_the_hosts_shuts_it(tmp_path: Path) -> None:
    """A host that was set up anew has to be attested anew."""
    home = made(tmp_path)
    run(home)
    pin(places.pin_path(home.trust, "local"), OTHER_HOST.verifier)
    assert stands(home)[0] == "disagrees"


def test_an_anchor_that_left_the_policy_counts_no_more(tmp_path: Path) -> None:
    """Whom the policy does not name is nobody's voucher."""
    home = made(tmp_path)
    run(home, fetch=silent)
    signed_now(home)
    run(home, fetch=silent)
    assert stands(home, IMMUNE)[0] == "unproven"


def test_an_attestation_of_another_place_or_another_controller_is_none(tmp_path: Path) -> None:
    """A file can be copied anywhere; what it says cannot."""
    home = made(tmp_path)
    outcome = run(home)
    moved = standing(home, POLICY, "local", "hetzner:nbg1", utcnow())
    assert moved is not None
    assert moved.verdict == "unproven"
    forged = SignerKey.generate("local/controller/evidence")
    kept.keep(home, outcome, sealed(outcome, forged))
    assert stands(home)[0] == "unproven"
    places.note_path(home, "local").write_bytes(b"nonsense")
    assert stands(home)[0] == "unproven"


def test_anchors_where_no_data_may_go_are_not_asked(tmp_path: Path) -> None:
    """That a host asks is operational data; it goes only where the rules let it."""
    refused = anchored(IMMUNE, "frankfurt")
    trips = refused.attestation.round_trips
    abroad = changed(trips.anchors[0], place="aws:us-east-1")
    rules = changed(refused.attestation, round_trips=changed(trips, anchors=(abroad,)))
    policy = replace(refused, attestation=rules)

    def never(*_: object) -> bytes:
        raise AssertionError("it was asked")

    outcome = run(made(tmp_path), policy, ask=never)
    assert {each.signal: each.verdict for each in outcome.findings}["round-trip"] == "unknown"


def test_a_host_without_a_key_cannot_be_run_and_one_that_others_can_read_is_not_used(
    tmp_path: Path,
) -> None:
    """A key that is not secret is nobody's identity."""
    home = made(tmp_path, bound=False)
    with pytest.raises(KeyMissing, match="no key to answer with"):
        run(home)
    bind(home)
    places.host_key_path(home).chmod(0o644)
    with pytest.raises(LogKeyUnusable):
        run(home)


def test_a_challenge_is_good_once_and_for_ten_minutes(tmp_path: Path) -> None:
    """For a host whose answer is carried: neither twice nor late."""
    home, now = made(tmp_path), utcnow()
    given = running.give_challenge(home, "local", now)
    assert running.take_challenge(home, "local", now + timedelta(minutes=10)) == given
    with pytest.raises(BadInput, match="no challenge"):
        running.take_challenge(home, "local", now)
    for late in (timedelta(minutes=10, seconds=1), timedelta(seconds=-1)):
        running.give_challenge(home, "local", now)
        with pytest.raises(BadInput, match="no challenge"):
            running.take_challenge(home, "local", now + late)


# --- what anybody can check ------------------------------------------------------------------


def noted(home: Home) -> bytes:
    return places.note_path(home, "local").read_bytes()


def test_anybody_can_judge_an_attestation_again_with_public_keys_only(tmp_path: Path) -> None:
    """An auditor asks none of us: the file, three keys, and no network."""
    home = made(tmp_path)
    signed_now(home)
    outcome = run(home)
    host = places.pinned(home.trust, "local")
    found = check(noted(home), Trusted(controller(home), host, (FACILITY.verifier,), POLICY))
    assert (found.outcome, found.faults, found.unpinned) == (outcome, (), ())
    found = check(noted(home), Trusted(controller(home)))
    assert (found.faults, found.unpinned) == ((), ("rules", "host key", "attesters"))


def resigned(home: Home, **more: object) -> bytes:
    """What a controller that lies would sign."""
    outcome = opened(noted(home), controller(home), Attestation)
    assert outcome is not None
    said = msgspec.structs.replace(outcome, **more)
    return sealed(said, running.signing_key(home))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"verdict": "proves"}, "does not follow"),
        ({"suffices": True}, "does not follow"),
        ({"vouchers": ("anchors", "operator", "provider")}, "does not follow"),
        ({"evidence": ""}, "does not follow"),
        ({"nonce": "cd" * 32}, "does not follow"),
        ({"host_key": str(OTHER_HOST.verifier)}, "not the pinned one"),
        ({"host_key": "nonsense"}, "none"),
        ({"attesters": (str(OTHER_HOST.verifier),)}, "not pinned"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_controller_that_says_more_than_it_was_brought_is_found_out(
    tmp_path: Path, more: dict[str, object], says: str
) -> None:
    """It has the key that signs, and not those of host, attesters and anchors."""
    home = made(tmp_path)
    signed_now(home)
    run(home, fetch=saying("ash"))
    trusted = Trusted(controller(home), places.pinned(home.trust, "local"), (FACILITY.verifier,))
    assert check(noted(home), trusted).faults == ()
    assert any(says in fault for fault in check(resigned(home, **more), trusted).faults)


def test_a_controller_that_judges_by_rules_of_its_own_is_found_out_with_the_policy(
    tmp_path: Path,
) -> None:
    """An anchor it made up itself would vouch for anything; the policy names those that count."""
    home = made(tmp_path)
    run(home)
    (fault,) = check(noted(home), Trusted(controller(home), policy=IMMUNE)).faults
    assert "other rules or points" in fault
    location = changed(POLICY.locations[PLACE], latitude="10.0")
    moved = replace(POLICY, locations={**POLICY.locations, PLACE: location})
    assert check(noted(home), Trusted(controller(home), policy=moved)).faults
    assert check(noted(home), Trusted(controller(home), policy=POLICY)).faults == ()


def test_an_attestation_that_lasts_longer_than_its_rules_is_found_out(tmp_path: Path) -> None:
    """A day is the most there is, whoever signs."""
    home = made(tmp_path)
    outcome = run(home)
    late = resigned(home, expires_at=outcome.at + timedelta(days=2))
    assert check(late, Trusted(controller(home))).faults == (
        "it lasts longer than its rules let it",
    )


def test_a_changed_byte_anywhere_is_found(tmp_path: Path) -> None:
    """A note that was edited is one that nobody signed."""
    home = made(tmp_path)
    run(home)
    note = noted(home)
    for at in range(0, len(note), 97):
        spoiled = note[:at] + bytes([note[at] ^ 1]) + note[at + 1 :]
        assert check(spoiled, Trusted(controller(home))).outcome is None


def test_an_attestation_with_too_much_in_it_is_refused_and_not_lost(tmp_path: Path) -> None:
    """A note that nobody could read again would be no attestation."""
    home = made(tmp_path)
    for number in range(60):
        signed = signed_now(home, because="x" * 1000)
        signed.rename(signed.with_name(f"{number}.note"))
    with pytest.raises(BadInput, match="larger than a note"):
        run(home)


def test_the_place_of_the_claim_is_the_one_of_the_settings(tmp_path: Path) -> None:
    """With its point from the table."""
    claim = places.claim_of(made(tmp_path), EEA, "local", PLACE)
    assert (claim.zone, claim.latitude, claim.radius_km) == ("fsn1", "50.48", 30)
