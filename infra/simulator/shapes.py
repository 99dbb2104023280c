"""The words in which the simulator's catalogues are written, one catalogue a cloud."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What a property holds."""

    TEXT = "text"
    NUMBER = "a whole number"
    FLAG = "true or false"
    TEXTS = "a list of texts"
    NUMBERS = "a list of whole numbers"
    LABELS = "a mapping of texts"
    PART = "a mapping with named fields"
    PARTS = "a list of such mappings"


@dataclass(frozen=True, slots=True)
class Field:
    """One property. `fields` are the names inside a PART; `refers` is a type it points at."""

    kind: Kind
    required: bool = False
    replaces: bool = False
    fields: Mapping[str, "Field"] | None = None
    refers: str = ""
    one_of: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Type:
    """A resource type. `place` is the property that says where it is; "" for the account's."""

    place: str
    properties: Mapping[str, Field]


TEXT, NUMBER, FLAG = Field(Kind.TEXT), Field(Kind.NUMBER), Field(Kind.FLAG)
PLACE = Field(Kind.TEXT, replaces=True)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a property is not accepted."""

    property: str
    reason: str
