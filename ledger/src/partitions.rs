//! The months of `ledger_entries`, made ahead.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, PgConnection};

/// How many months beyond the present one have their partition.
const MONTHS_AHEAD: i32 = 2;

/// Makes the partitions of this month and the next [`MONTHS_AHEAD`].
pub(crate) async fn make_ahead(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let months: Vec<(i32, i32)> = sqlx::query_as(
        "SELECT extract(year FROM month)::int4, extract(month FROM month)::int4
         FROM generate_series(
             date_trunc('month', now() AT TIME ZONE 'UTC'),
             date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => $1),
             interval '1 month'
         ) AS month",
    )
    .bind(MONTHS_AHEAD)
    .fetch_all(&mut *connection)
    .await?;
    for month in months {
        make(&mut *connection, month).await?;
    }
    Ok(())
}

/// Makes the partitions that entries of these times (milliseconds) need.
pub(crate) async fn make_for(
    connection: &mut PgConnection,
    times: impl Iterator<Item = i64>,
) -> Result<(), sqlx::Error> {
    let months: BTreeSet<_> = times.map(month_of).collect();
    for month in months {
        make(&mut *connection, month).await?;
    }
    Ok(())
}

async fn make(connection: &mut PgConnection, (year, month): (i32, i32)) -> Result<(), sqlx::Error> {
    let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    // Only numbers go into this text. Two workers may get here at once: the lock makes one wait.
    let text = format!(
        "DO $$ BEGIN
             IF to_regclass('ledger_entries_{year:04}_{month:02}') IS NULL THEN
                 PERFORM pg_advisory_xact_lock(7220170);
                 CREATE TABLE IF NOT EXISTS ledger_entries_{year:04}_{month:02}
                     PARTITION OF ledger_entries FOR VALUES
                     FROM ('{year:04}-{month:02}-01 00:00:00+00')
                     TO ('{next_year:04}-{next_month:02}-01 00:00:00+00');
             END IF;
         END $$"
    );
    sqlx::raw_sql(AssertSqlSafe(text)).execute(connection).await?;
    Ok(())
}

/// Year and month of a time in milliseconds, UTC (days to civil date after Howard Hinnant's
/// "chrono-Compatible Low-Level Date Algorithms").
fn month_of(millis: i64) -> (i32, i32) {
    let days = millis.div_euclid(86_400_000) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (i32::try_from(year).unwrap_or(i32::MAX), i32::try_from(month).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_their_months() {
        assert_eq!(month_of(0), (1970, 1));
        assert_eq!(month_of(1_709_251_199_999), (2024, 2)); // 2024-02-29T23:59:59.999Z
        assert_eq!(month_of(1_709_251_200_000), (2024, 3));
        assert_eq!(month_of(1_735_689_599_999), (2024, 12));
        assert_eq!(month_of(1_735_689_600_000), (2025, 1));
    }
}
