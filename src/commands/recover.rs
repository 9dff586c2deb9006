//! `pled recover`

use std::fmt::Write as _;
use std::process::ExitCode;

use pled_operations::recover::{self, Plan};

use super::{answer, connect};
use crate::cli::{Format, Global, Recover};
use crate::say;

pub(crate) async fn run(global: &Global, options: &Recover) -> anyhow::Result<ExitCode> {
    let nats = connect(global, "pled recover").await?;
    if !options.yes {
        let plan = recover::plan(&nats).await?;
        answer(global, &plan, || {
            format!("{}\nNothing was done. `pled recover --yes` does it.", text(&plan))
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let is_text = global.output == Format::Text;
    let plan = recover::perform(&nats, |step| {
        if is_text {
            say(step);
        }
    })
    .await?;
    answer(global, &plan, || {
        format!(
            "\nRecovered {} executions with {} entries. `pled verify` proves it; then start the \
             workers.",
            plan.executions, plan.entries
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

fn text(plan: &Plan) -> String {
    let mut text = String::new();
    if let Some(reason) = &plan.halted {
        let _ = writeln!(text, "The workers stopped, since {reason}\n");
    }
    if !plan.made_anew.is_empty() {
        let _ = writeln!(
            text,
            "These streams are gone and will be made anew, empty: {}\nWhat then follows from the \
             journal (tasks, sends, timers, positions) is made again; events, results and set-aside \
             messages that were in them and not in the journal are lost.",
            plan.made_anew.join(", ")
        );
        return text;
    }
    let _ = writeln!(
        text,
        "The journal has {} entries of {} executions. A recovery will",
        plan.entries, plan.executions
    );
    for generation in &plan.generations {
        let _ = writeln!(
            text,
            "  raise {} to generation {} from sequence {} on",
            generation.stream, generation.generation, generation.from
        );
    }
    for (input, count) in &plan.read_again {
        let _ = writeln!(text, "  read {count} {input} again, which the journal does not have");
    }
    let _ = write!(
        text,
        "  take away {} messages of steps that are lost\n  \
         purge PLED_TASKS ({} messages) and hand out {} tasks\n  \
         send {} sends again, in order\n  set {} timers again\n  \
         take away {} snapshots, a cache\n",
        plan.taken_away, plan.tasks_before, plan.tasks, plan.sends, plan.timers, plan.snapshots
    );
    if !plan.damaged.is_empty() {
        let _ = writeln!(text, "\nThe journal itself is damaged, which no recovery mends:");
        for line in &plan.damaged {
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}
