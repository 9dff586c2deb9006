//! The pure core as the protocol uses it. Wired to [`crate::step`] as soon as that is there; until
//! then every message is set aside.

use std::sync::Arc;

use crate::execution::Execution;
use crate::id::TemplateRef;
use crate::message::Message;
use crate::step::{Step, Verdict};
use crate::template::Template;

use super::slots::Fold;

pub(super) fn step(_: &Template, _: &Execution, messages: &[Message]) -> Step {
    let verdicts = messages.iter().map(|_| Verdict::Poison("no step yet".into())).collect();
    Step { verdicts, draft: None }
}

/// The execution after the newest entry, with the place of its base.
pub(super) fn fold(
    _: &Fold,
    _: impl Fn(&TemplateRef) -> Option<Arc<Template>>,
) -> Result<(Execution, u64), String> {
    Err("no step yet".into())
}
