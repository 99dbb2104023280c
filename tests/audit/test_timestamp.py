"""Time stamps of a real authority (`openssl ts`): good ones, and every way to be a bad one."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign.audit.witnesses import timestamp
from sovereign.audit.witnesses.timestamp import TOKEN_MAX_BYTES, NotStamped, Query, Stamp
from sovereign.errors import BadInput
from tests.audit import witnesslab as lab
from tests.needs import need
from tests.tools import tsa
from tests.tools.tsa import Authority

SIGNED = lab.log(7)["checkpoint"]
OTHER = lab.log(8)["checkpoint"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    lacking = tsa.missing()
    need(not lacking, f"no {', '.join(lacking)}", "apt install openssl")
    return tsa.made(tmp_path_factory.mktemp("tsa") / "good")


@pytest.fixture(scope="module")
def query() -> Query:
    return timestamp.query(SIGNED)


@pytest.fixture(scope="module")
def token(authority: Authority, query: Query) -> bytes:
    return authority.reply(query.der)


def stamped(token: bytes, anchor: str, signed: bytes = SIGNED, nonce: int | None = None) -> Stamp:
    return timestamp.check(token, signed, anchor, nonce)


def test_a_good_token_tells_when_in_the_authoritys_own_time(
    authority: Authority, query: Query, token: bytes
) -> None:
    """Asked now, answered now, and openssl itself agrees that it is good."""
    stamp = stamped(token, authority.anchor, nonce=query.nonce)
    assert abs(stamp.at - datetime.now(UTC)) < timedelta(minutes=5)
    assert stamp.at.tzinfo is UTC
    assert stamp.policy == tsa.POLICY
    assert authority.verifies(token, SIGNED)
    assert stamped(token, authority.anchor) == stamp, "and years later, without the question"


def test_a_token_for_another_checkpoint_certifies_nothing(
    authority: Authority, token: bytes
) -> None:
    """The imprint is over every byte, signatures included."""
    for other in (OTHER, SIGNED + b"\n", SIGNED[:-1]):
        with pytest.raises(NotStamped):
            stamped(token, authority.anchor, other)
        assert not authority.verifies(token, other)


def test_an_answer_to_another_question_is_refused(authority: Authority, token: bytes) -> None:
    """An old token played back would make a late checkpoint look early."""
    again = timestamp.query(SIGNED)
    with pytest.raises(NotStamped, match="Nonce"):
        stamped(token, authority.anchor, nonce=again.nonce)


def test_two_questions_never_have_the_same_number() -> None:
    """A nonce that repeats protects nobody."""
    assert len({timestamp.query(SIGNED).nonce for _ in range(50)}) == 50


def test_another_authority_is_not_the_one_that_was_pinned(
    authority: Authority, token: bytes, tmp_path: Path
) -> None:
    """Also one that took the same names: the certificate counts, not what it is called."""
    namesake = tsa.made(tmp_path / "namesake")
    with pytest.raises(NotStamped):
        stamped(token, namesake.anchor)
    forged = namesake.reply(timestamp.query(SIGNED).der)
    assert stamped(forged, namesake.anchor)
    with pytest.raises(NotStamped):
        stamped(forged, authority.anchor)


@pytest.mark.parametrize("days", [(-30, -1), (1, 30)], ids=["expired", "not-yet"])
def test_a_signer_that_is_not_valid_at_the_tokens_time_certifies_nothing(
    days: tuple[int, int], tmp_path: Path
) -> None:
    """Whoever finds an old key must not be able to make new times with it."""
    bad = tsa.made(tmp_path / "bad", days=days)
    reply = bad.reply(timestamp.query(SIGNED).der)
    with pytest.raises(NotStamped):
        stamped(reply, bad.anchor)


def test_a_refusal_is_not_a_token(authority: Authority) -> None:
    """An authority says no inside the same structure."""
    refusal = authority.reply(b"not a question")
    assert refusal
    with pytest.raises(NotStamped):
        stamped(refusal, authority.anchor)


def test_no_bit_of_a_token_can_be_changed(authority: Authority, token: bytes) -> None:
    """Every bit that is part of what was said; a changed one is refused, never a crash."""
    good = stamped(token, authority.anchor)
    for at in range(0, len(token), 7):
        spoiled = token[:at] + bytes([token[at] ^ 1 << at % 8]) + token[at + 1 :]
        try:
            changed = stamped(spoiled, authority.anchor)
        except NotStamped:
            continue
        assert changed == good, f"byte {at} changed what the token says"


def test_a_certificate_inside_that_is_none_only_says_no(authority: Authority, token: bytes) -> None:
    """Found by fuzzing: X.509 of a version that does not exist is no ValueError in the library."""
    version_3 = bytes.fromhex("a003020102")
    assert version_3 in token
    for version in (0x03, 0x7F, 0xFF):
        spoiled = token.replace(version_3, version_3[:-1] + bytes([version]))
        with pytest.raises(NotStamped):
            stamped(spoiled, authority.anchor)


def test_whatever_an_authority_answers_checking_it_only_says_no(authority: Authority) -> None:
    """It is somebody else's machine."""

    @given(st.binary(max_size=200))
    def refused(junk: bytes) -> None:
        with pytest.raises(NotStamped):
            stamped(junk, authority.anchor)

    refused()


def test_certificates_may_come_in_any_order(
    authority: Authority, query: Query, token: bytes
) -> None:
    """CMS does not sort them, and OpenSSL does not either; the library reads sorted ones alone."""
    sorted_one = timestamp.in_order(token)
    assert sorted_one != token, "the case is here, or this test says nothing"
    assert sorted(sorted_one) == sorted(token)
    assert timestamp.in_order(sorted_one) == sorted_one
    assert stamped(sorted_one, authority.anchor) == stamped(token, authority.anchor)
    assert authority.verifies(sorted_one, SIGNED)


def test_an_answer_without_an_end_and_an_empty_question_are_refused(authority: Authority) -> None:
    """Bounds, both ways."""
    with pytest.raises(NotStamped):
        stamped(b"0" * (TOKEN_MAX_BYTES + 1), authority.anchor)
    with pytest.raises(BadInput):
        timestamp.query(b"")
