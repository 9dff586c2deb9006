//! `pled simulate`

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use pled_authoring::scenario::{Reply, Session};
use pled_engine::simulate::simulate_case;
use pled_engine::statechart;
use pled_engine::template::Template;
use pled_engine::value::Value;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use super::template;
use crate::cli::{Corners, Simulate};
use crate::{say, say_error};

pub(crate) fn run(options: &Simulate) -> anyhow::Result<ExitCode> {
    let Some(file) = options.file.as_deref().filter(|_| !options.jsonl) else {
        let read = io::stdin().lock();
        return match answer_cases(read, io::stdout().lock(), options.corners) {
            // A reader that went away (`| head`) is no error of ours.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
            Err(error) => Err(error.into()),
            Ok(cornered) => {
                if cornered > 0 {
                    say_error(&cornered_text(cornered));
                }
                Ok(ExitCode::SUCCESS)
            }
        };
    };
    let source = template::read(file)?;
    let template = match Template::parse(&source) {
        Ok(template) => Arc::new(template),
        Err(invalid) => {
            template::report(file, &invalid);
            return Ok(ExitCode::FAILURE);
        }
    };
    let input = Value::parse(options.input.as_bytes()).context("the input")?;
    let (mut session, text) = Session::start(template, input)?;
    say(text);
    if let Some(steps) = &options.steps {
        replay(&mut session, steps)?;
    }
    if io::stdin().is_terminal() {
        type_lines(&mut session, file)?;
    } else {
        for line in io::stdin().lock().lines() {
            let line = line.context("standard input")?;
            say(format_args!("> {line}"));
            if !take(&mut session, &line, file) {
                break;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn cornered_text(cornered: u64) -> String {
    let (cases, follow) = if cornered == 1 { ("case", "meets") } else { ("cases", "meet") };
    format!(
        "{cornered} {cases} {follow} a corner where XState contradicts the engine and was followed; \
         --corners pled follows the engine"
    )
}

/// One result for each line, in order; says how many went XState's way in a corner.
fn answer_cases(
    mut read: impl BufRead,
    mut write: impl Write,
    corners: Corners,
) -> io::Result<u64> {
    let corners = match corners {
        Corners::Xstate => statechart::Corners::XState,
        Corners::Pled => statechart::Corners::Pled,
    };
    let mut cornered = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        if read.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        let simulated = simulate_case(text, corners);
        cornered += u64::from(simulated.cornered);
        writeln!(write, "{}", simulated.json)?;
        // Whoever waits for an answer before the next case gets it.
        write.flush()?;
    }
    Ok(cornered)
}

/// Takes the steps of a file; empty lines are skipped.
fn replay(session: &mut Session, steps: &Path) -> anyhow::Result<()> {
    let text = template::read(steps)?;
    for (at, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        say(format_args!("> {line}"));
        match session.step(line) {
            Ok(text) => say(text),
            Err(error) => bail!("{}:{at}: {error}", steps.display()),
        }
    }
    Ok(())
}

fn type_lines(session: &mut Session, file: &Path) -> anyhow::Result<()> {
    let mut editor = DefaultEditor::new().context("the terminal")?;
    loop {
        match editor.readline("> ") {
            Ok(line) => {
                // A history that cannot be kept is no reason to stop.
                let _ = editor.add_history_entry(&line);
                if !take(session, &line, file) {
                    return Ok(());
                }
            }
            Err(ReadlineError::Interrupted) => say("  quit ends the session"),
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(error).context("the terminal"),
        }
    }
}

/// Takes a line; false ends the session.
fn take(session: &mut Session, line: &str, template: &Path) -> bool {
    match session.line(line) {
        Reply::Quit => return false,
        Reply::Text(text) if text.is_empty() => {}
        Reply::Text(text) => say(text),
        Reply::Save { path } => {
            let path = Path::new(&path);
            let text = session.scenario(&from_folder_of(path, template));
            match std::fs::write(path, text) {
                Ok(()) => say(format_args!("  wrote {}; run it with `pled test`", path.display())),
                Err(error) => say(format_args!("  {}: {error}", path.display())),
            }
        }
    }
    true
}

/// The path of the template as the scenario file names it: relative to its own folder where both
/// are in the same one, else absolute.
fn from_folder_of(scenario: &Path, template: &Path) -> String {
    let folder = |path: &Path| {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        parent.unwrap_or(Path::new(".")).canonicalize().ok()
    };
    match (folder(scenario), folder(template), template.file_name()) {
        (Some(own), Some(other), Some(name)) if own == other => name.to_string_lossy().into_owned(),
        _ => {
            let absolute = template.canonicalize();
            absolute.as_deref().unwrap_or(template).to_string_lossy().into_owned()
        }
    }
}
