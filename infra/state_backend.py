"""Judge where Pulumi would keep its state: it names every machine and holds every secret.

`file` is the operator's own disk, under SOVEREIGN_HOME. Anything else has to be a host that
we know the place of: one of the policy's dependencies, or a cloud's object storage. Silence
means no here, too: `pulumi login` without a word would be Pulumi Cloud.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import SplitResult, parse_qs, urlsplit

from infra.guard.rules import STATE_DATA, STATE_VERB, Judgement, judge_place
from infra.offers import Shop
from infra.stack import FILE_BACKEND
from sovereign.policy import Policy

SUBJECT = "state-backend"
_S3_SETTINGS = {"endpoint", "region", "s3ForcePathStyle", "use_path_style", "awssdk"}


@dataclass(frozen=True, slots=True)
class Backend:
    """A state backend: the URL as written, and the code of its place ("" for our own disk)."""

    url: str
    place: str


def backend_of(url: str, policy: Policy, shops: Iterable[Shop]) -> Backend:
    """Return where `url` leads. What we cannot read to the end is its own, unknown, place."""
    parts = urlsplit(url)
    if url == FILE_BACKEND or (parts.scheme == "file" and not parts.netloc):
        return Backend(url, "")
    host = _bucket_host(parts.query) if parts.scheme == "s3" else _service_host(parts)
    return Backend(url, _place(host, policy, shops) or host or f"{parts.scheme or 'no'}-backend")


def judge_backend(policy: Policy, backend: Backend, asked_at: datetime) -> tuple[Judgement, ...]:
    """May infrastructure state rest there? Nothing is asked about the operator's own disk."""
    if not backend.place:
        return ()
    return judge_place(
        policy, SUBJECT, backend.place, asked_at, data=STATE_DATA, verbs=(STATE_VERB,)
    )


def _bucket_host(query: str) -> str:
    """The one endpoint of an S3 URL; "" for none (that is AWS), several, or a doubtful setting.

    Only settings that leave the endpoint and TLS alone are known: `disable_https`, say, is not.
    """
    settings = parse_qs(query, keep_blank_values=True)
    endpoints = settings.get("endpoint", [])
    if len(endpoints) != 1 or not set(settings) <= _S3_SETTINGS:
        return ""
    endpoint = endpoints[0] if "://" in endpoints[0] else f"https://{endpoints[0]}"
    parts = urlsplit(endpoint)
    return (parts.hostname or "") if parts.scheme == "https" else ""


def _service_host(parts: SplitResult) -> str:
    """A service of its own over TLS. In other schemes the name is a bucket's, not a host's."""
    return (parts.hostname or "") if parts.scheme == "https" else ""


def _place(host: str, policy: Policy, shops: Iterable[Shop]) -> str:
    if not host:
        return ""
    for dependency in policy.dependencies.values():
        if host in {address.rpartition(":")[0] for address in dependency.addresses}:
            return dependency.place
    for shop in shops:
        if host in shop.storage:
            return f"{shop.provider}:{shop.storage[host]}"
    return ""
