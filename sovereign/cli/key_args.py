"""What the commands about keys and tenants share: arguments parsed at the border, and results."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from sovereign.cli.output import give, home_of, say
from sovereign.errors import BadInput, NaiveTime, NotDeployed, UnknownName
from sovereign.keystore import Key, Keystore
from sovereign.settings import Home

if TYPE_CHECKING:
    from sovereign.keystore.certificate import ClientCertificate

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen; do nothing.")]
STREAM = ("security",)
RECORDED_WITHIN_S = 30.0
NAME_MAX_CHARS = 128
"""As long as a claim may be that names a tenant or a purpose."""
_SPAN = re.compile(r"([0-9]{1,6})([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_SPANS = "90s, 15m, 24h, 7d"
_ROLE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)


def store_of(home: Path | None, *, looks: bool = False) -> tuple[Home, Keystore]:
    """The keystore of a site that is there, brought up to this version.

    Args:
        looks: nothing will be changed; so nothing is, and the file need not be there.

    Raises:
        NotDeployed: nothing is deployed there.
    """
    where = home_of(home)
    if not where.audit.exists():
        raise NotDeployed(f"there is no site under {where.root}", next_step="make deploy")
    store = Keystore(where.keystore)
    if not looks:
        store.create()
    return where, store


def one_of(what: str, given: str, accepted: list[str]) -> None:
    """Refuse a word that is not in the list.

    Raises:
        UnknownName: it is not.
    """
    if given not in accepted:
        raise UnknownName(f"{given!r} is no {what}", accepted=", ".join(accepted))


def roles_given(given: list[str] | None) -> tuple[str, ...]:
    """The roles, each once, in order.

    Raises:
        BadInput: one of them is no word that a rule could name.
    """
    for each in given or []:
        if not _ROLE.fullmatch(each):
            raise BadInput(
                f"{each!r} is no role", accepted="a word of a-z, 0-9, dot, dash and underscore"
            )
    return tuple(sorted(set(given or [])))


def certificate_given(path: Path) -> "ClientCertificate":
    """The first certificate of a file.

    Raises:
        BadInput: it cannot be read, or holds none.
    """
    from sovereign.keystore import certificate

    try:
        return certificate.read(path.read_bytes())
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or "no certificate in it"
        raise BadInput(
            f"{path} holds no certificate", found=said, accepted="a PEM or DER file"
        ) from None


def span_given(text: str) -> timedelta:
    """A length of time on the command line.

    Raises:
        BadInput: it is none.
    """
    found = _SPAN.fullmatch(text)
    if found is None:
        raise BadInput(f"{text!r} is no length of time", accepted=_SPANS)
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def moment_given(text: str) -> datetime:
    """A time on the command line, with its zone.

    Raises:
        BadInput: it is no time.
        NaiveTime: it has no zone, and nobody knows which was meant.
    """
    try:
        found = datetime.fromisoformat(text)
        known = None if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadInput(f"{text!r} is no time", accepted="2026-12-31T23:00:00Z") from None
    if known is None:
        raise NaiveTime(f"{text!r} has no zone", accepted="2026-12-31T23:00:00Z")
    return known


def name_given(what: str, text: str) -> str:
    """A name that stands in records: what is read there is what it is.

    Raises:
        BadInput: it is empty, long, or has blanks around it or characters that nobody sees.
    """
    if not 0 < len(text) <= NAME_MAX_CHARS or text != text.strip() or not text.isprintable():
        raise BadInput(
            f"a {what} needs a name",
            found=ascii(text)[:NAME_MAX_CHARS],
            accepted=f"a word or a few, without blanks around; at most {NAME_MAX_CHARS} characters",
        )
    return text


def public(key: Key) -> dict[str, object]:
    """A key as JSON: everything but its secret, which is nowhere."""
    content: dict[str, object] = msgspec.to_builtins(key)
    return content


def tell(done: str, shown: Mapping[str, object], *, as_json: bool) -> None:
    """Say what was done, or what would be; `record` is None where nothing was."""
    if as_json:
        give(shown)
        return
    record = shown.get("record")
    say(f"{done}; record {record}" if record else f"{done}; nothing was done")


def show_facts(shown: Mapping[str, object]) -> None:
    """What is known of something, a line each; what is empty is left out."""
    for name, value in shown.items():
        if value not in (None, "", (), []):
            said = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            say(f"  {name:<18}{said}")
