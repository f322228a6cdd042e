//! Every action, in one table: the source of the permit types and of the Cedar schema.
//!
//! `uses`: may work a key in the token. `makes`: may make a version in the token. `checks`: may have versions checked there. `changes`: may change the store;
//! its decisions are never cached.

use std::sync::Arc;

use super::{Resource, System};
use crate::model::{Environment, Key, Team};

/// One thing a caller may be allowed to do. Implemented by the empty enums of the table below, and by nothing else.
pub trait Action: sealed::Sealed + Send + Sync + 'static {
    /// What the action is done on.
    type On: Resource;
    /// Its name in policies, records and documents.
    const NAME: &'static str;
    /// Whether it changes the store. Decisions on such actions are made anew each time.
    const CHANGES: bool;
}

/// An action that works a key version inside the token.
pub trait UsesKey: Action<On = Arc<Key>> {}

/// An action that makes a key version inside the token.
pub trait MakesKey: Action {}

/// An action that has the tokens check a team's keys, and works nothing with them.
pub trait ChecksKeys: Action<On = Arc<Team>> {}

/// An action that changes the store.
pub trait Changes: Action {}

/// Name, resource type, and whether it changes the store, of every action: for the schema and the documents.
pub struct Entry {
    pub name: &'static str,
    pub resource: &'static str,
    pub changes: bool,
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! actions {
    ($($(#[doc = $doc:literal])+ $name:ident($on:ident) $($kind:ident)*;)+) => {
        $(
            $(#[doc = $doc])+
            pub enum $name {}
            impl sealed::Sealed for $name {}
            impl Action for $name {
                type On = actions!(@on $on);
                const NAME: &'static str = stringify!($name);
                const CHANGES: bool = actions!(@changes $($kind)*);
            }
            $(actions!(@kind $kind $name);)*
        )+

        /// All actions, in the order of the table.
        pub const ALL: &[Entry] = &[
            $(Entry { name: stringify!($name), resource: stringify!($on), changes: actions!(@changes $($kind)*) },)+
        ];
    };
    (@on System) => { System };
    (@on $on:ident) => { Arc<$on> };
    (@kind uses $name:ident) => { impl UsesKey for $name {} };
    (@kind makes $name:ident) => { impl MakesKey for $name {} };
    (@kind checks $name:ident) => { impl ChecksKeys for $name {} };
    (@kind changes $name:ident) => { impl Changes for $name {} };
    (@changes) => { false };
    (@changes changes $($rest:ident)*) => { true };
    (@changes $other:ident $($rest:ident)*) => { actions!(@changes $($rest)*) };
}

actions! {
    /// Encrypt under the primary version.
    Encrypt(Key) uses;
    /// Decrypt what Encrypt or ReEncrypt made.
    Decrypt(Key) uses;
    /// Open the source of a ReEncrypt; returns no plaintext.
    ReEncryptFrom(Key) uses;
    /// Seal the destination of a ReEncrypt.
    ReEncryptTo(Key) uses;
    /// Make a data key and see it in clear.
    GenerateDataKey(Key) uses;
    /// Make a data key as an envelope only.
    GenerateDataKeyWithoutPlaintext(Key) uses;
    /// Make the envelope of a data key that the caller has.
    WrapDataKey(Key) uses;
    /// Open a data-key envelope.
    UnwrapDataKey(Key) uses;
    /// Random bytes of the environment's token.
    GenerateRandom(Environment);

    /// Make an environment.
    CreateEnvironment(System) changes;
    /// See an environment.
    ReadEnvironment(Environment);
    /// List environments.
    ListEnvironments(System);
    /// Make a team in the environment.
    CreateTeam(Environment) changes;
    /// See a team.
    ReadTeam(Team);
    /// List the teams of an environment.
    ListTeams(Environment);

    /// Make a key owned by the team.
    CreateKey(Team) makes changes;
    /// See a key and its versions.
    ReadKey(Key);
    /// Be told when a key changes.
    WatchKey(Key);
    /// List the keys of a team.
    ListKeys(Team);
    /// Make a new primary version.
    RotateKey(Key) makes changes;
    /// Stop a version for a while.
    SuspendKey(Key) changes;
    /// Let a suspended version work again.
    ResumeKey(Key) changes;
    /// End protecting with a version.
    DeactivateKey(Key) changes;
    /// Mark a version compromised.
    CompromiseKey(Key) changes;
    /// Schedule destruction.
    DestroyKey(Key) changes;
    /// Cancel a scheduled destruction.
    CancelKeyDestruction(Key) changes;
    /// Erase versions whose waiting period has passed; done by the service's own job.
    EraseKey(Key) changes;
    /// Count uses of a version ahead; done by the service itself, before it seals.
    ReserveUses(Key) changes;
    /// See what the token reports of a key's versions; works each of them once.
    AttestKey(Key) uses;
    /// Have every token of the group check the keys of a team, page by page.
    VerifyKeys(Team) checks;

    /// See the state of the service.
    ReadStatus(System);
    /// See who one is.
    WhoAmI(System);
}
