"""Every point of the globe has a nearest city, a cell and one of seven continents."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import federation_dag

CONTINENTS = {
    "Asia",
    "Europe",
    "NorthAmerica",
    "SouthAmerica",
    "Africa",
    "Oceania",
    "MiddleEast",
}
EARTH_RADIUS_M = 6_371_008.8
positions = st.tuples(
    st.integers(-900_000_000, 900_000_000), st.integers(-1_800_000_000, 1_800_000_000)
)


def e7(latitude: float, longitude: float) -> tuple[int, int]:
    return round(latitude * 10**7), round(longitude * 10**7)


def haversine_m(a: tuple[int, int], b: tuple[int, int]) -> float:
    (lat_a, lon_a), (lat_b, lon_b) = (
        (math.radians(latitude / 1e7), math.radians(longitude / 1e7))
        for latitude, longitude in (a, b)
    )
    square = (
        math.sin((lat_b - lat_a) / 2) ** 2
        + math.cos(lat_a) * math.cos(lat_b) * math.sin((lon_b - lon_a) / 2) ** 2
    )
    return 2 * EARTH_RADIUS_M * math.asin(min(1.0, math.sqrt(square)))


@pytest.mark.parametrize(
    ("position", "city", "country", "continent"),
    [
        (e7(35.6895, 139.6917), "Tokyo", "JP", "Asia"),
        (e7(50.1155, 8.6842), "Frankfurt am Main", "DE", "Europe"),
        (e7(-23.5475, -46.6361), "São Paulo", "BR", "SouthAmerica"),
        (e7(-26.2023, 28.0436), "Johannesburg", "ZA", "Africa"),
        (e7(-33.8678, 151.2073), "Sydney", "AU", "Oceania"),
        (e7(26.2154, 50.5832), "Manama", "BH", "MiddleEast"),
        (e7(19.4285, -99.1277), "Mexico City", "MX", "NorthAmerica"),
        (e7(55.7522, 37.6156), "Moscow", "RU", "Europe"),
        (e7(43.1056, 131.8735), "Vladivostok", "RU", "Asia"),
        (e7(41.6772, 26.5559), "Edirne", "TR", "Europe"),
        (e7(39.9199, 32.8543), "Ankara", "TR", "MiddleEast"),
        (e7(30.0626, 31.2497), "Cairo", "EG", "Africa"),
        (e7(31.1316, 33.7984), "Arish", "EG", "MiddleEast"),
    ],
)
def test_a_known_city_is_found_with_its_continent(
    position: tuple[int, int], city: str, country: str, continent: str
) -> None:
    (place,) = federation_dag.locate([position])
    assert (place.country, place.continent) == (country, continent)
    assert place.distance_m < 5_000, (place.city, city)


@given(st.lists(positions, max_size=20))
def test_every_position_has_a_place(points: list[tuple[int, int]]) -> None:
    places = federation_dag.locate(points)
    assert len(places) == len(points)
    for place in places:
        assert place.continent in CONTINENTS
        assert re.fullmatch("87[0-9a-f]{7}ffffff", place.h3_cell)
        assert re.fullmatch("[A-Z]{2}", place.country)
        assert place.city
        assert place.geoname_id > 0
        assert 0 <= place.distance_m <= math.pi * EARTH_RADIUS_M


@given(positions, positions)
def test_the_distance_is_the_great_circle_both_ways(a: tuple[int, int], b: tuple[int, int]) -> None:
    distance_m = federation_dag.distance_m(a, b)
    assert distance_m == federation_dag.distance_m(b, a)
    assert distance_m == pytest.approx(haversine_m(a, b), rel=1e-6, abs=1.0)


def test_both_sides_of_the_antimeridian_are_neighbours() -> None:
    west, east = e7(-16.5, 179.99), e7(-16.5, -179.99)
    assert federation_dag.distance_m(west, east) < 2_200
    first, second = federation_dag.locate([west, east])
    assert first.geoname_id == second.geoname_id


def test_a_pole_is_one_place_whatever_its_longitude() -> None:
    found = federation_dag.locate([(900_000_000, at) for at in (-1_800_000_000, 0, 1_234_567_890)])
    assert len({place.geoname_id for place in found}) == 1


@pytest.mark.parametrize(
    ("position", "field"),
    [
        ((900_000_001, 0), "latitude_e7"),
        ((0, -1_800_000_001), "longitude_e7"),
        ((-(2**63), 0), "latitude_e7"),
        ((0, -(2**63)), "longitude_e7"),
    ],
)
def test_a_position_off_the_globe_is_an_error_with_index_and_field(
    position: tuple[int, int], field: str
) -> None:
    with pytest.raises(ValueError, match=rf"positions\[1\]\.{field}"):
        federation_dag.locate([(0, 0), position])
