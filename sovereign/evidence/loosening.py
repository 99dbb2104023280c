"""Find in what ways a new policy allows more than the old one. Pure: two policies in, a list out.

Residency and access are asked, not read: every place, class and verb, and everybody known. The
rest is compared, and what is not plainly stricter counts as looser: somebody has to answer for it.
A list that is empty is therefore a promise, and one that is not is only a question.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
from msgspec.structs import replace

from sovereign.evidence import vouching
from sovereign.licence import PRODUCTION, serves
from sovereign.policy import THIS_HOST, Policy
from sovereign.policy.shapes import Clock, Law, Licence, Limit, RetentionClass, Term
from sovereign.residency import Question, decide

VERBS = ("store", "process", "send")
LOOPBACK, REACHABLE = "127.0.0.1:1", "192.0.2.1:1"
MOMENTS_MAX = 32
"""Days at which a place may be judged otherwise than today; those that are looked at."""
FOREVER_DAYS = 10**6
_SERVES = ("no", "acknowledge", "yes")
_SMALLER_IS_STRICTER = (
    *("publish_within_s", "attestation_valid_s", "witnesses.max_age_s", "timestamps.max_age_s"),
    *("host.disk_used_max_percent", "host.clock_error_max_ms", "host.gpu_ecc_errors_max"),
    *("changes.exception_max_days", "holds.max_days", "holds.records_max"),
    "acknowledging.max_days",
)
_BIGGER_IS_STRICTER = ("witnesses.quorum", "changes.replayed_days")
_SHORTER_IS_STRICTER = (
    *("reading.reasons", "reading.restricted", "changes.approvers", "changes.reasons"),
    *("holds.approvers", "holds.bases", "acknowledging.approvers"),
)
_SAYS_NOTHING = ("because", "source", "decided", "describes", "note", "examples", "title")
"""Words for a reader; no answer depends on them."""


@dataclass(frozen=True, slots=True)
class Loosening:
    """One way in which the new policy allows more, or might."""

    what: str
    before: str
    after: str


def loosenings(old: Policy, new: Policy, now: datetime) -> tuple[Loosening, ...]:
    """Every way in which `new` allows more than `old`, judged now and on the days that matter."""
    return (
        *_residency(old, new, now),
        *_retention(old.retention, new.retention),
        *_access(old, new),
        *_licences(old.licences, new.licences),
        *_limits(old, new),
        *_weights(old, new),
        *_dependencies(old, new),
        *(Loosening(*way) for way in vouching.looser(old, new)),
        *_controls(old, new),
        *_clocks(old.law, new.law),
        *_settings(old, new),
    )


# --- residency: asked ------------------------------------------------------------------------


def _residency(old: Policy, new: Policy, now: datetime) -> Iterator[Loosening]:
    """By place and what may happen there: allowed now, or on a later day, and not before."""
    opened: dict[tuple[str, str], set[str]] = {}
    for at in _moments(old, new, now):
        for place, listener in _places(old, new):
            for data in new.data:
                for verb in VERBS:
                    asked = Question(place, data, verb, at, listener)
                    if decide(new, asked).allowed and not decide(old, asked).allowed:
                        when = "" if at == now else f" from {at.date()} on"
                        opened.setdefault((place, when), set()).add(f"{verb} {data}")
    seen: set[tuple[str, str]] = set()
    for (place, when), verbs in opened.items():
        fresh = sorted(each for each in verbs if (place, each) not in seen)
        seen |= {(place, each) for each in fresh}
        if fresh:
            yield Loosening(f"{place}{when}", "refused", ", ".join(fresh))


def _places(old: Policy, new: Policy) -> Iterator[tuple[str, str]]:
    for place in sorted({*old.places, *new.places}):
        yield place, ""
    yield THIS_HOST, LOOPBACK
    yield THIS_HOST, REACHABLE


def _moments(old: Policy, new: Policy, now: datetime) -> tuple[datetime, ...]:
    """Now, and the later days on which facts of either policy begin or cease to count."""
    days = {day for policy in (old, new) for day in _edges(policy) if day > now.date()}
    later = sorted(days)[:MOMENTS_MAX]
    return (now, *(datetime(d.year, d.month, d.day, tzinfo=UTC) for d in later))


def _edges(policy: Policy) -> Iterator[date]:
    ages = {rule.max_age_days for rule in policy.residency if rule.max_age_days is not None}
    for checked in {place.checked_on for place in policy.places.values()}:
        yield from (checked + timedelta(days=age + 1) for age in ages)
    for finding in policy.adequacy:
        if finding.from_ is not None:
            yield finding.from_
        if finding.until is not None:
            yield finding.until + timedelta(days=1)


# --- the rest: compared ----------------------------------------------------------------------


def _retention(
    old: Mapping[str, RetentionClass], new: Mapping[str, RetentionClass]
) -> Iterator[Loosening]:
    """Kept longer, or gone sooner than it had to be there."""
    for name in sorted({*old, *new}):
        was, now = old.get(name), new.get(name)
        if now is None:
            yield Loosening(f"retention of {name}", _kept(was), "no rule: gone at once")
        elif was is not None and _is_looser(was, now):
            yield Loosening(f"retention of {name}", _kept(was), _kept(now))


def _is_looser(was: RetentionClass, now: RetentionClass) -> bool:
    return (
        _days(now.max_days) > _days(was.max_days)
        or now.min_days < was.min_days
        or now.bundle_span_max_hours > was.bundle_span_max_hours
        or now.interval_hours > was.interval_hours
        or was.before_serving > now.before_serving
        or set(was.applies_to) - set(now.applies_to) != set()
    )


def _days(bound: int | str) -> int:
    return bound if isinstance(bound, int) else FOREVER_DAYS


def _kept(kept: RetentionClass | None) -> str:
    return "no rule" if kept is None else f"{kept.min_days} to {kept.max_days} days"


def _access(old: Policy, new: Policy) -> Iterator[Loosening]:
    """A rule that may let somebody in, or that no longer keeps somebody out."""
    was = {rule.id: rule for rule in old.access.rules}
    now = {rule.id: rule for rule in new.access.rules}
    for name in sorted({*was, *now}):
        before, after = was.get(name), now.get(name)
        same = before and after and _meaning(before.text) == _meaning(after.text)
        may = (after and after.effect == "permit") or (before and before.effect == "forbid")
        if may and not same:
            verbs = [each.effect if each else "no rule" for each in (before, after)]
            yield Loosening(f"access rule {name}", verbs[0], f"{verbs[1]}, other words")


def _meaning(text: str) -> str:
    """A rule without its annotations, which no answer depends on."""
    found = [at for at in (text.find(" permit "), text.find(" forbid ")) if at >= 0]
    return text[min(found) :]


def _licences(old: Mapping[str, Licence], new: Mapping[str, Licence]) -> Iterator[Loosening]:
    for terms, licence in sorted(new.items()):
        was = old[terms].serve if terms in old else "no"
        if _SERVES.index(licence.serve) > _SERVES.index(was):
            yield Loosening(f"weights under {terms} terms may serve", was, licence.serve)
        before = serves(old.get(terms), PRODUCTION)
        after = serves(licence, PRODUCTION)
        if _SERVES.index(after) > _SERVES.index(before):
            yield Loosening(f"weights under {terms} terms may serve in production", before, after)
        known = set(old[terms].purposes) if terms in old else set()
        for purpose in sorted(set(licence.purposes) - known if licence.serve != "no" else ()):
            yield Loosening(f"{terms} terms may be accepted", "not for it", f"for {purpose}")


def _limits(old: Policy, new: Policy) -> Iterator[Loosening]:
    """A limit that is gone, or says something else."""
    now: dict[str, Limit] = {each.id: each for each in new.limits.limits}
    for was in old.limits.limits:
        after = now.get(was.id)
        if after is None or _bare(after) != _bare(was):
            yield Loosening(f"limit {was.id}", _shown(was), _shown(after))
    if _bare(old.limits.prices) != _bare(new.limits.prices):
        yield Loosening("prices that spending is counted with", "", "other words")


def _weights(old: Policy, new: Policy) -> Iterator[Loosening]:
    """Other weights under a known name, or freer terms for the same ones."""
    for name, model in sorted(new.models.items()):
        was = old.models.get(name)
        if was is None:
            continue
        pinned, pins = was.sources.package, model.sources.package
        if pinned and (pins is None or pins.sha256 != pinned.sha256):
            yield Loosening(f"weights of {name}", pinned.sha256, pins.sha256 if pins else "any")
        if was.licence_terms != model.licence_terms:
            yield Loosening(f"terms of {name}", was.licence_terms, model.licence_terms)


def _dependencies(old: Policy, new: Policy) -> Iterator[Loosening]:
    for name, after in sorted(new.dependencies.items()):
        was = old.dependencies.get(name)
        if was is None or _bare(was) != _bare(after):
            yield Loosening(f"dependency {name}", _shown(was), _shown(after))


def _controls(old: Policy, new: Policy) -> Iterator[Loosening]:
    for name, was in sorted(old.controls.items()):
        after = new.controls.get(name)
        if after is None or after.check != was.check:
            yield Loosening(f"control {name}", was.check, after.check if after else "not asked")
    for name, data in sorted(old.data.items()):
        if data.personal and name in new.data and not new.data[name].personal:
            yield Loosening(f"class {name}", "personal", "not personal")


def _clocks(old: Mapping[str, Law], new: Mapping[str, Law]) -> Iterator[Loosening]:
    """A duty that is gone, is due later, or has more grounds not to arise; a longer term."""
    for name, was in sorted(old.items()):
        after = new.get(name)
        if was.term is not None and _is_longer(was.term, after.term if after else None):
            yield Loosening(f"term {name}", _shown(was.term), _shown(after and after.term))
        if was.clock is not None and not _is_as_strict(was, was.clock, after):
            yield Loosening(f"clock {name}", _shown(was.clock), _shown(after and after.clock))


def _is_longer(before: Term, after: Term | None) -> bool:
    """Whether a person may be kept waiting for longer, or for ever."""
    if after is None:
        return True
    return after.months > before.months or after.extension_months > before.extension_months


def _is_as_strict(was: Law, before: Clock, law: Law | None) -> bool:
    after = law.clock if law is not None else None
    if law is None or after is None:
        return False
    times = ((before.hours, after.hours), (before.days, after.days), (before.months, after.months))
    sooner = all(0 < late <= early if early else late == 0 for early, late in times)
    grounds = {each.id for each in after.unless} <= {each.id for each in before.unless}
    starts = (was.applies_from or date.min, law.applies_from or date.min)
    timeless = {"hours": 0, "days": 0, "months": 0, "unless": ()}
    same = replace(before, **timeless) == replace(after, **timeless)
    return sooner and grounds and same and starts[1] <= starts[0]


def _settings(old: Policy, new: Policy) -> Iterator[Loosening]:
    """What rules/audit.yaml and the rules of holds say, word by word."""
    was, now = _words(old), _words(new)
    for name in sorted({*was, *now}):
        before, after = was.get(name), now.get(name)
        if before == after or _is_stricter(name, before, after):
            continue
        yield Loosening(name, str(before), str(after))


def _words(policy: Policy) -> dict[str, Any]:
    said = {**_bare(policy.audit), "holds": _bare(policy.holds)}
    said["acknowledging"] = _bare(policy.acknowledging)
    found: dict[str, Any] = {}
    for name, value in said.items():
        inner = value if isinstance(value, dict) else {"": value}
        found |= {f"{name}.{key}".rstrip("."): each for key, each in inner.items()}
    return found


def _is_stricter(name: str, before: Any, after: Any) -> bool:
    """Plainly stricter: a bound that was tightened, or a list that only lost something."""
    if isinstance(before, int) and isinstance(after, int):
        falls = name in _SMALLER_IS_STRICTER and after < before
        return falls or (name in _BIGGER_IS_STRICTER and after > before)
    if isinstance(before, list) and isinstance(after, list):
        return name in _SHORTER_IS_STRICTER and all(each in before for each in after)
    return False


def _bare(shape: object) -> Any:
    """What a shape says, without the words for a reader, in an order of its own."""
    return _without(msgspec.to_builtins(shape))


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without(each) for k, each in value.items() if k not in _SAYS_NOTHING}
    if isinstance(value, list | tuple):
        return sorted((_without(each) for each in value), key=msgspec.json.encode)
    return value


def _shown(shape: object) -> str:
    return "none" if shape is None else msgspec.json.encode(_bare(shape), order="sorted").decode()
