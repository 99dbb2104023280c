"""In what ways a new policy asks for less before it believes where a host is. Pure.

Fewer vouchers, and bounds that were widened, allow more. Anything else about signals, anchors and
locations is a question somebody has to answer for: an anchor that is gone contradicts nobody any
more, and a new one can vouch.
"""

from collections.abc import Iterator, Mapping

import msgspec

from sovereign.policy import Policy
from sovereign.policy.shapes import AttestationFile, PlaceRequired, RoundTrips

Way = tuple[str, str, str]
"""What, before, after."""
_SMALLER_IS_STRICTER = ("valid_s", "skew_s", "statement_max_days")
_SMALLER_TRIP_IS_STRICTER = ("slack_ms", "detour_percent", "near_km", "samples_min")
_NO_REQUIREMENT = PlaceRequired("", 0, "-")


def looser(old: Policy, new: Policy) -> Iterator[Way]:
    """Every way, in the words of rules/attestation.yaml and facts/locations.yaml."""
    was, now = old.attestation, new.attestation
    yield from _bounds(was, now)
    yield from _trips(was.round_trips, now.round_trips)
    yield from _required(was, now)
    yield from _changed("voucher of", _vouchers(was), _vouchers(now))
    yield from _changed("anchor", _anchors(was.round_trips), _anchors(now.round_trips))
    yield from _changed("location of", _points(old), _points(new))
    for place in {each.place for each in now.exempt} - {each.place for each in was.exempt}:
        yield f"vouchers for {place}", "asked for", "not asked for"


def _bounds(was: AttestationFile, now: AttestationFile) -> Iterator[Way]:
    for name in _SMALLER_IS_STRICTER:
        before, after = getattr(was, name), getattr(now, name)
        if after > before:
            yield f"attestation {name}", str(before), str(after)


def _trips(was: RoundTrips, now: RoundTrips) -> Iterator[Way]:
    for name in _SMALLER_TRIP_IS_STRICTER:
        before, after = getattr(was, name), getattr(now, name)
        if after > before:
            yield f"round trips {name}", str(before), str(after)
    if now.organisations < was.organisations:
        yield "round trips organisations", str(was.organisations), str(now.organisations)
    if now.medium != was.medium:
        yield "round trips medium", was.medium, now.medium


def _required(was: AttestationFile, now: AttestationFile) -> Iterator[Way]:
    before = {each.profile: each for each in was.required}
    for after in now.required:
        row = before.get(after.profile, _NO_REQUIREMENT)
        if after.vouchers < row.vouchers:
            yield f"vouchers under {after.profile}", str(row.vouchers), str(after.vouchers)
        if not set(row.must) <= set(after.must):
            yield f"signals that must be under {after.profile}", _words(row), _words(after)


def _words(row: PlaceRequired) -> str:
    return ", ".join(sorted(row.must)) or "none"


def _vouchers(file: AttestationFile) -> Mapping[str, str]:
    return {each.id: each.vouched_by for each in file.signals}


def _anchors(trips: RoundTrips) -> Mapping[str, str]:
    return {each.id: msgspec.json.encode(each, order="sorted").decode() for each in trips.anchors}


def _points(policy: Policy) -> Mapping[str, str]:
    return {
        code: f"{at.latitude}, {at.longitude} ({at.radius_km} km)"
        for code, at in policy.locations.items()
    }


def _changed(what: str, was: Mapping[str, str], now: Mapping[str, str]) -> Iterator[Way]:
    for name in sorted({*was, *now}):
        before, after = was.get(name, "none"), now.get(name, "none")
        if before != after:
            yield f"{what} {name}", before, after
