"""Whose data may not be used: what the gateway refuses, and what goes on all the same."""

from pathlib import Path

from sovereign.keystore import Restriction
from sovereign.subjects import HEADER, pseudonym
from tests.gateway.site import Site, site
from tests.simulated.engine import engine

ANN = {HEADER: "ann"}


def restrict(ours: Site, purpose: str = "") -> str:
    hers = pseudonym(ours.keystore.known().secrets["acme"], "ann")
    return ours.keystore.restrict(Restriction("res_1", "acme", hers, purpose)).id


async def test_a_restricted_person_is_refused_and_the_refusal_is_hers_to_find(
    tmp_path: Path,
) -> None:
    """GDPR Art. 18(2): nothing but storage; and Art. 15 holds for the refusal, too."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        secret = ours.key(subject="header")
        restrict(ours)
        await ours.seen()
        reply = await ours.chat(secret=secret, headers=ANN)
        assert (reply.status, reply.error["code"]) == (403, "subject-restricted")
        assert not it.asked
        known = ours.keystore.known()
        named = ours.kinds("decision")[-1]
        hers = pseudonym(known.secrets["acme"], "ann")
        assert known.subjects["acme"].is_of(named["subject"], hers)
        assert "ann" not in str(reply.error)


async def test_others_and_other_purposes_are_served_and_so_is_she_once_it_is_lifted(
    tmp_path: Path,
) -> None:
    """A restriction is of one person, and of what she had restricted."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        secret, other = ours.key(subject="header"), ours.key(subject="header", purpose="payroll")
        name = restrict(ours, "tests")
        await ours.seen()
        assert (await ours.chat(secret=secret, headers=ANN)).status == 403
        assert (await ours.chat(secret=secret, headers={HEADER: "ben"})).status == 200
        assert (await ours.chat(secret=other, headers=ANN)).status == 200
        ours.keystore.lift([name])
        await ours.seen()
        assert (await ours.chat(secret=secret, headers=ANN)).status == 200
