//! Amounts as Kubernetes writes them: `2`, `500m`, `1.5Gi`, `1e3`. Pure.

/// Digits behind the point that are read. The smallest unit has nine.
const FRACTION_MAX: usize = 18;

/// An amount in billionths, the smallest unit of Kubernetes, rounded up. `None`: it is none, or larger than anything that
/// there is.
pub fn billionths(text: &str) -> Option<u128> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if part.len() > FRACTION_MAX || whole.is_empty() && part.is_empty() {
        return None;
    }
    let part_scale = 10_u128.pow(u32::try_from(part.len()).ok()?);
    let digits: u128 = format!("{whole}{part}").parse().ok()?;
    Some(digits.checked_mul(unit(suffix)?)?.div_ceil(part_scale))
}

/// What a suffix stands for, in billionths.
fn unit(suffix: &str) -> Option<u128> {
    const ONE: u128 = 1_000_000_000;
    Some(match suffix {
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        "" => ONE,
        "k" => ONE * 1_000,
        "M" => ONE * 1_000_000,
        "G" => ONE * 1_000_000_000,
        "T" => ONE * 1_000_000_000_000,
        "P" => ONE * 1_000_000_000_000_000,
        "E" => ONE * 1_000_000_000_000_000_000,
        "Ki" => ONE << 10,
        "Mi" => ONE << 20,
        "Gi" => ONE << 30,
        "Ti" => ONE << 40,
        "Pi" => ONE << 50,
        "Ei" => ONE << 60,
        exponent => {
            let exponent: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            10_u128.checked_pow(u32::try_from(9_i32.checked_add(exponent)?).ok()?)?
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_kubernetes_is_read() {
        let one = 1_000_000_000;
        for (text, expected) in [
            ("1", Some(one)),
            ("1000m", Some(one)),
            ("0.5", Some(one / 2)),
            (".5", Some(one / 2)),
            ("5.", Some(5 * one)),
            ("1e3", Some(1_000 * one)),
            ("1E3", Some(1_000 * one)),
            ("1E", Some(one * 1_000_000_000_000_000_000)),
            ("2e-3", Some(2_000_000)),
            ("1.5Gi", Some(3 * (one << 29))),
            ("1Pi", Some(one << 50)),
            ("0.0000000001", Some(1)),
            ("", None),
            (".", None),
            ("1.2.3", None),
            ("many", None),
            ("-1", None),
            ("1 Gi", None),
            ("1e99", None),
            ("99999999999999999999999999999999999999Ei", None),
        ] {
            assert_eq!(billionths(text), expected, "{text}");
        }
    }
}
