"""What a name means at this site, and from when on it means something else."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from sovereign.errors import PolicyUnreadable, SettingsUnreadable
from sovereign.gateway.aliases import names
from sovereign.policy.yamlfile import read_as
from sovereign.settings import AliasSettings, Settings
from tests.gateway.site import EEA
from tests.simulated.engine import MODEL

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)
OTHER = "tiny-mixtral"


def own(name: str = "codestral-latest", model: str = MODEL, **more: Any) -> AliasSettings:
    return AliasSettings(name, model, **more)


def moving(**more: Any) -> AliasSettings:
    return own(next=OTHER, from_=NOON, **more)


def test_an_alias_of_the_facts_means_the_weights_it_means_at_mistral() -> None:
    """`open-mixtral-8x7b` is one model in the world; `codestral-latest` has no weights at all."""
    known = names(EEA.models, ())
    assert known.meant("open-mixtral-8x7b", NOON) == "mixtral-8x7b-instruct-v0.1"
    assert known.meant("mistral-small-latest", NOON) == "mistral-small-4-119b-2603"
    assert known.meant("codestral-latest", NOON) == "codestral-latest"


def test_an_id_and_a_name_nobody_knows_mean_themselves() -> None:
    """What is no alias is not looked at."""
    known = names(EEA.models, (own(),))
    for name in (MODEL, OTHER, "gpt-9", "", "x" * 10_000):
        assert known.meant(name, NOON) == name
        assert known.announced(name, NOON) == ""


def test_a_site_says_what_a_name_means_here_also_where_the_facts_say_otherwise() -> None:
    """A site that serves the small model of last year may call it `mistral-small-latest`."""
    known = names(EEA.models, (own(), own("mistral-small-latest", OTHER)))
    assert known.meant("codestral-latest", NOON) == MODEL
    assert known.meant("mistral-small-latest", NOON) == OTHER
    assert [alias.name for alias in known.of(OTHER, NOON)] == ["mistral-small-latest"]


def test_an_alias_moves_at_its_moment_and_is_announced_until_then() -> None:
    """To the microsecond, by the time of the request."""
    known = names(EEA.models, (moving(),))
    said = "codestral-latest=tiny-mixtral at 2026-12-01T12:00:00Z"
    for now, model, announced in (
        (NOON - timedelta(days=400), MODEL, said),
        (NOON - TICK, MODEL, said),
        (NOON, OTHER, ""),
        (NOON + timedelta(days=400), OTHER, ""),
    ):
        assert known.meant("codestral-latest", now) == model
        assert known.announced("codestral-latest", now) == announced
        assert [alias.name for alias in known.of(model, now)] == ["codestral-latest"]


def test_a_moment_is_the_same_in_every_zone() -> None:
    """An operator writes the time of his wall; clients read UTC."""
    paris = timezone(timedelta(hours=1))
    known = names(EEA.models, (own(next=OTHER, from_=datetime(2026, 12, 1, 13, tzinfo=paris)),))
    assert known.announced("codestral-latest", NOON - TICK).endswith("at 2026-12-01T12:00:00Z")
    assert known.meant("codestral-latest", NOON) == OTHER


@pytest.mark.parametrize(
    ("aliases", "says"),
    [
        ((own(MODEL, OTHER),), "hide a model"),
        ((own(), own(model=OTHER)), "twice"),
        ((own(model="gpt-9"),), "no model"),
        ((own(model="mistral-small-latest"),), "no model"),  # an alias of an alias
        ((own(next="gpt-9", from_=NOON),), "no model"),
    ],
)
def test_an_alias_that_could_mean_two_things_or_nothing_stops_the_start(
    aliases: tuple[AliasSettings, ...], says: str
) -> None:
    """At the start, not at the first request of the day it moves."""
    with pytest.raises(SettingsUnreadable, match=says):
        names(EEA.models, aliases)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{name: a, model: b}", own("a", "b")),
        (
            "{name: a, model: b, next: c, from: 2026-12-01T12:00:00Z}",
            AliasSettings("a", "b", "c", NOON),
        ),
        ("{name: a, model: b, next: c}", None),
        ("{name: a, model: b, from: 2026-12-01T12:00:00Z}", None),
        ("{name: a, model: b, next: c, from: 2026-12-01T12:00:00}", None),  # of which zone?
        ("{name: a, model: b, next: c, from: 2026-12-01}", None),
        ("{name: 'a\\nb', model: b}", None),
        ("{name: '', model: b}", None),
        ("{model: b}", None),
        ("{name: a}", None),
        ("{name: a, model: b, until: 2026-12-01T12:00:00Z}", None),
    ],
)
def test_an_alias_in_the_settings_says_all_of_it_or_is_refused(
    tmp_path: Path, text: str, found: AliasSettings | None
) -> None:
    """A date without a zone would move at another moment on another machine."""
    path = tmp_path / "sovereign.yaml"
    path.write_text(f"version: 1\naliases:\n  - {text}\n")
    if found is None:
        with pytest.raises(PolicyUnreadable):
            read_as(path, Settings)
    else:
        assert read_as(path, Settings).aliases == (found,)
