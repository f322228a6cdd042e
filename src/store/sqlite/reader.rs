//! The connections that read. Each call reads within one transaction, so what it returns is of one moment.

use std::path::Path;

use futures_util::TryStreamExt as _;
use sqlx::{
    SqliteConnection, SqlitePool,
    sqlite::{SqlitePoolOptions, SqliteRow},
};

use super::{base, row, statements};
use crate::store::{
    Remembered, StoreError, Table,
    backend::{Answer, ChainEntry, ChangedKeys, Found, FoundKey, Names, Reader, StoredRow, Visitor},
};

const CONNECTIONS: u32 = 4;

pub struct SqliteReader {
    pool: SqlitePool,
}

impl SqliteReader {
    pub async fn open(database: &Path) -> Result<Self, StoreError> {
        let options = base(database).pragma("query_only", "ON");
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            // A connection to a file does not go stale: no ping before each use.
            .test_before_acquire(false)
            .connect_with(options)
            .await?;
        Ok(Self { pool })
    }

    pub async fn close(&self) {
        self.pool.close().await;
    }
}

impl Reader for SqliteReader {
    fn named<'a>(&'a self, table: Table, name: &'a str) -> Answer<'a, Option<Found>> {
        Box::pin(async move {
            let statement = match table {
                Table::Teams => statements::TEAM_NAMED,
                _ => statements::ENVIRONMENT_NAMED,
            };
            let mut moment = self.pool.begin().await?;
            let row = sqlx::query(statement).bind(name).fetch_optional(&mut *moment).await?;
            match row {
                Some(row) => found(&mut moment, table, &row).await.map(Some),
                None => Ok(None),
            }
        })
    }

    fn key<'a>(&'a self, name: &'a str) -> Answer<'a, Option<FoundKey>> {
        Box::pin(async move {
            let mut moment = self.pool.begin().await?;
            let Some(row) = sqlx::query(statements::KEY_NAMED)
                .bind(name)
                .fetch_optional(&mut *moment)
                .await?
            else {
                return Ok(None);
            };
            let key = found(&mut moment, Table::Keys, &row).await?;
            let id = &key.row.primary_key;
            let versions = sqlx::query(statements::VERSIONS_OF)
                .bind(id)
                .fetch_all(&mut *moment)
                .await?;
            let versions = versions.iter().map(|row| row::stored(Table::KeyVersions, row));
            let versions = versions.collect::<Result<Vec<StoredRow>, _>>()?;
            let entries = sqlx::query(statements::CHANGES_BETWEEN)
                .bind(Table::KeyVersions.name())
                .bind([&id[..], &[0; 4]].concat())
                .bind([&id[..], &[0xff; 4]].concat())
                .fetch_all(&mut *moment)
                .await?;
            let mut last: Vec<ChainEntry> = Vec::with_capacity(versions.len());
            for entry in &entries {
                let entry = row::chain_entry(entry)?;
                last.pop_if(|before| before.primary_key == entry.primary_key);
                last.push(entry);
            }
            Ok(Some(FoundKey { key, versions, last }))
        })
    }

    fn names<'a>(&'a self, of: Names<'a>, after: &'a str, limit: u32) -> Answer<'a, Vec<String>> {
        Box::pin(async move {
            let (statement, of) = match of {
                Names::Environments => (statements::ENVIRONMENT_NAMES, None),
                Names::TeamsOf(environment) => (statements::TEAM_NAMES, Some(environment)),
                Names::KeysOf(team) => (statements::KEY_NAMES, Some(team)),
            };
            let mut query = sqlx::query_scalar(statement).bind(after).bind(limit);
            if let Some(of) = of {
                query = query.bind(&of[..]);
            }
            Ok(query.fetch_all(&self.pool).await?)
        })
    }

    fn keys_changed(&self, after: u64, limit: u32) -> Answer<'_, ChangedKeys> {
        Box::pin(async move {
            let mut moment = self.pool.begin().await?;
            let from = sqlx::query_scalar(statements::LINK_AT)
                .bind(after.cast_signed())
                .fetch_optional(&mut *moment)
                .await?;
            let entries: Vec<(i64, Vec<u8>, String)> = sqlx::query_as(statements::KEYS_CHANGED)
                .bind(after.cast_signed())
                .bind(limit)
                .fetch_all(&mut *moment)
                .await?;
            let head: Option<(i64, Vec<u8>)> = sqlx::query_as(statements::HEAD).fetch_optional(&mut *moment).await?;
            let entries = entries
                .into_iter()
                .map(|(seq, link, name)| (seq.cast_unsigned(), link, name));
            Ok(ChangedKeys {
                from,
                entries: entries.collect(),
                head: head.map(|(seq, link)| (seq.cast_unsigned(), link)),
            })
        })
    }

    fn due_for_destruction(&self, now_ms: i64, limit: u32) -> Answer<'_, Vec<String>> {
        Box::pin(async move {
            Ok(sqlx::query_scalar(statements::DUE_FOR_DESTRUCTION)
                .bind(now_ms)
                .bind(limit)
                .fetch_all(&self.pool)
                .await?)
        })
    }

    fn remembered<'a>(
        &'a self,
        caller: &'a str,
        method: &'static str,
        request_id: &'a str,
        now_ms: i64,
    ) -> Answer<'a, Option<Remembered>> {
        Box::pin(async move {
            let row: Option<(Vec<u8>, String, i64)> = sqlx::query_as(statements::REMEMBERED)
                .bind(caller)
                .bind(method)
                .bind(request_id)
                .bind(now_ms)
                .fetch_optional(&self.pool)
                .await?;
            let Some((request, object, expires_ms)) = row else {
                return Ok(None);
            };
            let request = request
                .try_into()
                .map_err(|_| StoreError::tampered("remembered", "a request's hash has another length"))?;
            Ok(Some(Remembered {
                caller: caller.to_owned(),
                method,
                request_id: request_id.to_owned(),
                request,
                object,
                expires_ms,
            }))
        })
    }

    fn counts(&self) -> Answer<'_, (u64, u64)> {
        Box::pin(async move {
            let (environments, keys): (i64, i64) = sqlx::query_as(statements::COUNTS).fetch_one(&self.pool).await?;
            Ok((environments.cast_unsigned(), keys.cast_unsigned()))
        })
    }

    fn use_counter(&self, key: [u8; 16], number: u32) -> Answer<'_, Option<Found>> {
        Box::pin(async move {
            let mut moment = self.pool.begin().await?;
            let row = sqlx::query(statements::USE_COUNTER_OF)
                .bind(&key[..])
                .bind(number)
                .fetch_optional(&mut *moment)
                .await?;
            match row {
                Some(row) => found(&mut moment, Table::UseCounters, &row).await.map(Some),
                None => Ok(None),
            }
        })
    }

    fn due_for_rotation(&self, reserved: u64, log_epoch: u64) -> Answer<'_, u64> {
        Box::pin(async move {
            let count: i64 = sqlx::query_scalar(statements::DUE_FOR_ROTATION)
                .bind(reserved.cast_signed())
                .bind(log_epoch.cast_signed())
                .fetch_one(&self.pool)
                .await?;
            Ok(count.cast_unsigned())
        })
    }

    fn log_epochs<'a>(&'a self, node: &'a str) -> Answer<'a, Vec<Found>> {
        Box::pin(async move {
            let mut moment = self.pool.begin().await?;
            let rows = sqlx::query(statements::LOG_EPOCHS_OF)
                .bind(node)
                .fetch_all(&mut *moment)
                .await?;
            let mut epochs = Vec::with_capacity(rows.len());
            for row in &rows {
                epochs.push(found(&mut moment, Table::LogEpochs, row).await?);
            }
            Ok(epochs)
        })
    }

    fn walk<'a>(&'a self, tables: &'a [Table], visitor: &'a mut dyn Visitor) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut moment = self.pool.begin().await?;
            let mut chain = sqlx::query(statements::CHAIN).fetch(&mut *moment);
            while let Some(entry) = chain.try_next().await? {
                visitor.entry(row::chain_entry(&entry)?);
            }
            drop(chain);
            for table in tables {
                let mut rows = sqlx::query(statements::all(*table)).fetch(&mut *moment);
                while let Some(row) = rows.try_next().await? {
                    visitor.row(row::stored(*table, &row)?);
                }
            }
            Ok(())
        })
    }
}

/// The row, with the last entry of the chain that speaks of it.
async fn found(moment: &mut SqliteConnection, table: Table, row: &SqliteRow) -> Result<Found, StoreError> {
    let row = row::stored(table, row)?;
    let last = sqlx::query(statements::LAST_CHANGE_OF)
        .bind(table.name())
        .bind(&row.primary_key)
        .fetch_optional(moment)
        .await?;
    let last = last.map(|entry| row::chain_entry(&entry)).transpose()?;
    Ok(Found { row, last })
}
