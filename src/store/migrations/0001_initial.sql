-- Schema 1. Columns of rows that carry authority, with their stable ids: docs/rows.md.
-- Names, times and states repeat what the MACs cover; nothing here is trusted before its MAC is checked.

CREATE TABLE environments (
    id BLOB NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    production INTEGER NOT NULL,
    created INTEGER NOT NULL,
    row_version INTEGER NOT NULL,
    change_seq INTEGER NOT NULL,
    row_mac BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE teams (
    id BLOB NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    environment BLOB NOT NULL REFERENCES environments (id),
    created INTEGER NOT NULL,
    row_version INTEGER NOT NULL,
    change_seq INTEGER NOT NULL,
    row_mac BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX teams_of_environment ON teams (environment, name);

CREATE TABLE keys (
    id BLOB NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    team BLOB NOT NULL REFERENCES teams (id),
    purpose TEXT NOT NULL,
    residency TEXT NOT NULL,
    owner TEXT NOT NULL,
    labels TEXT NOT NULL,
    primary_version INTEGER NOT NULL,
    created INTEGER NOT NULL,
    row_version INTEGER NOT NULL,
    change_seq INTEGER NOT NULL,
    row_mac BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX keys_of_team ON keys (team, name);

CREATE TABLE key_versions (
    key_id BLOB NOT NULL REFERENCES keys (id),
    number INTEGER NOT NULL,
    state TEXT NOT NULL,
    state_before TEXT,
    state_changed INTEGER NOT NULL,
    state_reason TEXT NOT NULL,
    destroy_at INTEGER,
    blob BLOB,
    at_birth INTEGER NOT NULL,
    at_birth_observed INTEGER NOT NULL,
    created INTEGER NOT NULL,
    suite INTEGER NOT NULL,
    iv_source TEXT,
    cka_id BLOB,
    kcv BLOB,
    row_version INTEGER NOT NULL,
    change_seq INTEGER NOT NULL,
    row_mac BLOB NOT NULL,
    PRIMARY KEY (key_id, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX key_versions_due ON key_versions (destroy_at) WHERE destroy_at IS NOT NULL;
CREATE INDEX key_versions_unremoved ON key_versions (state) WHERE cka_id IS NOT NULL;

CREATE TABLE log_epochs (
    node TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    reason TEXT NOT NULL,
    opened INTEGER NOT NULL,
    last_size INTEGER,
    last_root BLOB,
    row_version INTEGER NOT NULL,
    change_seq INTEGER NOT NULL,
    row_mac BLOB NOT NULL,
    PRIMARY KEY (node, epoch)
) STRICT, WITHOUT ROWID;

CREATE TABLE tombstones (
    key_id BLOB NOT NULL,
    number INTEGER NOT NULL,
    destroyed INTEGER NOT NULL,
    row_version INTEGER NOT NULL,
    change_seq INTEGER NOT NULL,
    row_mac BLOB NOT NULL,
    PRIMARY KEY (key_id, number)
) STRICT, WITHOUT ROWID;

-- Uses of versions of suite 0001, reserved ahead.
CREATE TABLE use_counters (
    key_id BLOB NOT NULL,
    number INTEGER NOT NULL,
    reserved INTEGER NOT NULL,
    log_epoch INTEGER NOT NULL,
    row_version INTEGER NOT NULL,
    change_seq INTEGER NOT NULL,
    row_mac BLOB NOT NULL,
    PRIMARY KEY (key_id, number)
) STRICT, WITHOUT ROWID;

-- The chain: one entry per write of a row, in order. The last entry of (tbl, pk) says what the row must be.
CREATE TABLE changes (
    seq INTEGER NOT NULL PRIMARY KEY,
    tbl TEXT NOT NULL,
    pk BLOB NOT NULL,
    row_version INTEGER NOT NULL,
    row_mac BLOB NOT NULL,
    link BLOB NOT NULL
) STRICT;
-- Unique, so that a deleted row's key is never used again.
CREATE UNIQUE INDEX changes_of_row ON changes (tbl, pk, row_version);

-- Records committed with their change, until the log's segments hold them.
CREATE TABLE outbox (
    seq INTEGER NOT NULL PRIMARY KEY,
    record BLOB NOT NULL
) STRICT;

-- Answers kept for a repeated request id.
CREATE TABLE remembered (
    caller TEXT NOT NULL,
    method TEXT NOT NULL,
    request_id TEXT NOT NULL,
    request BLOB NOT NULL,
    object TEXT NOT NULL,
    expires_ms INTEGER NOT NULL,
    PRIMARY KEY (caller, method, request_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX remembered_expiry ON remembered (expires_ms);
