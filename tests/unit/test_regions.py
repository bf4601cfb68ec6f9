"""The nearest other continent of each: a table, checked against the places of the regions."""

import math

import pytest

from federation.regions import CONTINENTS, NEAREST, Continent

#: Degrees north and east of the clusters' preferred regions.
PLACES = {
    Continent.ASIA: (35.68, 139.69),  # Tokyo
    Continent.EUROPE: (50.11, 8.68),  # Frankfurt
    Continent.NORTH_AMERICA: (38.95, -77.45),  # Northern Virginia
    Continent.SOUTH_AMERICA: (-23.55, -46.63),  # São Paulo
    Continent.AFRICA: (-26.20, 28.05),  # Johannesburg
    Continent.OCEANIA: (-33.87, 151.21),  # Sydney
    Continent.MIDDLE_EAST: (26.07, 50.55),  # Bahrain
}


def _angle(one: Continent, other: Continent) -> float:
    (north, east), (to_north, to_east) = (map(math.radians, PLACES[each]) for each in (one, other))
    return math.acos(
        math.sin(north) * math.sin(to_north)
        + math.cos(north) * math.cos(to_north) * math.cos(to_east - east)
    )


@pytest.mark.parametrize("continent", CONTINENTS)
def test_no_other_continent_s_cluster_is_nearer(continent: Continent) -> None:
    others = [one for one in CONTINENTS if one is not continent]
    assert NEAREST[continent] == min(others, key=lambda other: _angle(continent, other))
