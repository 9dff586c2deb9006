//! Any value that serde can serialise, as RFC 8785 bytes: what is hashed and stored.
//!
//! Members are written where they come and put in order at the end of their object, and only if
//! they came out of order; so maps in key order and [`crate::value::Object`]s cost no sorting.

pub(crate) mod straight;

use std::cmp::Ordering;
use std::fmt::{self, Write as _};

use serde::{Serialize, ser};

use crate::json::{INTEGER_MAX, Scanner};
use crate::value::{key_order, write_int, write_string};

/// The RFC 8785 form of `value`.
///
/// # Errors
/// As [`write()`].
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    write(value, &mut out)?;
    Ok(out)
}

/// Appends the RFC 8785 form of `value`.
///
/// # Errors
/// If it has no such form: a number that is not finite, an integer beyond ±(2^53 - 1), a key that
/// is no string or stands twice. What was appended by then is to be thrown away.
pub fn write<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), Error> {
    let mut serializer = Serializer { out: std::mem::take(out), ..Serializer::default() };
    let written = value.serialize(&mut serializer);
    *out = serializer.out;
    written
}

/// A value has no RFC 8785 form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no canonical form: {0}")]
pub struct Error(String);

impl ser::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// Writes one value after the other.
#[derive(Default)]
pub(crate) struct Serializer {
    /// What was written.
    pub(crate) out: Vec<u8>,
    /// The members so far of all objects that are open, the innermost last.
    members: Vec<Member>,
    /// Where members are put in order.
    ordered: Vec<u8>,
}

/// Where a member stands in the output, its key with the quotes.
#[derive(Clone, Copy)]
struct Member {
    start: usize,
    key_end: usize,
    end: usize,
    /// The first eight bytes of the key, which order most keys; `None` where the order of its bytes
    /// is not that of its UTF-16 units: not ASCII, or written with an escape.
    prefix: Option<u64>,
}

impl Serializer {
    /// Sorts the members of the innermost object, the last things in the output.
    fn put_in_order(&mut self, base: usize) -> Result<(), Error> {
        let Self { out, members, ordered } = self;
        let members = &mut members[base..];
        let Some(first) = members.first().map(|member| member.start) else { return Ok(()) };
        members.sort_unstable_by(|a, b| compare(out, a, b));
        ordered.clear();
        for (index, member) in members.iter().enumerate() {
            if index > 0 {
                if compare(out, &members[index - 1], member) == Ordering::Equal {
                    let key = unescape(out, member);
                    return Err(Error(format!("the key {key:?} stands twice")));
                }
                ordered.push(b',');
            }
            ordered.extend_from_slice(&out[member.start..member.end]);
        }
        out.truncate(first);
        out.extend_from_slice(ordered);
        Ok(())
    }

    fn integer(&mut self, int: Option<i64>) -> Result<(), Error> {
        match int.filter(|int| (-INTEGER_MAX..=INTEGER_MAX).contains(int)) {
            Some(int) => {
                write_int(int, &mut self.out);
                Ok(())
            }
            None => Err(Error("an integer beyond 2^53 - 1 is not exact in JSON".to_owned())),
        }
    }

    /// Writes what `text` displays as a JSON string, without a copy in between.
    fn display<T: fmt::Display + ?Sized>(&mut self, text: &T) -> Result<(), Error> {
        self.out.push(b'"');
        let start = self.out.len();
        write!(Raw(&mut self.out), "{text}").map_err(ser::Error::custom)?;
        let plain = |byte: &u8| !matches!(byte, b'"' | b'\\' | 0..=0x1f);
        if self.out[start..].iter().all(plain) {
            self.out.push(b'"');
        } else {
            let text = String::from_utf8_lossy(&self.out[start..]).into_owned();
            self.out.truncate(start - 1);
            write_string(&text, &mut self.out);
        }
        Ok(())
    }
}

/// Takes formatted text as bytes.
struct Raw<'o>(&'o mut Vec<u8>);

impl fmt::Write for Raw<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// An array that is being written; `variant`: inside an object of one member.
pub(crate) struct Elements<'a> {
    serializer: &'a mut Serializer,
    first: bool,
    variant: bool,
}

impl Elements<'_> {
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        if !std::mem::take(&mut self.first) {
            self.serializer.out.push(b',');
        }
        value.serialize(&mut *self.serializer)
    }

    fn finish(self) {
        self.serializer.out.extend_from_slice(if self.variant { b"]}" } else { b"]" });
    }
}

/// An object that is being written; `variant`: inside an object of one member.
pub(crate) struct Members<'a> {
    serializer: &'a mut Serializer,
    /// Where its members begin in [`Serializer::members`].
    base: usize,
    sorted: bool,
    variant: bool,
}

impl Members<'_> {
    fn key(
        &mut self,
        write_key: impl FnOnce(&mut Serializer) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.serializer.members.len() > self.base {
            self.serializer.out.push(b',');
        }
        let start = self.serializer.out.len();
        write_key(self.serializer)?;
        let key_end = self.serializer.out.len();
        let prefix = prefix(&self.serializer.out[start + 1..key_end - 1]);
        let member = Member { start, key_end, end: key_end, prefix };
        if self.sorted
            && let Some(last) = self.serializer.members[self.base..].last()
        {
            self.sorted = compare(&self.serializer.out, last, &member) == Ordering::Less;
        }
        self.serializer.members.push(member);
        self.serializer.out.push(b':');
        Ok(())
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(&mut *self.serializer)?;
        if let Some(member) = self.serializer.members.last_mut() {
            member.end = self.serializer.out.len();
        }
        Ok(())
    }

    fn field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Error> {
        self.key(|serializer| {
            write_string(key, &mut serializer.out);
            Ok(())
        })?;
        self.value(value)
    }

    fn finish(self) -> Result<(), Error> {
        if !self.sorted {
            self.serializer.put_in_order(self.base)?;
        }
        self.serializer.members.truncate(self.base);
        self.serializer.out.extend_from_slice(if self.variant { b"}}" } else { b"}" });
        Ok(())
    }
}

/// What orders a key by its first bytes; shorter ones are filled with zeros, which no key has.
fn prefix(key: &[u8]) -> Option<u64> {
    if !key.is_ascii() || key.contains(&b'\\') {
        return None;
    }
    let mut first = [0; 8];
    let length = key.len().min(8);
    first[..length].copy_from_slice(&key[..length]);
    Some(u64::from_be_bytes(first))
}

/// The order of two members' keys, as they stand in `out`.
fn compare(out: &[u8], a: &Member, b: &Member) -> Ordering {
    let key = |member: &Member| &out[member.start + 1..member.key_end - 1];
    match (a.prefix, b.prefix) {
        (Some(first), Some(second)) => first.cmp(&second).then_with(|| key(a).cmp(key(b))),
        _ => key_order(&unescape(out, a), &unescape(out, b)),
    }
}

fn unescape(out: &[u8], member: &Member) -> String {
    let key = Scanner::from_bytes(&out[member.start..member.key_end])
        .and_then(|mut scanner| scanner.string().map(Into::into));
    key.unwrap_or_default()
}

impl<'a> ser::Serializer for &'a mut Serializer {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Elements<'a>;
    type SerializeTuple = Elements<'a>;
    type SerializeTupleStruct = Elements<'a>;
    type SerializeTupleVariant = Elements<'a>;
    type SerializeMap = Members<'a>;
    type SerializeStruct = Members<'a>;
    type SerializeStructVariant = Members<'a>;

    fn serialize_bool(self, flag: bool) -> Result<(), Error> {
        self.out.extend_from_slice(if flag { b"true" } else { b"false" });
        Ok(())
    }

    fn serialize_i8(self, int: i8) -> Result<(), Error> {
        self.integer(Some(int.into()))
    }

    fn serialize_i16(self, int: i16) -> Result<(), Error> {
        self.integer(Some(int.into()))
    }

    fn serialize_i32(self, int: i32) -> Result<(), Error> {
        self.integer(Some(int.into()))
    }

    fn serialize_i64(self, int: i64) -> Result<(), Error> {
        self.integer(Some(int))
    }

    fn serialize_u8(self, int: u8) -> Result<(), Error> {
        self.integer(Some(int.into()))
    }

    fn serialize_u16(self, int: u16) -> Result<(), Error> {
        self.integer(Some(int.into()))
    }

    fn serialize_u32(self, int: u32) -> Result<(), Error> {
        self.integer(Some(int.into()))
    }

    fn serialize_u64(self, int: u64) -> Result<(), Error> {
        self.integer(i64::try_from(int).ok())
    }

    fn serialize_f32(self, float: f32) -> Result<(), Error> {
        self.serialize_f64(float.into())
    }

    fn serialize_f64(self, float: f64) -> Result<(), Error> {
        if !float.is_finite() {
            return Err(Error("a number that is not finite".to_owned()));
        }
        self.out.extend_from_slice(ryu_js::Buffer::new().format_finite(float).as_bytes());
        Ok(())
    }

    fn serialize_char(self, char: char) -> Result<(), Error> {
        self.serialize_str(char.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, text: &str) -> Result<(), Error> {
        write_string(text, &mut self.out);
        Ok(())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), Error> {
        bytes.serialize(self)
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.out.extend_from_slice(b"null");
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), Error> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.begin_variant(variant);
        value.serialize(&mut *self)?;
        self.out.push(b'}');
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Elements<'a>, Error> {
        Ok(self.elements(false))
    }

    fn serialize_tuple(self, _: usize) -> Result<Elements<'a>, Error> {
        Ok(self.elements(false))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Elements<'a>, Error> {
        Ok(self.elements(false))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Elements<'a>, Error> {
        self.begin_variant(variant);
        Ok(self.elements(true))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Members<'a>, Error> {
        Ok(self.object(false))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Members<'a>, Error> {
        Ok(self.object(false))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Members<'a>, Error> {
        self.begin_variant(variant);
        Ok(self.object(true))
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, text: &T) -> Result<(), Error> {
        self.display(text)
    }
}

impl Serializer {
    fn begin_variant(&mut self, variant: &'static str) {
        self.out.push(b'{');
        write_string(variant, &mut self.out);
        self.out.push(b':');
    }

    fn elements(&mut self, variant: bool) -> Elements<'_> {
        self.out.push(b'[');
        Elements { serializer: self, first: true, variant }
    }

    fn object(&mut self, variant: bool) -> Members<'_> {
        self.out.push(b'{');
        let base = self.members.len();
        Members { serializer: self, base, sorted: true, variant }
    }
}

impl ser::SerializeSeq for Elements<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.element(value)
    }

    fn end(self) -> Result<(), Error> {
        self.finish();
        Ok(())
    }
}

impl ser::SerializeTuple for Elements<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.element(value)
    }

    fn end(self) -> Result<(), Error> {
        self.finish();
        Ok(())
    }
}

impl ser::SerializeTupleStruct for Elements<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.element(value)
    }

    fn end(self) -> Result<(), Error> {
        self.finish();
        Ok(())
    }
}

impl ser::SerializeTupleVariant for Elements<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.element(value)
    }

    fn end(self) -> Result<(), Error> {
        self.finish();
        Ok(())
    }
}

impl ser::SerializeMap for Members<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.key(|serializer| {
            let start = serializer.out.len();
            key.serialize(&mut *serializer)?;
            if serializer.out.get(start) == Some(&b'"') {
                Ok(())
            } else {
                Err(Error("a key that is no string".to_owned()))
            }
        })
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.value(value)
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

impl ser::SerializeStruct for Members<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.field(key, value)
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

impl ser::SerializeStructVariant for Members<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.field(key, value)
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::value::Value;

    fn canonical<T: Serialize>(value: &T) -> String {
        String::from_utf8(to_vec(value).unwrap()).unwrap()
    }

    #[derive(Serialize)]
    struct Unordered {
        zebra: u8,
        #[serde(flatten)]
        tagged: Tagged,
        apple: Vec<Option<bool>>,
    }

    #[derive(Serialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        Pair { y: f64, x: &'static str },
    }

    #[derive(Serialize)]
    enum Plain {
        Unit,
        New(i64),
        Tuple(u8, char),
        Struct { b: u8, a: u8 },
    }

    #[test]
    fn members_come_in_key_order_whatever_their_order_in_the_source() {
        let value = Unordered {
            zebra: 1,
            tagged: Tagged::Pair { y: 1e21, x: "\u{1}\"" },
            apple: vec![None, Some(true)],
        };

        assert_eq!(
            canonical(&value),
            r#"{"apple":[null,true],"kind":"Pair","x":"\u0001\"","y":1e+21,"zebra":1}"#
        );
    }

    #[test]
    fn keys_are_ordered_by_utf_16_units_and_by_what_their_escapes_mean() {
        let keys = ["\u{20ac}", "\r", "\u{fb33}", "1", "\u{1f600}", "\u{80}", "\u{f6}", "a", "a!"];
        let mut map: BTreeMap<&str, u8> = BTreeMap::new();
        for key in keys {
            map.insert(key, 0);
        }
        let object = keys.iter().map(|key| (*key, Value::Int(0))).collect();

        assert_eq!(canonical(&map), Value::Object(object).to_string());
    }

    #[test]
    fn enums_are_written_as_serde_json_writes_them() {
        for value in
            [Plain::Unit, Plain::New(-7), Plain::Tuple(1, 'é'), Plain::Struct { b: 1, a: 2 }]
        {
            let plain: Value =
                serde_json::from_str(&serde_json::to_string(&value).unwrap()).unwrap();
            assert_eq!(canonical(&value), plain.to_string());
        }
    }

    #[test]
    fn what_has_no_canonical_form_is_refused() {
        assert!(to_vec(&(1_u64 << 53)).is_err());
        assert!(to_vec(&i64::MIN).is_err());
        assert!(to_vec(&f64::NAN).is_err());
        assert!(to_vec(&BTreeMap::from([(1, 2)])).is_err());
        assert_eq!(canonical(&(INTEGER_MAX, -INTEGER_MAX)), "[9007199254740991,-9007199254740991]");
    }
}
