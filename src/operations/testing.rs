//! Gate, operations and keys over a real store and a token in software, for unit tests. The test plays the audit log's writer.

use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;

use super::{BoundContext, Decrypt, Encrypt, Message, Opening, Operations, Settings, Uses};
use crate::{
    Error, Result,
    audit::{CommitError, Draft, Entry, Log, Verdict},
    clock::Clock,
    identity::{Caller, RequestFacts},
    keys::{CreateEnvironment, CreateKey, CreateTeam, Keys, Labels, Owner, RequestId, RotateKey},
    model::{EnvironmentName, Key, KeyName, Purpose, Residency, Suite},
    policy::{Action, Context, Gate, Permit, Policies, Recorded, Resource, System, action},
    store::{
        Committer, Directory,
        testing::{Place, commit},
    },
    token::{Members, Root, Token, Tokens, host::SubkeyLabel, software_host::SoftwareHost},
};

pub(crate) const APP: &str = "spiffe://acme.dev/app";

/// Of the audit log that it plays.
pub(crate) const LOG_EPOCH: u64 = 1;

const IDENTITIES: &str = r#"
roles = []
[[identity]]
id = "spiffe://acme.dev/app"
environments = ["dev", "prod", "unbound"]
"#;

const ALL: &str = r#"@id("all") permit (principal, action, resource);"#;

/// A whole service without wire, log file and real token.
pub(crate) struct Site {
    pub(crate) gate: Gate,
    pub(crate) operations: Arc<Operations>,
    pub(crate) keys: Keys,
    pub(crate) host: Arc<SoftwareHost>,
    pub(crate) place: Place,
    pub(crate) directory: Directory,
    pub(crate) committer: Arc<tokio::sync::Mutex<Committer>>,
    records: Arc<Mutex<Vec<Draft>>>,
    /// Of the keys that it makes.
    suite: Suite,
    residency: Residency,
}

impl Site {
    /// With `dev/shop/orders`, made through the service.
    pub(crate) async fn new() -> Self {
        Self::of(Suite::PrfCommit).await
    }

    /// The same, with keys of `suite`.
    pub(crate) async fn of(suite: Suite) -> Self {
        Self::with(suite, Residency::Wrapped).await
    }

    pub(crate) async fn with(suite: Suite, residency: Residency) -> Self {
        let mut site = Self::empty().await;
        (site.suite, site.residency) = (suite, residency);
        site.create_team("dev", "shop", false).await;
        site.create_key("dev/shop/orders").await.unwrap();
        site
    }

    pub(crate) async fn empty() -> Self {
        let place = Place::new();
        let (directory, committer) = place.open().await.unwrap();
        let committer = Arc::new(tokio::sync::Mutex::new(committer));
        let records = Arc::new(Mutex::new(Vec::new()));
        let (sender, queue) = mpsc::channel(256);
        tokio::spawn(write(queue, committer.clone(), records.clone()));

        let policies = Policies::from_texts(&[("identities.toml", IDENTITIES), ("apps.cedar", ALL)]).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(place.clock.clone());
        let gate = Gate::new(Log::new(sender), directory.clone(), policies, clock.clone());
        let host = SoftwareHost::new();
        let members = Arc::new(Members::alone(host.clone()));
        let root = Root::new(members.clone());
        let token = Arc::new(Token::new("main", members, clock.clone(), directory.clone()));
        let bound = ["dev", "prod"].map(|id| format!("envs/{id}").parse::<EnvironmentName>().unwrap());
        let tokens = Arc::new(Tokens::new([(token, bound.to_vec())]));
        let hedge = root.subkey(SubkeyLabel::Hedge).await.unwrap();
        let uses = Uses::new(gate.clone(), directory.clone(), LOG_EPOCH);
        let page = root.subkey(SubkeyLabel::Page).await.unwrap();
        Self {
            gate,
            operations: Arc::new(Operations::new(tokens.clone(), &hedge, uses, Settings::default())),
            keys: Keys::new(tokens, directory.clone(), clock, &page, LOG_EPOCH),
            host,
            place,
            directory,
            committer,
            records,
            suite: Suite::PrfCommit,
            residency: Residency::Wrapped,
        }
    }

    pub(crate) async fn permit<A: Action>(&self, name: &<A::On as Resource>::Name) -> Result<Permit<A>> {
        self.gate.permit::<A>(&app(), name, Context::none()).await
    }

    pub(crate) async fn create_environment(&self, id: &str, production: bool) -> Result<()> {
        let permit = self.permit::<action::CreateEnvironment>(&System).await?;
        let request = CreateEnvironment {
            name: format!("envs/{id}").parse().unwrap(),
            production,
            request_id: RequestId::default(),
        };
        self.keys.create_environment(permit, request).await.map(drop)
    }

    pub(crate) async fn create_team(&self, environment: &str, team: &str, production: bool) {
        self.create_environment(environment, production).await.unwrap();
        let environment: EnvironmentName = environment.parse().unwrap();
        let permit = self.permit::<action::CreateTeam>(&environment).await.unwrap();
        let request = CreateTeam {
            name: environment.team(team).unwrap(),
            request_id: RequestId::default(),
        };
        self.keys.create_team(permit, request).await.unwrap();
    }

    pub(crate) async fn create_key(&self, name: &str) -> Result<Recorded<Arc<Key>>> {
        self.create_key_once(name, "").await
    }

    pub(crate) async fn create_key_once(&self, name: &str, request_id: &str) -> Result<Recorded<Arc<Key>>> {
        self.create_key_of(name, self.suite, request_id).await
    }

    pub(crate) async fn create_key_of(&self, name: &str, suite: Suite, request_id: &str) -> Result<Recorded<Arc<Key>>> {
        let name: KeyName = name.parse().unwrap();
        let permit = self.permit::<action::CreateKey>(&name.team()).await?;
        let request = CreateKey {
            name,
            purpose: Purpose::EncryptDecrypt,
            residency: self.residency,
            suite,
            owner: Owner::new(String::new()).unwrap(),
            labels: Labels::default(),
            request_id: RequestId::new(request_id).unwrap(),
        };
        self.keys.create_key(permit, request).await
    }

    pub(crate) async fn rotate_key(&self, name: &str) {
        let key: KeyName = name.parse().unwrap();
        let permit = self.permit::<action::RotateKey>(&key).await.unwrap();
        let request = RotateKey {
            key,
            request_id: RequestId::default(),
        };
        self.keys.rotate_key(permit, request).await.unwrap();
    }

    pub(crate) async fn key(&self, name: &str) -> Arc<Key> {
        let found = self.directory.key(&name.parse().unwrap()).await.unwrap();
        found.unwrap()
    }

    pub(crate) async fn encrypt(&self, key: &str, plaintext: &[u8], context: &[(&str, &str)]) -> Result<Vec<u8>> {
        let permit = self.permit::<action::Encrypt>(&key.parse().unwrap()).await?;
        self.encrypt_with(permit, key, plaintext, context).await
    }

    /// Under a permit that was given before.
    pub(crate) async fn encrypt_under(
        &self,
        permit: Permit<action::Encrypt>,
        key: &str,
        plaintext: &[u8],
    ) -> Result<Vec<u8>> {
        self.encrypt_with(permit, key, plaintext, &[]).await
    }

    async fn encrypt_with(
        &self,
        permit: Permit<action::Encrypt>,
        key: &str,
        plaintext: &[u8],
        context: &[(&str, &str)],
    ) -> Result<Vec<u8>> {
        let request = Encrypt {
            key: key.parse().unwrap(),
            message: Message::new(plaintext.to_vec().into(), bound(context), None)?,
        };
        let sealed = self.operations.encrypt(permit, request).await?;
        Ok(sealed.as_ref().ciphertext.clone())
    }

    pub(crate) async fn decrypt(&self, key: &str, ciphertext: &[u8], context: &[(&str, &str)]) -> Result<Vec<u8>> {
        let permit = self.permit::<action::Decrypt>(&key.parse().unwrap()).await?;
        self.decrypt_with(permit, key, ciphertext, context).await
    }

    /// Under a permit that was given before.
    pub(crate) async fn decrypt_under(
        &self,
        permit: Permit<action::Decrypt>,
        key: &str,
        ciphertext: &[u8],
    ) -> Result<Vec<u8>> {
        self.decrypt_with(permit, key, ciphertext, &[]).await
    }

    async fn decrypt_with(
        &self,
        permit: Permit<action::Decrypt>,
        key: &str,
        ciphertext: &[u8],
        context: &[(&str, &str)],
    ) -> Result<Vec<u8>> {
        let request = Decrypt {
            key: key.parse().unwrap(),
            opening: opening(ciphertext, context),
        };
        let opened = self.operations.decrypt(permit, request).await?;
        Ok(opened.as_ref().plaintext.as_bytes().to_vec())
    }

    /// The newest record.
    pub(crate) fn last_record(&self) -> Draft {
        self.records.lock().unwrap().last().unwrap().clone()
    }

    pub(crate) fn records_after(&self, count: usize) -> Vec<Draft> {
        self.records.lock().unwrap()[count..].to_vec()
    }

    pub(crate) fn record_count(&self) -> usize {
        self.records.lock().unwrap().len()
    }
}

pub(crate) fn app() -> Caller {
    Caller::for_test(APP, RequestFacts::for_test(30))
}

pub(crate) fn bound(context: &[(&str, &str)]) -> BoundContext {
    BoundContext::new(context.iter().copied(), b"").unwrap()
}

pub(crate) fn opening(ciphertext: &[u8], context: &[(&str, &str)]) -> Opening {
    Opening::new(ciphertext.to_vec().into(), bound(context), None).unwrap()
}

/// The stable name of the error that a call must end in.
pub(crate) fn reason<T>(result: Result<T>) -> &'static str {
    match result {
        Ok(_) => panic!("the call should fail"),
        Err(error) => Error::reason(&error),
    }
}

/// What the audit writer does: applies the change, keeps the drafts, answers.
async fn write(
    mut queue: mpsc::Receiver<Entry>,
    committer: Arc<tokio::sync::Mutex<Committer>>,
    records: Arc<Mutex<Vec<Draft>>>,
) {
    while let Some(mut entry) = queue.recv().await {
        let committed = match entry.change.take() {
            Some(change) => commit(&mut *committer.lock().await, change).await.map(drop),
            None => Ok(()),
        };
        if committed.is_err() {
            entry.drafts[0].verdict = Verdict::Refused;
        }
        records.lock().unwrap().append(&mut entry.drafts);
        if let Some(done) = entry.done {
            let _ = done.send(committed.map_err(CommitError::Refused));
        }
    }
}
