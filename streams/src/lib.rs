//! PLED's streams and buckets on NATS JetStream, and the only crate that names `async-nats`.
//!
//! [`Nats`] is a connection; [`topology::init`] creates what is needed and [`topology::open`]
//! checks it. All else reads and writes one stream or bucket each, in terms of the engine's
//! vocabulary. Names of subjects, streams and headers stand in [`subject`] alone.

pub mod actions;
pub mod clock;
pub mod codec;
pub mod connection;
pub mod context;
pub mod dead;
pub mod events;
pub mod ingest;
pub mod inputs;
pub mod journal;
pub mod locks;
pub mod maintain;
pub mod outcome;
pub mod publish;
pub mod read;
mod reader;
pub mod repair;
pub mod reply;
pub mod request;
pub mod scan;
pub mod schedules;
pub mod signals;
pub mod snapshots;
pub mod state;
pub mod subject;
pub mod tasks;
pub mod templates;
pub mod timers;
pub mod topology;

pub use async_nats::HeaderMap;
pub use connection::{ConnectError, ConnectOptions, Connection, Nats};
pub use publish::{Mode, Publication, Publisher};
pub use read::ReadError;
pub use subject::{Class, Names, StreamKind, partition_of};
