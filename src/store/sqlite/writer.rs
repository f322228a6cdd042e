//! The one connection that writes.

use sqlx::{ConnectOptions as _, SqliteConnection, sqlite::SqliteConnectOptions};

use super::{migrate::migrate, row, statements};
use crate::store::{
    Expected, OutboxRow, Remembered, StoreError, Table, Value,
    backend::{Answer, RowWrite, Writer, Written},
};

pub struct SqliteWriter {
    connection: SqliteConnection,
    in_transaction: bool,
    /// SQLite's `data_version` as this connection last saw it: others' commits move it, its own do not.
    data_version: i64,
}

impl SqliteWriter {
    pub(super) async fn open(options: SqliteConnectOptions) -> Result<Self, StoreError> {
        let mut connection = options.connect().await?;
        migrate(&mut connection).await?;
        let mut writer = Self {
            connection,
            in_transaction: false,
            data_version: 0,
        };
        writer.written_by_others().await?;
        Ok(writer)
    }

    async fn run(&mut self, statement: &'static str) -> Result<(), StoreError> {
        sqlx::query(statement).execute(&mut self.connection).await?;
        Ok(())
    }

    async fn write_row(&mut self, write: &RowWrite<'_>) -> Result<bool, StoreError> {
        let key = key_parts(write.table, write.primary_key);
        let (statement, expected) = match (write.expected, write.columns) {
            (Expected::Absent, _) => (statements::insert(write.table), None),
            (Expected::Version(version), Some(_)) => (statements::update(write.table), Some(version)),
            (Expected::Version(version), None) => (statements::delete(write.table), Some(version)),
        };
        let mut query = sqlx::query(statement);
        match write.columns {
            Some(columns) => {
                for column in columns {
                    query = row::bind(query, &column.value);
                }
                query = query
                    .bind(write.row_version.cast_signed())
                    .bind(write.change_seq.cast_signed())
                    .bind(&write.row_mac[..]);
            }
            None => {
                for part in &key {
                    query = row::bind(query, part);
                }
            }
        }
        if let Some(expected) = expected {
            query = query.bind(expected.cast_signed());
        }
        Ok(query.execute(&mut self.connection).await?.rows_affected() == 1)
    }
}

impl Writer for SqliteWriter {
    fn begin(&mut self) -> Answer<'_, ()> {
        Box::pin(async {
            self.in_transaction = true;
            self.run("BEGIN IMMEDIATE").await
        })
    }

    fn commit(&mut self) -> Answer<'_, ()> {
        Box::pin(async {
            self.run("COMMIT").await?;
            self.in_transaction = false;
            Ok(())
        })
    }

    fn rollback(&mut self) -> Answer<'_, ()> {
        Box::pin(async {
            if std::mem::take(&mut self.in_transaction) {
                // SQLite has rolled back by itself after some errors; then there is nothing to do.
                let _ = self.run("ROLLBACK").await;
            }
            Ok(())
        })
    }

    fn attempt(&mut self) -> Answer<'_, ()> {
        Box::pin(self.run("SAVEPOINT attempt"))
    }

    fn keep(&mut self) -> Answer<'_, ()> {
        Box::pin(self.run("RELEASE attempt"))
    }

    fn undo(&mut self) -> Answer<'_, ()> {
        Box::pin(async {
            self.run("ROLLBACK TO attempt").await?;
            self.run("RELEASE attempt").await
        })
    }

    fn write<'a>(&'a mut self, write: RowWrite<'a>) -> Answer<'a, Written> {
        Box::pin(async move {
            if !self.write_row(&write).await? {
                return Ok(match write.expected {
                    Expected::Absent => Written::Exists,
                    Expected::Version(_) => Written::Stale,
                });
            }
            let appended = sqlx::query(statements::APPEND_CHANGE)
                .bind(write.change_seq.cast_signed())
                .bind(write.table.name())
                .bind(write.primary_key)
                .bind(write.row_version.cast_signed())
                .bind(&write.row_mac[..])
                .bind(&write.link[..])
                .execute(&mut self.connection)
                .await?;
            Ok(match (appended.rows_affected(), write.expected) {
                (0, Expected::Absent) => Written::Exists,
                (0, Expected::Version(_)) => Written::Stale,
                _ => Written::Done,
            })
        })
    }

    fn remember<'a>(&'a mut self, remembered: &'a Remembered, now_ms: i64) -> Answer<'a, bool> {
        Box::pin(async move {
            let done = sqlx::query(statements::REMEMBER)
                .bind(&remembered.caller)
                .bind(remembered.method)
                .bind(&remembered.request_id)
                .bind(&remembered.request[..])
                .bind(&remembered.object)
                .bind(remembered.expires_ms)
                .bind(now_ms)
                .execute(&mut self.connection)
                .await?;
            Ok(done.rows_affected() == 1)
        })
    }

    fn forget_expired(&mut self, now_ms: i64) -> Answer<'_, ()> {
        Box::pin(async move {
            sqlx::query(statements::FORGET_EXPIRED)
                .bind(now_ms)
                .execute(&mut self.connection)
                .await?;
            Ok(())
        })
    }

    fn key_name<'a>(&'a mut self, id: &'a [u8]) -> Answer<'a, Option<String>> {
        Box::pin(async move {
            Ok(sqlx::query_scalar(statements::NAME_OF_KEY)
                .bind(id)
                .fetch_optional(&mut self.connection)
                .await?)
        })
    }

    fn link_at(&mut self, seq: u64) -> Answer<'_, Option<Vec<u8>>> {
        Box::pin(async move {
            Ok(sqlx::query_scalar(statements::LINK_AT)
                .bind(seq.cast_signed())
                .fetch_optional(&mut self.connection)
                .await?)
        })
    }

    fn put_outbox<'a>(&'a mut self, seq: u64, record: &'a [u8]) -> Answer<'a, ()> {
        Box::pin(async move {
            sqlx::query(statements::PUT_OUTBOX)
                .bind(seq.cast_signed())
                .bind(record)
                .execute(&mut self.connection)
                .await?;
            Ok(())
        })
    }

    fn outbox_after(&mut self, after: Option<u64>) -> Answer<'_, Vec<OutboxRow>> {
        Box::pin(async move {
            let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(statements::OUTBOX_AFTER)
                .bind(after.map_or(-1, u64::cast_signed))
                .fetch_all(&mut self.connection)
                .await?;
            let rows = rows.into_iter().map(|(seq, record)| OutboxRow {
                seq: seq.cast_unsigned(),
                record,
            });
            Ok(rows.collect())
        })
    }

    fn clear_outbox(&mut self, through: u64) -> Answer<'_, ()> {
        Box::pin(async move {
            sqlx::query(statements::CLEAR_OUTBOX)
                .bind(through.cast_signed())
                .execute(&mut self.connection)
                .await?;
            Ok(())
        })
    }

    fn written_by_others(&mut self) -> Answer<'_, bool> {
        Box::pin(async {
            let now: i64 = sqlx::query_scalar("PRAGMA data_version")
                .fetch_one(&mut self.connection)
                .await?;
            let before = std::mem::replace(&mut self.data_version, now);
            Ok(now != before)
        })
    }

    #[cfg(test)]
    fn limit_pages(&mut self, full: bool) -> futures_util::future::BoxFuture<'_, ()> {
        Box::pin(async move {
            let limit = if full {
                "PRAGMA max_page_count = 1"
            } else {
                "PRAGMA max_page_count = 1000000"
            };
            self.run(limit).await.unwrap();
        })
    }
}

/// The parts of a primary key, as `docs/rows.md` puts them together.
fn key_parts(table: Table, key: &[u8]) -> Vec<Value> {
    let tail = match table {
        Table::Environments | Table::Teams | Table::Keys => return vec![Value::Bytes(key.to_vec())],
        Table::KeyVersions | Table::Tombstones | Table::UseCounters => 4,
        Table::LogEpochs => 8,
    };
    let (head, number) = key.split_at(key.len().saturating_sub(tail));
    let number = number.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    let head = match table {
        Table::LogEpochs => Value::Text(String::from_utf8_lossy(head).into_owned()),
        _ => Value::Bytes(head.to_vec()),
    };
    vec![head, Value::Integer(number)]
}
