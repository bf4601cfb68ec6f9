//! Proof of Place: the nearest city of a gazetteer, its country and continent, and the H3 cell.
//!
//! The gazetteer is GeoNames' cities of at least 15,000 people (see `data/README.md`), embedded in
//! the binary. Cities are points on the unit sphere in a balanced kd-tree, so that the poles and
//! the antimeridian are places like any other.
//!
//! Continents are those of the federation's seven stores, by the city's country, but:
//! - the countries of `MIDDLE_EAST` form a continent of their own;
//! - Russia is Europe west of 60° E (the Urals), Asia east of it;
//! - Turkey is Middle East but for East Thrace (west of 29° E and north of 40.2° N), Europe;
//! - Egypt is Africa but for Sinai (east of 32.57° E, the Suez Canal), Middle East.

use ahash::AHashMap;
use h3o::{CellIndex, LatLng, Resolution};
use std::sync::LazyLock;

/// Mean radius of the Earth (IUGG R1).
pub const EARTH_RADIUS_M: f64 = 6_371_008.8;
/// About 5 km² a cell: tells a quarter of a city, not a house.
pub const H3_RESOLUTION: Resolution = Resolution::Seven;
pub const LATITUDE_E7_MAX: i64 = 900_000_000;
pub const LONGITUDE_E7_MAX: i64 = 1_800_000_000;

/// Points that are scanned rather than divided.
const LEAF: usize = 8;

const MIDDLE_EAST: [&str; 14] =
    ["AE", "BH", "IL", "IQ", "IR", "JO", "KW", "LB", "OM", "PS", "QA", "SA", "SY", "YE"];

static CITIES: &str = include_str!("../data/cities15000.tsv");
static COUNTRIES: &str = include_str!("../data/countries.tsv");
static GAZETTEER: LazyLock<Gazetteer> = LazyLock::new(Gazetteer::load);

/// Degrees (WGS 84) times ten million.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub latitude_e7: i64,
    pub longitude_e7: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub city: &'static str,
    /// ISO 3166-1 alpha-2.
    pub country: &'static str,
    pub continent: &'static str,
    pub h3_cell: CellIndex,
    /// From the position to the city's centre, along the great circle.
    pub distance_m: u32,
    pub geoname_id: u32,
}

/// The name of the field that is not on the globe, if any.
pub fn out_of_range(position: Position) -> Option<&'static str> {
    if position.latitude_e7.unsigned_abs() > LATITUDE_E7_MAX.unsigned_abs() {
        return Some("latitude_e7");
    }
    (position.longitude_e7.unsigned_abs() > LONGITUDE_E7_MAX.unsigned_abs()).then_some("longitude_e7")
}

/// The place of a position in range; `Err` names the field that is out of range.
pub fn locate(position: Position) -> Result<Place, &'static str> {
    if let Some(field) = out_of_range(position) {
        return Err(field);
    }
    let (latitude, longitude) = degrees(position);
    let h3_cell = LatLng::new(latitude, longitude).map_err(|_| "latitude_e7")?.to_cell(H3_RESOLUTION);
    let gazetteer = &*GAZETTEER;
    let (city, distance_m) = gazetteer.nearest(unit(position));
    Ok(Place {
        city: city.name,
        country: city.country,
        continent: city.continent,
        h3_cell,
        distance_m: distance_m.round() as u32,
        geoname_id: city.geoname_id,
    })
}

/// Great-circle distance of two positions.
pub fn distance_m(from: Position, to: Position) -> f64 {
    arc_m(chord_squared(unit(from), unit(to)))
}

type Point = [f64; 3];

struct City {
    name: &'static str,
    country: &'static str,
    continent: &'static str,
    geoname_id: u32,
}

/// A balanced kd-tree: halves at the widest axis, down to ranges of at most `LEAF` points.
///
/// The dividers lie in an array of their own, as a binary heap does, so that the upper levels stay
/// in the nearest cache.
struct Gazetteer {
    dividers: Vec<Divider>,
    points: Vec<Point>,
    cities: Vec<City>,
}

/// Where the halves of a range end: oceans between them are part of neither.
#[derive(Default, Clone, Copy)]
struct Divider {
    axis: usize,
    lower_max: f64,
    upper_min: f64,
}

/// What a search knows: where to, and the best so far.
struct Search {
    wanted: Point,
    best: usize,
    squared: f64,
}

impl Gazetteer {
    fn load() -> Self {
        let countries: AHashMap<&str, &'static str> = COUNTRIES
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .map(|(country, code)| (country, seven(code)))
            .collect();
        let mut rows: Vec<(Point, City)> = CITIES.lines().filter_map(|line| row(line, &countries)).collect();
        assert!(!rows.is_empty(), "the embedded gazetteer is empty");
        let mut dividers = Vec::new();
        arrange(&mut rows, 0, &mut dividers);
        let (points, cities) = rows.into_iter().unzip();
        Self { dividers, points, cities }
    }

    fn nearest(&self, wanted: Point) -> (&City, f64) {
        let mut search = Search { wanted, best: 0, squared: f64::INFINITY };
        self.descend(0, 0, self.points.len(), [0.0; 3], &mut search);
        (&self.cities[search.best], arc_m(search.squared))
    }

    /// Search a range; `outside` is how far the wanted point lies from the range's box, by axis.
    fn descend(&self, node: usize, start: usize, end: usize, outside: Point, search: &mut Search) {
        if end - start <= LEAF {
            for (offset, point) in self.points[start..end].iter().enumerate() {
                search.offer(start + offset, point);
            }
            return;
        }
        let Divider { axis, lower_max, upper_min } = self.dividers[node];
        let middle = start + (end - start) / 2;
        let wanted = search.wanted[axis];
        let (above_lower, below_upper) = (wanted - lower_max, upper_min - wanted);
        let lower = (2 * node + 1, start, middle, above_lower);
        let upper = (2 * node + 2, middle, end, below_upper);
        for (node, start, end, gap) in if above_lower < below_upper { [lower, upper] } else { [upper, lower] }
        {
            let mut outside = outside;
            outside[axis] = outside[axis].max(gap);
            if squared(outside) < search.squared {
                self.descend(node, start, end, outside, search);
            }
        }
    }
}

impl Search {
    fn offer(&mut self, place: usize, point: &Point) {
        let squared = chord_squared(self.wanted, *point);
        if squared < self.squared {
            (self.best, self.squared) = (place, squared);
        }
    }
}

fn arrange(rows: &mut [(Point, City)], node: usize, dividers: &mut Vec<Divider>) {
    if rows.len() <= LEAF {
        return;
    }
    let axis = widest(rows);
    let middle = rows.len() / 2;
    rows.select_nth_unstable_by(middle, |left, right| left.0[axis].total_cmp(&right.0[axis]));
    let (lower, upper) = rows.split_at_mut(middle);
    if dividers.len() <= node {
        dividers.resize(node + 1, Divider::default());
    }
    dividers[node] = Divider { axis, lower_max: extent(lower, axis).1, upper_min: extent(upper, axis).0 };
    arrange(lower, 2 * node + 1, dividers);
    arrange(upper, 2 * node + 2, dividers);
}

fn widest(rows: &[(Point, City)]) -> usize {
    let width = |axis| {
        let (low, high) = extent(rows, axis);
        high - low
    };
    (1..3).fold(0, |best, axis| if width(axis) > width(best) { axis } else { best })
}

fn extent(rows: &[(Point, City)], axis: usize) -> (f64, f64) {
    rows.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), row| {
        (low.min(row.0[axis]), high.max(row.0[axis]))
    })
}

fn row(line: &'static str, countries: &AHashMap<&str, &'static str>) -> Option<(Point, City)> {
    let mut fields = line.split('\t');
    let geoname_id = fields.next()?.parse().ok()?;
    let latitude_e7 = fields.next()?.parse().ok()?;
    let longitude_e7 = fields.next()?.parse().ok()?;
    let country = fields.next()?;
    let name = fields.next()?;
    let position = Position { latitude_e7, longitude_e7 };
    let continent = special_case(country, position).or_else(|| countries.get(country).copied())?;
    Some((unit(position), City { name, country, continent, geoname_id }))
}

fn seven(continent_code: &str) -> &'static str {
    match continent_code {
        "EU" => "Europe",
        "NA" => "NorthAmerica",
        "SA" => "SouthAmerica",
        "AF" => "Africa",
        "OC" => "Oceania",
        // Nobody lives in a city of Antarctica; its bases are supplied by way of the south.
        "AN" => "SouthAmerica",
        _ => "Asia",
    }
}

fn special_case(country: &str, position: Position) -> Option<&'static str> {
    let (latitude, longitude) = degrees(position);
    match country {
        "RU" => Some(if (0.0..60.0).contains(&longitude) { "Europe" } else { "Asia" }),
        "TR" => Some(if longitude < 29.0 && latitude > 40.2 { "Europe" } else { "MiddleEast" }),
        "EG" => Some(if longitude > 32.57 { "MiddleEast" } else { "Africa" }),
        _ => MIDDLE_EAST.contains(&country).then_some("MiddleEast"),
    }
}

fn degrees(position: Position) -> (f64, f64) {
    (position.latitude_e7 as f64 / 1e7, position.longitude_e7 as f64 / 1e7)
}

fn unit(position: Position) -> Point {
    let (latitude, longitude) = degrees(position);
    let (sin_latitude, cos_latitude) = latitude.to_radians().sin_cos();
    let (sin_longitude, cos_longitude) = longitude.to_radians().sin_cos();
    [cos_latitude * cos_longitude, cos_latitude * sin_longitude, sin_latitude]
}

fn chord_squared(left: Point, right: Point) -> f64 {
    squared([left[0] - right[0], left[1] - right[1], left[2] - right[2]])
}

fn squared(vector: Point) -> f64 {
    vector[0] * vector[0] + vector[1] * vector[1] + vector[2] * vector[2]
}

fn arc_m(chord_squared: f64) -> f64 {
    2.0 * EARTH_RADIUS_M * (chord_squared.sqrt() / 2.0).min(1.0).asin()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(latitude: f64, longitude: f64) -> Position {
        Position { latitude_e7: (latitude * 1e7) as i64, longitude_e7: (longitude * 1e7) as i64 }
    }

    #[test]
    fn known_cities_lie_in_their_continents() {
        for (latitude, longitude, country, continent) in [
            (35.6895, 139.6917, "JP", "Asia"),
            (50.1109, 8.6821, "DE", "Europe"),
            (39.0437, -77.4875, "US", "NorthAmerica"),
            (-23.5475, -46.6361, "BR", "SouthAmerica"),
            (-26.2041, 28.0473, "ZA", "Africa"),
            (-33.8678, 151.2073, "AU", "Oceania"),
            (26.2154, 50.5832, "BH", "MiddleEast"),
            (55.7558, 37.6173, "RU", "Europe"),
            (55.0415, 82.9346, "RU", "Asia"),
            (41.0138, 28.9497, "TR", "Europe"),
            (39.9199, 32.8543, "TR", "MiddleEast"),
            (30.0626, 31.2497, "EG", "Africa"),
            (27.9158, 34.3300, "EG", "MiddleEast"),
            (-18.1416, 178.4415, "FJ", "Oceania"),
        ] {
            let place = locate(at(latitude, longitude)).unwrap();
            assert_eq!((place.country, place.continent), (country, continent), "{place:?}");
            assert!(place.distance_m < 20_000, "{place:?}");
        }
    }

    #[test]
    fn towns_on_a_border_lie_on_their_own_side() {
        for (latitude, longitude, city, country, continent) in [
            (47.6603, 9.1758, "Konstanz", "DE", "Europe"),
            (47.6505, 9.1750, "Kreuzlingen", "CH", "Europe"),
            (48.5730, 7.8152, "Kehl", "DE", "Europe"),
            (48.5839, 7.7455, "Strasbourg", "FR", "Europe"),
            (31.7587, -106.4869, "El Paso", "US", "NorthAmerica"),
            (31.7202, -106.4608, "Ciudad Juárez", "MX", "NorthAmerica"),
            (42.3314, -83.0457, "Detroit", "US", "NorthAmerica"),
            (42.3000, -83.0165, "Windsor", "CA", "NorthAmerica"),
            (-4.2661, 15.2832, "Brazzaville", "CG", "Africa"),
            (-4.3275, 15.3136, "Kinshasa", "CD", "Africa"),
            (29.5267, 35.0078, "Aqaba", "JO", "MiddleEast"),
            (29.5580, 34.9482, "Eilat", "IL", "MiddleEast"),
            // A country's exclave follows its country, but for the special cases.
            (35.8892, -5.3204, "Ceuta", "ES", "Europe"),
            (41.0227, 29.0137, "Üsküdar", "TR", "MiddleEast"),
            (41.6772, 26.5560, "Edirne", "TR", "Europe"),
            (51.7671, 55.0988, "Orenburg", "RU", "Europe"),
            (56.8573, 60.6153, "Yekaterinburg", "RU", "Asia"),
            (29.9737, 32.5263, "Suez", "EG", "Africa"),
        ] {
            let place = locate(at(latitude, longitude)).unwrap();
            assert_eq!((place.city, place.country, place.continent), (city, country, continent));
        }
    }

    #[test]
    fn poles_and_antimeridian_are_places_like_any_other() {
        for position in [at(90.0, 0.0), at(-90.0, 13.0), at(90.0, 180.0)] {
            assert!(locate(position).unwrap().distance_m > 1_000_000);
        }
        assert_eq!(
            locate(at(-17.0, 180.0)).unwrap().geoname_id,
            locate(at(-17.0, -180.0)).unwrap().geoname_id
        );
        assert!(distance_m(at(0.0, 179.999), at(0.0, -179.999)) < 300.0);
    }

    #[test]
    fn a_position_off_the_globe_names_its_field() {
        assert_eq!(locate(Position { latitude_e7: 900_000_001, longitude_e7: 0 }), Err("latitude_e7"));
        assert_eq!(locate(Position { latitude_e7: 0, longitude_e7: -1_800_000_001 }), Err("longitude_e7"));
        assert_eq!(locate(Position { latitude_e7: i64::MIN, longitude_e7: 0 }), Err("latitude_e7"));
        assert_eq!(locate(Position { latitude_e7: 0, longitude_e7: i64::MIN }), Err("longitude_e7"));
    }

    #[test]
    fn every_city_of_the_gazetteer_is_in_the_tree() {
        assert_eq!(GAZETTEER.cities.len(), CITIES.lines().count());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_tree_finds_what_a_scan_finds(latitude in -LATITUDE_E7_MAX..=LATITUDE_E7_MAX, longitude in -LONGITUDE_E7_MAX..=LONGITUDE_E7_MAX) {
            let wanted = unit(Position { latitude_e7: latitude, longitude_e7: longitude });
            let scanned = GAZETTEER.points.iter().map(|point| chord_squared(wanted, *point)).fold(f64::INFINITY, f64::min);
            let (_, found) = GAZETTEER.nearest(wanted);
            prop_assert_eq!(found, arc_m(scanned));
        }
    }
}
