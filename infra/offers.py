"""What each cloud sells: `infra/facts/CLOUD.yaml`, read once at the border.

These are facts about a shop, not about law: whose law a zone is under stands in the policy's
`facts/places.yaml` and is asked for there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from infra.shapes import Offer, Price
from infra.stack import Part
from sovereign.policy.yamlfile import read_as

FOLDER = Path(__file__).with_name("facts")
CLOUDS = ("hetzner", "scaleway")


class Region(Part, frozen=True):
    """A region, its zones, and the name of its object storage."""

    region: str
    zones: tuple[str, ...]
    object_storage: str = ""


class Read(Part, frozen=True):
    """A price as it stood on a page on a day."""

    hour: Annotated[str, Meta(pattern=r"^[0-9]+\.[0-9]+$")]
    currency: Literal["EUR"]
    read_on: date
    source: str


class ShapeFact(Part, frozen=True):
    """A machine type and where it is sold."""

    id: str
    gpus: int
    gpu: str
    gpu_memory_gb: int
    zones: tuple[str, ...]
    price: Read | None = None


class Facts(Part, frozen=True):
    """facts/CLOUD.yaml."""

    version: Literal[1]
    provider: str
    regions: tuple[Region, ...]
    shapes: tuple[ShapeFact, ...]


@dataclass(frozen=True, slots=True)
class Shop:
    """What one cloud sells, ready to be asked."""

    provider: str
    region_of: Mapping[str, str]
    storage: Mapping[str, str]
    offers: Mapping[str, tuple[Offer, ...]]

    def sold_in(self, zone: str) -> tuple[Offer, ...]:
        """The machine types of a zone, the smallest first."""
        return self.offers.get(zone, ())

    def sold_anywhere(self) -> tuple[Offer, ...]:
        """Every machine type, the smallest first."""
        known = {offer.id: offer for offers in self.offers.values() for offer in offers}
        return tuple(sorted(known.values(), key=lambda offer: (offer.gpu_memory_gb, offer.gpus)))


def shop(cloud: str) -> Shop:
    """Read what `cloud` sells.

    Raises:
        PolicyUnreadable: the file does not have its shape; line and reason are named.
    """
    facts = read_as(FOLDER / f"{cloud}.yaml", Facts)
    region_of = {zone: region.region for region in facts.regions for zone in region.zones}
    sold: dict[str, list[Offer]] = {zone: [] for zone in region_of}
    for shape in sorted(facts.shapes, key=lambda shape: (shape.gpu_memory_gb, shape.gpus)):
        for zone in shape.zones:
            sold[zone].append(_offer(shape))
    return Shop(
        provider=facts.provider,
        region_of=region_of,
        storage={r.object_storage: r.region for r in facts.regions if r.object_storage},
        offers={zone: tuple(offers) for zone, offers in sold.items()},
    )


def _offer(shape: ShapeFact) -> Offer:
    price = None
    if shape.price is not None:
        read = shape.price
        price = Price(read.hour, read.currency, read.read_on.isoformat(), read.source)
    return Offer(shape.id, shape.gpus, shape.gpu, shape.gpu_memory_gb, price)
