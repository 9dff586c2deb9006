//! How each output of a partition that is answered is performed.

use futures::future::{BoxFuture, FutureExt};
use pled_engine::id::{ExecutionId, TemplateSelector};
use pled_engine::message::{Millis, Source};
use pled_engine::partition::{Answer, Find, Op, Position, Publish, Published};
use pled_streams::dead::{self, DeadStored};
use pled_streams::templates::TemplateCache;
use pled_streams::{Nats, ReadError, inputs, journal, locks, signals, tasks, timers};

use super::LEASE;
use super::shell::Done;

/// Something under way.
pub(super) type Flying = BoxFuture<'static, Done>;

/// The answer of a read; one that failed is logged here, since a partition only asks again.
fn answer<T>(op: Op, read: Result<T, ReadError>, found: impl FnOnce(T) -> Answer) -> Done {
    let answer = match read {
        Ok(value) => found(value),
        Err(error @ ReadError::Unavailable { .. }) => {
            tracing::debug!(%error, "a read is to be repeated");
            Answer::Failed
        }
        Err(error @ ReadError::Corrupt { .. }) => {
            tracing::error!(%error, "what is stored cannot be read");
            Answer::Failed
        }
    };
    Done::Answered(op, answer)
}

pub(super) fn read_position(nats: Nats, partition: u16, op: Op) -> Flying {
    async move { answer(op, locks::read_position(&nats, LEASE, partition).await, Answer::Position) }
        .boxed()
}

pub(super) fn write_position(
    nats: &Nats,
    partition: u16,
    op: Op,
    position: &Position,
    revision: u64,
) -> Flying {
    published(op, locks::write_position(nats, LEASE, partition, position, revision))
}

pub(super) fn read_streams(nats: Nats, op: Op) -> Flying {
    async move { answer(op, inputs::facts(&nats).await, Answer::Streams) }.boxed()
}

pub(super) fn read_message(nats: Nats, op: Op, source: Source, stream_seq: u64) -> Flying {
    async move {
        let read = inputs::get(&nats, source, stream_seq).await;
        answer(op, read, |message| Answer::Message(message.map(Box::new)))
    }
    .boxed()
}

pub(super) fn read_entry(nats: Nats, op: Op, execution: ExecutionId, leader: bool) -> Flying {
    async move {
        let read = journal::newest(&nats, &execution, leader).await;
        answer(op, read, |loaded| Answer::Entry(loaded.map(Box::new)))
    }
    .boxed()
}

pub(super) fn read_entries(nats: Nats, op: Op, execution: ExecutionId, base: u64) -> Flying {
    async move { answer(op, journal::range(&nats, &execution, base, None).await, Answer::Entries) }
        .boxed()
}

pub(super) fn read_template(
    nats: Nats,
    templates: TemplateCache,
    op: Op,
    selector: TemplateSelector,
) -> Flying {
    async move { answer(op, templates.get(&nats, &selector).await, Answer::Template) }.boxed()
}

pub(super) fn find(nats: Nats, partition: u16, op: Op, find: Find) -> Flying {
    async move {
        let read = match find {
            Find::Task { execution, queue, task, attempt } => {
                tasks::exists(&nats, partition, &execution, &queue, task, attempt).await
            }
            Find::Result { execution, task, attempt } => {
                signals::result_exists(&nats, &execution, task, attempt).await
            }
        };
        answer(op, read, Answer::Found)
    }
    .boxed()
}

/// Queues the message at the call, so that what is put out in order is sent in order.
pub(super) fn publish(nats: &Nats, partition: u16, op: Op, publish: Publish) -> Flying {
    match publish {
        Publish::Entry { execution, expected, bytes } => {
            let at = entry_time(&bytes);
            journal::publish_entry(nats, partition, &execution, expected, bytes)
                .map(move |published| Done::Committed(op, published, at))
                .boxed()
        }
        Publish::Task(task) => published(op, tasks::publish(nats, partition, &task)),
        Publish::TimerSet { execution, timer, due } => {
            published(op, timers::set(nats, partition, &execution, timer, due))
        }
        Publish::TimerCancel { execution, timer } => {
            published(op, timers::cancel(nats, partition, &execution, timer))
        }
        Publish::TimerFire { execution, timer, due } => {
            published(op, timers::fire(nats, partition, &execution, timer, due))
        }
        Publish::Send { sender, token, to, event, data } => {
            published(op, signals::publish_send(nats, &sender, token, &to, &event, &data))
        }
        Publish::ChildStart { child, start } => {
            published(op, signals::publish_child_start(nats, &child, &start))
        }
        Publish::ChildCancel { child, cancel } => {
            published(op, signals::publish_child_cancel(nats, &child, &cancel))
        }
        Publish::ChildDone { parent, result } => {
            published(op, signals::publish_child_done(nats, &parent, &result))
        }
        Publish::Dead { reason, detail, execution, source, generation, stream_seq } => {
            let nats = nats.clone();
            let dead = DeadStored { reason, detail, execution, source, generation, stream_seq };
            published(op, async move { dead::set_aside_stored(&nats, dead).await })
        }
    }
}

fn published(op: Op, publishing: impl Future<Output = Published> + Send + 'static) -> Flying {
    publishing.map(move |published| Done::Answered(op, Answer::Published(published))).boxed()
}

/// The time of a journal entry: `at`, the first key of its canonical form.
fn entry_time(bytes: &[u8]) -> Option<Millis> {
    let rest = bytes.strip_prefix(br#"{"at":"#)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::entry_time;

    #[test]
    fn the_time_of_an_entry_is_read_from_its_first_bytes() {
        assert_eq!(entry_time(br#"{"at":1764000000123,"base":null}"#), Some(1_764_000_000_123));
        assert_eq!(entry_time(br#"{"base":null}"#), None);
    }
}
