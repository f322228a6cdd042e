//! A store in a directory of its own, and rows to put into it. For tests only.

use std::{path::PathBuf, sync::Arc};

use keyreeve_envelope::subkey::SubkeyBytes;
use sqlx::{ConnectOptions as _, SqliteConnection, sqlite::SqliteConnectOptions};

use super::{Applied, Change, ChangeError, Committer, Directory, Options, RowKey, StoreError, open, sqlite};
use crate::{
    clock::{ManualClock, Timestamp},
    model::{
        Blob, Environment, EnvironmentId, Key, KeyId, KeyState, KeyVersion, Purpose, Residency, Suite, Team, TeamId,
        TokenAttributes, Version,
    },
};

pub fn row_key() -> RowKey {
    RowKey::new(SubkeyBytes::from_hmac_output(&[7; 64]))
}

/// Directories of a store that can be opened again and again.
pub struct Place {
    pub root: tempfile::TempDir,
    pub clock: ManualClock,
}

impl Place {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("data")).unwrap();
        Self {
            root,
            clock: ManualClock::at(Timestamp::from_unix_ms(1_700_000_000_000)),
        }
    }

    pub fn directory(&self) -> PathBuf {
        self.root.path().join("data")
    }

    pub fn tombstone_file(&self) -> PathBuf {
        self.root.path().join("tombstones")
    }

    pub fn options(&self) -> Options {
        Options {
            directory: self.directory(),
            tombstone_file: self.tombstone_file(),
            row_key: row_key(),
            clock: Arc::new(self.clock.clone()),
            cached_keys: 10_000,
        }
    }

    pub async fn open(&self) -> Result<(Directory, Committer), StoreError> {
        open(self.options()).await
    }

    /// The database behind the store's back.
    pub async fn intruder(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new()
            .filename(self.directory().join(sqlite::FILE))
            .foreign_keys(false);
        options.connect().await.unwrap()
    }

    /// Runs `sql` behind the store's back.
    pub async fn tamper(&self, sql: &str) {
        let mut intruder = self.intruder().await;
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()))
            .execute(&mut intruder)
            .await
            .unwrap();
        sqlx::Connection::close(intruder).await.unwrap();
    }
}

/// One change in a transaction of its own.
pub async fn commit(committer: &mut Committer, change: Change) -> Result<Applied, ChangeError> {
    let mut transaction = committer.begin().await.unwrap();
    let applied = transaction.apply(&change).await;
    transaction.commit().await.unwrap();
    applied
}

pub fn environment(id: &str) -> Arc<Environment> {
    Arc::new(Environment {
        id: EnvironmentId::from_bytes(id_bytes(id)),
        name: format!("envs/{id}").parse().unwrap(),
        production: false,
        created: Timestamp::from_unix_ms(1),
        row_version: 0,
    })
}

pub fn team(environment: &Arc<Environment>, id: &str) -> Arc<Team> {
    Arc::new(Team {
        id: TeamId::from_bytes(id_bytes(id)),
        name: environment.name.team(id).unwrap(),
        environment: environment.clone(),
        created: Timestamp::from_unix_ms(2),
        row_version: 0,
    })
}

/// A key with one version.
pub fn key(team: &Arc<Team>, id: &str) -> Key {
    let key_id = KeyId::from_bytes(id_bytes(id));
    Key {
        id: key_id,
        name: team.name.key(id).unwrap(),
        team: team.clone(),
        purpose: Purpose::EncryptDecrypt,
        residency: Residency::Wrapped,
        owner: "spiffe://example/owner".into(),
        labels: [("tier".to_owned(), "gold".to_owned())].into(),
        primary: KeyVersion::FIRST,
        versions: vec![Arc::new(version(key_id, 1))],
        created: Timestamp::from_unix_ms(3),
        row_version: 0,
    }
}

pub fn version(key: KeyId, number: u32) -> Version {
    Version {
        key,
        number: KeyVersion::new(number).unwrap(),
        suite: Suite::PrfCommit,
        iv_source: None,
        state: KeyState::Active,
        state_before: None,
        state_changed: Timestamp::from_unix_ms(4),
        state_reason: String::new(),
        destroy_at: None,
        blob: Some(Arc::new(Blob::new(vec![number as u8; 198]))),
        at_birth: TokenAttributes {
            local: true,
            always_sensitive: true,
            never_extractable: false,
            sensitive: true,
            extractable: true,
            modifiable: false,
            copyable: false,
            observed: 5,
        },
        created: Timestamp::from_unix_ms(6),
        row_version: 0,
    }
}

pub fn creation(key: &Key) -> Change {
    let change = Change::new().insert(key);
    key.versions
        .iter()
        .fold(change, |change, version| change.insert(&**version))
}

/// `dev`, `dev/shop`, `dev/shop/orders`, as stored.
pub async fn seed(committer: &mut Committer) -> (Arc<Environment>, Arc<Team>, Key) {
    let environment = environment("dev");
    let team = team(&environment, "shop");
    let key = key(&team, "orders");
    commit(committer, Change::new().insert(&*environment).insert(&*team))
        .await
        .unwrap();
    commit(committer, creation(&key)).await.unwrap();
    (environment, team, key)
}

/// Sixteen bytes that differ where the texts do.
fn id_bytes(text: &str) -> [u8; 16] {
    *super::mac::sha256(text.as_bytes()).first_chunk().unwrap()
}
