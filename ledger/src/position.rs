//! How far the journal is projected.

use pled_engine::id::{ExecutionId, Hash};
use sqlx::PgConnection;
use tokio::time::timeout;

use crate::{ANSWER_WITHIN, Ledger, LedgerError, answered};

/// The name of this projection in `projections`.
pub(crate) const NAME: &str = "ledger";

/// How far the journal is projected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The last stream sequence, 0 before the first.
    pub stream_seq: u64,
    /// The entry there.
    pub last: Option<Last>,
}

/// By what the entry is known that was projected last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Last {
    /// Its execution.
    pub execution: ExecutionId,
    /// Its hash.
    pub hash: Hash,
}

impl Ledger {
    /// Up to where the journal of `incarnation` is projected.
    ///
    /// # Errors
    /// If Postgres is away, or the ledger holds another journal.
    pub async fn position(&self, incarnation: &str) -> Result<Position, LedgerError> {
        let mut connection = self.connection().await?;
        let read = timeout(ANSWER_WITHIN, read(&mut connection, incarnation)).await;
        let (found, seq, execution, hash) = answered(connection, read)?;
        if found != incarnation {
            return Err(LedgerError::ForeignJournal { found, expected: incarnation.to_owned() });
        }
        let damaged = || LedgerError::Damaged("the position is none".to_owned());
        let last = match (execution, hash) {
            (Some(execution), Some(hash)) => Some(Last {
                execution: execution.parse().map_err(|_| damaged())?,
                hash: hash.parse().map_err(|_| damaged())?,
            }),
            _ => None,
        };
        Ok(Position { stream_seq: u64::try_from(seq).map_err(|_| damaged())?, last })
    }
}

type Row = (String, i64, Option<String>, Option<String>);

async fn read(connection: &mut PgConnection, incarnation: &str) -> Result<Row, sqlx::Error> {
    sqlx::query(
        "INSERT INTO projections (name, incarnation, stream_seq) VALUES ($1, $2, 0)
         ON CONFLICT (name) DO NOTHING",
    )
    .bind(NAME)
    .bind(incarnation)
    .execute(&mut *connection)
    .await?;
    sqlx::query_as(
        "SELECT incarnation, stream_seq, execution_id, encode(hash, 'hex')
         FROM projections WHERE name = $1",
    )
    .bind(NAME)
    .fetch_one(connection)
    .await
}
