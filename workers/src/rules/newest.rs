//! The newest version of every template that has rules.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pled_engine::id::{TemplateName, TemplateRef, TemplateSelector};
use pled_engine::template::Template;
use pled_streams::Nats;
use pled_streams::templates::{Newest, TemplateCache, watch_newest};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The pause before a template that could not be read is read again.
const PAUSE: Duration = Duration::from_millis(200);

/// The templates whose rules are active, by name; `None` before all were read.
pub(super) type Active = Option<Arc<[Arc<Template>]>>;

/// Keeps up with the newest versions until the task is aborted.
pub(super) fn follow_newest(nats: &Nats) -> (watch::Receiver<Active>, JoinHandle<()>) {
    let (sender, receiver) = watch::channel(None);
    (receiver, tokio::spawn(follow(nats.clone(), sender)))
}

async fn follow(nats: Nats, sender: watch::Sender<Active>) {
    let templates = TemplateCache::default();
    let mut watch = watch_newest(&nats);
    let mut newest: BTreeMap<TemplateName, Arc<Template>> = BTreeMap::new();
    let mut caught_up = false;
    loop {
        match watch.next().await {
            Newest::CaughtUp if caught_up => continue,
            Newest::CaughtUp => caught_up = true,
            Newest::Version(reference) => {
                let Some(template) = read(&nats, &templates, &reference).await else { continue };
                newest.insert(reference.name, template);
            }
        }
        if caught_up {
            let active = newest.values().filter(|template| !template.rules.is_empty());
            sender.send_replace(Some(active.cloned().collect()));
        }
    }
}

/// The template, read until there is an answer; `None` where it cannot be used.
async fn read(
    nats: &Nats,
    templates: &TemplateCache,
    reference: &TemplateRef,
) -> Option<Arc<Template>> {
    loop {
        match templates.get(nats, &TemplateSelector::from(reference)).await {
            Ok(Ok(template)) => return template,
            Ok(Err(reason)) => {
                tracing::error!(%reference, reason, "the rules of a template cannot be used");
                return None;
            }
            Err(error) => tracing::debug!(%reference, %error, "a template is read again"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
