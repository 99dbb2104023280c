"""Turn the folder `policies/` into one frozen `Policy`, or say on which line it fails.

Reading the YAML is `yamlfile.py`, the shape of each file is `shapes.py`; this module joins
them: spells out groups, chooses the profile, and checks what no single file can show. It
never repairs anything: a policy that does not hold together is not loaded at all.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, cast

from sovereign.errors import PolicyUnreadable
from sovereign.policy import cedar, excepted, model, shapes, spoken
from sovereign.policy.digest import canonical, digest

DEFAULT_PROFILE = "eea"
ACCESS = "access/rules.cedar"
"""Under this name the digest counts every `.cedar` file and their schema."""
ANY_MODEL = "any"
"""In a list of prices: every model that has none of its own."""
_BUILT_BESIDE = Path(__file__).resolve().parents[2] / "policies"
_INSTALLED = Path("/etc/sovereign/policies")
T = TypeVar("T")


def default_root() -> Path:
    """The policies of this checkout, or of this host when the package is installed."""
    return _BUILT_BESIDE if _BUILT_BESIDE.is_dir() else _INSTALLED


def load(
    root: Path | None = None,
    profile: str | None = None,
    own_places: Path | None = None,
    exceptions: Iterable[shapes.SiteException] = (),
) -> model.Policy:
    """Read every file once and return the policy they make.

    Args:
        root: the folder `policies/`; by default the one shipped with this package.
        profile: the id of a file under `profiles/`; by default `eea`.
        own_places: a file of the same shape as `facts/places.yaml` with the places that this
            organisation declares itself, such as its own machine room. Absent is fine.
        exceptions: those of this site whose signatures were found good. One that the policy does
            not allow is as if it were not there.

    Raises:
        PolicyUnreadable: a file, line and reason. No policy was loaded.
    """
    return load_with_text(root, profile, own_places, exceptions)[0]


def load_with_text(
    root: Path | None = None,
    profile: str | None = None,
    own_places: Path | None = None,
    exceptions: Iterable[shapes.SiteException] = (),
) -> tuple[model.Policy, bytes]:
    """As `load`, and what that policy says in canonical form, which its digest is made over."""
    root, profile = root or default_root(), profile or DEFAULT_PROFILE
    files, given = _files(root, own_places), tuple(exceptions)
    policy = _resolve(root, files, profile)
    if given:
        counted = _counted(policy, given)
        files |= {f"exceptions/{each.id}": each for each in counted}
        policy = replace(policy, digest=digest(files, profile), exceptions=counted)
    return policy, canonical(files, profile)


def _counted(
    policy: model.Policy, given: tuple[shapes.SiteException, ...]
) -> tuple[shapes.SiteException, ...]:
    """Those that this policy allows, one of each id, by id."""
    judged = (policy.residency, policy.data, policy.audit.changes)
    counted = {each.id: each for each in given if not excepted.fault(each, *judged)}
    return tuple(counted[name] for name in sorted(counted))


def texts(root: Path | None = None, own_places: Path | None = None) -> dict[str, bytes]:
    """Every policy that these files make, in canonical form, by its digest.

    Under each profile, with this organisation's own places and without: a record may name a
    policy of before another was chosen, or of before a place was declared.

    Raises:
        PolicyUnreadable: as `load`.
    """
    root, found = root or default_root(), {}
    for own in dict.fromkeys((own_places, None)):
        files = _files(root, own)
        for profile in _of(files, "profiles/"):
            found[digest(files, profile.id)] = canonical(files, profile.id)
    return found


def _files(root: Path, own_places: Path | None) -> dict[str, Any]:
    from sovereign.policy.yamlfile import read_as  # YAML is slow to import, and often not read

    files: dict[str, Any] = {name: read_as(root / name, s) for name, s in shapes.FILES.items()}
    for folder, shape in shapes.FOLDERS.items():
        files |= _folder(root, folder, shape)
    files[ACCESS] = cedar.read(root, _named_in(files))
    if own_places is not None and own_places.is_file():
        files["own-places.yaml"] = read_as(own_places, shapes.PlacesFile)
    return files


def _folder(root: Path, folder: str, shape: type[shapes.Shape]) -> dict[str, Any]:
    found = sorted((root / folder).glob("*.yaml"))
    if not found:
        raise PolicyUnreadable(f"{root / folder}: no file here", accepted="at least one .yaml file")
    from sovereign.policy.yamlfile import read_as

    return {f"{folder}/{path.name}": read_as(path, shape) for path in found}


def _resolve(root: Path, files: Mapping[str, Any], profile: str) -> model.Policy:
    residency = cast(shapes.ResidencyFile, files["rules/residency.yaml"])
    data = _by_id(root / "rules/data.yaml", files["rules/data.yaml"].classes)
    retention = _by_id(root / "rules/retention.yaml", files["rules/retention.yaml"].classes)
    for kept in retention.values():
        _check_retention(root / "rules/retention.yaml", kept)
    places = _places(root, files)
    _check_second_domain(root / "rules/audit.yaml", files["rules/audit.yaml"], places)
    _check_attestation(root, files, places)
    return model.Policy(
        digest=digest(files, profile),
        profile=profile,
        places=places,
        residency=_active_rules(root, residency, _profile(root, files, profile), data),
        retention=retention,
        data=data,
        models=_models(root, files),
        catalogue=_catalogue(root, files),
        gpus=_gpus(root, files),
        adequacy=files["facts/adequacy.yaml"].decisions,
        law=_by_id(root / "facts/law.yaml", files["facts/law.yaml"].laws),
        licences=_by_id(
            root / "rules/licences.yaml", files["rules/licences.yaml"].licences, "terms"
        ),
        dependencies=_by_id(
            root / "rules/dependencies.yaml", files["rules/dependencies.yaml"].dependencies
        ),
        controls=_by_id(root / "controls", _of(files, "controls/")),
        audit=files["rules/audit.yaml"],
        holds=files["rules/retention.yaml"].holds,
        acknowledging=files["rules/licences.yaml"].acknowledging,
        attestation=files["rules/attestation.yaml"],
        locations=_locations(files["facts/locations.yaml"].locations),
        limits=_limits(root, files),
        access=cedar.rules_of(files[ACCESS], files["access/cases.yaml"].cases),
    )


def _named_in(files: Mapping[str, Any]) -> cedar.Known:
    """What an access rule may name, out of the tables."""
    models = files["facts/models.yaml"].models
    licences = files["rules/licences.yaml"].licences
    return {
        "Model": frozenset(each.id for each in models),
        "Capability": frozenset(can for each in models for can in each.capabilities),
        "Data": frozenset(each.id for each in files["rules/data.yaml"].classes),
        "Basis": frozenset(spoken.BASES),
        "Terms": frozenset(each.terms for each in licences),
        "Serve": frozenset(("yes", "acknowledge", "no")),
    }


def _of(files: Mapping[str, Any], prefix: str) -> list[Any]:
    return [shape for name, shape in files.items() if name.startswith(prefix)]


def _by_id(path: Path, entries: Iterable[T], key: str = "id") -> Mapping[str, T]:
    found: dict[str, T] = {}
    for entry in entries:
        name = getattr(entry, key)
        if name in found:
            raise PolicyUnreadable(
                f"{path}: {key} {name!r} stands twice", accepted="one entry each"
            )
        found[name] = entry
    return MappingProxyType(found)


def _models(root: Path, files: Mapping[str, Any]) -> Mapping[str, shapes.Model]:
    path, file = root / "facts/models.yaml", files["facts/models.yaml"]
    models: Mapping[str, shapes.Model] = _by_id(path, file.models)
    names = [n for e in models.values() for n in (e.id, *e.aliases, *e.short)]
    names += [name for entry in file.hosted for name in (entry.id, *entry.aliases)]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise PolicyUnreadable(
            f"{path}: {', '.join(doubled)} would mean two models",
            accepted="every id, alias and short name once",
        )
    known, licences = {a.id for a in file.architectures}, {text.name for text in file.licences}
    for model_ in models.values():
        _refuse_missing(path, f"{model_.id}: architecture", model_.architecture, known)
        _refuse_missing(path, f"{model_.id}: licence", model_.licence, licences)
    for entry in (*models.values(), *file.hosted):
        if entry.lifecycle.replacement:
            _refuse_missing(path, f"{entry.id}: replacement", entry.lifecycle.replacement, names)
    return models


def _catalogue(root: Path, files: Mapping[str, Any]) -> model.Catalogue:
    path, file = root / "facts/models.yaml", files["facts/models.yaml"]
    return model.Catalogue(
        architectures=_by_id(path, file.architectures),
        hosted=_by_id(path, file.hosted),
        licences=_by_id(path, file.licences, "name"),
        regional=file.regional,
    )


def _gpus(root: Path, files: Mapping[str, Any]) -> shapes.GpusFile:
    """Cards and machines; every machine names a card and a zone that the tables know."""
    path, file = root / "facts/gpus.yaml", cast(shapes.GpusFile, files["facts/gpus.yaml"])
    cards = _by_id(path, file.gpus)
    names = [name for card in file.gpus for name in (card.id, *card.aliases)]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise PolicyUnreadable(f"{path}: {', '.join(doubled)} would mean two GPUs")
    places = {f"{p.id}:{z.zone}" for p in files["facts/places.yaml"].providers for z in p.zones}
    seen: set[tuple[str, str]] = set()
    for each in file.shapes:
        _refuse_missing(path, f"{each.id}: gpu", each.gpu, cards)
        for zone in each.zones:
            _refuse_missing(path, f"{each.id}: zone", f"{each.provider}:{zone}", places)
        if (each.provider, each.id) in seen:
            raise PolicyUnreadable(f"{path}: {each.provider} {each.id} stands twice")
        seen.add((each.provider, each.id))
    return file


def _refuse_missing(path: Path, what: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        raise PolicyUnreadable(
            f"{path}: {what} {name!r} is in no table", accepted=", ".join(sorted(known))
        )


def _profile(root: Path, files: Mapping[str, Any], wanted: str) -> shapes.Profile:
    profiles = cast(list[shapes.Profile], _of(files, "profiles/"))
    known = _by_id(root / "profiles", profiles)
    if wanted not in known:
        raise PolicyUnreadable(
            f"{root / 'profiles'}: there is no profile {wanted!r}", accepted=", ".join(known)
        )
    return known[wanted]


def _places(root: Path, files: Mapping[str, Any]) -> Mapping[str, model.Place]:
    found: dict[str, model.Place] = {}
    for name in ("facts/places.yaml", "own-places.yaml"):
        for provider in files[name].providers if name in files else ():
            for zone in provider.zones:
                place = _place(provider, zone)
                if place.code in found:
                    raise PolicyUnreadable(f"{root / name}: {place.code} stands twice")
                found[place.code] = place
    return MappingProxyType(found)


def _place(provider: shapes.Provider, zone: shapes.Zone) -> model.Place:
    return model.Place(
        code=f"{provider.id}:{zone.zone}",
        provider=provider.id,
        zone=zone.zone,
        region=zone.region,
        country=zone.country,
        under=provider.under,
        entity=provider.entity,
        parents=provider.parents,
        extraterritorial=provider.extraterritorial,
        source=provider.source,
        checked_on=provider.checked_on,
        confidence=provider.confidence,
        gpus=zone.gpus,
    )


def _active_rules(
    root: Path,
    file: shapes.ResidencyFile,
    profile: shapes.Profile,
    data: Mapping[str, shapes.DataClass],
) -> tuple[model.Rule, ...]:
    path = root / "rules/residency.yaml"
    known = _by_id(path, file.rules)
    missing = sorted(set(profile.rules) - set(known))
    if missing:
        raise PolicyUnreadable(
            f"{root / 'profiles'}/{profile.id}.yaml: no rule is called {', '.join(missing)}",
            accepted=", ".join(sorted(known)),
        )
    rules = [_rule(path, file, known[name], data) for name in profile.rules]
    return tuple(sorted(rules, key=lambda rule: rule.id))


def _rule(
    path: Path,
    file: shapes.ResidencyFile,
    rule: shapes.Rule,
    data: Mapping[str, shapes.DataClass],
) -> model.Rule:
    unknown = sorted(set(rule.data) - set(data))
    if unknown:
        raise PolicyUnreadable(
            f"{path}: rule {rule.id} names the data class {', '.join(unknown)}",
            accepted=", ".join(sorted(data)),
        )
    return model.Rule(
        id=rule.id,
        kind=rule.kind,
        verbs=frozenset(rule.verbs),
        data=frozenset(rule.data),
        countries=_spelled_out(path, file, rule.id, rule.countries),
        under=_spelled_out(path, file, rule.id, rule.under),
        max_age_days=rule.max_age_days,
        listeners=frozenset(rule.listeners),
        because=rule.because,
        source=rule.source,
    )


def _spelled_out(
    path: Path, file: shapes.ResidencyFile, rule: str, names: tuple[str, ...]
) -> frozenset[str]:
    codes: set[str] = set()
    for name in names:
        if name in file.groups:
            codes.update(file.groups[name])
        elif len(name) == 2 and name.isascii() and name.isupper():
            codes.add(name)
        else:
            raise PolicyUnreadable(
                f"{path}: rule {rule} names {name!r}, neither a group nor a country",
                accepted=f"two upper-case letters, or one of {', '.join(sorted(file.groups))}",
            )
    return frozenset(codes)


def _limits(root: Path, files: Mapping[str, Any]) -> shapes.LimitsFile:
    """Limits and prices name models of the table, and what a spending limit covers has a price."""
    path, file = root / "rules/limits.yaml", cast(shapes.LimitsFile, files["rules/limits.yaml"])
    _by_id(path, file.limits)
    known = {each.id for each in files["facts/models.yaml"].models}
    for price in file.prices:
        _refuse_missing(path, "price of", price.model, known | {ANY_MODEL})
    priced = {price.model for price in file.prices}
    for limit in file.limits:
        for name in limit.models:
            _refuse_missing(path, f"{limit.id}: model", name, known)
        unpriced = set(limit.models or (ANY_MODEL,)) - priced if limit.counts == "spend" else set()
        if unpriced and ANY_MODEL not in priced:
            raise PolicyUnreadable(
                f"{path}: {limit.id}: there is no price of {', '.join(sorted(unpriced))}",
                accepted=f"a price for it under `prices`, or one for the model `{ANY_MODEL}`",
            )
    return file


def _check_second_domain(
    path: Path, file: shapes.AuditFile, places: Mapping[str, model.Place]
) -> None:
    """A witness or time authority stands at a place of the table, or on this host if it is ours."""
    trusted: tuple[shapes.Witness | shapes.TimeAuthority, ...]
    trusted = (*file.witnesses.known, *file.timestamps.authorities)
    for each in trusted:
        if each.place not in places and not (each.own and each.place == model.THIS_HOST):
            raise PolicyUnreadable(
                f"{path}: {each.id} is at {each.place!r}, which is no place of the table",
                accepted=f"a code of facts/places.yaml; {model.THIS_HOST} for what is our own",
            )


def _check_attestation(
    root: Path, files: Mapping[str, Any], places: Mapping[str, model.Place]
) -> None:
    """Anchors and locations are at places of the table, requirements of profiles there are."""
    rules = cast(shapes.AttestationFile, files["rules/attestation.yaml"])
    path, profiles = root / "rules/attestation.yaml", {p.id for p in _of(files, "profiles/")}
    for anchor in rules.round_trips.anchors:
        _refuse_missing(path, f"{anchor.id}: place", anchor.place, places)
    for asked in rules.required:
        _refuse_missing(path, "required: profile", asked.profile, profiles)
        if rules.round_trips.anchors and not asked.vouchers:
            raise PolicyUnreadable(
                f"{path}: anchors are named, and nobody has to vouch under {asked.profile}: a host "
                "that is elsewhere would only have to leave their reports out",
                accepted="vouchers: 1, or more",
            )
    for silent in sorted(profiles - {asked.profile for asked in rules.required}):
        raise PolicyUnreadable(
            f"{path}: nothing says who must vouch for places under the profile {silent}",
            accepted="a row under required for every profile; vouchers: 0 asks for nobody",
        )
    for each in files["facts/locations.yaml"].locations:
        for code in each.places:
            _refuse_missing(root / "facts/locations.yaml", f"{each.id}: place", code, places)


def _locations(rows: Iterable[shapes.Location]) -> Mapping[str, shapes.Location]:
    return MappingProxyType({code: each for each in rows for code in each.places})


def _check_retention(path: Path, kept: shapes.RetentionClass) -> None:
    """A maximum must leave room for a whole bundle and one run after the minimum has passed."""
    if kept.max_days == "unlimited" or (kept.min_days == 0 and kept.bundle_span_max_hours == 0):
        return
    needed_h = kept.min_days * 24 + kept.bundle_span_max_hours + kept.interval_hours
    if kept.max_days * 24 < needed_h:
        raise PolicyUnreadable(
            f"{path}: class {kept.id}: max_days {kept.max_days} cannot be kept",
            found=f"min_days {kept.min_days}, bundles of up to {kept.bundle_span_max_hours} h, "
            f"a run every {kept.interval_hours} h",
            accepted=f"max_days of at least {-(-needed_h // 24)}",
        )
