//! Lists, page by page. A page token is opaque, works for one caller, one list and one day, and says where the next page starts.
//!
//! `base64url(u64 expiry, Unix ms || name of the last item || tag[16])`, tag = first 16 bytes of HMAC-SHA-256 under the service subkey
//! `page.v1` over `"page.v1" || 00 || lv(caller) || lv(list) || lv(parent) ||` what stands before it.

use aws_lc_rs::{constant_time, hmac};
use data_encoding::BASE64URL_NOPAD;

use super::Keys;
use crate::{
    Error, Result,
    audit::{Draft, Outcome},
    clock::Timestamp,
    model::{Environment, EnvironmentName, InvalidName, Key, KeyName, Team, TeamName},
    policy::{Action, Permit, Recorded, action},
    store::Page,
};
use std::{str::FromStr, sync::Arc};

const DEFAULT_SIZE: usize = 100;
const MAX_SIZE: usize = 1_000;
const TOKEN_DAYS: u32 = 1;
/// A name is at most 256 B.
const MAX_TOKEN_LEN: usize = 400;
const TAG_LEN: usize = 16;

/// Which page of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListRequest {
    size: usize,
    token: String,
}

/// One page of a list.
pub struct Listed<T> {
    pub items: Vec<T>,
    /// What to ask for the next page with; `None` after the last.
    pub next: Option<String>,
}

impl ListRequest {
    /// `size`: 0 for 100; more than 1,000 counts as 1,000.
    pub fn new(size: i32, token: String) -> Result<Self> {
        let size = match usize::try_from(size) {
            Ok(0) => DEFAULT_SIZE,
            Ok(size) => size.min(MAX_SIZE),
            Err(_) => return Err(Error::invalid("page_size", "it is negative: use 0 to 1000")),
        };
        Ok(Self { size, token })
    }
}

impl Keys {
    /// Environments in order of name.
    pub async fn list_environments(
        &self,
        permit: Permit<action::ListEnvironments>,
        request: ListRequest,
    ) -> Result<Recorded<Listed<Arc<Environment>>>> {
        let result = async {
            let after: Option<EnvironmentName> = self.after(&permit, "", &request)?;
            let page = self.directory.environments(after.as_ref(), request.size).await?;
            Ok(self.listed(&permit, "", page, |environment| environment.name.as_str()))
        };
        let result = result.await;
        permit.complete(result).await
    }

    /// Teams of the permit's environment in order of name.
    pub async fn list_teams(
        &self,
        permit: Permit<action::ListTeams>,
        request: ListRequest,
    ) -> Result<Recorded<Listed<Arc<Team>>>> {
        let result = async {
            let of = permit.on();
            let after: Option<TeamName> = self.after(&permit, of.name.as_str(), &request)?;
            let page = self.directory.teams(of, after.as_ref(), request.size).await?;
            Ok(self.listed(&permit, of.name.as_str(), page, |team| team.name.as_str()))
        };
        let result = result.await;
        permit.complete(result).await
    }

    /// Keys of the permit's team in order of name.
    pub async fn list_keys(
        &self,
        permit: Permit<action::ListKeys>,
        request: ListRequest,
    ) -> Result<Recorded<Listed<Arc<Key>>>> {
        let result = self.keys_of(&permit, permit.on(), &request).await;
        permit.complete(result).await
    }

    /// One page of the keys of `team`.
    pub(super) async fn keys_of<A: Action>(
        &self,
        permit: &Permit<A>,
        team: &Team,
        request: &ListRequest,
    ) -> Result<Listed<Arc<Key>>> {
        let after: Option<KeyName> = self.after(permit, team.name.as_str(), request)?;
        let page = self.directory.keys(team, after.as_ref(), request.size).await?;
        Ok(self.listed(permit, team.name.as_str(), page, |key| key.name.as_str()))
    }

    fn after<A: Action, N: FromStr<Err = InvalidName>>(
        &self,
        permit: &Permit<A>,
        parent: &str,
        request: &ListRequest,
    ) -> Result<Option<N>> {
        if request.token.is_empty() {
            return Ok(None);
        }
        let name = self.pages.open(list_of(permit, parent), &request.token, self.now())?;
        name.parse().map(Some).map_err(|_| refused())
    }

    fn listed<A: Action, T>(
        &self,
        permit: &Permit<A>,
        parent: &str,
        page: Page<Arc<T>>,
        name: impl Fn(&T) -> &str,
    ) -> Listed<Arc<T>> {
        let last = page.items.last().filter(|_| page.more);
        let next = last.map(|last| self.pages.seal(list_of(permit, parent), name(last), self.now()));
        Listed {
            next,
            items: page.items,
        }
    }
}

impl<T> Outcome for Listed<Arc<T>> {
    fn describe(&self, draft: &mut Draft) {
        draft.items = u32::try_from(self.items.len()).unwrap_or(u32::MAX);
    }
}

/// What a token is good for.
#[derive(Clone, Copy)]
struct List<'a> {
    caller: &'a str,
    method: &'static str,
    parent: &'a str,
}

fn list_of<'a, A: Action>(permit: &'a Permit<A>, parent: &'a str) -> List<'a> {
    List {
        caller: &permit.caller().identity().actor.id,
        method: A::NAME,
        parent,
    }
}

/// The key of page tokens. No `Debug`.
pub(super) struct PageTokens(hmac::Key);

static_assertions::assert_not_impl_any!(PageTokens: std::fmt::Debug, Clone, PartialEq);

impl PageTokens {
    pub(super) fn new(subkey: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, subkey))
    }

    fn seal(&self, list: List<'_>, last: &str, now: Timestamp) -> String {
        let expiry = now.plus_days(TOKEN_DAYS).unix_ms();
        let mut token = expiry.to_be_bytes().to_vec();
        token.extend_from_slice(last.as_bytes());
        let tag = self.tag(list, &token);
        token.extend_from_slice(&tag.as_ref()[..TAG_LEN]);
        BASE64URL_NOPAD.encode(&token)
    }

    /// Errors: `InvalidArgument` for whatever is wrong with it.
    fn open(&self, list: List<'_>, token: &str, now: Timestamp) -> Result<String> {
        if token.len() > MAX_TOKEN_LEN {
            return Err(refused());
        }
        let token = BASE64URL_NOPAD.decode(token.as_bytes()).map_err(|_| refused())?;
        let (signed, tag) = token.split_last_chunk::<TAG_LEN>().ok_or_else(refused)?;
        constant_time::verify_slices_are_equal(&self.tag(list, signed).as_ref()[..TAG_LEN], tag)
            .map_err(|_| refused())?;
        let (expiry, name) = signed.split_first_chunk().ok_or_else(refused)?;
        if i64::from_be_bytes(*expiry) < now.unix_ms() {
            return Err(refused());
        }
        String::from_utf8(name.to_vec()).map_err(|_| refused())
    }

    fn tag(&self, list: List<'_>, signed: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(b"page.v1\0");
        for part in [list.caller, list.method, list.parent] {
            context.update(&(part.len() as u16).to_be_bytes());
            context.update(part.as_bytes());
        }
        context.update(signed);
        context.sign()
    }
}

fn refused() -> Error {
    Error::invalid(
        "page_token",
        "it is not one of this list, or older than a day: start again without it",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_ms(1_700_000_000_000);

    fn list<'a>(caller: &'a str, parent: &'a str) -> List<'a> {
        List {
            caller,
            method: "ListKeys",
            parent,
        }
    }

    #[test]
    fn a_token_opens_for_its_list_and_caller_only_and_for_a_day() {
        let pages = PageTokens::new(&[7; 32]);
        let token = pages.seal(list("alice", "dev/shop"), "envs/dev/teams/shop/keys/k9", NOW);
        assert!(
            token
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'),
            "{token}"
        );
        let opened = pages.open(list("alice", "dev/shop"), &token, NOW).unwrap();
        assert_eq!(opened, "envs/dev/teams/shop/keys/k9");
        assert!(pages.open(list("bob", "dev/shop"), &token, NOW).is_err());
        assert!(pages.open(list("alice", "dev/other"), &token, NOW).is_err());
        let other_method = List {
            method: "ListTeams",
            ..list("alice", "dev/shop")
        };
        assert!(pages.open(other_method, &token, NOW).is_err());
        let tomorrow = Timestamp::from_unix_ms(NOW.plus_days(1).unix_ms() + 1);
        assert!(pages.open(list("alice", "dev/shop"), &token, tomorrow).is_err());
        assert!(
            PageTokens::new(&[8; 32])
                .open(list("alice", "dev/shop"), &token, NOW)
                .is_err()
        );
    }

    #[test]
    fn no_flipped_bit_of_a_token_is_accepted() {
        let pages = PageTokens::new(&[7; 32]);
        let token = BASE64URL_NOPAD
            .decode(pages.seal(list("a", "b"), "envs/dev", NOW).as_bytes())
            .unwrap();
        for bit in 0..token.len() * 8 {
            let mut flipped = token.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let flipped = BASE64URL_NOPAD.encode(&flipped);
            assert!(pages.open(list("a", "b"), &flipped, NOW).is_err(), "bit {bit}");
        }
        for text in ["", "AA", "!!", &"A".repeat(1_000)] {
            assert!(pages.open(list("a", "b"), text, NOW).is_err(), "{text}");
        }
    }

    #[test]
    fn page_sizes_are_capped() {
        let size = |size| ListRequest::new(size, String::new()).map(|request| request.size);
        assert_eq!(size(0).unwrap(), 100);
        assert_eq!(size(7).unwrap(), 7);
        assert_eq!(size(5_000).unwrap(), 1_000);
        assert!(size(-1).is_err());
    }
}
