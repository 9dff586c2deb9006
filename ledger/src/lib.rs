//! The ledger: a projection of the journal to Postgres, for lists, analytics and audits.
//!
//! Execution never waits for it. It reads PLED_JOURNAL in stream order, writes batches, and moves
//! its position in the same transaction: each entry is projected exactly once. When Postgres is
//! away it waits and catches up after.

pub mod follow;
mod partitions;
mod project;
pub mod query;
pub mod rows;

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};

pub use follow::{FollowError, follow};

/// A connection to the ledger's Postgres; cheap to clone.
#[derive(Clone, Debug)]
pub struct Ledger {
    pool: PgPool,
}

/// The ledger cannot be reached or read.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The URL is none, or Postgres does not answer. Try again later.
    #[error("the ledger's Postgres: {0}")]
    Postgres(#[from] sqlx::Error),
    /// The schema cannot be brought up to date.
    #[error("the ledger's schema: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// The ledger was filled from another journal.
    #[error(
        "the ledger holds the journal {found}, but the streams are {expected}: give the ledger an \
         empty database, or the journal that it was filled from"
    )]
    ForeignJournal {
        /// The incarnation that the ledger was filled from.
        found: String,
        /// That of the streams.
        expected: String,
    },
    /// A row is not what was written.
    #[error("the ledger is damaged: {0}")]
    Damaged(String),
}

impl Ledger {
    /// Prepares connections to `url`; none is made before it is needed, so Postgres may be away.
    ///
    /// # Errors
    /// If the URL is none.
    pub fn lazy(url: &str) -> Result<Self, LedgerError> {
        let options: PgConnectOptions = url.parse()?;
        let pool = PgPoolOptions::new()
            .max_connections(8)
            .acquire_timeout(Duration::from_secs(5))
            .connect_lazy_with(options.application_name("pled"));
        Ok(Self { pool })
    }

    /// Brings the schema up to date, and makes the partitions of this month and the next two.
    ///
    /// # Errors
    /// If Postgres is away or the schema is not ours.
    pub async fn migrate(&self) -> Result<(), LedgerError> {
        sqlx::migrate!("../migrations").run(&self.pool).await?;
        partitions::make_ahead(&self.pool).await?;
        Ok(())
    }

    /// Whether Postgres answers.
    pub async fn is_there(&self) -> bool {
        sqlx::query("SELECT 1").execute(&self.pool).await.is_ok()
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }
}
