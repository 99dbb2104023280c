"""The source that somebody named, once its place is decided.

    FOLDER or FILE.tar                       of this machine: a disk that was carried here
    https://HOST/FOLDER                      a web server
    s3+https://HOST/BUCKET/PREFIX            an object store
    hub+https://HOST/OWNER/NAME@COMMIT       a hub; `hf:OWNER/NAME@COMMIT` is Hugging Face's
    oci+https://HOST/NAME:TAG (or @sha256:…) an OCI registry

Whatever is asked over a network is a dependency of the kind `mirror` that the site declared, and so
is each address that it redirects to. Nothing is asked before `decide` lets weights lie there.
"""

from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from sovereign.errors import ResidencyRefused
from sovereign.policy import THIS_HOST, Policy
from sovereign.residency import Question, decide
from sovereign.settings import DependencySettings, Home
from sovereign.weights import bundle, hub, registry
from sovereign.weights.asking import Asker, address_of, no_url
from sovereign.weights.bringing import as_unfetched
from sovereign.weights.manifest import SUFFIX
from sovereign.weights.mirror import MirrorSource, bucket_asker
from sovereign.weights.sources import FolderSource, Source

DATA, VERB = "weights", "store"
"""What a source does: weights lie there."""
MIRROR = "mirror"
HUB_SHORT = "hf:"
KINDS = ("", "s3", "hub", "oci")


def source_of(home: Home, policy: Policy, given: str, now: datetime) -> Source:
    """The source that was named.

    Raises:
        BadInput: it is none.
        ResidencyRefused: nobody declared the mirror, or its place may not hold weights.
        WeightsUnfetched: a registry does not say how it wants to be asked.
    """
    if given.startswith(HUB_SHORT):
        given = f"hub+{hub.DEFAULT}/{given.removeprefix(HUB_SHORT)}"
    if "://" not in given:
        return _of_this_machine(home, policy, Path(given), now)
    kind = given.partition("://")[0].rpartition("+")[0]
    url = given.removeprefix(f"{kind}+")
    if kind not in KINDS or urlsplit(url).query or urlsplit(url).fragment:
        raise no_url()

    def judge(asked: str) -> DependencySettings:
        return _judged(home, policy, asked, now)

    known = judge(url)
    place, label = _place(policy, known), known.id
    if kind == "hub":
        return hub.of(url, place, label, hub.hub_asker(judge))
    if kind == "oci":
        with as_unfetched():
            asker = registry.registry_asker(judge, url)
        return registry.of(url, place, label, asker)
    return MirrorSource(url, place, label, bucket_asker(judge) if kind == "s3" else Asker(judge))


def _of_this_machine(home: Home, policy: Policy, path: Path, now: datetime) -> Source:
    place = home.settings.place
    if place != THIS_HOST:  # a disk of this machine, of which nobody said where it stands
        _refuse_place(home, policy, place, "", now)
    if path.is_file():
        return bundle.read(path, place)
    beside = [each.with_suffix("") for each in path.glob(f"*{SUFFIX}")]
    whole = len(beside) == 1 and beside[0].is_dir()  # what `bundle --to FOLDER` wrote
    return FolderSource(beside[0] if whole else path, place)


def _judged(home: Home, policy: Policy, url: str, now: datetime) -> DependencySettings:
    address = address_of(url)
    known = next((each for each in _mirrors(home) if each.listener.lower() == address), None)
    if known is None:
        shipped = [each for each in policy.dependencies.values() if address in each.addresses]
        for each in shipped:  # nobody declared it, and where it is is known all the same
            _refuse_place(home, policy, each.place, address, now, each.instead)
        raise ResidencyRefused(
            "nobody has said where this mirror is; nothing was fetched from it",
            rule="default-deny",
            found=address[:120],
            accepted="a dependency of the kind mirror, with this listener and its place",
            next_step=f"declare it in sovereign.yaml (dependencies), or {_others(home, address)}",
        )
    _refuse_place(home, policy, _place(policy, known), address, now)
    return known


def _mirrors(home: Home) -> tuple[DependencySettings, ...]:
    return tuple(each for each in home.settings.dependencies if each.kind == MIRROR)


def _place(policy: Policy, known: DependencySettings) -> str:
    if not known.place and known.id in policy.dependencies:
        return policy.dependencies[known.id].place
    return known.place


def _refuse_place(
    home: Home, policy: Policy, place: str, address: str, now: datetime, instead: str = ""
) -> None:
    answer = decide(policy, Question(place, DATA, VERB, now, address))
    if not answer.allowed:
        raise ResidencyRefused(
            f"weights may not lie at {place or 'an unknown place'}; nothing was fetched",
            rule=answer.rule,
            because=answer.because,
            found=answer.found,
            next_step=f"{_others(home, address)}{f' ({instead})' if instead else ''}",
        )


def _others(home: Home, address: str) -> str:
    """What to fetch from instead: the mirrors that the site has, else the kind to look for."""
    found = [f"{each.id} at {each.listener}" for each in _mirrors(home) if each.listener != address]
    return f"fetch from {', '.join(found[:3]) or 'a mirror in the EEA'}"
