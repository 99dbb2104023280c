"""Where the engine's state may rest: it names every machine and holds every secret."""

from datetime import UTC, datetime

import pytest

from infra.state_backend import backend_of, judge_backend

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
EEA_RULE = "operational-data-stays-in-eea"


@pytest.mark.parametrize(
    ("url", "place", "rule"),
    [
        ("https://api.pulumi.com", "pulumi:cloud", EEA_RULE),
        ("https://app.pulumi.com/org", "pulumi:cloud", EEA_RULE),
        ("https://pulumi.example.org", "pulumi.example.org", "place-is-known"),
        ("s3://state", "s3-backend", "place-is-known"),  # no endpoint: Amazon's
        ("s3://state?region=eu-west-3", "s3-backend", "place-is-known"),
        ("s3://s?endpoint=s3.eu-central-1.amazonaws.com", "s3.eu-central-1.amazonaws.com",
         "place-is-known"),
        ("s3://s?endpoint=s3.fr-par.scw.cloud.example.org", "s3.fr-par.scw.cloud.example.org",
         "place-is-known"),
        # two endpoints: which one would be asked?
        ("s3://s?endpoint=s3.fr-par.scw.cloud&endpoint=x.example", "s3-backend", "place-is-known"),
        ("s3://s?endpoint=x.example&endpoint=s3.fr-par.scw.cloud", "s3-backend", "place-is-known"),
        # the right host, in the clear
        ("s3://s?endpoint=http://s3.fr-par.scw.cloud", "s3-backend", "place-is-known"),
        ("s3://s?endpoint=s3.fr-par.scw.cloud&disable_https=true", "s3-backend",
         "place-is-known"),
        ("http://api.pulumi.com", "http-backend", "place-is-known"),
        # a bucket that is called like a known host
        ("gs://s3.fr-par.scw.cloud", "gs-backend", "place-is-known"),
        ("azblob://state", "azblob-backend", "place-is-known"),
        ("file://s3.fr-par.scw.cloud/share", "file-backend", "place-is-known"),
        ("", "no-backend", "place-is-known"),
    ],
)  # fmt: skip
def test_a_backend_outside_the_table_of_places_is_refused_by_rule(eea, shop, url, place, rule):
    """`pulumi login` without a word keeps every secret of a site in another legal order."""
    backend = backend_of(url, eea, [shop])
    (answer,) = judge_backend(eea, backend, NOW)
    assert backend.place == place
    assert (answer.allowed, answer.rule, answer.data) == (False, rule, "secret")


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("s3://state?region=fr-par&endpoint=s3.fr-par.scw.cloud", "scaleway:fr-par"),
        ("s3://state?endpoint=https://s3.fr-par.scw.cloud&s3ForcePathStyle=true",
         "scaleway:fr-par"),
        ("s3://state?endpoint=s3.nl-ams.scw.cloud:443", "scaleway:nl-ams"),
        ("s3://state?endpoint=s3.gra.io.cloud.ovh.net", "ovh:GRA"),
    ],
)  # fmt: skip
def test_an_object_store_in_the_eea_is_allowed(eea, shop, url, place):
    """A bucket of one's own, at a place that is in the table."""
    (answer,) = judge_backend(eea, backend_of(url, eea, [shop]), NOW)
    assert (answer.allowed, answer.place) == (True, place)


@pytest.mark.parametrize("url", ["file", "file:///srv/state"])
def test_the_operators_own_disk_is_not_asked_about(eea, shop, url):
    """It is where this command runs; whoever runs it has put it there."""
    assert judge_backend(eea, backend_of(url, eea, [shop]), NOW) == ()
