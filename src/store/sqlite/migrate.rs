//! The schema, step by step. A step is never changed once released: a new one is added.

use sqlx::SqliteConnection;

use crate::store::StoreError;

const STEPS: &[&str] = &[include_str!("../migrations/0001_initial.sql")];

/// Runs the steps that the database lacks, each in a transaction of its own. Errors: `Newer` if it has more than this program knows.
pub async fn migrate(database: &mut SqliteConnection) -> Result<(), StoreError> {
    let known = u32::try_from(STEPS.len()).expect("a handful of steps");
    sqlx::raw_sql("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL PRIMARY KEY) STRICT")
        .execute(&mut *database)
        .await?;
    let found = version(database).await?;
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    for (step, number) in STEPS.iter().copied().zip(1u32..).skip(found as usize) {
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut *database).await?;
        let done = run(database, step, number).await;
        let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
        let ended = sqlx::raw_sql(end).execute(&mut *database).await;
        done?;
        ended?;
    }
    Ok(())
}

/// The number of the last step done; 0 in a new database.
async fn version(database: &mut SqliteConnection) -> Result<u32, StoreError> {
    Ok(
        sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM schema_version")
            .fetch_one(database)
            .await?,
    )
}

async fn run(database: &mut SqliteConnection, step: &'static str, number: u32) -> Result<(), StoreError> {
    sqlx::raw_sql(step).execute(&mut *database).await?;
    sqlx::query("INSERT INTO schema_version (version) VALUES (?1)")
        .bind(number)
        .execute(database)
        .await?;
    Ok(())
}
