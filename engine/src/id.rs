//! Names and numbers that are checked once, at the border, and known good after.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// An identifier of a running instance: `[A-Za-z0-9_-]{1,128}`, so always one subject token.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecutionId(Arc<str>);

/// What happened, in dotted words: `[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*`, at most 200 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType(Arc<str>);

/// The name of a template, its root id: `[A-Za-z_][A-Za-z0-9_-]{0,63}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TemplateName(Arc<str>);

/// One immutable version of a template, `order@3`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TemplateRef {
    /// The template.
    pub name: TemplateName,
    /// Its version, from 1.
    pub version: u32,
}

/// What a start asks for: `order` (the newest version) or `order@3`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TemplateSelector {
    /// The template.
    pub name: TemplateName,
    /// The version; `None` is the newest.
    pub version: Option<u32>,
}

/// The place in the journal where something began: entry sequence and index of the effect in it,
/// written `7-0`. It names tasks, invocations and timers within an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    /// The entry's sequence in its execution, from 1.
    pub entry: u64,
    /// The effect's index in the entry, from 0.
    pub index: u32,
}

/// The name of a schedule: `[A-Za-z0-9_-]{1,100}`, so that the ids of what it starts fit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScheduleName(Arc<str>);

/// A SHA-256, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; 32]);

/// A text is not the name that it stands for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}: it must match {pattern}")]
pub struct InvalidName {
    /// The text, cut at 200 characters.
    pub text: String,
    /// What it should have been.
    pub what: &'static str,
    /// What that looks like.
    pub pattern: &'static str,
}

impl InvalidName {
    fn new(text: &str, what: &'static str, pattern: &'static str) -> Self {
        Self { text: text.chars().take(200).collect(), what, pattern }
    }
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

impl FromStr for ExecutionId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_token_byte) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidName::new(text, "execution id", "[A-Za-z0-9_-]{1,128}"))
        }
    }
}

impl FromStr for EventType {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::check(text)?;
        Ok(Self(text.into()))
    }
}

impl TryFrom<Arc<str>> for EventType {
    type Error = InvalidName;

    fn try_from(text: Arc<str>) -> Result<Self, InvalidName> {
        Self::check(&text)?;
        Ok(Self(text))
    }
}

impl EventType {
    fn check(text: &str) -> Result<(), InvalidName> {
        let words =
            || text.split('.').all(|word| !word.is_empty() && word.bytes().all(is_token_byte));
        if text.len() <= 200 && words() {
            Ok(())
        } else {
            Err(InvalidName::new(
                text,
                "event type",
                r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)* of at most 200 bytes",
            ))
        }
    }
}

impl FromStr for TemplateName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let first =
            text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        if first && text.len() <= 64 && text.bytes().all(is_token_byte) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidName::new(text, "template name", "[A-Za-z_][A-Za-z0-9_-]{0,63}"))
        }
    }
}

impl FromStr for ScheduleName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if (1..=100).contains(&text.len()) && text.bytes().all(is_token_byte) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidName::new(text, "schedule name", "[A-Za-z0-9_-]{1,100}"))
        }
    }
}

impl FromStr for TemplateSelector {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let Some((name, version)) = text.split_once('@') else {
            return Ok(Self { name: text.parse()?, version: None });
        };
        match version.parse() {
            Ok(version) if version >= 1 && !version_has_sign(text) => {
                Ok(Self { name: name.parse()?, version: Some(version) })
            }
            _ => Err(InvalidName::new(text, "template version", "name@version, version from 1")),
        }
    }
}

fn version_has_sign(text: &str) -> bool {
    text.contains('+')
}

impl FromStr for TemplateRef {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let selector: TemplateSelector = text.parse()?;
        match selector.version {
            Some(version) => Ok(Self { name: selector.name, version }),
            None => Err(InvalidName::new(text, "template version", "name@version, version from 1")),
        }
    }
}

impl FromStr for Token {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let error = || InvalidName::new(text, "token", "<entry>-<index>");
        let (entry, index) = text.split_once('-').ok_or_else(error)?;
        let digits =
            |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(entry) || !digits(index) {
            return Err(error());
        }
        Ok(Self {
            entry: entry.parse().map_err(|_| error())?,
            index: index.parse().map_err(|_| error())?,
        })
    }
}

impl From<&TemplateRef> for TemplateSelector {
    fn from(template: &TemplateRef) -> Self {
        Self { name: template.name.clone(), version: Some(template.version) }
    }
}

impl ExecutionId {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of the child that the effect at `place` of this execution starts:
    /// `<parent>_<entry>_<index>`, or where that is too long `child-` and its SHA-256.
    #[must_use]
    pub fn child(&self, place: Token) -> Self {
        let id = format!("{}_{}_{}", self.0, place.entry, place.index);
        if id.len() <= ID_BYTES_MAX {
            return Self(id.into());
        }
        Self(format!("{HASHED_CHILD}{}", Hash::of(id.as_bytes())).into())
    }

    /// Whether a parent may have given this id; false for nearly all that clients choose.
    #[must_use]
    pub fn may_be_a_child(&self) -> bool {
        let digits =
            |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let mut parts = self.0.rsplitn(3, '_');
        let derived = [parts.next(), parts.next()].into_iter().flatten().all(digits);
        derived && parts.next().is_some() || self.0.starts_with(HASHED_CHILD)
    }
}

/// The longest execution id, in bytes.
const ID_BYTES_MAX: usize = 128;

/// How the id of a child begins that would have been too long.
const HASHED_CHILD: &str = "child-";

impl EventType {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it begins with `pled.`, `done.`, `error.` or `after.`: only the engine gives such.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        let first = self.0.split_once('.').map(|(first, _)| first);
        matches!(first, Some("pled" | "done" | "error" | "after"))
    }

    /// The shared text.
    #[must_use]
    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

impl ScheduleName {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TemplateName {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ExecutionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for TemplateName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for ScheduleName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for TemplateRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{}", self.name, self.version)
    }
}

impl fmt::Display for TemplateSelector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(version) => write!(formatter, "{}@{version}", self.name),
            None => write!(formatter, "{}", self.name),
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.entry, self.index)
    }
}

impl Hash {
    /// The `prev` of the first entry of an execution.
    pub const ZERO: Self = Self([0; 32]);

    /// The SHA-256 of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The SHA-256 of these bytes one after the other.
    #[must_use]
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        let mut digest = Sha256::new();
        for part in parts {
            digest.update(part);
        }
        Self(digest.finalize().into())
    }

    /// What it is written as.
    pub(crate) fn digits(&self) -> [u8; 64] {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut digits = [0_u8; 64];
        for (at, byte) in self.0.iter().enumerate() {
            digits[2 * at] = HEX[usize::from(byte >> 4)];
            digits[2 * at + 1] = HEX[usize::from(byte & 15)];
        }
        digits
    }

    /// The raw bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(std::str::from_utf8(&self.digits()).unwrap_or_default())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

impl FromStr for Hash {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let error = || InvalidName::new(text, "SHA-256", "[0-9a-f]{64}");
        if text.len() != 64 || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(error());
        }
        let mut bytes = [0; 32];
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| error())?;
        }
        Ok(Self(bytes))
    }
}

macro_rules! as_text {
    ($($name:ty),+; $($shared:ty),+) => {
        $(
            impl Serialize for $name {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    serializer.collect_str(self)
                }
            }
        )+
        $(
            impl Serialize for $shared {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    serializer.serialize_str(&self.0)
                }
            }
        )+
        from_text!($($name),+, $($shared),+);
    };
}

macro_rules! from_text {
    ($($name:ty),+) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Text(PhantomData))
            }
        }
    )+};
}

as_text!(TemplateRef, TemplateSelector, Token, Hash; ExecutionId, EventType, TemplateName, ScheduleName);

/// Parses a name where it stands, without a copy in between.
struct Text<T>(PhantomData<T>);

impl<T: FromStr<Err = InvalidName>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}
