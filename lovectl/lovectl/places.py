"""Real cities of the seven continents, for accounts that need to be somewhere."""

from typing import Final, NamedTuple

from federation.regions import Continent


class City(NamedTuple):
    """A city and its centre in degrees (WGS 84) times ten million."""

    name: str
    latitude_e7: int
    longitude_e7: int


CITIES: Final[dict[Continent, tuple[City, ...]]] = {
    Continent.ASIA: (
        City("Tokyo", 356895000, 1396917100),
        City("Singapore", 12896700, 1038500700),
        City("Mumbai", 190728300, 728826100),
    ),
    Continent.EUROPE: (
        City("Frankfurt am Main", 501155200, 86841700),
        City("Paris", 488534100, 23488000),
        City("Lisbon", 387250900, -91498000),
    ),
    Continent.NORTH_AMERICA: (
        City("New York City", 407142700, -740059700),
        City("San Francisco", 377749300, -1224194200),
        City("Toronto", 437001100, -794163000),
    ),
    Continent.SOUTH_AMERICA: (
        City("São Paulo", -235475000, -466361100),
        City("Buenos Aires", -346131500, -583772300),
        City("Bogotá", 46097100, -740817500),
    ),
    Continent.AFRICA: (
        City("Johannesburg", -262022700, 280436300),
        City("Lagos", 64540700, 33946700),
        City("Nairobi", -12833300, 368166700),
    ),
    Continent.OCEANIA: (
        City("Sydney", -338678500, 1512073200),
        City("Melbourne", -378140000, 1449633200),
        City("Auckland", -368485300, 1747634900),
    ),
    Continent.MIDDLE_EAST: (
        City("Dubai", 250657000, 551712800),
        City("Riyadh", 246877300, 467218500),
        City("Manama", 262278700, 505856500),
    ),
}
