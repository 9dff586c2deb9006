//! Templates and their rules.

use pled_engine::template::Template;
use pled_engine::value::Value;
use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

use crate::project::hex;
use crate::rows::{derived_id, jsonb, template_id, without_nul};
use crate::{Ledger, LedgerError, WRITE_WITHIN, answered};

impl Ledger {
    /// Records a registered template, its rules enabled only if it is the newest version.
    ///
    /// # Errors
    /// If Postgres is away or refuses.
    pub async fn put_template(&self, template: &Template, newest: bool) -> Result<(), LedgerError> {
        let mut connection = self.connection().await?;
        let put = timeout(WRITE_WITHIN, put(&mut connection, template, newest)).await;
        answered(connection, put)
    }
}

async fn put(
    connection: &mut PgConnection,
    template: &Template,
    newest: bool,
) -> Result<(), LedgerError> {
    let reference = template.reference();
    let id = hex(&template_id(&reference));
    let version = i32::try_from(reference.version).unwrap_or(i32::MAX);
    let source = Value::parse(template.source.as_bytes())
        .map_err(|error| LedgerError::Damaged(format!("{reference}: {error}")))?;
    let mut transaction = connection.begin().await?;
    sqlx::query(
        "INSERT INTO templates (id, name, version, hash, model)
         VALUES ($1::uuid, $2, $3, $4, $5::jsonb) ON CONFLICT (id) DO NOTHING",
    )
    .bind(&id)
    .bind(reference.name.as_str())
    .bind(version)
    .bind(template.hash.as_bytes().as_slice())
    .bind(jsonb(&source))
    .execute(&mut *transaction)
    .await?;
    if newest {
        sqlx::query(
            "UPDATE rules SET enabled = false FROM templates
             WHERE rules.template_id = templates.id AND templates.name = $1
               AND templates.version <> $2 AND rules.enabled",
        )
        .bind(reference.name.as_str())
        .bind(version)
        .execute(&mut *transaction)
        .await?;
    }
    let sources = source.get("rules").and_then(Value::as_array);
    for (rule, json) in template.rules.iter().zip(sources.unwrap_or_default()) {
        sqlx::query(
            "INSERT INTO rules (id, template_id, rule, type, rule_json, enabled)
             VALUES ($1::uuid, $2::uuid, $3, $4, $5::jsonb, $6)
             ON CONFLICT (id) DO UPDATE SET enabled = excluded.enabled",
        )
        .bind(hex(&derived_id("rule", &[&reference.to_string(), &rule.id])))
        .bind(&id)
        .bind(without_nul(&rule.id))
        .bind(without_nul(rule.source.as_deref().unwrap_or("*")))
        .bind(jsonb(json))
        .bind(newest)
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await?;
    Ok(())
}
