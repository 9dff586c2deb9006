//! The server's clock, by which timers are due.

use async_nats::jetstream::response::Response;
use pled_engine::message::Millis;
use serde::Deserialize;

use crate::connection::Nats;
use crate::read::{ReadError, millis_of_nanos};
use crate::subject::StreamKind;

#[derive(Deserialize)]
struct Answer {
    ts: String,
}

/// What the server's wall clock showed while it answered, so never later than now.
///
/// # Errors
/// If there is no answer.
pub async fn server_time(nats: &Nats) -> Result<Millis, ReadError> {
    let name = nats.names().stream(StreamKind::Timers);
    let answer: Response<Answer> = nats
        .jetstream()
        .request(format!("STREAM.INFO.{name}"), &())
        .await
        .map_err(|error| ReadError::unavailable(name, error))?;
    let answer = match answer {
        Response::Ok(answer) => answer,
        Response::Err { error } => return Err(ReadError::unavailable(name, error)),
    };
    let time = async_nats::datetime::parse_rfc3339(&answer.ts)
        .map_err(|error| ReadError::unavailable("the server's time", error))?;
    Ok(millis_of_nanos(time.unix_timestamp_nanos()))
}
