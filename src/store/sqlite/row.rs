//! Rows of SQLite to rows of the store and back. SQLite's integers are signed: u64 goes through its two's complement.

use sqlx::{
    Row as _, Sqlite,
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};

use crate::store::{
    Column, Kind, Table, Value,
    backend::{ChainEntry, StoredRow},
    rows,
};

pub fn stored(table: Table, row: &SqliteRow) -> Result<StoredRow, sqlx::Error> {
    let columns = rows::shape(table)
        .iter()
        .map(|&(id, name, kind)| {
            let value = match kind {
                Kind::Bytes => row.try_get::<Option<Vec<u8>>, _>(name)?.map(Value::Bytes),
                Kind::Integer => integer_or_null(row, name)?.map(Value::Integer),
                Kind::Text => row.try_get::<Option<String>, _>(name)?.map(Value::Text),
            };
            let value = value.unwrap_or(Value::Null(kind));
            Ok(Column { id, name, value })
        })
        .collect::<Result<Vec<_>, sqlx::Error>>()?;
    Ok(StoredRow {
        table,
        primary_key: rows::primary_key(table, &columns),
        columns,
        row_version: integer(row, "row_version")?,
        change_seq: integer(row, "change_seq")?,
        row_mac: row.try_get("row_mac")?,
    })
}

pub fn chain_entry(row: &SqliteRow) -> Result<ChainEntry, sqlx::Error> {
    Ok(ChainEntry {
        seq: integer(row, "seq")?,
        table: row.try_get("tbl")?,
        primary_key: row.try_get("pk")?,
        row_version: integer(row, "row_version")?,
        row_mac: row.try_get("row_mac")?,
        link: row.try_get("link")?,
    })
}

pub fn integer(row: &SqliteRow, name: &str) -> Result<u64, sqlx::Error> {
    row.try_get::<i64, _>(name).map(i64::cast_unsigned)
}

fn integer_or_null(row: &SqliteRow, name: &str) -> Result<Option<u64>, sqlx::Error> {
    Ok(row.try_get::<Option<i64>, _>(name)?.map(i64::cast_unsigned))
}

pub fn bind<'q>(query: Query<'q, Sqlite, SqliteArguments>, value: &'q Value) -> Query<'q, Sqlite, SqliteArguments> {
    match value {
        Value::Bytes(bytes) => query.bind(bytes.as_slice()),
        Value::Integer(number) => query.bind(number.cast_signed()),
        Value::Text(text) => query.bind(text.as_str()),
        Value::Null(Kind::Bytes) => query.bind(None::<&[u8]>),
        Value::Null(Kind::Integer) => query.bind(None::<i64>),
        Value::Null(Kind::Text) => query.bind(None::<&str>),
    }
}
