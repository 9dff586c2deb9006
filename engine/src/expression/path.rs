//! Paths of `var` and `missing`: where they begin, and the keys that follow.

use std::sync::Arc;

/// What a place in an expression can look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// `context` and `event`, in an `each` also `item` and `index`.
    Top,
    /// Inside `map`, `filter`, `all`, `some` and `none`: the element.
    Element,
    /// Inside `reduce`: `current` and `accumulator`.
    Reduce,
}

/// Where a path begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Root {
    Context,
    Event,
    EventType,
    EventData,
    EventId,
    EventSource,
    EventTime,
    Item,
    Index,
    Element,
    Current,
    Accumulator,
}

/// A path, split once so that a look-up does no work on text.
#[derive(Debug)]
pub(super) struct Path {
    pub(super) root: Root,
    pub(super) keys: Box<[Key]>,
}

/// One step down: a key of an object, or an element of an array if it is written as an index.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) text: Arc<str>,
    pub(super) index: Option<usize>,
}

/// Why a text is no path here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InvalidPath {
    /// It begins with something that cannot be looked at.
    Root,
    /// It begins with a field that events do not have.
    EventField,
    /// There is nothing between two dots, or at an end.
    EmptyKey,
}

impl Path {
    pub(super) fn parse(text: &str, view: View) -> Result<Self, InvalidPath> {
        if text.is_empty() && view == View::Element {
            return Ok(Self { root: Root::Element, keys: Box::default() });
        }
        if text.split('.').any(str::is_empty) {
            return Err(if text.is_empty() { InvalidPath::Root } else { InvalidPath::EmptyKey });
        }
        let mut words = text.split('.');
        let root = match view {
            View::Top => Self::top(&mut words)?,
            View::Element => Root::Element,
            View::Reduce => match words.next() {
                Some("current") => Root::Current,
                Some("accumulator") => Root::Accumulator,
                _ => return Err(InvalidPath::Root),
            },
        };
        Ok(Self { root, keys: words.map(Key::new).collect() })
    }

    fn top<'t>(words: &mut impl Iterator<Item = &'t str>) -> Result<Root, InvalidPath> {
        match words.next() {
            Some("context") => Ok(Root::Context),
            Some("item") => Ok(Root::Item),
            Some("index") => Ok(Root::Index),
            Some("event") => match words.next() {
                None => Ok(Root::Event),
                Some("type") => Ok(Root::EventType),
                Some("data") => Ok(Root::EventData),
                Some("id") => Ok(Root::EventId),
                Some("source") => Ok(Root::EventSource),
                Some("time") => Ok(Root::EventTime),
                Some(_) => Err(InvalidPath::EventField),
            },
            _ => Err(InvalidPath::Root),
        }
    }
}

impl Key {
    fn new(text: &str) -> Self {
        let canonical = text == "0" || !text.starts_with('0');
        let digits = canonical && text.bytes().all(|byte| byte.is_ascii_digit());
        Self { text: text.into(), index: if digits { text.parse().ok() } else { None } }
    }
}
