//! Every statement on the tables, and nothing else: no transactions, no decisions.

use rusqlite::{Connection, OptionalExtension, Row, named_params, params};

use crate::store::{Entry, Key, Order, Range, Revision, Write};

pub(super) fn get(connection: &Connection, key: &Key) -> rusqlite::Result<Option<Entry>> {
    let mut statement = connection.prepare_cached("SELECT key, value, revision FROM kv WHERE key = ?1")?;
    statement.query_row([key.as_bytes()], entry).optional()
}

pub(super) fn scan(connection: &Connection, range: &Range, order: Order, limit: usize) -> rusqlite::Result<Vec<Entry>> {
    // Blobs compare as memory does, so the table's order is that of the keys (P4).
    let mut statement = connection.prepare_cached(match order {
        Order::Ascending => {
            "SELECT key, value, revision FROM kv WHERE key >= :start AND key < :end ORDER BY key LIMIT :limit"
        }
        Order::Descending => {
            "SELECT key, value, revision FROM kv WHERE key >= :start AND key < :end ORDER BY key DESC LIMIT :limit"
        }
    })?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let bounds = named_params! { ":start": range.start.as_bytes(), ":end": range.end.as_bytes(), ":limit": limit };
    statement.query_map(bounds, entry)?.collect()
}

pub(super) fn revision_of(connection: &Connection, key: &Key) -> rusqlite::Result<Option<Revision>> {
    let mut statement = connection.prepare_cached("SELECT revision FROM kv WHERE key = ?1")?;
    statement.query_row([key.as_bytes()], |row| from_column(row, 0)).optional()
}

pub(super) fn apply(connection: &Connection, write: &Write, revision: Revision) -> rusqlite::Result<()> {
    match write {
        Write::Put { key, value } => connection
            .prepare_cached(
                "INSERT INTO kv VALUES (?1, ?2, ?3)
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision",
            )?
            .execute(params![key.as_bytes(), &value[..], to_column(revision)])?,
        Write::Delete { key } => {
            connection.prepare_cached("DELETE FROM kv WHERE key = ?1")?.execute([key.as_bytes()])?
        }
        Write::DeleteRange { start, end } => connection
            .prepare_cached("DELETE FROM kv WHERE key >= ?1 AND key < ?2")?
            .execute([start.as_bytes(), end.as_bytes()])?,
    };
    Ok(())
}

/// The number of the last commit. Kept apart from the rows, because the row that carried it may be deleted (P5).
pub(super) fn revision(connection: &Connection) -> rusqlite::Result<Revision> {
    connection.prepare_cached("SELECT revision FROM store")?.query_row([], |row| from_column(row, 0))
}

pub(super) fn set_revision(connection: &Connection, revision: Revision) -> rusqlite::Result<()> {
    connection.prepare_cached("UPDATE store SET revision = ?1")?.execute([to_column(revision)])?;
    Ok(())
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let (key, value): (Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?);
    Ok(Entry { key: Key::from_stored(key), value: value.into(), revision: from_column(row, 2)? })
}

fn from_column(row: &Row<'_>, column: usize) -> rusqlite::Result<Revision> {
    let number: i64 = row.get(column)?;
    let number = u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, number))?;
    Ok(Revision::new(number))
}

fn to_column(revision: Revision) -> i64 {
    // A million commits a second would take 290,000 years to get there.
    i64::try_from(revision.get()).expect("revisions fit 63 bits")
}
