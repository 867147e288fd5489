//! Records of `topic_external_data`.

use crate::random::Random;

const PLACES: [&str; 6] = ["Bern", "Lyon", "Porto", "Graz", "Turku", "Gdańsk"];

/// One record of a source, with that source as its key.
pub(super) fn json(random: &mut Random, number: u64, timestamp: &str) -> (String, String) {
    let place = PLACES[random.below(6) as usize];
    let (value, tenths) = (random.below(400), random.below(10));
    let (source, data, value) = match number % 5 {
        0 => {
            ("weather", format!("{{\"wind_kmh\":{},\"rain\":{}}}", value % 90, tenths > 6), format!("{value}.{tenths}"))
        }
        1 => ("maps", format!("{{\"jam\":[{},{}]}}", value % 3, tenths), format!("\"{value} m\"")),
        2 => {
            ("social_media", format!("{{\"posts\":{value},\"tag\":\"#{}\"}}", place.to_lowercase()), value.to_string())
        }
        3 => (
            "market_data",
            format!("{{\"bid\":{value}.{tenths}1,\"ask\":{value}.{tenths}3}}"),
            format!("{value}.{tenths}2"),
        ),
        _ => ("news", format!("{{\"title\":\"Report \\\"{number}\\\" from {place}\"}}"), "null".to_owned()),
    };
    let status = if random.one_in(10) { "degraded" } else { "ok" };
    let json = format!(
        "{{\"data_source\":\"{source}\",\"timestamp\":{timestamp},\"location\":\"{place}\",\"value\":{value},\
         \"status\":\"{status}\",\"data\":{data}}}"
    );
    (source.to_owned(), json)
}
