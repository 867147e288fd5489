//! Records of `topic_clickstream`.

use crate::random::Random;

const EVENT_TYPES: [&str; 4] = ["click", "scroll", "hover", "focus"];
const DEVICES: [&str; 3] = ["desktop", "mobile", "tablet"];
/// Time in which a user has one visit: longer than the gap that ends one (30 minutes), so that visits have gaps.
const VISIT_MS: i64 = 3_600_000;

/// One event of a user. One in twenty has no session, some have no element.
pub(super) fn json(random: &mut Random, user: u64, number: u64, time_ms: i64, timestamp: &str) -> String {
    let visit = user.wrapping_mul(7_919).wrapping_add(time_ms.div_euclid(VISIT_MS) as u64 * 104_729) as u32;
    let session = match random.below(20) {
        0 => String::new(),
        1 => "\"session_id\":null,".to_owned(),
        _ => format!("\"session_id\":\"visit_{visit:08x}\","),
    };
    let element = if random.one_in(4) { String::new() } else { format!("\"element_id\":\"el_{}\",", random.below(40)) };
    let event_type = EVENT_TYPES[random.below(4) as usize];
    let device = DEVICES[if random.one_in(30) { random.below(3) } else { user % 3 } as usize];
    let (page, x, y) = (random.below(60), random.below(1_920), random.below(1_080) as f64 / 2.0);
    format!(
        "{{\"event_id\":\"click-{number:012}\",\"user_id\":\"user_{user:06}\",{session}\
         \"page_url\":\"https://shop.example/p/{page}?ref={}\",\"timestamp\":{timestamp},\"event_type\":\"{event_type}\",\
         {element}\"x_pos\":{x},\"y_pos\":{y},\"device_type\":\"{device}\"}}",
        number % 7
    )
}
