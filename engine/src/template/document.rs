//! The template's JSON with its order and its positions, for everything that has to name a place.

use std::ops::Range;
use std::sync::Arc;

use crate::json::{DEPTH_MAX, InvalidJson, Number, Scanner};
use crate::value::{Object, Value};

/// A JSON value and where it stands.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// The bytes of the source that it covers.
    pub span: Range<usize>,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number.
    Number(Number),
    /// A string.
    String(Arc<str>),
    /// An array.
    Array(Vec<Node>),
    /// An object, its members in the order of the source, keys unique.
    Object(Vec<Member>),
}

/// A member of an object.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its key.
    pub key: Arc<str>,
    /// The bytes of the source that the key covers, quotes included.
    pub key_span: Range<usize>,
    /// Its value.
    pub value: Node,
}

impl Node {
    /// Reads a JSON text, keeping order and positions.
    ///
    /// # Errors
    /// If it is not JSON that [`crate::json`] accepts, or repeats a key.
    pub fn parse(text: &str) -> Result<Self, InvalidJson> {
        let mut scanner = Scanner::new(text);
        let node = Self::scan(&mut scanner, 0)?;
        scanner.end()?;
        Ok(node)
    }

    fn scan(scanner: &mut Scanner<'_>, depth: usize) -> Result<Self, InvalidJson> {
        if depth > DEPTH_MAX {
            return Err(scanner.fail(&format!("nested deeper than {DEPTH_MAX}")));
        }
        let start = scanner.offset();
        let kind = match scanner.peek() {
            Some(b'{') => Kind::Object(Self::scan_members(scanner, depth)?),
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
                Kind::Array(elements)
            }
            Some(b'"') => Kind::String(scanner.string()?.into()),
            Some(b't') => scanner.word("true").map(|()| Kind::Bool(true))?,
            Some(b'f') => scanner.word("false").map(|()| Kind::Bool(false))?,
            Some(b'n') => scanner.word("null").map(|()| Kind::Null)?,
            Some(_) => Kind::Number(scanner.number()?),
            None => return Err(scanner.fail("the text ends where a value was expected")),
        };
        Ok(Self { kind, span: start..scanner.position() })
    }

    fn scan_members(scanner: &mut Scanner<'_>, depth: usize) -> Result<Vec<Member>, InvalidJson> {
        scanner.expect(b'{')?;
        let mut members: Vec<Member> = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        if scanner.take(b'}') {
            return Ok(members);
        }
        loop {
            let start = scanner.offset();
            let key: Arc<str> = scanner.string()?.into();
            let key_span = start..scanner.position();
            if !seen.insert(key.clone()) {
                return Err(scanner.fail_at(start, &format!("the key {key:?} stands twice")));
            }
            scanner.expect(b':')?;
            members.push(Member { key, key_span, value: Self::scan(scanner, depth + 1)? });
            if !scanner.take(b',') {
                break;
            }
        }
        scanner.expect(b'}')?;
        Ok(members)
    }

    /// The member `key` of an object.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.members()?.iter().find(|member| &*member.key == key).map(|member| &member.value)
    }

    /// The members of an object.
    #[must_use]
    pub fn members(&self) -> Option<&[Member]> {
        if let Kind::Object(members) = &self.kind { Some(members) } else { None }
    }

    /// The elements of an array.
    #[must_use]
    pub fn elements(&self) -> Option<&[Self]> {
        if let Kind::Array(elements) = &self.kind { Some(elements) } else { None }
    }

    /// The text of a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&Arc<str>> {
        if let Kind::String(text) = &self.kind { Some(text) } else { None }
    }

    /// `null`, `boolean`, `number`, `string`, `array` or `object`, for messages.
    #[must_use]
    pub fn kind_name(&self) -> &'static str {
        match &self.kind {
            Kind::Null => "null",
            Kind::Bool(_) => "boolean",
            Kind::Number(_) => "number",
            Kind::String(_) => "string",
            Kind::Array(_) => "array",
            Kind::Object(_) => "object",
        }
    }

    /// The value, without order and positions.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(flag) => Value::Bool(*flag),
            Kind::Number(number) => Value::from(*number),
            Kind::String(text) => Value::String(text.clone()),
            Kind::Array(elements) => elements.iter().map(Self::to_value).collect::<Vec<_>>().into(),
            Kind::Object(members) => Value::Object(
                members
                    .iter()
                    .map(|member| (member.key.clone(), member.value.to_value()))
                    .collect::<Object>(),
            ),
        }
    }
}
