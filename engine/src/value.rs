//! JSON values as the core keeps them: immutable, cheap to clone, always in canonical order.
//!
//! Contexts, event data, inputs and results are [`Value`]s. A clone shares; a change of one key
//! copies one level. Objects are kept in the key order of RFC 8785 (UTF-16 code units), so the
//! canonical form is written without sorting.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use crate::json::{DEPTH_MAX, INTEGER_MAX, InvalidJson, Number, Scanner};

/// A JSON value. Equality is deep; `1` and `1.0` are the same value, [`Value::Int`].
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// `null`
    #[default]
    Null,
    /// `true` or `false`
    Bool(bool),
    /// An integral number within ±(2^53 - 1).
    Int(i64),
    /// Any other finite number. Make it with [`Value::from_f64`], which keeps integers apart.
    Float(f64),
    /// A string.
    String(Arc<str>),
    /// An array.
    Array(Arc<[Self]>),
    /// An object.
    Object(Object),
}

/// A JSON object: members in RFC 8785 order, keys unique.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object(Arc<Vec<(Arc<str>, Value)>>);

impl Value {
    /// Reads a JSON text.
    ///
    /// # Errors
    /// If it is not JSON, repeats a key, nests deeper than [`DEPTH_MAX`], or holds an integer
    /// beyond ±(2^53 - 1), in whatever notation.
    pub fn parse(text: &[u8]) -> Result<Self, InvalidJson> {
        let mut scanner = Scanner::from_bytes(text)?;
        let value = Self::scan(&mut scanner, 0)?;
        scanner.end()?;
        Ok(value)
    }

    fn scan(scanner: &mut Scanner<'_>, depth: usize) -> Result<Self, InvalidJson> {
        if depth > DEPTH_MAX {
            return Err(scanner.fail(&format!("nested deeper than {DEPTH_MAX}")));
        }
        match scanner.peek() {
            Some(b'{') => {
                scanner.expect(b'{')?;
                let mut members = Vec::new();
                if !scanner.take(b'}') {
                    loop {
                        let key: Arc<str> = match scanner.string()? {
                            Cow::Borrowed(key) => key.into(),
                            Cow::Owned(key) => key.into(),
                        };
                        scanner.expect(b':')?;
                        members.push((key, Self::scan(scanner, depth + 1)?));
                        if !scanner.take(b',') {
                            break;
                        }
                    }
                    scanner.expect(b'}')?;
                }
                let object = Object::from_members(members)
                    .map_err(|key| scanner.fail(&format!("the key {key:?} stands twice")))?;
                Ok(Self::Object(object))
            }
            Some(b'[') => {
                scanner.expect(b'[')?;
                let mut elements = Vec::new();
                if !scanner.take(b']') {
                    loop {
                        elements.push(Self::scan(scanner, depth + 1)?);
                        if !scanner.take(b',') {
                            break;
                        }
                    }
                    scanner.expect(b']')?;
                }
                Ok(Self::Array(elements.into()))
            }
            Some(b'"') => Ok(Self::String(scanner.string()?.into())),
            Some(b't') => scanner.word("true").map(|()| Self::Bool(true)),
            Some(b'f') => scanner.word("false").map(|()| Self::Bool(false)),
            Some(b'n') => scanner.word("null").map(|()| Self::Null),
            Some(_) => scanner.number().map(Self::from),
            None => Err(scanner.fail("the text ends where a value was expected")),
        }
    }

    /// A finite float as a value: integral ones within ±(2^53 - 1) become [`Value::Int`].
    #[must_use]
    pub fn from_f64(float: f64) -> Option<Self> {
        float.is_finite().then(|| Number::from_f64(float).into())
    }

    /// Whether arrays and objects are nested in each other more than `levels` deep.
    #[must_use]
    pub fn is_deeper_than(&self, levels: usize) -> bool {
        let Some(inner) = levels.checked_sub(1) else {
            return matches!(self, Self::Array(_) | Self::Object(_));
        };
        match self {
            Self::Array(elements) => elements.iter().any(|element| element.is_deeper_than(inner)),
            Self::Object(object) => object.iter().any(|(_, member)| member.is_deeper_than(inner)),
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Float(_) | Self::String(_) => false,
        }
    }

    /// The member `key` of an object.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.as_object()?.get(key)
    }

    /// The text of a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// The integer.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        if let Self::Int(int) = self { Some(*int) } else { None }
    }

    /// The boolean.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(flag) = self { Some(*flag) } else { None }
    }

    /// The elements of an array.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Self]> {
        if let Self::Array(elements) = self { Some(elements) } else { None }
    }

    /// The object.
    #[must_use]
    pub fn as_object(&self) -> Option<&Object> {
        if let Self::Object(object) = self { Some(object) } else { None }
    }

    /// Whether this is `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// `null`, `boolean`, `number`, `string`, `array` or `object`, for messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Int(_) | Self::Float(_) => "number",
            Self::String(_) => "string",
            Self::Array(_) => "array",
            Self::Object(_) => "object",
        }
    }

    /// Appends the RFC 8785 form.
    pub fn write_canonical(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(true) => out.extend_from_slice(b"true"),
            Self::Bool(false) => out.extend_from_slice(b"false"),
            Self::Int(int) => write_int(*int, out),
            Self::Float(float) => {
                out.extend_from_slice(ryu_js::Buffer::new().format_finite(*float).as_bytes());
            }
            Self::String(text) => write_string(text, out),
            Self::Array(elements) => {
                out.push(b'[');
                for (index, element) in elements.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    element.write_canonical(out);
                }
                out.push(b']');
            }
            Self::Object(object) => {
                out.push(b'{');
                for (index, (key, member)) in object.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    write_string(key, out);
                    out.push(b':');
                    member.write_canonical(out);
                }
                out.push(b'}');
            }
        }
    }

    /// How many bytes the RFC 8785 form has.
    #[must_use]
    pub fn canonical_len(&self) -> usize {
        match self {
            Self::Null | Self::Bool(true) => 4,
            Self::Bool(false) => 5,
            Self::Int(int) => {
                let digits = int.unsigned_abs().checked_ilog10().unwrap_or(0) + 1;
                usize::from(*int < 0) + usize::try_from(digits).unwrap_or(usize::MAX)
            }
            Self::Float(float) => ryu_js::Buffer::new().format_finite(*float).len(),
            Self::String(text) => canonical_string_len(text),
            Self::Array(elements) => {
                let commas = elements.len().saturating_sub(1);
                2 + commas + elements.iter().map(Self::canonical_len).sum::<usize>()
            }
            Self::Object(object) => {
                let commas = object.len().saturating_sub(1);
                let members = object
                    .iter()
                    .map(|(key, member)| canonical_string_len(key) + 1 + member.canonical_len());
                2 + commas + members.sum::<usize>()
            }
        }
    }

    /// The RFC 8785 form.
    #[must_use]
    pub fn to_canonical(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_canonical(&mut out);
        out
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&String::from_utf8_lossy(&self.to_canonical()))
    }
}

impl Object {
    /// An object of these members, in any order.
    ///
    /// # Errors
    /// With the key that stands twice.
    pub fn from_members(mut members: Vec<(Arc<str>, Value)>) -> Result<Self, Arc<str>> {
        if !members.is_sorted_by(|(a, _), (b, _)| key_order(a, b) == Ordering::Less) {
            members.sort_by(|(a, _), (b, _)| key_order(a, b));
            if let Some(pair) = members.windows(2).find(|pair| pair[0].0 == pair[1].0) {
                return Err(pair[0].0.clone());
            }
        }
        Ok(Self(Arc::new(members)))
    }

    /// The member `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        let index = self.0.binary_search_by(|(other, _)| key_order(other, key)).ok()?;
        Some(&self.0[index].1)
    }

    /// Sets the member `key`.
    pub fn insert(&mut self, key: impl Into<Arc<str>>, value: Value) {
        let key = key.into();
        let members = Arc::make_mut(&mut self.0);
        match members.binary_search_by(|(other, _)| key_order(other, &key)) {
            Ok(index) => members[index].1 = value,
            Err(index) => members.insert(index, (key, value)),
        }
    }

    /// Takes out the member `key`.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let index = self.0.binary_search_by(|(other, _)| key_order(other, key)).ok()?;
        Some(Arc::make_mut(&mut self.0).remove(index).1)
    }

    /// The members in RFC 8785 order.
    pub fn iter(&self) -> std::slice::Iter<'_, (Arc<str>, Value)> {
        self.0.iter()
    }

    /// How many members there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for &'a Object {
    type Item = &'a (Arc<str>, Value);
    type IntoIter = std::slice::Iter<'a, (Arc<str>, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K: Into<Arc<str>>> FromIterator<(K, Value)> for Object {
    /// Of two equal keys the later one holds.
    fn from_iter<T: IntoIterator<Item = (K, Value)>>(members: T) -> Self {
        let mut members: Vec<_> =
            members.into_iter().map(|(key, value)| (key.into(), value)).collect();
        members.sort_by(|(a, _), (b, _)| key_order(a, b));
        let mut object: Vec<(Arc<str>, Value)> = Vec::with_capacity(members.len());
        for member in members {
            match object.last_mut() {
                Some(last) if last.0 == member.0 => *last = member,
                _ => object.push(member),
            }
        }
        Self(Arc::new(object))
    }
}

/// The order of keys in RFC 8785: by UTF-16 code units. It differs from that of UTF-8 bytes only
/// where one side has a surrogate pair, which sorts before U+E000 to U+FFFF.
#[must_use]
pub fn key_order(a: &str, b: &str) -> Ordering {
    let shared = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    match (a.as_bytes().get(shared), b.as_bytes().get(shared)) {
        (Some(x), Some(y)) if *x >= 0xee || *y >= 0xee => a.encode_utf16().cmp(b.encode_utf16()),
        (x, y) => x.cmp(&y),
    }
}

/// Appends `text` as a JSON string in RFC 8785 form.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = first_escape(rest) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x09 => out.extend_from_slice(b"\\t"),
            0x0a => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            0x0d => out.extend_from_slice(b"\\r"),
            control => {
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(control >> 4)]);
                out.push(HEX[usize::from(control & 15)]);
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Where the first byte stands that a JSON string cannot hold as it is. Eight bytes are looked at
/// in one go: most texts have none.
fn first_escape(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let is_escaped = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
    let mut at = 0;
    while let Some(chunk) = bytes.get(at..at + 8).and_then(|chunk| chunk.try_into().ok()) {
        let word = u64::from_le_bytes(chunk);
        // A zero byte of `equal` borrows from its high bit; so does a byte below 0x20 of `word`.
        let zero = |equal: u64| equal.wrapping_sub(ONES) & !equal;
        let quote = zero(word ^ (ONES * 0x22));
        let backslash = zero(word ^ (ONES * 0x5c));
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        if (quote | backslash | control) & HIGHS != 0 {
            break;
        }
        at += 8;
    }
    bytes[at..].iter().position(is_escaped).map(|found| at + found)
}

/// How many bytes `text` has as a JSON string in RFC 8785 form.
#[must_use]
pub fn canonical_string_len(text: &str) -> usize {
    let escaped = text.bytes().map(|byte| match byte {
        b'"' | b'\\' | 0x08 | 0x09 | 0x0a | 0x0c | 0x0d => 2,
        0x00..=0x1f => 6,
        _ => 1,
    });
    2 + escaped.sum::<usize>()
}

/// Appends `int` in decimal.
pub fn write_int(int: i64, out: &mut Vec<u8>) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut rest = int.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if int < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

impl From<Number> for Value {
    fn from(number: Number) -> Self {
        match number {
            Number::Int(int) => Self::Int(int),
            Number::Float(float) => Self::Float(float),
        }
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

impl From<u32> for Value {
    fn from(int: u32) -> Self {
        Self::Int(i64::from(int))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text.into())
    }
}

impl From<Arc<str>> for Value {
    fn from(text: Arc<str>) -> Self {
        Self::String(text)
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Self::Object(object)
    }
}

impl From<Vec<Self>> for Value {
    fn from(elements: Vec<Self>) -> Self {
        Self::Array(elements.into())
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(flag) => serializer.serialize_bool(*flag),
            Self::Int(int) => serializer.serialize_i64(*int),
            Self::Float(float) => serializer.serialize_f64(*float),
            Self::String(text) => serializer.serialize_str(text),
            Self::Array(elements) => {
                let mut sequence = serializer.serialize_seq(Some(elements.len()))?;
                for element in elements.iter() {
                    sequence.serialize_element(element)?;
                }
                sequence.end()
            }
            Self::Object(object) => object.serialize(serializer),
        }
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (key, member) in self {
            map.serialize_entry(&**key, member)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let Value::Object(object) = value else {
            return Err(de::Error::custom(format!("expected an object, found {}", value.kind())));
        };
        Ok(object)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E: de::Error>(self, int: i64) -> Result<Value, E> {
        if (-INTEGER_MAX..=INTEGER_MAX).contains(&int) {
            Ok(Value::Int(int))
        } else {
            large_float(&int.to_string())
        }
    }

    fn visit_u64<E: de::Error>(self, int: u64) -> Result<Value, E> {
        match i64::try_from(int) {
            Ok(int) => self.visit_i64(int),
            Err(_) => large_float(&int.to_string()),
        }
    }

    fn visit_f64<E: de::Error>(self, float: f64) -> Result<Value, E> {
        Value::from_f64(float).ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = sequence.next_element()? {
            elements.push(element);
        }
        Ok(elements.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Vec::new();
        while let Some((key, member)) = map.next_entry::<String, Value>()? {
            members.push((key.into(), member));
        }
        Object::from_members(members)
            .map(Value::Object)
            .map_err(|key| de::Error::custom(format!("the key {key:?} stands twice")))
    }
}

/// A float beyond ±(2^53 - 1) that is written without a point, as RFC 8785 writes those up to 1e21:
/// what was stored must be read again. Digits that no float has are refused.
fn large_float<E: de::Error>(digits: &str) -> Result<Value, E> {
    let float = digits.parse().unwrap_or(f64::NAN);
    if float.is_finite() && ryu_js::Buffer::new().format_finite(float) == digits {
        Ok(Value::Float(float))
    } else {
        Err(E::custom("an integer beyond 2^53 - 1 is not exact in JSON: carry it as a string"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        Value::parse(text.as_bytes()).unwrap().to_string()
    }

    #[test]
    fn the_canonical_form_is_that_of_rfc_8785() {
        // The example of RFC 8785 section 3.2.3 (numbers, literals, strings) and 3.2.2 (keys).
        let numbers = r#"{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],"string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","literals":[null,true,false]}"#;
        assert_eq!(
            canonical(numbers),
            "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}"
        );
        let keys = r#"{"\u20ac":1,"\r":2,"\ufb33":3,"1":4,"\ud83d\ude00":5,"\u0080":6,"\u00f6":7}"#;
        assert_eq!(
            canonical(keys),
            "{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"ö\":7,\"€\":1,\"😀\":5,\"\u{fb33}\":3}"
        );
    }

    #[test]
    fn the_length_of_the_canonical_form_is_known_without_writing_it() {
        let texts = [
            "[]",
            "{}",
            "[null,true,false,0,-10,99,100,-9007199254740991,1.5,1e21,-1e-7]",
            r#"{"a":"\u0001\n\t\"\\ö😀","bb":[{},[1]],"":{"x":{"y":1}}}"#,
        ];
        for text in texts {
            let value = Value::parse(text.as_bytes()).unwrap();
            assert_eq!(value.canonical_len(), value.to_canonical().len(), "{text}");
        }
    }

    #[test]
    fn numbers_that_are_equal_are_one_value() {
        assert_eq!(
            canonical("[1.0,1e2,-0,-0.0,9007199254740991,1e21]"),
            "[1,100,0,0,9007199254740991,1e+21]"
        );
    }

    #[test]
    fn what_json_cannot_carry_exactly_is_refused_with_its_place() {
        for (text, reason) in [
            ("9007199254740992", "2^53"),
            ("123456789012345678901234567890", "2^53"),
            ("1e20", "2^53"),
            ("-9007199254740992.0", "2^53"),
            ("1e400", "range of a double"),
            ("{\"a\":1,\"a\":2}", "stands twice"),
            ("\"\\ud800\"", "surrogate"),
            ("[1,]", "expected a JSON value"),
            ("01", "expected a JSON value"),
            ("{} x", "after the end"),
            ("\"a\nb\"", "control character"),
        ] {
            let error = Value::parse(text.as_bytes()).unwrap_err();
            assert!(error.reason.contains(reason), "{text}: {error}");
        }
        let deep = "[".repeat(5_000);
        assert!(Value::parse(deep.as_bytes()).unwrap_err().reason.contains("deeper"));
        let error = Value::parse(b"{\n  \"a\": tru\n}").unwrap_err();
        assert_eq!((error.line, error.column), (2, 8));
    }

    #[test]
    fn serde_reads_every_float_back_that_was_written_in_canonical_form() {
        for float in [9_007_199_254_740_992.0, -1e16, 2_f64.powi(63), 1.8e19, 1e20, 1e21, 1.5] {
            let value = Value::from_f64(float).unwrap();
            assert_eq!(serde_json::from_slice::<Value>(&value.to_canonical()).unwrap(), value);
        }
        assert!(serde_json::from_str::<Value>("9007199254740993").is_err());
        assert!(serde_json::from_str::<Value>("9223372036854775808").is_err());
    }

    #[test]
    fn serde_and_the_scanner_agree() {
        let text = r#"{"b":[1,2.5,"x",null,true],"a":{"k":-3}}"#;
        let value = Value::parse(text.as_bytes()).unwrap();
        assert_eq!(serde_json::from_str::<Value>(text).unwrap(), value);
        assert_eq!(serde_json::to_string(&value).unwrap(), value.to_string());
    }
}
