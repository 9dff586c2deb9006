//! Numbers and comparisons as ECMAScript has them, on the values that JSON has.

use std::cmp::Ordering;

use crate::json::Number;
use crate::value::Value;

/// A finite number as a float; exact for integers.
#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "within ±(2^53 - 1): exact")]
pub(super) fn float_of(int: i64) -> f64 {
    int as f64
}

/// The number of a string (ECMA-262, StringToNumber); NaN if it is none.
pub(super) fn string_to_number(text: &str) -> f64 {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    if text.is_empty() {
        return 0.0;
    }
    let radix = |prefix: [&str; 2], radix: u32| {
        let digits = prefix.iter().find_map(|prefix| text.strip_prefix(prefix))?;
        let fold = |sum: f64, digit: char| {
            Some(sum * f64::from(radix) + f64::from(digit.to_digit(radix)?))
        };
        let number = digits.chars().try_fold(0.0, fold);
        Some(number.filter(|_| !digits.is_empty()).unwrap_or(f64::NAN))
    };
    if let Some(number) = radix(["0x", "0X"], 16)
        .or_else(|| radix(["0o", "0O"], 8))
        .or_else(|| radix(["0b", "0B"], 2))
    {
        return number;
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned == "Infinity" {
        return if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    let decimal =
        |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-');
    if text.bytes().all(decimal) { text.parse().unwrap_or(f64::NAN) } else { f64::NAN }
}

/// The operand of an arithmetic operator: a number, or a string that is one.
pub(super) fn operand(value: &Value, operator: &str) -> Result<f64, String> {
    match value {
        Value::Int(int) => Ok(float_of(*int)),
        Value::Float(float) => Ok(*float),
        Value::String(text) => {
            let number = string_to_number(text);
            if number.is_finite() && !text.trim().is_empty() {
                Ok(number)
            } else {
                Err(format!("`{operator}` of {}, which is no finite number", short(value)))
            }
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            Err(format!("`{operator}` of {}: it takes numbers", describe(value)))
        }
    }
}

/// The result of arithmetic: an integer where it is integral and exact.
pub(super) fn result(float: f64, operator: &str) -> Result<Value, String> {
    if float.is_finite() {
        Ok(Value::from(Number::from_f64(float)))
    } else {
        Err(format!("`{operator}` gives no finite number"))
    }
}

/// `<` and its like (ECMA-262, IsLessThan): strings by UTF-16 code units, everything else as
/// numbers. `None`: not comparable, so every comparison is false.
pub(super) fn order(a: &Value, b: &Value) -> Result<Option<Ordering>, String> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Ok(Some(a.cmp(b))),
        (Value::String(a), Value::String(b)) => Ok(Some(crate::value::key_order(a, b))),
        _ => Ok(to_number(a)?.partial_cmp(&to_number(b)?)),
    }
}

fn to_number(value: &Value) -> Result<f64, String> {
    match value {
        Value::Null => Ok(0.0),
        Value::Bool(flag) => Ok(f64::from(u8::from(*flag))),
        Value::Int(int) => Ok(float_of(*int)),
        Value::Float(float) => Ok(*float),
        Value::String(text) => Ok(string_to_number(text)),
        Value::Array(_) | Value::Object(_) => Err(format!("{} cannot be ordered", describe(value))),
    }
}

/// `==` between values of different kinds, neither an array nor an object.
pub(super) fn loosely_equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Null, _) | (_, Value::Null) => false,
        _ => match (to_number(a), to_number(b)) {
            #[expect(clippy::float_cmp, reason = "ECMAScript's == is exact")]
            (Ok(a), Ok(b)) => a == b,
            _ => false,
        },
    }
}

/// A value for a message: cut short.
pub(super) fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 {
        text
    } else {
        text.chars().take(57).chain("...".chars()).collect()
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::String(_) => short(value),
    }
}
