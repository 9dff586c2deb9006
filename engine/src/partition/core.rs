//! The pure core as the protocol uses it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::execution::Execution;
use crate::id::TemplateRef;
use crate::replay;
use crate::template::Template;

use super::slots::Fold;

/// The execution after the newest entry.
pub(super) fn fold(
    fold: &Fold,
    template: impl Fn(&TemplateRef) -> Option<Arc<Template>>,
) -> Result<Execution, String> {
    let (base, behind) = fold.before.split_first().ok_or("its base is not there")?;
    let execution = replay::execution_of(&base.entry).ok_or("its base carries no state")?;
    let template = template(&fold.newest.entry.template).ok_or("its template is not there")?;
    let entries = behind.iter().chain([&fold.newest]).map(|loaded| &loaded.entry);
    let folded = catch_unwind(AssertUnwindSafe(|| replay::fold(execution, &template, entries)));
    folded.map_err(|_| "a step panicked".to_owned())?.map_err(|divergence| divergence.to_string())
}
