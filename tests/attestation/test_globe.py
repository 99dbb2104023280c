"""Distances on the earth, against known ones, and what disks have in common, against trying out."""

import math
import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sovereign.attestation.globe import (
    EARTH_KM,
    HALF_WAY_ROUND_KM,
    Disk,
    Point,
    distance_km,
    farthest_km,
)

POINTS = st.builds(
    Point,
    st.floats(-90, 90, allow_nan=False),
    st.floats(-180, 180, allow_nan=False),
)
LONDON, FRANKFURT = Point(51.5074, -0.1278), Point(50.1109, 8.6821)


@pytest.mark.parametrize(
    ("one", "two", "known_km"),
    [
        ((50.1109, 8.6821), (48.8566, 2.3522), 479),  # Frankfurt, Paris
        ((51.5074, -0.1278), (48.8566, 2.3522), 344),  # London, Paris
        ((52.5200, 13.4050), (48.1351, 11.5820), 504),  # Berlin, Munich
        ((60.1699, 24.9384), (59.3293, 18.0686), 396),  # Helsinki, Stockholm
        ((50.1109, 8.6821), (40.7128, -74.0060), 6204),  # Frankfurt, New York
        ((52.2297, 21.0122), (-33.8688, 151.2093), 15_600),  # Warsaw, Sydney
        ((0, 179.5), (0, -179.5), 111),  # over the date line
        ((90, 0), (-90, 0), 20_015),  # pole to pole
    ],
)
def test_the_distances_of_known_cities_are_known(
    one: tuple[float, float], two: tuple[float, float], known_km: float
) -> None:
    """A host is accused on the word of this function."""
    found = distance_km(Point(*one), Point(*two))
    assert found == pytest.approx(known_km, rel=0.01)


@given(POINTS, POINTS, POINTS)
def test_distances_are_those_of_a_ball(one: Point, two: Point, three: Point) -> None:
    """The same both ways, never longer than half the way round, and no detour is shorter."""
    there = distance_km(one, two)
    assert there == pytest.approx(distance_km(two, one), abs=1e-6)
    assert 0 <= there <= HALF_WAY_ROUND_KM + 1e-6
    assert distance_km(one, three) <= there + distance_km(two, three) + 1e-6
    assert distance_km(one, one) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(("latitude", "longitude"), [(90.1, 0), (0, 180.1), (math.nan, 0)])
def test_what_is_not_on_the_earth_is_no_point(latitude: float, longitude: float) -> None:
    """A slip of the pen in a policy must not become a place."""
    with pytest.raises(ValueError, match="no point"):
        Point(latitude, longitude)


def test_one_disk_leaves_its_far_edge_open() -> None:
    """The simplest case, done by hand: the distance to the centre and the radius."""
    apart = distance_km(LONDON, FRANKFURT)
    assert farthest_km(LONDON, [Disk(FRANKFURT, 100)]) == pytest.approx(apart + 100, abs=0.1)
    assert farthest_km(FRANKFURT, [Disk(FRANKFURT, 100)]) == pytest.approx(100, abs=0.1)


def test_disks_that_touch_leave_a_point_and_those_that_do_not_leave_nothing() -> None:
    """Nowhere is an answer of its own: somebody lies."""
    apart = distance_km(LONDON, FRANKFURT)
    touching = [Disk(LONDON, apart / 2), Disk(FRANKFURT, apart / 2)]
    assert farthest_km(LONDON, touching) == pytest.approx(apart / 2, abs=5)
    assert (
        farthest_km(LONDON, [Disk(LONDON, apart / 2 - 1), Disk(FRANKFURT, apart / 2 - 1)]) is None
    )


def test_no_disk_and_one_of_everywhere_leave_the_whole_earth() -> None:
    """A time of a quarter of a second says nothing about where on earth."""
    assert farthest_km(LONDON, []) == HALF_WAY_ROUND_KM
    assert farthest_km(LONDON, [Disk(FRANKFURT, 30_000)]) == HALF_WAY_ROUND_KM
    assert farthest_km(LONDON, [Disk(FRANKFURT, 20_014)]) == pytest.approx(
        HALF_WAY_ROUND_KM, rel=0.01
    )


DISKS = st.lists(
    st.builds(Disk, POINTS, st.floats(20, 12_000, allow_nan=False)), min_size=1, max_size=4
)


@given(POINTS, DISKS, st.randoms(use_true_random=False))
def test_nothing_that_is_in_every_disk_is_farther_than_what_is_said(
    origin: Point, disks: list[Disk], chosen: random.Random
) -> None:
    """Compared with trying out: points anywhere that lie in all of them."""
    found = farthest_km(origin, disks)
    for _ in range(60):
        disk = chosen.choice(disks)
        point = _somewhere_in(disk, chosen)
        if all(distance_km(point, each.centre) <= each.radius_km for each in disks):
            assert found is not None
            assert distance_km(origin, point) <= found + 0.1


@given(POINTS, DISKS, POINTS)
def test_a_further_disk_never_opens_anything(origin: Point, disks: list[Disk], more: Point) -> None:
    """Another measurement narrows, or leaves as it was."""
    before = farthest_km(origin, disks)
    after = farthest_km(origin, [*disks, Disk(more, 3000)])
    assert after is None or (before is not None and after <= before + 0.1)


@given(POINTS, st.lists(POINTS, min_size=1, max_size=5))
def test_where_somebody_really_is_there_is_a_place(true: Point, anchors: list[Point]) -> None:
    """Disks that all hold one point have something in common, however they touch."""
    disks = [Disk(each, distance_km(true, each)) for each in anchors]
    assume(all(disk.radius_km > 1 for disk in disks))
    assert farthest_km(true, disks) is not None


def _somewhere_in(disk: Disk, chosen: random.Random) -> Point:
    """A point of a disk: so far from its centre, in some direction."""
    far = disk.radius_km * math.sqrt(chosen.random()) / EARTH_KM
    bearing = chosen.uniform(0, 2 * math.pi)
    north, east = math.radians(disk.centre.latitude), math.radians(disk.centre.longitude)
    up = math.sin(north) * math.cos(far) + math.cos(north) * math.sin(far) * math.cos(bearing)
    side = math.atan2(
        math.sin(bearing) * math.sin(far) * math.cos(north),
        math.cos(far) - math.sin(north) * up,
    )
    around = (math.degrees(east + side) + 540) % 360 - 180
    return Point(math.degrees(math.asin(max(-1.0, min(1.0, up)))), around)
