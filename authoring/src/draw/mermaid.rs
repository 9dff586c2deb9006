//! Mermaid: `stateDiagram-v2`, which GitHub, GitLab and many editors show.
//!
//! What it cannot say is said in words: a history state is a state named `H` or `H*`, and a taken
//! transition has a tick at its label, since Mermaid gives single arrows no style.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use pled_engine::template::{StateIndex, StateKind};

use super::Path;
use super::diagram::{Arrow, Diagram, Start, position};
use super::text::cut;

/// How long a label or line may be, in characters.
const CHARS_MAX: usize = 90;

/// Words that mean something to Mermaid where a state's name may stand.
const WORDS: [&str; 16] = [
    "accDescr",
    "accTitle",
    "as",
    "class",
    "classDef",
    "click",
    "default",
    "direction",
    "end",
    "hide",
    "note",
    "scale",
    "state",
    "style",
    "stateDiagram",
    "href",
];

pub(super) fn write(diagram: &Diagram<'_>, path: Option<&Path>) -> String {
    let mut writer = Writer { diagram, path, names: names(diagram), out: String::new() };
    writer.chart();
    writer.out
}

struct Writer<'d> {
    diagram: &'d Diagram<'d>,
    path: Option<&'d Path>,
    /// What each state is called in the text.
    names: Vec<String>,
    out: String,
}

impl Writer<'_> {
    fn chart(&mut self) {
        let title = self.diagram.states.first().map_or("", |view| &view.title);
        let title = format!("---\ntitle: {title} version {}\n---", self.diagram.template.version);
        self.line(0, &title);
        self.line(0, "stateDiagram-v2");
        let diagram = self.diagram;
        match diagram.template.state(0).kind {
            // Mermaid has regions only inside a state.
            StateKind::Parallel => self.state(0, 1),
            StateKind::Atomic
            | StateKind::Compound { .. }
            | StateKind::Final
            | StateKind::History { .. } => self.inside(0, 1),
        }
        for arrow in &diagram.arrows {
            if let Start::State(from) = arrow.from {
                for target in &arrow.to {
                    self.arrow(1, &self.name(from), &self.name(*target), arrow);
                }
            }
        }
        self.classes();
    }

    /// What a state holds, and which of it is entered first.
    fn inside(&mut self, state: StateIndex, depth: usize) {
        let (template, diagram) = (self.diagram.template, self.diagram);
        let initial = diagram.arrows.iter().find(|arrow| arrow.from == Start::Initial(state));
        if let Some(arrow) = initial {
            for target in &arrow.to {
                self.arrow(depth, "[*]", &self.name(*target), arrow);
            }
        }
        let is_parallel = matches!(template.state(state).kind, StateKind::Parallel);
        let mut regions = 0;
        for child in &template.state(state).children {
            let is_history = matches!(template.state(*child).kind, StateKind::History { .. });
            if is_parallel && !is_history {
                if regions > 0 {
                    self.line(depth, "--");
                }
                regions += 1;
            }
            self.state(*child, depth);
        }
    }

    fn state(&mut self, state: StateIndex, depth: usize) {
        let diagram = self.diagram;
        let (name, view) = (self.name(state), &diagram.states[position(state)]);
        let kind = &diagram.template.state(state).kind;
        let title = match kind {
            StateKind::History { deep: true, .. } => "H*".to_owned(),
            StateKind::History { deep: false, .. } => "H".to_owned(),
            StateKind::Atomic
            | StateKind::Compound { .. }
            | StateKind::Parallel
            | StateKind::Final => view.title.clone(),
        };
        let declared = format!("state \"{}\" as {name}", escape(&title));
        if matches!(kind, StateKind::Compound { .. } | StateKind::Parallel) {
            self.line(depth, &format!("{declared} {{"));
            self.inside(state, depth + 1);
            self.line(depth, "}");
        } else {
            self.line(depth, &declared);
            for line in &view.lines {
                let text = self.ticked(&line.text, line.transition);
                self.line(depth, &format!("{name} : {text}"));
            }
        }
        if matches!(kind, StateKind::Final) {
            self.line(depth, &format!("{name} --> [*]"));
        }
    }

    fn arrow(&mut self, depth: usize, from: &str, to: &str, arrow: &Arrow) {
        let text = self.ticked(&arrow.label.text(), arrow.transition);
        let text = if text.is_empty() { text } else { format!(" : {text}") };
        self.line(depth, &format!("{from} --> {to}{text}"));
    }

    /// A text with a tick before it if its transition was taken.
    fn ticked(&self, text: &str, transition: Option<u32>) -> String {
        let text = escape(&cut(text, CHARS_MAX));
        let taken = self.path.zip(transition);
        match taken.is_some_and(|(path, number)| path.transitions.contains(&number)) {
            true => format!("✓ {text}").trim_end().to_owned(),
            false => text,
        }
    }

    fn classes(&mut self) {
        let Some(path) = self.path else { return };
        self.line(1, "classDef visited fill:#dbeafe,stroke:#2563eb,color:#111827");
        self.line(1, "classDef current fill:#fde68a,stroke:#b45309,stroke-width:3px,color:#111827");
        for (index, state) in (0..).zip(&self.diagram.template.states) {
            // Mermaid gives states that hold others no class.
            let is_leaf = matches!(state.kind, StateKind::Atomic | StateKind::Final);
            let name = self.name(index);
            if is_leaf && path.current.contains(&index) {
                self.line(1, &format!("class {name} current"));
            } else if is_leaf && path.states.contains(&index) {
                self.line(1, &format!("class {name} visited"));
            }
        }
    }

    fn name(&self, state: StateIndex) -> String {
        self.names[position(state)].clone()
    }

    fn line(&mut self, depth: usize, text: &str) {
        let _ = writeln!(self.out, "{:1$}{text}", "", depth * 2);
    }
}

/// A name for each state: its key where that is the only one of it, else with its number.
fn names(diagram: &Diagram<'_>) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let named = diagram.template.states.iter().enumerate().map(|(index, state)| {
        let word = state.key.replace('-', "_");
        if WORDS.contains(&&*word) || !taken.insert(word.clone()) {
            let numbered = format!("{word}_{index}");
            taken.insert(numbered.clone());
            numbered
        } else {
            word
        }
    });
    named.collect()
}

/// `text` with all that Mermaid or the page around it could take for more than text as numbered
/// characters.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        let is_plain = char.is_alphanumeric() || " _.,()[]/+*=!?'-…≤≥≠×".contains(char);
        if is_plain {
            escaped.push(char);
        } else {
            let _ = write!(escaped, "#{};", u32::from(char));
        }
    }
    escaped
}
