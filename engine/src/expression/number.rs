//! Numbers as ECMAScript has them, on the values that JSON has.

/// An integer within ±(2^53 - 1) as a float.
#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "exact in that range")]
pub(super) fn float_of(int: i64) -> f64 {
    int as f64
}

/// The number that a string stands for (ECMA-262, StringToNumber), infinite ones included; `None`
/// is NaN.
pub(super) fn of_text(text: &str) -> Option<f64> {
    let text = trim(text);
    if text.is_empty() {
        return Some(0.0);
    }
    match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => return of_digits(&text[2..], 4),
        [b'0', b'o' | b'O', ..] => return of_digits(&text[2..], 3),
        [b'0', b'b' | b'B', ..] => return of_digits(&text[2..], 1),
        _ => {}
    }
    match text {
        "Infinity" | "+Infinity" => return Some(f64::INFINITY),
        "-Infinity" => return Some(f64::NEG_INFINITY),
        _ => {}
    }
    // Rust's grammar of decimal numbers is ECMAScript's, but for the words `inf` and `nan`.
    let decimal =
        |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-');
    if text.bytes().all(decimal) { text.parse().ok() } else { None }
}

/// Without the white space of ECMAScript around it.
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| (c.is_whitespace() && c != '\u{85}') || c == '\u{feff}')
}

/// The number of digits of `bits` bits each, rounded once however many there are.
fn of_digits(digits: &str, bits: u32) -> Option<f64> {
    let mut mantissa = 0_u64;
    let mut dropped = 0_i32;
    let mut remainder = false;
    for digit in digits.chars() {
        let digit = digit.to_digit(1 << bits)?;
        if mantissa >> (64 - bits) == 0 {
            mantissa = (mantissa << bits) | u64::from(digit);
        } else {
            dropped = dropped.saturating_add(bits.cast_signed());
            remainder |= digit != 0;
        }
    }
    // A full mantissa has more bits than a float keeps, so its last one only says "and some more".
    #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "rounds to nearest")]
    let float = (mantissa | u64::from(remainder)) as f64 * 2_f64.powi(dropped);
    (!digits.is_empty()).then_some(float)
}

#[cfg(test)]
mod tests {
    use super::of_text;

    #[test]
    fn a_string_is_the_number_that_ecmascript_makes_of_it() {
        for (text, number) in [
            ("", 0.0),
            (" \t\n\u{a0}\u{feff}\u{2028}", 0.0),
            (" 12 ", 12.0),
            ("-1.50", -1.5),
            ("+.5", 0.5),
            ("5.", 5.0),
            ("1e3", 1000.0),
            ("010", 10.0),
            ("0x1F", 31.0),
            ("0b101", 5.0),
            ("0O17", 15.0),
            ("0x20000000000001", 9_007_199_254_740_992.0),
            ("0x20000000000003", 9_007_199_254_740_996.0),
            // Rounded digit by digit this would be one unit too low.
            ("0x80000000000004001", 147_573_952_589_676_445_696.0),
            ("Infinity", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("1e400", f64::INFINITY),
        ] {
            assert_eq!(of_text(text), Some(number), "{text:?}");
        }
        for text in [
            "x", "1 2", "1px", ".", "e5", "1e", "--1", "0x", "-0x1", "0xg", "1_000", "1n", "inf",
            "NaN", "infinity", "\u{85}1", "true", "null",
        ] {
            assert_eq!(of_text(text), None, "{text:?}");
        }
    }
}
