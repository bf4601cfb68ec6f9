"""The seven continents, their Atlas clusters and regions."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from federation.errors import FederationError


class Continent(StrEnum):
    """A home continent: where a sender's transactions are stored."""

    ASIA = "Asia"
    EUROPE = "Europe"
    NORTH_AMERICA = "NorthAmerica"
    SOUTH_AMERICA = "SouthAmerica"
    AFRICA = "Africa"
    OCEANIA = "Oceania"
    MIDDLE_EAST = "MiddleEast"


CONTINENTS: Final = tuple(Continent)

CLUSTERS: Final[Mapping[Continent, str]] = {
    Continent.ASIA: "mongo-asia",
    Continent.EUROPE: "mongo-europe",
    Continent.NORTH_AMERICA: "mongo-na",
    Continent.SOUTH_AMERICA: "mongo-sa",
    Continent.AFRICA: "mongo-africa",
    Continent.OCEANIA: "mongo-oceania",
    Continent.MIDDLE_EAST: "mongo-me",
}

#: AWS regions of each cluster, the first one preferred. Africa's cluster runs on Azure in
#: Johannesburg; the region here is that of its KMS key, Cape Town.
REGIONS: Final[Mapping[Continent, tuple[str, ...]]] = {
    Continent.ASIA: ("ap-northeast-1", "ap-southeast-1"),
    Continent.EUROPE: ("eu-central-1", "eu-west-2"),
    Continent.NORTH_AMERICA: ("us-east-1", "us-west-1"),
    Continent.SOUTH_AMERICA: ("sa-east-1",),
    Continent.AFRICA: ("af-south-1",),
    Continent.OCEANIA: ("ap-southeast-2",),
    Continent.MIDDLE_EAST: ("me-south-1", "me-central-1"),
}

#: The cluster that takes a continent's records when its own can't, if that is allowed: the nearest,
#: by the great circle between the preferred regions (Johannesburg for Africa).
NEAREST: Final[Mapping[Continent, Continent]] = {
    Continent.ASIA: Continent.OCEANIA,
    Continent.EUROPE: Continent.MIDDLE_EAST,
    Continent.NORTH_AMERICA: Continent.EUROPE,
    Continent.SOUTH_AMERICA: Continent.AFRICA,
    Continent.AFRICA: Continent.MIDDLE_EAST,
    Continent.OCEANIA: Continent.ASIA,
    Continent.MIDDLE_EAST: Continent.EUROPE,
}


class UnknownContinent(FederationError):
    """The name is none of the seven continents."""

    def __init__(self, name: object) -> None:
        super().__init__(
            "unknown_continent",
            f"continent {name!r} is none of {', '.join(c.value for c in CONTINENTS)}",
        )


def continent_named(name: object) -> Continent:
    """The continent of that name.

    Raises
    ------
    UnknownContinent
        The message lists the seven.
    """
    try:
        return Continent(str(name))
    except ValueError:
        raise UnknownContinent(name) from None
