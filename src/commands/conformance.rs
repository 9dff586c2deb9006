//! `pled worker conformance`

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use pled_engine::value::Value;
use pled_workers::conformance::{self, Trial, Verdict};
use serde_json::json;

use super::{answer, open};
use crate::cli::{Conformance, Global};

pub(crate) async fn run(global: &Global, options: &Conformance) -> anyhow::Result<ExitCode> {
    let input = |given: &Option<String>, name: &'static str| {
        let value = given.as_ref().map(|given| read(given));
        value.transpose().with_context(|| format!("--{name}"))
    };
    let trial = Trial {
        action: options.action.clone(),
        input: read(&options.input).context("--input")?,
        fail: input(&options.fail_input, "fail-input")?,
        slow: input(&options.slow_input, "slow-input")?,
        huge: input(&options.huge_input, "huge-input")?,
        patience: Duration::from_secs(options.patience),
    };
    let nats = open(global, "pled worker conformance").await?;
    let checks = conformance::run(&nats, &trial).await?;
    let rows: Vec<_> = checks
        .iter()
        .map(|check| {
            let verdict = check.verdict.as_str();
            json!({ "check": check.name, "verdict": verdict, "detail": check.detail })
        })
        .collect();
    answer(global, &rows, || {
        let line = |check: &conformance::Check| {
            format!("{:<7}  {:<15}  {}", check.verdict.as_str(), check.name, check.detail)
        };
        checks.iter().map(line).collect::<Vec<_>>().join("\n")
    })?;
    let is_wrong = checks.iter().any(|check| check.verdict == Verdict::Wrong);
    Ok(if is_wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn read(given: &str) -> anyhow::Result<Value> {
    let text = match given.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file).with_context(|| file.to_owned())?,
        None => given.to_owned(),
    };
    Ok(Value::parse(text.as_bytes())?)
}
