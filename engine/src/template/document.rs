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

/// A text is not JSON, and where in its structure that shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// JSON pointer to the value, or for a repeated key to the member, that could not be read.
    pub pointer: String,
    /// Whether a key stands twice in its object.
    pub repeated_key: bool,
    /// What is wrong, and its place in the text.
    pub error: InvalidJson,
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
        Self::read(text).map_err(|unreadable| unreadable.error)
    }

    /// As [`Self::parse`], telling also where in the structure reading ended.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn read(text: &str) -> Result<Self, Unreadable> {
        let mut scanner = Scanner::new(text);
        let node = Self::scan(&mut scanner, 0).map_err(Broken::into_unreadable)?;
        scanner.end().map_err(|error| Broken::from(error).into_unreadable())?;
        Ok(node)
    }

    fn scan(scanner: &mut Scanner<'_>, depth: usize) -> Result<Self, Broken> {
        if depth > DEPTH_MAX {
            return Err(scanner.fail(&format!("nested deeper than {DEPTH_MAX}")).into());
        }
        let start = scanner.offset();
        let kind = match scanner.peek() {
            Some(b'{') => Kind::Object(Self::scan_members(scanner, depth)?),
            Some(b'[') => Kind::Array(Self::scan_elements(scanner, depth)?),
            Some(b'"') => Kind::String(scanner.string()?.into()),
            Some(b't') => scanner.word("true").map(|()| Kind::Bool(true))?,
            Some(b'f') => scanner.word("false").map(|()| Kind::Bool(false))?,
            Some(b'n') => scanner.word("null").map(|()| Kind::Null)?,
            Some(_) => Kind::Number(scanner.number()?),
            None => return Err(scanner.fail("the text ends where a value was expected").into()),
        };
        Ok(Self { kind, span: start..scanner.position() })
    }

    fn scan_elements(scanner: &mut Scanner<'_>, depth: usize) -> Result<Vec<Self>, Broken> {
        scanner.expect(b'[')?;
        let mut elements = Vec::new();
        if scanner.take(b']') {
            return Ok(elements);
        }
        loop {
            let element = Self::scan(scanner, depth + 1)
                .map_err(|broken| broken.inside(&elements.len().to_string()))?;
            elements.push(element);
            if !scanner.take(b',') {
                break;
            }
        }
        scanner.expect(b']')?;
        Ok(elements)
    }

    fn scan_members(scanner: &mut Scanner<'_>, depth: usize) -> Result<Vec<Member>, Broken> {
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
                let error = scanner.fail_at(start, &format!("the key {key:?} stands twice"));
                let broken = Broken { repeated_key: true, ..Broken::from(error) };
                return Err(broken.inside(&key));
            }
            scanner.expect(b':')?;
            let value = Self::scan(scanner, depth + 1).map_err(|broken| broken.inside(&key))?;
            members.push(Member { key, key_span, value });
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

/// An error on its way up, collecting the steps to its place, the innermost first.
struct Broken {
    error: Box<InvalidJson>,
    repeated_key: bool,
    steps: Vec<String>,
}

impl From<InvalidJson> for Broken {
    fn from(error: InvalidJson) -> Self {
        Self { error: Box::new(error), repeated_key: false, steps: Vec::new() }
    }
}

impl Broken {
    fn inside(mut self, step: &str) -> Self {
        self.steps.push(step.replace('~', "~0").replace('/', "~1"));
        self
    }

    fn into_unreadable(self) -> Unreadable {
        let pointer =
            self.steps.iter().rev().fold(String::new(), |pointer, step| pointer + "/" + step);
        Unreadable { pointer, repeated_key: self.repeated_key, error: *self.error }
    }
}
