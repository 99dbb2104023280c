"""The tables of the page on Mistral, out of the policy's facts.

The page `docs/guide/mistral.md` is written by hand but for what stands between two marks; that is
made here, so that no figure of a fact stands in two places. What pages of 2025 said is quoted
here and nowhere else: it is what readers bring along.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

from typer.testing import CliRunner

from sovereign import catalogue, residency
from sovereign import policy as policies
from sovereign.catalogue import Entry
from sovereign.cli import app
from sovereign.policy import Policy
from sovereign.policy.shapes import ApiPrice, Model
from sovereign.residency import Question
from sovereign.sizing import picture
from sovereign.sizing.formats import weight_format

PAGE = Path(__file__).parent / "guide/mistral.md"
DRAWN = "mixtral-8x7b"
"""The mixture of experts that the page draws."""
SPLIT, CARD, CARDS = "mixtral-8x22b", "h100-sxm", 4
"""The model that the page splits over GPUs, and how."""
PROFILES = ("eea", "immune", "adequate")
SITE = "scaleway:fr-par-2"
_MARKED = re.compile(r"(<!-- begin (\S+): .*? -->\n).*?(<!-- end -->\n)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Told:
    """What pages of 2025 said of one name, and the names it goes by today."""

    name: str
    kind: str
    context: str
    used_for: str
    today: tuple[str, ...]
    usd: str = ""


TOLD = (
    Told("Large", "proprietary", "128k", "best answers", ("mistral-large-latest",), "2.00 / 6.00"),
    Told("Medium", "proprietary", "32k", "a balance", ("mistral-medium-latest",)),
    Told("Small", "proprietary", "32k", "low cost", ("mistral-small-latest",), "0.20 / 0.60"),
    Told("Codestral", "for code", "32k", "code", ("codestral-latest", "codestral"), "0.20 / 0.60"),
    Told("Mixtral 8x7B", "open", "32k", "hosting it oneself", ("mixtral-8x7b",), "free / free"),
    Told("Mixtral 8x22B", "open", "64k", "the best open one", ("mixtral-8x22b",)),
    Told("Mistral 7B", "open", "32k", "small and fast", ("mistral-7b",)),
)


def page() -> str:
    """The page with every marked part made anew.

    Raises:
        KeyError: a mark that no part belongs to.
    """
    policy = policies.load()
    return _MARKED.sub(lambda m: f"{m[1]}{PARTS[m[2]](policy)}\n{m[3]}", PAGE.read_text())


def drawing() -> str:
    """The picture of the page, as `sovereign models moe --svg` draws it."""
    policy = policies.load()
    model = catalogue.with_weights(policy, DRAWN)
    a = policy.catalogue.architectures[model.architecture]
    return picture.routing_svg(model.name, a, weight_format("bf16"))


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [" | ".join(head)]
    lines += ["|".join("---" for _ in lines[0].split(" | "))]
    lines += [" | ".join(row) for row in rows]
    return "\n".join(f"|{line}|" if "---" in line else f"| {line} |" for line in lines)


def lineup(policy: Policy) -> str:
    """A row for each name and what it means today."""
    head = ("pages of 2025", "said", "today", "10^9", "context", "weights", "at Mistral")
    return _table(head, (_means(policy, told, name) for told in TOLD for name in told.today))


def _means(policy: Policy, told: Told, name: str) -> tuple[str, ...]:
    entry = catalogue.find(policy, name)
    first = name == told.today[0]
    return (
        told.name if first else "",
        f"{told.kind}, {told.context}, for {told.used_for}" if first else "",
        f"{entry.name} (`{entry.id}`)",
        _parameters(entry),
        f"{entry.context // 1024}k{_doubt(entry, 'context')}",
        entry.licence if isinstance(entry, Model) else "not published",
        _served(policy, entry),
    )


def _parameters(entry: Entry) -> str:
    if not isinstance(entry, Model):
        return "?"
    every, used = entry.parameters_total_b, entry.parameters_active_b
    doubt = _doubt(entry, "parameters_total_b") or _doubt(entry, "parameters_active_b")
    return (every if every == used else f"{every}, {used} used") + doubt


def _doubt(entry: Entry, figure: str) -> str:
    return " ?" if catalogue.sureness(entry, figure) == "low" else ""


def _served(policy: Policy, entry: Entry) -> str:
    until, instead = entry.lifecycle.retired_on, catalogue.replacement(policy, entry)
    if until is None:
        return "no end announced"
    return f"until {until}" + (f"; then {instead.name}" if instead else "")


def experts(_policy: Policy) -> str:
    """What `sovereign models moe` shows of the drawn model."""
    asked = f"models moe {DRAWN}"
    return _block((f"$ sovereign {asked}", *_printed(asked)))


def _block(lines: Iterable[str]) -> str:
    return "\n".join(f"    {line}".rstrip() for line in lines)


def prices(policy: Policy) -> str:
    """A row for each name whose price older pages have, and for Medium."""
    surcharge = policy.catalogue.regional.percent
    head = (
        "",
        "pages of 2025, USD",
        "today, USD",
        "today, EUR",
        f"kept in the EU (+{surcharge} %), EUR",
        "read on",
    )
    return _table(
        head, (_priced(policy, told) for told in TOLD if told.usd or "Medium" in told.name)
    )


def _priced(policy: Policy, told: Told) -> tuple[str, ...]:
    entry = catalogue.find(policy, told.today[0])
    price, factor = entry.price, 1 + policy.catalogue.regional.percent / 100
    name = f"{told.name} (`{entry.id}`)"
    if price is None:
        return (name, told.usd or "-", "not sold any more", "", "", str(entry.checked_on))
    return (
        name,
        told.usd or "-",
        f"{price.input_usd} / {price.output_usd}",
        f"{price.input_eur} / {price.output_eur}",
        _times(price, factor),
        str(price.read_on),
    )


def _times(price: ApiPrice, factor: float) -> str:
    return " / ".join(f"{float(each) * factor:.4g}" for each in (price.input_eur, price.output_eur))


def split(_policy: Policy) -> str:
    """Of what `sovereign size --plan` prints: the layout, memory a GPU, and vLLM's command."""
    asked = f"size {SPLIT} --dtype bf16 --gpu {CARD} --gpus {CARDS} --plan"
    lines = _printed(asked)
    layout = next(at for at, line in enumerate(lines) if line.startswith(f"  {CARDS} x "))
    command = lines[lines.index("--- engine command") + 1]
    folded = command.replace(" --", " \\\n    --").split("\n")
    shown = (*lines[layout : layout + 3], "…", "--- engine command", *folded)
    return _block((f"$ sovereign {asked}", "…", *shown, "…"))


def _printed(command: str) -> list[str]:
    """What a command that looks at facts alone prints, at a site that has no settings."""
    with TemporaryDirectory() as nowhere:
        done = CliRunner().invoke(app, command.split(), env={"SOVEREIGN_HOME": nowhere})
    assert done.exit_code == 0, done.output
    return done.stdout.splitlines()


def places(policy: Policy) -> str:
    """May personal data be processed there? One row for each way to Mistral's models."""
    asked = [policy.dependencies[f"mistral-hosted-api{tail}"] for tail in ("", "-eu")]
    ways = {f"`{each.addresses[0].removesuffix(':443')}`": each.place for each in asked}
    ways[f"a site of yours at `{SITE}`"] = SITE
    at = datetime.combine(policy.places[SITE].checked_on, time(12), UTC)
    judging = [policies.load(profile=name) for name in PROFILES]
    rows = []
    for way, place in ways.items():
        question = Question(place, "personal", "process", at)
        answers = [residency.decide(judged, question) for judged in judging]
        rows.append((way, *(f"{each.verdict} (`{each.rule}`)" for each in answers)))
    return _table(("way", *PROFILES), rows)


PARTS: Mapping[str, Callable[[Policy], str]] = MappingProxyType(
    {"line-up": lineup, "experts": experts, "prices": prices, "split": split, "places": places}
)
