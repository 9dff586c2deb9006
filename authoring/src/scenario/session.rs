//! A session at a terminal: a line is typed, what came of it is told.

use std::fmt::Write as _;
use std::sync::Arc;

use pled_engine::execution::Status;
use pled_engine::id::EventType;
use pled_engine::message::{Millis, TaskOutcome};
use pled_engine::template::Template;
use pled_engine::value::Value;

use super::mock::failed;
use super::read::duration_ms;
use super::show::{self, labelled};
use super::world::{Delivered, Impossible, World, final_failure};

/// What can be typed.
const HELP: &str = "\
  EVENT [JSON]               an event comes, with this data
  +5s  +1500ms  +15m  +7d    time passes; what comes due on the way comes first
  done NAME [JSON]           the outstanding attempt of an invocation or action succeeds
  fail NAME CODE [MESSAGE]   it fails; what the template says about retries follows
  undo                       takes the last step back
  state                      where it stands, and what it waits for
  events                     what is handled here
  save FILE                  writes what was typed as a scenario for `pled test`
  help                       this
  quit                       ends the session";

/// An execution in the hands of someone who types.
#[derive(Debug)]
pub struct Session {
    world: World,
    input: Value,
    /// The world before each step, and the step.
    past: Vec<(World, Typed)>,
}

/// A step that was typed.
#[derive(Clone, Debug)]
enum Typed {
    Send { event: EventType, data: Value },
    Wait(Millis),
    End { task: String, outcome: TaskOutcome },
}

/// What is to be done after a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Show this text, which may be empty.
    Text(String),
    /// Write this scenario file there.
    Save {
        /// The path as it was typed.
        path: String,
    },
    /// The session is over.
    Quit,
}

impl Session {
    /// Starts an execution. Its first words are in the text.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(template: Arc<Template>, input: Value) -> Result<(Self, String), Impossible> {
        let mut world = World::start_by_hand(template, input.clone())?;
        let mut text =
            format!("{}; type `help` to see what can be typed\n", world.template().reference());
        text.push_str(&told(&mut world, "started"));
        Ok((Self { world, input, past: Vec::new() }, text))
    }

    /// Takes a line.
    pub fn line(&mut self, line: &str) -> Reply {
        let line = line.trim();
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        let text = match word {
            "" => String::new(),
            "help" | "?" => HELP.to_owned(),
            "quit" | "exit" => return Reply::Quit,
            "state" => show::standing(&self.world).join("\n"),
            "events" => self.events(),
            "undo" => self.undo(),
            "save" if rest.is_empty() => "save needs the path of a file to write".to_owned(),
            "save" => return Reply::Save { path: rest.to_owned() },
            "done" => self.done(rest),
            "fail" => self.fail(rest),
            _ => match word.strip_prefix('+') {
                Some(_) => self.pass(line.trim_start_matches('+')),
                None => self.send(word, rest),
            },
        };
        Reply::Text(text)
    }

    /// Takes a step as `pled check` and `pled simulate --jsonl` have it:
    /// `{"after_ms":n,"event":{"name","data"}}`. `done.invoke.<id>` and `error.invoke.<id>` stand
    /// for what becomes of the invocation, after all its attempts.
    ///
    /// # Errors
    /// If it is no such step.
    pub fn step(&mut self, line: &str) -> Result<String, String> {
        let step = Value::parse(line.as_bytes()).map_err(|error| error.to_string())?;
        let mut texts = Vec::new();
        match step.get("after_ms") {
            None | Some(Value::Null | Value::Int(0)) => {}
            Some(Value::Int(ms @ 1..)) => texts.push(self.take(Typed::Wait(*ms))),
            Some(_) => return Err("`after_ms` is an integer of milliseconds".to_owned()),
        }
        match step.get("event") {
            None | Some(Value::Null) => {}
            Some(event) => {
                let name = event.get("name").and_then(Value::as_str);
                let name = name.ok_or("an event has a `name`")?;
                let data = event.get("data").cloned().unwrap_or_default();
                let typed = match (name.strip_prefix("done.invoke."), name.strip_prefix("error.")) {
                    (Some(id), _) => {
                        Typed::End { task: id.to_owned(), outcome: TaskOutcome::Ok(data) }
                    }
                    (None, Some(rest)) => {
                        let task = rest.split_once('.').map_or(rest, |(_, task)| task).to_owned();
                        Typed::End { task, outcome: final_failure(&data) }
                    }
                    (None, None) => {
                        let event = name
                            .parse()
                            .map_err(|error: pled_engine::id::InvalidName| error.to_string())?;
                        Typed::Send { event, data }
                    }
                };
                texts.push(self.take(typed));
            }
        }
        Ok(texts.join("\n"))
    }

    /// What was typed, as a scenario file for this template, ending with what is now.
    #[must_use]
    pub fn scenario(&self, template_path: &str) -> String {
        let mut yaml = format!("template: {}\nscenarios:\n", quoted(template_path));
        yaml.push_str("  - name: what happens in a session of pled simulate\n");
        if !self.input.is_null() {
            let _ = writeln!(yaml, "    input: {}", self.input);
        }
        if !self.past.is_empty() {
            yaml.push_str("    steps:\n");
        }
        let after = self.past.iter().skip(1).map(|(world, _)| world);
        for ((_, typed), after) in self.past.iter().zip(after.chain([&self.world])) {
            yaml.push_str(&typed.yaml());
            let ids = &after.execution().state.configuration;
            let ids: Vec<_> = ids.iter().map(|id| &**id).collect();
            let _ = writeln!(yaml, "        expect: {{ state: [{}] }}", ids.join(", "));
        }
        let execution = self.world.execution();
        let _ = writeln!(yaml, "    expect:\n      status: {}", execution.status.as_str());
        let context: Value = execution.state.context.clone().into();
        let _ = writeln!(yaml, "      context: {context}");
        if execution.status == Status::Done && !execution.state.output.is_null() {
            let _ = writeln!(yaml, "      output: {}", execution.state.output);
        }
        yaml
    }

    fn send(&mut self, word: &str, rest: &str) -> String {
        let event = match word.parse() {
            Ok(event) => event,
            Err(error) => {
                let error: pled_engine::id::InvalidName = error;
                return format!("  {error}; type `help` to see what can be typed");
            }
        };
        match data(rest) {
            Ok(data) => self.take(Typed::Send { event, data }),
            Err(error) => error,
        }
    }

    fn done(&mut self, rest: &str) -> String {
        let (task, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        if task.is_empty() {
            return self.who("done");
        }
        match data(rest.trim()) {
            Ok(data) => {
                self.take(Typed::End { task: task.to_owned(), outcome: TaskOutcome::Ok(data) })
            }
            Err(error) => error,
        }
    }

    fn fail(&mut self, rest: &str) -> String {
        let mut words = rest.splitn(3, char::is_whitespace);
        let task = words.next().filter(|task| !task.is_empty());
        let Some(task) = task.map(str::to_owned) else { return self.who("fail") };
        let code = words.next().unwrap_or("error");
        let outcome = failed(code, words.next().unwrap_or_default().trim());
        self.take(Typed::End { task, outcome })
    }

    fn who(&self, word: &str) -> String {
        let tasks = self.world.tasks();
        let tasks = tasks.iter().map(|task| &**task).collect::<Vec<_>>().join(", ");
        let outstanding = if tasks.is_empty() { "nothing is".to_owned() } else { tasks };
        format!("  {word} needs the name of what is outstanding: {outstanding}")
    }

    fn pass(&mut self, time: &str) -> String {
        match duration_ms(time).or_else(|| time.parse().ok()) {
            Some(ms) => self.take(Typed::Wait(ms)),
            None => format!("  +{time} is no time: +1500ms, +5s, +15m, +1h, +7d"),
        }
    }

    fn undo(&mut self) -> String {
        match self.past.pop() {
            Some((world, typed)) => {
                self.world = world;
                let standing = show::standing(&self.world).join("\n");
                format!("  took back {}\n{standing}", typed.text())
            }
            None => "  there is no step to take back".to_owned(),
        }
    }

    fn take(&mut self, typed: Typed) -> String {
        let before = self.world.clone();
        let taken = match &typed {
            Typed::Wait(ms) => self.world.wait(*ms).map(|()| None),
            Typed::Send { event, data } => self.world.send(event.clone(), data.clone()).map(Some),
            Typed::End { task, outcome } => self.world.end_task(task, outcome.clone()).map(Some),
        };
        match taken {
            Ok(Some(Delivered::Closed)) => {
                let status = self.world.execution().status.as_str();
                format!("  it is {status}: it takes nothing any more")
            }
            Ok(_) => {
                let head = match &typed {
                    Typed::Wait(_) => None,
                    Typed::Send { .. } | Typed::End { .. } => Some(()),
                };
                let text = match head {
                    Some(()) => told(&mut self.world, ""),
                    None => passed(&mut self.world),
                };
                self.past.push((before, typed));
                text
            }
            Err(impossible) => {
                self.world = before;
                format!("  {impossible}")
            }
        }
    }

    /// The events that a transition of an active state is for, and what can be done besides.
    fn events(&self) -> String {
        let template = self.world.template();
        let mut lines = Vec::new();
        for index in self.world.active().into_iter().rev() {
            let state = template.state(index);
            let exact = state.on.exact.keys().map(|event| event.to_string());
            let prefixes = state.on.prefixes.iter().map(|(prefix, _)| format!("{prefix}.*"));
            let any = if state.on.any.is_empty() { None } else { Some("*".to_owned()) };
            let is_typed = |event: &String| {
                !["done.", "error.", "after."].iter().any(|inner| event.starts_with(inner))
            };
            for event in exact.chain(prefixes).chain(any).filter(is_typed) {
                let of = show::short(template, &state.id);
                lines.push(labelled("event", &format!("{event}  (in {of})")));
            }
        }
        for task in self.world.tasks() {
            lines.push(labelled("result", &format!("done {task}, fail {task} CODE")));
        }
        if let Some((due, _)) = self.world.timers().first() {
            let in_ms = due - self.world.now();
            lines.push(labelled("time", &format!("+{}", show::duration(in_ms))));
        }
        if lines.is_empty() { "  nothing: it is over".to_owned() } else { lines.join("\n") }
    }
}

impl Typed {
    fn text(&self) -> String {
        match self {
            Self::Wait(ms) => format!("+{}", show::duration(*ms)),
            Self::Send { event, .. } => event.to_string(),
            Self::End { task, outcome } => match outcome {
                TaskOutcome::Failed(failure) => format!("fail {task} {}", failure.code),
                TaskOutcome::Ok(_) | TaskOutcome::Started => format!("done {task}"),
            },
        }
    }

    fn yaml(&self) -> String {
        let with = |data: &Value| {
            if data.is_null() { String::new() } else { format!("        data: {data}\n") }
        };
        match self {
            Self::Wait(ms) => format!("      - wait: {ms}ms\n"),
            Self::Send { event, data } => format!("      - send: {event}\n{}", with(data)),
            Self::End { task, outcome: TaskOutcome::Failed(failure) } => {
                let mut yaml =
                    format!("      - fail: {task}\n        code: {}\n", quoted(&failure.code));
                if !failure.message.is_empty() {
                    let _ = writeln!(yaml, "        message: {}", quoted(&failure.message));
                }
                if !failure.details.is_null() {
                    let _ = writeln!(yaml, "        details: {}", failure.details);
                }
                if !failure.retryable {
                    yaml.push_str("        retryable: false\n");
                }
                yaml
            }
            Self::End { task, outcome: TaskOutcome::Ok(data) } => {
                format!("      - done: {task}\n{}", with(data))
            }
            Self::End { task, outcome: TaskOutcome::Started } => format!("      - done: {task}\n"),
        }
    }
}

/// What a command led to. What it is itself goes without saying, as it was typed.
fn told(world: &mut World, head: &str) -> String {
    let moments = world.take_moments();
    let mut lines: Vec<String> = (!head.is_empty()).then(|| head.to_owned()).into_iter().collect();
    for (at, moment) in moments.iter().enumerate() {
        lines.extend(show::moment(moment, world.template(), at == 0));
    }
    with_end(world, lines, moments.last().map(|moment| moment.status))
}

/// What came while time passed.
fn passed(world: &mut World) -> String {
    let moments = world.take_moments();
    let mut lines = vec![format!("  it is {} after the start", show::duration(world.now()))];
    for moment in &moments {
        lines.extend(show::moment(moment, world.template(), false));
    }
    with_end(world, lines, moments.last().map(|moment| moment.status))
}

fn with_end(world: &World, mut lines: Vec<String>, status: Option<Status>) -> String {
    if let Some(status) = status.filter(|status| status.is_terminal()) {
        lines.push(labelled("status", status.as_str()));
        lines.extend(show::end(world));
    }
    if lines.is_empty() {
        lines.push("  nothing changed".to_owned());
    }
    lines.join("\n")
}

fn data(text: &str) -> Result<Value, String> {
    if text.is_empty() {
        return Ok(Value::Null);
    }
    Value::parse(text.as_bytes()).map_err(|error| format!("  {text} is no JSON: {error}"))
}

/// A JSON string is a YAML one.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
