//! `pled verify` and `pled export`

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use pled_engine::entry::JournalEntry;
use pled_operations::export::walk;
use pled_operations::record::{Record, read};
use pled_operations::verify::{
    Acknowledged, Checker, Invariant, Options, Prefix, Report, Violation, read_client_log,
};
use pled_streams::{Nats, ReadError, StreamKind, journal, topology};
use serde_json::json;

use super::{answer, connect};
use crate::cli::{Export, Global, Verify};
use crate::say_error;

/// How many violations are shown with the entries that led to them.
const SHOWN: usize = 5;

/// What could not be read is neither well nor ill: an exit code of its own.
pub(crate) async fn run(global: &Global, options: &Verify) -> ExitCode {
    match verify(global, options).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            say_error(&format!("pled: {error:#}"));
            ExitCode::from(2)
        }
    }
}

async fn verify(global: &Global, options: &Verify) -> anyhow::Result<u8> {
    let mut log = Vec::new();
    for file in &options.client_log {
        log.extend(client_log(file)?);
    }
    let asked = Asked { log: !log.is_empty(), settled: options.settled };
    let how = Options { settled: options.settled, states_bytes_max: options.states_mib << 20 };
    let checker = Checker::new(how, log);
    let (report, prefixes) = match &options.from {
        Some(file) => of_export(file, checker)?,
        None => of_live(global, checker).await?,
    };
    let shown = json!({ "report": report, "prefixes": prefixes });
    answer(global, &shown, || text(&report, &prefixes, &asked))?;
    Ok(report.code())
}

fn client_log(file: &Path) -> anyhow::Result<Vec<Acknowledged>> {
    let what = || format!("the client log {}", file.display());
    let source = File::open(file).with_context(what)?;
    read_client_log(BufReader::new(source)).map_err(anyhow::Error::msg).with_context(what)
}

type Verified = (Report, Vec<Vec<String>>);

fn of_export(file: &Path, mut checker: Checker) -> anyhow::Result<Verified> {
    let what = || format!("the export {}", file.display());
    for record in read(source(file).with_context(what)?) {
        checker.take(&record.with_context(what)?).map_err(anyhow::Error::msg)?;
    }
    let report = checker.finish();
    let mut prefixes: Vec<_> = shown(&report).map(Prefix::of).collect();
    // What came by standard input cannot be read a second time.
    if !report.violations.is_empty() && file != Path::new("-") {
        for record in read(source(file).with_context(what)?) {
            let Ok(Record::Message(StreamKind::Journal, stored)) = record else { continue };
            if let Ok(entry) = serde_json::from_slice::<JournalEntry>(&stored.payload) {
                prefixes.iter_mut().flatten().for_each(|prefix| prefix.take(&entry));
            }
        }
    }
    let lines = |prefix: Option<Prefix>| prefix.map(Prefix::lines).unwrap_or_default();
    Ok((report, prefixes.into_iter().map(lines).collect()))
}

fn source(file: &Path) -> std::io::Result<Box<dyn BufRead>> {
    if file == Path::new("-") {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    Ok(Box::new(BufReader::new(File::open(file)?)))
}

fn shown(report: &Report) -> impl Iterator<Item = &Violation> {
    report.violations.iter().take(SHOWN)
}

async fn of_live(global: &Global, mut checker: Checker) -> anyhow::Result<Verified> {
    let nats = connect(global, "pled verify").await?;
    let facts = topology::open(&nats).await?;
    walk(&nats, &facts, |record| checker.take(&record).map_err(anyhow::Error::msg)).await?;
    let report = checker.finish();
    let mut prefixes = Vec::new();
    for violation in shown(&report) {
        prefixes.push(prefix(&nats, violation).await.unwrap_or_default());
    }
    Ok((report, prefixes))
}

/// An execution whose entries cannot be read is told by its violation alone.
async fn prefix(nats: &Nats, violation: &Violation) -> Result<Vec<String>, ReadError> {
    let (Some(mut prefix), Some(execution)) = (Prefix::of(violation), &violation.execution) else {
        return Ok(Vec::new());
    };
    for loaded in journal::history(nats, execution).await? {
        prefix.take(&loaded.entry);
    }
    Ok(prefix.lines())
}

struct Asked {
    log: bool,
    settled: bool,
}

fn text(report: &Report, prefixes: &[Vec<String>], asked: &Asked) -> String {
    let mut text = format!(
        "{} executions, {} entries, {} inputs that are not done yet\n\n",
        report.executions, report.entries, report.pending
    );
    for line in &report.lines {
        let state = match line.violations {
            _ if line.invariant == Invariant::E1 && !asked.log => "--",
            _ if line.invariant == Invariant::V1 && !asked.settled => "--",
            0 => "ok",
            _ => "BAD",
        };
        let count = match (state, line.violations) {
            ("--", _) if line.invariant == Invariant::E1 => "needs --client-log".to_owned(),
            ("--", _) => "needs --settled".to_owned(),
            (_, 0) => format!("{} {}", line.checked, line.of),
            (_, 1) => format!("{} {}, 1 violation", line.checked, line.of),
            (_, more) => format!("{} {}, {more} violations", line.checked, line.of),
        };
        let (code, promise) = (line.invariant.code(), line.promise);
        let _ = writeln!(text, "{code} {state:<3}  {promise:<46}  {count}");
    }
    if report.not_replayed > 0 {
        let count = report.not_replayed;
        let _ = writeln!(text, "\n{count} steps were not taken again (--states-mib, or damage)");
    }
    for (place, violation) in report.violations.iter().enumerate() {
        let execution = violation.execution.as_ref().map(|id| format!(" {id}")).unwrap_or_default();
        let entry = violation.entry.map(|seq| format!(" entry {seq}")).unwrap_or_default();
        let code = violation.invariant.code();
        let _ = writeln!(text, "\n{code}{execution}{entry}: {}", violation.what);
        for line in prefixes.get(place).into_iter().flatten() {
            let _ = writeln!(text, "   {line}");
        }
    }
    let verdict = match (&report.incomplete, report.code()) {
        (_, 0) => "everything holds".to_owned(),
        (Some(why), _) => format!("not everything was read: {why}"),
        (None, _) => "not everything holds".to_owned(),
    };
    let _ = writeln!(text, "\n{verdict}");
    text
}

pub(crate) async fn export(global: &Global, options: &Export) -> anyhow::Result<ExitCode> {
    let nats = connect(global, "pled export").await?;
    let facts = topology::open(&nats).await?;
    let to_file = options.file != Path::new("-");
    let out: Box<dyn Write> = if to_file {
        let file = File::create(&options.file);
        Box::new(file.with_context(|| format!("the file {}", options.file.display()))?)
    } else {
        Box::new(std::io::stdout())
    };
    let mut out = BufWriter::new(out);
    let mut messages = 0;
    walk(&nats, &facts, |record| {
        if let Record::End { messages: count } = &record {
            messages = *count;
        }
        writeln!(out, "{}", record.to_line()?)?;
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    out.flush()?;
    if to_file {
        let file = options.file.display().to_string();
        answer(global, &json!({ "messages": messages, "file": file }), || {
            format!("{messages} messages in {file}")
        })?;
    }
    Ok(ExitCode::SUCCESS)
}
