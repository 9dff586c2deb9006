//! A template from an XState v5 machine in JSON, as Stately Studio exports it and
//! `JSON.stringify(machine.config)` prints it.
//!
//! Structure, order, ids and labels stay. What XState does in functions cannot be read from JSON:
//! in its place stands something that begins with `TODO:` and that no template may have, so the
//! result is refused until a person has filled it in, and all such places are listed.

mod action;
mod json;
mod name;
mod outline;
mod state;

use std::collections::BTreeMap;
use std::fmt;

use pled_engine::json::line_and_column;
use pled_engine::template::document::{Kind, Node};

use json::Json;

/// What came of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The template's JSON.
    pub template: String,
    /// What a person has to fill in, by kind and name.
    pub needs: Vec<Need>,
    /// What was changed or left out, with the place in the machine.
    pub notes: Vec<Note>,
}

/// Something that is a function or another machine in XState.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// What it is.
    pub kind: NeedKind,
    /// Its name in the machine.
    pub name: String,
    /// JSON pointers to where it is needed in the template.
    pub pointers: Vec<String>,
}

/// What a name of the machine stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NeedKind {
    /// A condition: an expression is needed.
    Guard,
    /// An action that is the engine's, and whose function is not in the JSON.
    Action,
    /// A value that is computed.
    Value,
    /// A named delay: milliseconds or an expression are needed.
    Delay,
    /// Work for a worker; nothing has to be changed in the template.
    Worker,
}

impl fmt::Display for NeedKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Guard => "guard",
            Self::Action => "action",
            Self::Value => "value",
            Self::Delay => "delay",
            Self::Worker => "worker",
        })
    }
}

/// Something that was changed or left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// JSON pointer to it in the machine.
    pub pointer: String,
    /// What.
    pub message: String,
}

/// The machine cannot be imported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMachine {
    /// The text is no JSON.
    #[error(
        "line {line}, column {column}: {reason}; JSON is wanted, not TypeScript or JavaScript: \
         export the machine as JSON in Stately Studio, or print JSON.stringify(machine.config)"
    )]
    NotJson {
        /// The line, the first being 1.
        line: usize,
        /// The column, the first being 1.
        column: usize,
        /// What is wrong.
        reason: String,
    },
    /// It is JSON, but no machine that a template could be made of.
    #[error("{pointer}: {message}")]
    NoMachine {
        /// JSON pointer to the place.
        pointer: String,
        /// What is wrong.
        message: String,
    },
}

/// Makes a template of a machine. `guards` has an expression, as JSON text, for the names of guards.
///
/// # Errors
/// If `machine` is not JSON, or no machine config.
pub fn import(
    machine: &str,
    guards: &BTreeMap<String, String>,
) -> Result<Imported, InvalidMachine> {
    let root = Node::parse(machine).map_err(|error| {
        let (line, column) = line_and_column(machine, error.offset);
        InvalidMachine::NotJson { line, column, reason: error.reason }
    })?;
    if root.members().is_none() {
        return Err(no_machine("", "a machine is an object"));
    }
    if root.get("transitions").is_some() && root.get("key").is_some() {
        return Err(no_machine(
            "",
            "this is a compiled machine (JSON.stringify(machine)), in which names are lost: print \
             JSON.stringify(machine.config)",
        ));
    }
    let states = root.get("states").and_then(Node::members);
    if states.is_none_or(<[_]>::is_empty) {
        return Err(no_machine("/states", "a machine has states"));
    }
    let mut importer = Importer {
        outline: outline::Outline::of(&root),
        guards,
        needs: BTreeMap::new(),
        notes: Vec::new(),
        delays: BTreeMap::new(),
        names: BTreeMap::new(),
        place: Vec::new(),
        from: Vec::new(),
    };
    let template = importer.root(&root)?;
    let needs = importer
        .needs
        .into_iter()
        .map(|((kind, name), pointers)| Need { kind, name, pointers })
        .collect();
    Ok(Imported { template: template.pretty(), needs, notes: importer.notes })
}

fn no_machine(pointer: &str, message: &str) -> InvalidMachine {
    let pointer = if pointer.is_empty() { "the root" } else { pointer };
    InvalidMachine::NoMachine { pointer: pointer.to_owned(), message: message.to_owned() }
}

/// The machine while it is read, and what was found.
struct Importer<'m> {
    outline: outline::Outline,
    guards: &'m BTreeMap<String, String>,
    needs: BTreeMap<(NeedKind, String), Vec<String>>,
    notes: Vec<Note>,
    /// Names of delays in the machine, and here.
    delays: BTreeMap<String, String>,
    /// Names of actions here, and which name of the machine has it.
    names: BTreeMap<String, String>,
    /// Where in the template the reader is.
    place: Vec<String>,
    /// Where in the machine it is.
    from: Vec<String>,
}

impl Importer<'_> {
    /// Reads what stands at `from` in the machine and will stand at `to` in the template.
    fn at<T>(
        &mut self,
        from: impl fmt::Display,
        to: impl fmt::Display,
        read: impl FnOnce(&mut Self) -> T,
    ) -> T {
        self.from.push(from.to_string());
        self.place.push(to.to_string());
        let result = read(self);
        self.from.pop();
        self.place.pop();
        result
    }

    fn need(&mut self, kind: NeedKind, name: &str) {
        let pointer = pointer(&self.place);
        self.needs.entry((kind, name.to_owned())).or_default().push(pointer);
    }

    fn note(&mut self, message: impl Into<String>) {
        self.notes.push(Note { pointer: pointer(&self.from), message: message.into() });
    }

    fn error(&self, message: &str) -> InvalidMachine {
        no_machine(&pointer(&self.from), message)
    }

    /// Data of the machine as a value in a template. What Stately writes as `{{ … }}` is computed.
    fn value(&mut self, node: &Node) -> Json {
        match &node.kind {
            Kind::String(text) if text.trim().starts_with("{{") => {
                self.need(NeedKind::Value, text);
                // `$literal` stands alone, so this is refused.
                let todo = Json::text(&format!("TODO:{text}"));
                Json::Object(vec![("$literal".to_owned(), Json::Null), ("TODO".to_owned(), todo)])
            }
            Kind::Array(elements) => Json::Array(
                elements
                    .iter()
                    .enumerate()
                    .map(|(at, element)| self.at(at, at, |this| this.value(element)))
                    .collect(),
            ),
            Kind::Object(members) => {
                let looks_like_logic = members.len() == 1
                    && members.iter().any(|member| name::is_operator(&member.key));
                if looks_like_logic || members.iter().any(|member| &*member.key == "$literal") {
                    return Json::object([("$literal", Json::of(node))]);
                }
                let read = members.iter().map(|member| {
                    let key = &member.key;
                    let value = self.at(key, key, |this| this.value(&member.value));
                    (key.to_string(), value)
                });
                Json::Object(read.collect())
            }
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::String(_) => Json::of(node),
        }
    }
}

fn pointer(steps: &[String]) -> String {
    steps.iter().fold(String::new(), |pointer, step| {
        pointer + "/" + &step.replace('~', "~0").replace('/', "~1")
    })
}
