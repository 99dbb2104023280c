"""Distances on the earth, and the farthest point that several disks leave open. Pure.

The earth is a ball here (mean radius, IUGG 1980). It is flattened by 1/298, so a great circle can
be off by a little more than half a percent; whoever concludes something from a distance allows for
`FLATTENED`. Angles are taken from cross and dot product together: near 0 and near half a turn
either alone has lost its digits.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

EARTH_KM = 6371.0088
HALF_WAY_ROUND_KM = math.pi * EARTH_KM
FLATTENED = 1.006
"""By at most this factor the distance over the real earth differs from the one computed here."""
MARGIN_KM = 0.02
"""Twenty metres of grace for arithmetic; measurements are never as good as that."""
_ROUNDING = 1e-9

Vector = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Point:
    """A point in degrees: latitude from -90 to 90, longitude from -180 to 180.

    Raises:
        ValueError: it is not on the earth.
    """

    latitude: float
    longitude: float

    def __post_init__(self) -> None:
        """Refuse what is no point."""
        if not (abs(self.latitude) <= 90 and abs(self.longitude) <= 180):
            raise ValueError(f"{self.latitude}, {self.longitude} is no point on the earth")

    @property
    def vector(self) -> Vector:
        """The same as a direction from the middle of the earth, one long."""
        north, east = math.radians(self.latitude), math.radians(self.longitude)
        return (
            math.cos(north) * math.cos(east),
            math.cos(north) * math.sin(east),
            math.sin(north),
        )


@dataclass(frozen=True, slots=True)
class Disk:
    """Everything that is within `radius_km` of `centre`, the edge included."""

    centre: Point
    radius_km: float

    @property
    def is_everywhere(self) -> bool:
        """Whether it leaves nothing out."""
        return self.radius_km >= HALF_WAY_ROUND_KM


def distance_km(one: Point, two: Point) -> float:
    """The great circle between two points."""
    return _angle(one.vector, two.vector) * EARTH_KM


def farthest_km(origin: Point, disks: Sequence[Disk]) -> float | None:
    """How far from `origin` something can be that is in every disk; None when nothing can be.

    What disks have in common is bounded by arcs. The distance from a point grows along an arc
    towards its ends, or is greatest at the point of the circle that lies straight across; so only
    corners, such points, and the far side of the earth need to be looked at.
    """
    limits = [_wider(disk) for disk in disks if not disk.is_everywhere]
    if not limits:
        return HALF_WAY_ROUND_KM
    start = origin.vector
    inside = (x for x in _candidates(start, limits) if _is_within(x, limits))
    angles = [_angle(start, x) for x in inside]
    return max(angles) * EARTH_KM if angles else None


def _wider(disk: Disk) -> tuple[Vector, float]:
    return disk.centre.vector, min(math.pi, (disk.radius_km + MARGIN_KM) / EARTH_KM)


def _candidates(start: Vector, limits: Sequence[tuple[Vector, float]]) -> Iterator[Vector]:
    yield (-start[0], -start[1], -start[2])
    for centre, radius in limits:
        yield _straight_across(start, centre, radius)
    for (one, first), (two, second) in combinations(limits, 2):
        yield from _crossings(one, first, two, second)


def _straight_across(start: Vector, centre: Vector, radius: float) -> Vector:
    """The point of a circle that is farthest from `start`; any, where all are as far."""
    along = _dot(start, centre)
    away = _unit(tuple(along * c - s for c, s in zip(centre, start, strict=True)))
    away = away or _unit(_cross(centre, _least(centre))) or (0.0, 0.0, 1.0)
    return _sum(math.cos(radius), centre, math.sin(radius), away)


def _crossings(one: Vector, first: float, two: Vector, second: float) -> Iterator[Vector]:
    """Where two circles cross: at two points, at one, or not at all."""
    cosine, normal = _dot(one, two), _cross(one, two)
    squared = _dot(normal, normal)
    if squared < 1e-18:  # the same centre, or opposite ones: circles side by side, or one
        return
    a = (math.cos(first) - math.cos(second) * cosine) / squared
    b = (math.cos(second) - math.cos(first) * cosine) / squared
    rest = (1 - a * a - b * b - 2 * a * b * cosine) / squared
    if rest < -_ROUNDING / squared:
        return
    middle, height = _sum(a, one, b, two), math.sqrt(max(rest, 0.0))
    for sign in (height, -height):
        found = _unit(_sum(1.0, middle, sign, normal))
        if found is not None:
            yield found


def _is_within(x: Vector, limits: Sequence[tuple[Vector, float]]) -> bool:
    grace = MARGIN_KM / 2 / EARTH_KM
    return all(_angle(x, centre) <= radius + grace for centre, radius in limits)


def _angle(one: Vector, two: Vector) -> float:
    cross = _cross(one, two)
    return math.atan2(math.sqrt(_dot(cross, cross)), _dot(one, two))


def _dot(one: Vector, two: Vector) -> float:
    return one[0] * two[0] + one[1] * two[1] + one[2] * two[2]


def _cross(one: Vector, two: Vector) -> Vector:
    return (
        one[1] * two[2] - one[2] * two[1],
        one[2] * two[0] - one[0] * two[2],
        one[0] * two[1] - one[1] * two[0],
    )


def _sum(a: float, one: Vector, b: float, two: Vector) -> Vector:
    return (a * one[0] + b * two[0], a * one[1] + b * two[1], a * one[2] + b * two[2])


def _unit(vector: tuple[float, ...]) -> Vector | None:
    length = math.sqrt(sum(each * each for each in vector))
    if length < 1e-12:
        return None
    x, y, z = (each / length for each in vector)
    return (x, y, z)


def _least(vector: Vector) -> Vector:
    """A direction that is certainly not that of `vector`."""
    axis = min(range(3), key=lambda i: abs(vector[i]))
    return (float(axis == 0), float(axis == 1), float(axis == 2))
