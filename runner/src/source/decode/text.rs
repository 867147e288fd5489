//! Texts inside JSON strings: escapes, and base64.

/// Appends what the content of a JSON string stands for.
///
/// The content has passed [`super::scan::string`], so every escape is whole; of any other content this makes some text.
pub(super) fn unescape(escaped: &str, text: &mut String) {
    let mut rest = escaped;
    while let Some(backslash) = rest.find('\\') {
        text.push_str(&rest[..backslash]);
        rest = &rest[backslash + 1..];
        let Some(letter) = rest.chars().next() else { return };
        rest = &rest[letter.len_utf8()..];
        let character = match letter {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let (character, behind) = unicode_escape(rest);
                rest = behind;
                character
            }
            itself => itself,
        };
        text.push(character);
    }
    text.push_str(rest);
}

/// Reads the four digits behind `\u`, and the second half of a surrogate pair; gives the character and what follows.
fn unicode_escape(digits: &str) -> (char, &str) {
    let (mut code, mut rest) = four_hex_digits(digits);
    if (0xd800..0xdc00).contains(&code)
        && let Some(second) = rest.strip_prefix("\\u")
    {
        let (low, behind) = four_hex_digits(second);
        code = 0x1_0000 + ((code - 0xd800) << 10) + (low & 0x3ff);
        rest = behind;
    }
    (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), rest)
}

fn four_hex_digits(text: &str) -> (u32, &str) {
    let (digits, rest) = text.split_at_checked(4).unwrap_or((text, ""));
    (u32::from_str_radix(digits, 16).unwrap_or(0xd800), rest)
}

/// Appends the bytes that a base64 text stands for: standard alphabet, padding whole or absent. `None` if it is not
/// that; then some bytes may have been appended.
///
/// Unused bits of the last character are not looked at, as in most decoders.
/// Source: RFC 4648 section 4; section 3.2 lets a format leave the padding out.
pub(super) fn decode_base64(text: &str, bytes: &mut Vec<u8>) -> Option<()> {
    let digits = match text.as_bytes() {
        [digits @ .., b'=', b'='] if digits.len() % 4 == 2 => digits,
        [digits @ .., b'='] if digits.len() % 4 == 3 => digits,
        digits => digits,
    };
    let groups = digits.chunks_exact(4);
    let last = groups.remainder();
    for group in groups {
        let [_, high, middle, low] = base64_group(group)?.to_be_bytes();
        bytes.extend_from_slice(&[high, middle, low]);
    }
    match last.len() {
        0 => {}
        1 => return None,
        length => {
            let padded = base64_group(last)? << (6 * (4 - length));
            bytes.extend_from_slice(&padded.to_be_bytes()[1..length]);
        }
    }
    Some(())
}

fn base64_group(digits: &[u8]) -> Option<u32> {
    let mut bits = 0;
    for &digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
    }
    Some(bits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn base64(text: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        decode_base64(text, &mut bytes).map(|()| bytes)
    }

    #[test]
    fn base64_is_read_with_and_without_padding() {
        // The vectors of RFC 4648 section 10.
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
        ] {
            assert_eq!(base64(text).unwrap(), bytes.as_bytes(), "{text}");
            assert_eq!(base64(text.trim_end_matches('=')).unwrap(), bytes.as_bytes(), "{text} without padding");
        }
        assert_eq!(base64("+/+/").unwrap(), [0xfb, 0xff, 0xbf]);
        for wrong in
            ["Z", "Zg=", "Zg===", "=", "==", "Z===", "Zm9v=", "Zm9v==", "Zm 9", "Zm9v\n", "-_-_", "Zgé=", "Z=g="]
        {
            assert_eq!(base64(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn unescaping_agrees_with_serde_json(text in ".{0,40}") {
            for quoted in [serde_json::to_string(&text).unwrap(), ascii_json(&text)] {
                let mut unescaped = String::new();
                unescape(&quoted[1..quoted.len() - 1], &mut unescaped);
                prop_assert_eq!(&unescaped, &text);
            }
        }

        #[test]
        fn unescaping_ends_on_any_text(text in r#"([\\u"dD89aA]|.){0,30}"#) {
            unescape(&text, &mut String::new());
        }
    }

    /// Every character as `\u` escapes.
    fn ascii_json(text: &str) -> String {
        let escapes: String = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
        format!("\"{escapes}\"")
    }
}
