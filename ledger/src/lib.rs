//! The ledger: a projection of the journal to Postgres, for lists, analytics and audits.
//!
//! Execution never waits for it. It reads PLED_JOURNAL in stream order, writes batches, and moves
//! its position in the same transaction: each entry is projected exactly once. When Postgres is
//! away it waits and catches up after.

mod actions;
mod executions;
pub mod follow;
mod partitions;
mod position;
mod project;
pub mod query;
pub mod rows;
mod tasks;
mod templates;

use std::time::Duration;

use sqlx::Postgres;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

pub use follow::{FollowError, follow};
pub use position::{Last, Position};

/// How long a connection is waited for.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// How long the answer to a question is waited for.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How long a transaction may take. It only ends the wait for a Postgres that will never answer.
pub(crate) const WRITE_WITHIN: Duration = Duration::from_secs(60);

/// Less than what a probe of readiness waits.
const IS_THERE_WITHIN: Duration = Duration::from_millis(500);

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
    /// Postgres has taken the question and does not answer. Try again later.
    #[error("the ledger's Postgres does not answer")]
    Silent,
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
            .acquire_timeout(CONNECT_WITHIN)
            .connect_lazy_with(options.application_name("pled"));
        Ok(Self { pool })
    }

    /// Brings the schema up to date, and makes the partitions of this month and the next two.
    ///
    /// # Errors
    /// If Postgres is away or the schema is not ours.
    pub async fn migrate(&self) -> Result<(), LedgerError> {
        // Without a deadline: a migration may take as long as there are rows.
        sqlx::migrate!("../migrations").run(&self.pool).await?;
        let mut connection = self.connection().await?;
        let made = timeout(WRITE_WITHIN, partitions::make_ahead(&mut connection)).await;
        answered(connection, made)
    }

    /// Whether Postgres answers, at once.
    pub async fn is_there(&self) -> bool {
        let asked = async {
            let mut connection = self.connection().await.ok()?;
            let asked = sqlx::query("SELECT 1").execute(&mut *connection);
            let answer = timeout(IS_THERE_WITHIN, asked).await;
            answered(connection, answer).ok()
        };
        matches!(timeout(IS_THERE_WITHIN, asked).await, Ok(Some(_)))
    }

    pub(crate) async fn connection(&self) -> Result<PoolConnection<Postgres>, LedgerError> {
        Ok(self.pool.acquire().await?)
    }
}

/// What came of a question, and the connection goes back to the pool; but one that is silent is
/// dropped, for the pool would wait for it without end.
pub(crate) fn answered<T, E>(
    connection: PoolConnection<Postgres>,
    answer: Result<Result<T, E>, Elapsed>,
) -> Result<T, LedgerError>
where
    LedgerError: From<E>,
{
    match answer {
        Ok(answer) => Ok(answer?),
        Err(_) => {
            drop(connection.detach());
            Err(LedgerError::Silent)
        }
    }
}
