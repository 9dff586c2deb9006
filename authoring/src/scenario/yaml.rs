//! YAML as a tree with places, so that every fault of a scenario file can be shown where it is.

use std::fmt;

use pled_engine::value::{Object, Value};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// Where something stands in a file, both from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: u64,
    /// The column.
    pub column: u64,
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) place: Place,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// Anything that is neither a list nor a map.
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) text: String,
    pub(super) place: Place,
}

impl Node {
    /// Reads one YAML document.
    pub(super) fn read(text: &str) -> Result<Self, (Place, String)> {
        let options = serde_saphyr::options! { with_snippet: false };
        serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let place = error.location().map(place).unwrap_or_default();
            (place, plain(&error.to_string()))
        })
    }

    pub(super) fn kind_name(&self) -> &'static str {
        match &self.kind {
            Kind::Scalar(value) => value.kind(),
            Kind::List(_) => "a list",
            Kind::Map(_) => "a map",
        }
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(value) => value.as_str(),
            Kind::List(_) | Kind::Map(_) => None,
        }
    }

    pub(super) fn members(&self) -> Option<&[(Key, Self)]> {
        match &self.kind {
            Kind::Map(members) => Some(members),
            Kind::Scalar(_) | Kind::List(_) => None,
        }
    }

    /// The value of a member, if it is a map that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.members()?.iter().find(|(name, _)| name.text == key).map(|(_, value)| value)
    }

    /// The elements of a list; anything else is a list of itself.
    pub(super) fn elements(&self) -> &[Self] {
        match &self.kind {
            Kind::List(elements) => elements,
            Kind::Scalar(_) | Kind::Map(_) => std::slice::from_ref(self),
        }
    }

    pub(super) fn to_value(&self) -> Value {
        match &self.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::List(elements) => elements.iter().map(Self::to_value).collect::<Vec<_>>().into(),
            Kind::Map(members) => {
                let members = members.iter().map(|(key, value)| (&*key.text, value.to_value()));
                members.collect::<Object>().into()
            }
        }
    }
}

/// The reader adds where it is to its messages, which is told apart from them.
fn plain(message: &str) -> String {
    let first = message.lines().next().unwrap_or_default();
    match first.split_once(": ") {
        Some((head, rest)) if head.contains("line") && head.contains("column") => rest.to_owned(),
        _ => first.to_owned(),
    }
}

fn place(location: serde_saphyr::Location) -> Place {
    Place { line: location.line(), column: location.column() }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<Kind>::deserialize(deserializer)?;
        Ok(Self { kind: value, place: place(referenced) })
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value that JSON has, too")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Kind, E> {
        scalar(&value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Kind, E> {
        scalar(&value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Kind, E> {
        scalar(&value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_unit<E: Error>(self) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::Null))
    }

    fn visit_none<E: Error>(self) -> Result<Kind, E> {
        self.visit_unit()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Kind, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = access.next_element()? {
            elements.push(element);
        }
        Ok(Kind::List(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Kind, A::Error> {
        let mut members = Vec::new();
        while let Some((key, value)) = access.next_entry::<Spanned<String>, Node>()? {
            let place = place(key.referenced);
            members.push((Key { text: key.value, place }, value));
        }
        Ok(Kind::Map(members))
    }
}

/// A number as JSON has it.
fn scalar<E: Error>(number: &impl serde::Serialize) -> Result<Kind, E> {
    let text = serde_json::to_string(number).map_err(E::custom)?;
    let value = Value::parse(text.as_bytes()).map_err(E::custom)?;
    Ok(Kind::Scalar(value))
}
