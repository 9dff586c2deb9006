//! Answers on core NATS.

use pled_engine::partition::Reply;

use crate::connection::Nats;

/// Publishes the outcome of an event on its reply subject. Nobody may be there to read it, and
/// nothing is promised: whoever misses it reads the journal.
pub async fn reply(nats: &Nats, reply: &Reply) {
    if !nats.names().is_reply(&reply.subject) {
        return;
    }
    let payload = match serde_json::to_vec(reply) {
        Ok(payload) => payload,
        Err(error) => {
            tracing::warn!(%error, "an outcome cannot be written");
            return;
        }
    };
    let subject = async_nats::Subject::from(&*reply.subject);
    if let Err(error) = nats.client().publish(subject, payload.into()).await {
        tracing::debug!(%error, "an outcome was not published");
    }
}
