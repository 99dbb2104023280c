"""Every way a resource can be refused, and the one way it is allowed."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.guard import rules
from infra.guard.rules import UNKNOWN, Resource, judge
from infra.guard.types import PLACED, PROVIDER
from sovereign import policy as policies

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SERVER = "scaleway:instance/server:Server"
VOLUME = "scaleway:block/volume:Volume"
BUCKET = "scaleway:object/bucket:Bucket"
POOL = "scaleway:kubernetes/pool:Pool"
PARIS = {"zone": "fr-par-2", "region": "fr-par"}
EEA_RULE = "personal-data-stays-in-eea"


def resource(kind=SERVER, inputs=None, provider=None, protected=True):
    return Resource(kind, f"urn::{kind}::it", inputs or {}, provider or {}, protected)


def refusing(policy, asked):
    return {answer.rule for answer in judge(policy, asked, NOW) if not answer.allowed}


@pytest.mark.parametrize("kind", [SERVER, VOLUME, BUCKET, POOL])
def test_a_resource_in_paris_is_allowed_to_store_and_to_process(eea, kind):
    """The plain case; if it were refused, everything would be, and nobody would notice why."""
    answers = judge(eea, resource(kind, PARIS), NOW)
    assert {answer.verb for answer in answers} == {"store", "process"}
    assert {(answer.verdict, answer.rule) for answer in answers} == {("allow", EEA_RULE)}


@pytest.mark.parametrize(
    "zone", ["eu-west-2", "uk-lon1", "fr-par-9", "fr-par2", "FR-PAR-2", " fr-par-2", "ch-gva-2"]
)
def test_a_code_that_only_looks_like_a_zone_is_refused(eea, zone):
    """Zones are looked up, never matched by how they look."""
    assert refusing(eea, resource(inputs={"zone": zone})) == {"place-is-known"}


@pytest.mark.parametrize(
    ("cloud", "zone", "rule"),
    [
        ("aws", "eu-west-2", EEA_RULE),  # London, at Amazon
        ("aws", "eu-central-1", EEA_RULE),  # Frankfurt, under the law of the US
        ("exoscale", "at-vie-1", EEA_RULE),  # Vienna, under the law of Switzerland
    ],
)
def test_a_known_place_outside_the_promise_is_refused_by_the_promise(
    eea, monkeypatch, cloud, zone, rule
):
    """The German data centre of a US firm is the case every reviewer asks about."""
    kind = f"{cloud}:compute/server:Server"
    monkeypatch.setitem(PLACED, kind, ("zone",))
    assert refusing(eea, resource(kind, {"zone": zone})) == {rule}


def test_a_type_that_is_in_no_list_is_refused(eea):
    """The day a provider adds a service is the day nobody has thought about it."""
    assert refusing(eea, resource("scaleway:brain/upload:Upload", PARIS)) == {rules.TYPE_KNOWN}


def test_an_old_spelling_of_a_type_is_refused(eea):
    """It is the same machine, but not the same name, and only names are known."""
    asked = resource("scaleway:index/instanceServer:InstanceServer", PARIS)
    assert refusing(eea, asked) == {rules.TYPE_KNOWN}


def test_a_type_spread_over_places_nobody_names_is_refused(eea):
    """Content at edge sites is content anywhere."""
    asked = resource("scaleway:edgeservices/pipeline:Pipeline")
    assert refusing(eea, asked) == {rules.PLACE_STATED}


def test_a_type_without_data_is_allowed_with_its_reason(eea):
    """A public key has no place; the plan still shows that somebody thought about it."""
    (answer,) = judge(eea, resource("scaleway:iam/sshKey:SshKey"), NOW)
    assert (answer.allowed, answer.rule) == (True, rules.PLACELESS_RULE)
    assert answer.because


@pytest.mark.parametrize("missing", [None, "", UNKNOWN, 7, {}])
def test_a_place_that_is_left_out_or_not_known_before_it_is_made_is_refused(eea, missing):
    """The engine would fill it from an environment variable that no plan shows."""
    assert refusing(eea, resource(inputs={"zone": missing})) == {rules.PLACE_STATED}


def test_a_place_left_out_is_taken_from_the_provider(eea):
    """That is what the cloud would do, so that is what is judged."""
    assert not refusing(eea, resource(provider=PARIS))
    assert refusing(eea, resource(provider={"zone": "eu-west-2"})) == {"place-is-known"}
    assert refusing(eea, resource(provider={"zone": UNKNOWN})) == {rules.PLACE_STATED}


def test_the_provider_itself_is_judged_by_region_and_zone(eea):
    """Its region is the default of everything that states none."""
    kind = PROVIDER + "scaleway"
    assert not refusing(eea, resource(kind, PARIS))
    assert refusing(eea, resource(kind, {"zone": "fr-par-2"})) == {rules.PLACE_STATED}
    assert refusing(eea, resource(kind, {**PARIS, "region": "us"})) == {"place-is-known"}


@pytest.mark.parametrize("redirect", ["apiUrl", "endpoints"])
def test_a_provider_that_calls_elsewhere_is_refused(eea, redirect):
    """With another address behind it, a region is only a word."""
    asked = resource(PROVIDER + "scaleway", {**PARIS, redirect: "https://elsewhere.example"})
    assert refusing(eea, asked) == {rules.PROVIDER_DIRECT}


def test_the_provider_of_another_cloud_is_refused(eea):
    """Nobody has said how that cloud spells its places."""
    assert refusing(eea, resource(PROVIDER + "aws", PARIS)) == {rules.TYPE_KNOWN}


def test_every_input_that_names_a_place_is_judged_at_any_depth(eea):
    """A replica inside a list inside a block is where a second country hides."""
    nested = {**PARIS, "replicas": [{"settings": {"region": "us-east"}}]}
    assert refusing(eea, resource(inputs=nested)) == {"place-is-known"}
    listed = {**PARIS, "spread": {"zones": ["fr-par-1", "uk-lon1"]}}
    assert refusing(eea, resource(inputs=listed)) == {"place-is-known"}


def test_a_list_of_places_that_are_all_allowed_is_allowed(eea):
    """Spreading over three zones of Paris stays in Paris."""
    listed = {**PARIS, "spread": {"zones": ["fr-par-1", "fr-par-3"]}}
    assert not refusing(eea, resource(inputs=listed))


def test_a_tag_called_region_moves_nothing(eea):
    """Tags are words for people; refusing them would teach people to avoid the guard."""
    assert not refusing(eea, resource(inputs={**PARIS, "tags": {"region": "sales"}}))


@pytest.mark.parametrize("name", ["sameRegion", "backupSameRegion"])
@pytest.mark.parametrize(("value", "refused"), [(True, False), (False, True), (UNKNOWN, True)])
def test_copies_that_may_rest_in_another_region_are_refused(eea, name, value, refused):
    """`backupSameRegion: false` puts the whole database into a region that no line names."""
    asked = resource("scaleway:databases/instance:Instance", {**PARIS, name: value})
    assert refusing(eea, asked) == ({rules.PLACE_STATED} if refused else set())


@pytest.mark.parametrize("kind", [VOLUME, BUCKET])
def test_what_holds_data_must_be_protected(eea, kind):
    """An edit of one line must not be able to delete the audit log."""
    assert refusing(eea, resource(kind, PARIS, protected=False)) == {rules.DATA_PROTECTED}
    assert not refusing(eea, resource(SERVER, PARIS, protected=False))


def test_inputs_nested_beyond_reason_are_refused(eea):
    """What we do not read to the end we do not know."""
    deep: object = "bottom"
    for _ in range(rules.DEPTH_MAX + 3):
        deep = {"in": deep}
    assert refusing(eea, resource(inputs={**PARIS, "settings": deep})) == {rules.PLACE_STATED}


def test_a_stale_row_is_refused(eea):
    """The same plan, a year after anybody looked at who owns the place."""
    later = NOW.replace(year=2028)
    answers = judge(eea, resource(inputs=PARIS), later)
    assert {answer.rule for answer in answers} == {"place-facts-are-fresh"}


def test_whatever_immune_allows_eea_allows(eea):
    """A stricter profile is stricter for every place in the table."""
    immune = policies.load(profile="immune")
    for place in immune.places:
        allowed = [
            all(answer.allowed for answer in rules.judge_place(policy, "machine", place, NOW))
            for policy in (immune, eea)
        ]
        assert allowed in ([True, True], [False, True], [False, False])


def test_a_refusal_names_its_rule_the_resource_and_the_place(eea):
    """It is all that somebody who meets the engine's output will read."""
    (answer, _) = judge(eea, resource(inputs={"zone": "eu-west-2"}), NOW)
    said = rules.sentence(answer)
    for word in ("place-is-known", SERVER, "scaleway:eu-west-2", "store personal data"):
        assert word in said


VALUES = st.recursive(
    st.none() | st.booleans() | st.text(max_size=6) | st.just(UNKNOWN) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(kind=st.sampled_from(sorted(PLACED)), inputs=st.dictionaries(st.text(max_size=8), VALUES))
def test_no_input_whatever_lets_a_resource_without_a_place_pass(eea, kind, inputs):
    """Total: it never fails, it always answers, and without a known place the answer is no."""
    for name in ("zone", "region"):
        inputs.pop(name, None)
    answers = judge(eea, resource(kind, inputs), NOW)
    assert answers
    assert not all(answer.allowed for answer in answers)
