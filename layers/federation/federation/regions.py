"""The seven continents, their Atlas clusters, and the way from a continent to its store's URI."""

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


def get_mongo_uri_by_continent(continent: str, uris: Mapping[str, str] | None = None) -> str:
    """The connection string of a continent's Atlas cluster.

    Parameters
    ----------
    continent : str
        One of the seven names, such as `"Europe"`.
    uris : Mapping[str, str], optional
        Continent to URI; by default the `uris` of the secret that the setting `MONGO_SECRET` names.

    Raises
    ------
    UnknownContinent
        For any other name; never returns `None`.
    SettingsError
        The setting is missing, or the secret names no URI for this continent.
    """
    from federation.errors import SettingsError

    chosen = continent_named(continent)
    if uris is None:
        import os

        from federation.secrets import read_secret

        name = os.environ.get("MONGO_SECRET")
        if not name:
            raise SettingsError(["MONGO_SECRET is missing"])
        uris = read_secret(name)["uris"]
    try:
        return uris[chosen.value]
    except KeyError:
        raise SettingsError([f"no MongoDB URI for {chosen.value}"]) from None
