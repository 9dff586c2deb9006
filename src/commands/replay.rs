//! `pled replay`

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use pled_engine::entry::JournalEntry;
use pled_engine::id::{ExecutionId, TemplateName, TemplateRef};
use pled_engine::template::Template;
use pled_streams::templates::TemplateCache;
use pled_streams::{Nats, journal};
use serde_json::json;

use super::{answer, open, template};
use crate::cli::{Global, Replay};
use crate::say_error;

pub(crate) async fn run(global: &Global, options: &Replay) -> anyhow::Result<ExitCode> {
    let nats = open(global, "pled replay").await?;
    let other = options.template.as_deref().map(template::read).transpose()?;
    let mut templates = Templates::new(other)?;
    let began = Instant::now();
    let outcome = match &options.execution {
        Some(execution) => {
            let id: ExecutionId = execution.parse()?;
            let loaded = journal::history(&nats, &id).await?;
            if loaded.is_empty() {
                bail!("there is no execution {id}");
            }
            let entries: Vec<_> = loaded.into_iter().map(|loaded| loaded.entry).collect();
            if !templates.concern(&entries[0]) {
                bail!("{id} is an execution of {}, not of that template", entries[0].template);
            }
            verify(&nats, &mut templates, BTreeMap::from([(id, entries)])).await?
        }
        None => all(&nats, &mut templates).await?,
    };
    let seconds = began.elapsed().as_secs_f64();
    let answered = json!({
        "executions": outcome.executions, "entries": outcome.entries,
        "divergences": outcome.divergences, "seconds": seconds,
    });
    answer(global, &answered, || {
        let verdict = if outcome.divergences.is_empty() {
            "every transition, effect, state and hash is as recorded".to_owned()
        } else {
            format!("{} diverge", outcome.divergences.len())
        };
        format!(
            "{} executions, {} entries replayed in {seconds:.2} s: {verdict}",
            outcome.executions, outcome.entries
        )
    })?;
    for divergence in &outcome.divergences {
        say_error(divergence);
    }
    let failed = options.verify && !outcome.divergences.is_empty();
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What a replay found.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    pub(crate) executions: usize,
    pub(crate) entries: usize,
    pub(crate) divergences: Vec<String>,
}

/// Where the templates of executions come from.
#[derive(Default)]
pub(crate) struct Templates {
    cache: TemplateCache,
    /// The source of one that stands for all registered versions of its name.
    other: Option<(TemplateName, String)>,
    /// It, by the version for which it stands.
    standing: BTreeMap<TemplateRef, Arc<Template>>,
}

impl Templates {
    /// With the source of a template, only executions of its name are replayed, against it.
    fn new(other: Option<String>) -> anyhow::Result<Self> {
        let named =
            |source: String| -> anyhow::Result<_> { Ok((Template::parse(&source)?.name, source)) };
        Ok(Self { other: other.map(named).transpose()?, ..Self::default() })
    }

    /// Whether an execution with this first entry is to be replayed.
    fn concern(&self, first: &JournalEntry) -> bool {
        self.other.as_ref().is_none_or(|(name, _)| *name == first.template.name)
    }

    pub(crate) async fn get(
        &mut self,
        nats: &Nats,
        first: &JournalEntry,
    ) -> anyhow::Result<Arc<Template>> {
        let reference = &first.template;
        let Some((_, source)) = &self.other else {
            let found = self.cache.get(nats, &reference.into()).await?;
            return found
                .map_err(anyhow::Error::msg)?
                .with_context(|| format!("the template {reference} is not registered any more"));
        };
        if let Some(template) = self.standing.get(reference) {
            return Ok(template.clone());
        }
        // That it is another file is no news: what its steps give is to be compared.
        let mut template = Template::parse(source)?;
        template.version = reference.version;
        template.hash = first.template_hash.unwrap_or(template.hash);
        let template = Arc::new(template);
        self.standing.insert(reference.clone(), template.clone());
        Ok(template)
    }
}

/// Reads the whole journal once, and replays each execution that is complete in memory by then.
async fn all(nats: &Nats, templates: &mut Templates) -> anyhow::Result<Replayed> {
    let last = pled_streams::inputs::facts(nats).await?.journal.last;
    let mut reader = journal::follow(nats, 1);
    let mut histories: BTreeMap<ExecutionId, Vec<JournalEntry>> = BTreeMap::new();
    let mut seen = 0;
    while seen < last {
        let batch = reader.next_batch(1_000, Duration::from_secs(10)).await?;
        let Some(newest) = batch.last() else { bail!("the journal is silent at {seen} of {last}") };
        seen = newest.stream_seq;
        for loaded in batch {
            histories.entry(loaded.entry.execution.clone()).or_default().push(loaded.entry);
        }
    }
    verify(nats, templates, histories).await
}

/// Replays these executions and compares.
pub(crate) async fn verify(
    nats: &Nats,
    templates: &mut Templates,
    histories: BTreeMap<ExecutionId, Vec<JournalEntry>>,
) -> anyhow::Result<Replayed> {
    let mut replayed = Replayed::default();
    let mut missing = BTreeSet::new();
    for (execution, entries) in histories {
        let Some(first) = entries.first() else { continue };
        if !templates.concern(first) {
            continue;
        }
        let template = match templates.get(nats, first).await {
            Ok(template) => template,
            Err(error) => {
                if missing.insert(first.template.clone()) {
                    replayed.divergences.push(format!("{error:#}"));
                }
                continue;
            }
        };
        replayed.executions += 1;
        replayed.entries += entries.len();
        if let Err(divergence) = pled_engine::replay::replay(&template, &entries) {
            replayed.divergences.push(format!("{execution}: {divergence}"));
        }
    }
    Ok(replayed)
}
