//! Searching a log: a scan of every record from the first to the last, no index.
//!
//! Its cost grows with the log: every record is read and parsed. An index built behind the log comes when that is too slow.

use std::path::Path;

use super::{
    Record,
    reader::{LogReader, ReadError, Stored},
};

/// What a record must match: every part that is set.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Name of the action, e.g. `Decrypt`.
    pub operation: Option<String>,
    /// The actor's id, or whom it acted for.
    pub identity: Option<String>,
    /// Resource name: the thing itself, or anything below it.
    pub object: Option<String>,
    pub key_id: Option<String>,
    pub request_id: Option<String>,
    /// `success`, `refused`, `error`, `aborted`.
    pub result: Option<String>,
    /// The reason, e.g. `DECRYPT_FAILED`.
    pub reason: Option<String>,
    /// First 16 bytes of an envelope's commitment, hex: finds every use of one ciphertext.
    pub ciphertext: Option<String>,
    /// RFC 3339 in UTC as records show it; `from` counts, `until` does not. A prefix such as `2026-11-23` will do.
    pub from: Option<String>,
    pub until: Option<String>,
}

impl Query {
    pub fn matches(&self, record: &Record<'_>) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        is(&self.operation, &record.op)
            && is(&self.request_id, &record.req)
            && is(&self.result, &record.result)
            && is(&self.reason, record.reason())
            && is(&self.key_id, record.key.as_ref().map_or("", |key| &key.id))
            && self.identity.as_deref().is_none_or(|wanted| {
                wanted == record.actor.id || record.on_behalf.as_deref() == Some(wanted)
            })
            && self.object.as_deref().is_none_or(|wanted| is_or_is_below(record.name(), wanted))
            && self.ciphertext.as_ref().is_none_or(|wanted| record.ct.contains(wanted))
            // Text in this form sorts as the times do.
            && self.from.as_deref().is_none_or(|from| &*record.ts >= from)
            && self.until.as_deref().is_none_or(|until| &*record.ts < until)
    }
}

/// Calls `found` with every record that matches, oldest first, until it answers `false`. Returns how many records were read.
///
/// Errors: `ReadError::Damaged` where a record cannot be read or parsed; what came before was found.
pub fn search(directory: &Path, query: &Query, mut found: impl FnMut(Stored) -> bool) -> Result<u64, ReadError> {
    let mut reader = LogReader::open(directory)?;
    let mut read = 0;
    while let Some(stored) = reader.advance()? {
        read += 1;
        let matches = match stored.record() {
            Ok(record) => query.matches(&record),
            Err(_) => return Err(reader.damaged(stored.seq)),
        };
        if matches && !found(stored) {
            break;
        }
    }
    Ok(read)
}

fn is_or_is_below(object: &str, wanted: &str) -> bool {
    object
        .strip_prefix(wanted)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || wanted.ends_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::sample::write;

    fn found(directory: &Path, query: &Query) -> Vec<u64> {
        let mut seqs = Vec::new();
        let read = search(directory, query, |stored| {
            seqs.push(stored.seq);
            true
        });
        assert_eq!(read.unwrap(), 30);
        seqs
    }

    #[test]
    fn each_part_of_a_query_narrows_it() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), 30);
        let text = |text: &str| Some(text.to_owned());
        let all: Vec<u64> = (0..30).collect();
        let only = |keep: &dyn Fn(u64) -> bool| all.iter().copied().filter(|seq| keep(*seq)).collect::<Vec<_>>();
        let cases: Vec<(Query, Vec<u64>)> = vec![
            (Query::default(), all.clone()),
            (
                Query {
                    operation: text("Decrypt"),
                    ..Query::default()
                },
                only(&|seq| seq % 2 == 1),
            ),
            (
                Query {
                    identity: text("spiffe://test/caller-2"),
                    ..Query::default()
                },
                only(&|seq| seq % 3 == 2),
            ),
            (
                Query {
                    object: text("envs/dev/teams/shop/keys/k4"),
                    ..Query::default()
                },
                only(&|seq| seq % 5 == 4),
            ),
            (
                Query {
                    object: text("envs/dev"),
                    ..Query::default()
                },
                all.clone(),
            ),
            (
                Query {
                    object: text("envs/de"),
                    ..Query::default()
                },
                vec![],
            ),
            (
                Query {
                    request_id: text("request-7"),
                    ..Query::default()
                },
                vec![7],
            ),
            (
                Query {
                    result: text("refused"),
                    ..Query::default()
                },
                vec![],
            ),
            (
                Query {
                    reason: text(""),
                    ..Query::default()
                },
                all.clone(),
            ),
            (
                Query {
                    key_id: text("07070707-0707-0707-0707-070707070707"),
                    ..Query::default()
                },
                all.clone(),
            ),
            (
                Query {
                    ciphertext: Some("09".repeat(16)),
                    ..Query::default()
                },
                vec![9],
            ),
            (
                Query {
                    from: text("2023-11-14T22:13:20.010Z"),
                    until: text("2023-11-14T22:13:20.020Z"),
                    ..Query::default()
                },
                (10..20).collect(),
            ),
            (
                Query {
                    until: text("2023-11-14"),
                    ..Query::default()
                },
                vec![],
            ),
            (
                Query {
                    operation: text("Encrypt"),
                    identity: text("spiffe://test/caller-0"),
                    ..Query::default()
                },
                only(&|seq| seq % 6 == 0),
            ),
        ];
        for (query, expected) in cases {
            assert_eq!(found(directory.path(), &query), expected, "{query:?}");
        }
    }

    #[test]
    fn a_search_ends_when_it_is_told_to() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), 30);
        let mut hits = 0;
        let read = search(directory.path(), &Query::default(), |_| {
            hits += 1;
            hits < 4
        });
        assert_eq!((read.unwrap(), hits), (4, 4));
    }
}
