//! `pled doctor`

use std::fmt::Write as _;
use std::process::ExitCode;

use pled_ledger::Ledger;
use pled_operations::doctor::{Diagnosis, Health, LedgerFacts, examine};
use pled_streams::topology;
use serde_json::json;

use super::{answer, connect};
use crate::cli::Global;

pub(crate) async fn run(global: &Global) -> anyhow::Result<ExitCode> {
    let nats = connect(global, "pled doctor").await?;
    // What does not fit is a finding; where it fits, the number of partitions is learned.
    let incarnation = topology::open(&nats).await.map(|facts| facts.incarnation).ok();
    let ledger = ledger(global, incarnation.as_deref()).await;
    let diagnosis = examine(&nats, &ledger).await?;
    let shown = json!({
        "well": diagnosis.is_well(), "findings": diagnosis.findings, "costs": diagnosis.costs,
    });
    answer(global, &shown, || text(&diagnosis))?;
    Ok(if diagnosis.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn ledger(global: &Global, incarnation: Option<&str>) -> LedgerFacts {
    let (Some(url), Some(incarnation)) = (&global.database_url, incarnation) else {
        return LedgerFacts::None;
    };
    let position = match Ledger::lazy(url) {
        Ok(ledger) => ledger.position(incarnation).await,
        Err(error) => Err(error),
    };
    match position {
        Ok(position) => LedgerFacts::At(position.stream_seq),
        Err(error) => LedgerFacts::Failed(error.to_string()),
    }
}

fn text(diagnosis: &Diagnosis) -> String {
    let mut text = String::new();
    let width = diagnosis.findings.iter().map(|it| it.what.chars().count()).max().unwrap_or(0);
    for finding in &diagnosis.findings {
        let health = match finding.health {
            Health::Ok => "ok  ",
            Health::Warn => "warn",
            Health::Bad => "BAD ",
        };
        let _ = writeln!(text, "{health}  {:<width$}  {}", finding.what, finding.found);
        if let Some(advice) = &finding.advice {
            let _ = writeln!(text, "      {:<width$}  -> {advice}", "");
        }
    }
    if !diagnosis.costs.is_empty() {
        let _ = writeln!(text, "\nWhat would be lost, by the settings as they are:");
        let _ = writeln!(
            text,
            "{:<18} {:<11} {:<15} {:<27} what it holds",
            "stream", "by kill -9", "by a power cut", "with a server and its disk"
        );
    }
    for cost in &diagnosis.costs {
        let _ = writeln!(
            text,
            "{:<18} {:<11} {:<15} {:<27} {}",
            cost.stream, cost.kill, cost.power_cut, cost.loss_of_a_server, cost.holds
        );
    }
    text
}
