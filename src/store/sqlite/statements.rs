//! Every statement on SQLite, as constants. Parameters of a row: its columns in schema order, then the three of the chain.

use crate::store::Table;

/// Whether a row exists already is decided by every unique index of its table: key and name.
pub const fn insert(table: Table) -> &'static str {
    match table {
        Table::Environments => "INSERT INTO environments VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
        Table::Teams => "INSERT INTO teams VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
        Table::Keys => {
            "INSERT INTO keys VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT DO NOTHING"
        }
        Table::KeyVersions => {
            "INSERT INTO key_versions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, \
             ?17, ?18) ON CONFLICT DO NOTHING"
        }
        Table::LogEpochs => "INSERT INTO log_epochs VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
        Table::Tombstones => "INSERT INTO tombstones VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
        Table::UseCounters => "INSERT INTO use_counters VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
    }
}

/// One parameter more: the `row_version` to find.
pub const fn update(table: Table) -> &'static str {
    match table {
        Table::Environments => {
            "UPDATE environments SET name = ?2, production = ?3, created = ?4, row_version = ?5, change_seq = ?6, \
             row_mac = ?7 WHERE id = ?1 AND row_version = ?8"
        }
        Table::Teams => {
            "UPDATE teams SET name = ?2, environment = ?3, created = ?4, row_version = ?5, change_seq = ?6, \
             row_mac = ?7 WHERE id = ?1 AND row_version = ?8"
        }
        Table::Keys => {
            "UPDATE keys SET name = ?2, team = ?3, purpose = ?4, residency = ?5, owner = ?6, labels = ?7, \
             primary_version = ?8, created = ?9, row_version = ?10, change_seq = ?11, row_mac = ?12 \
             WHERE id = ?1 AND row_version = ?13"
        }
        Table::KeyVersions => {
            "UPDATE key_versions SET state = ?3, state_before = ?4, state_changed = ?5, state_reason = ?6, \
             destroy_at = ?7, blob = ?8, at_birth = ?9, at_birth_observed = ?10, created = ?11, suite = ?12, \
             iv_source = ?13, cka_id = ?14, kcv = ?15, row_version = ?16, change_seq = ?17, row_mac = ?18 \
             WHERE key_id = ?1 AND number = ?2 AND row_version = ?19"
        }
        Table::LogEpochs => {
            "UPDATE log_epochs SET reason = ?3, opened = ?4, last_size = ?5, last_root = ?6, row_version = ?7, \
             change_seq = ?8, row_mac = ?9 WHERE node = ?1 AND epoch = ?2 AND row_version = ?10"
        }
        Table::Tombstones => {
            "UPDATE tombstones SET destroyed = ?3, row_version = ?4, change_seq = ?5, row_mac = ?6 \
             WHERE key_id = ?1 AND number = ?2 AND row_version = ?7"
        }
        Table::UseCounters => {
            "UPDATE use_counters SET reserved = ?3, log_epoch = ?4, row_version = ?5, change_seq = ?6, row_mac = ?7 \
             WHERE key_id = ?1 AND number = ?2 AND row_version = ?8"
        }
    }
}

/// Parameters: the parts of the primary key, and the `row_version` to find.
pub const fn delete(table: Table) -> &'static str {
    match table {
        Table::Environments => "DELETE FROM environments WHERE id = ?1 AND row_version = ?2",
        Table::Teams => "DELETE FROM teams WHERE id = ?1 AND row_version = ?2",
        Table::Keys => "DELETE FROM keys WHERE id = ?1 AND row_version = ?2",
        Table::KeyVersions => "DELETE FROM key_versions WHERE key_id = ?1 AND number = ?2 AND row_version = ?3",
        Table::LogEpochs => "DELETE FROM log_epochs WHERE node = ?1 AND epoch = ?2 AND row_version = ?3",
        Table::Tombstones => "DELETE FROM tombstones WHERE key_id = ?1 AND number = ?2 AND row_version = ?3",
        Table::UseCounters => "DELETE FROM use_counters WHERE key_id = ?1 AND number = ?2 AND row_version = ?3",
    }
}

pub const fn all(table: Table) -> &'static str {
    match table {
        Table::Environments => "SELECT * FROM environments",
        Table::Teams => "SELECT * FROM teams",
        Table::Keys => "SELECT * FROM keys",
        Table::KeyVersions => "SELECT * FROM key_versions",
        Table::LogEpochs => "SELECT * FROM log_epochs",
        Table::Tombstones => "SELECT * FROM tombstones",
        Table::UseCounters => "SELECT * FROM use_counters",
    }
}

pub const ENVIRONMENT_NAMED: &str = "SELECT * FROM environments WHERE name = ?1";
pub const TEAM_NAMED: &str = "SELECT * FROM teams WHERE name = ?1";
pub const KEY_NAMED: &str = "SELECT * FROM keys WHERE name = ?1";
pub const VERSIONS_OF: &str = "SELECT * FROM key_versions WHERE key_id = ?1 ORDER BY number";
pub const LOG_EPOCHS_OF: &str = "SELECT * FROM log_epochs WHERE node = ?1 ORDER BY epoch";
pub const USE_COUNTER_OF: &str = "SELECT * FROM use_counters WHERE key_id = ?1 AND number = ?2";
pub const DUE_FOR_ROTATION: &str = "SELECT count(*) FROM use_counters JOIN key_versions USING (key_id, number) \
    WHERE key_versions.state = 'ACTIVE' AND (use_counters.reserved > ?1 OR use_counters.log_epoch <> ?2)";
pub const NAME_OF_KEY: &str = "SELECT name FROM keys WHERE id = ?1";

pub const ENVIRONMENT_NAMES: &str = "SELECT name FROM environments WHERE name > ?1 ORDER BY name LIMIT ?2";
pub const TEAM_NAMES: &str = "SELECT name FROM teams WHERE environment = ?3 AND name > ?1 ORDER BY name LIMIT ?2";
pub const KEY_NAMES: &str = "SELECT name FROM keys WHERE team = ?3 AND name > ?1 ORDER BY name LIMIT ?2";
/// Versions whose waiting period has ended, and destroyed ones whose object is still in its token.
pub const DUE_FOR_DESTRUCTION: &str = "SELECT keys.name FROM key_versions JOIN keys ON keys.id = key_versions.key_id \
    WHERE key_versions.destroy_at <= ?1 AND key_versions.state = 'PENDING_DESTRUCTION' \
    UNION SELECT keys.name FROM key_versions JOIN keys ON keys.id = key_versions.key_id \
    WHERE key_versions.state IN ('DESTROYED', 'DESTROYED_COMPROMISED') AND key_versions.cka_id IS NOT NULL \
    ORDER BY 1 LIMIT ?2";
pub const COUNTS: &str = "SELECT (SELECT count(*) FROM environments), (SELECT count(*) FROM keys)";

pub const CHAIN: &str = "SELECT * FROM changes ORDER BY seq";
pub const LAST_CHANGE_OF: &str = "SELECT * FROM changes WHERE tbl = ?1 AND pk = ?2 ORDER BY row_version DESC LIMIT 1";
/// Primary keys from ?2 to ?3, the changes of each in order.
pub const CHANGES_BETWEEN: &str =
    "SELECT * FROM changes WHERE tbl = ?1 AND pk BETWEEN ?2 AND ?3 ORDER BY pk, row_version";
pub const LINK_AT: &str = "SELECT link FROM changes WHERE seq = ?1";
pub const HEAD: &str = "SELECT seq, link FROM changes ORDER BY seq DESC LIMIT 1";
/// A version's primary key begins with that of its key.
pub const KEYS_CHANGED: &str = "SELECT changes.seq, changes.link, keys.name FROM changes JOIN keys ON keys.id = substr(changes.pk, 1, 16) \
    WHERE changes.seq > ?1 AND changes.tbl IN ('keys', 'key_versions') ORDER BY changes.seq LIMIT ?2";
pub const APPEND_CHANGE: &str = "INSERT INTO changes (seq, tbl, pk, row_version, row_mac, link) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (tbl, pk, row_version) DO NOTHING";

pub const REMEMBERED: &str = "SELECT request, object, expires_ms FROM remembered \
    WHERE caller = ?1 AND method = ?2 AND request_id = ?3 AND expires_ms > ?4";
pub const REMEMBER: &str = "INSERT INTO remembered (caller, method, request_id, request, object, expires_ms) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET request = excluded.request, \
    object = excluded.object, expires_ms = excluded.expires_ms WHERE remembered.expires_ms <= ?7";
/// Some at a time, so that no commit has to wait for a day's worth.
pub const FORGET_EXPIRED: &str = "DELETE FROM remembered WHERE (caller, method, request_id) IN \
    (SELECT caller, method, request_id FROM remembered WHERE expires_ms <= ?1 ORDER BY expires_ms LIMIT 256)";

pub const PUT_OUTBOX: &str = "INSERT INTO outbox (seq, record) VALUES (?1, ?2)";
pub const OUTBOX_AFTER: &str = "SELECT seq, record FROM outbox WHERE seq > ?1 ORDER BY seq";
pub const CLEAR_OUTBOX: &str = "DELETE FROM outbox WHERE seq <= ?1";
