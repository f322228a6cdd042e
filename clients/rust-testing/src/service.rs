//! [`Service`]: the double as a whole, from its start to its end.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use keyreeve::{
    clock::Clock,
    config::ConfigError,
    model::{EnvironmentName, InvalidName, TeamName},
    policy::InvalidPolicies,
    server::{InsecureDouble, Server, ServerError, destroy_due},
    token::TokenError,
};
use keyreeve_client::{Client, ClientConfig, ClientError};

use crate::{
    Caller, Faults, NotHere, Record,
    background::Background,
    caller::InvalidCaller,
    certificates::Authority,
    clock::MovedClock,
    first_teams,
    front::{Front, Watch},
    guard,
    host::MemoryHost,
    marks,
    place::{Place, PlaceError},
};

/// Who calls unless a test says otherwise.
const ADMIN: &str = "admin";

/// Why a double does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    NotHere(#[from] NotHere),
    #[error("an environment or team of the test double")]
    Name(#[from] InvalidName),
    #[error(transparent)]
    Caller(#[from] InvalidCaller),
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error("the test double's own configuration cannot be used")]
    Config(#[from] ConfigError),
    #[error("the test double cannot draw its root keys")]
    Token(#[from] TokenError),
    #[error("the test double cannot start its threads")]
    Runtime(#[source] std::io::Error),
    #[error("the test double cannot serve")]
    Server(#[from] ServerError),
    #[error("the test double cannot make its environments and teams")]
    Made(#[from] keyreeve::Error),
    #[error("the rights of a caller cannot be used")]
    Policies(#[from] InvalidPolicies),
}

/// What a double is to be like.
#[derive(Debug, Clone)]
pub struct Builder {
    teams: Vec<String>,
    environments: Vec<String>,
    address: SocketAddr,
}

/// An in-memory Keyreeve on a free port of 127.0.0.1, until it is dropped. It runs in threads of its own.
///
/// Callers at the start are those of `keyreeve dev`: `admin`, who may do everything, and `app`, who may seal with the keys of the teams
/// but neither open nor manage.
pub struct Service {
    background: Background,
    running: Arc<tokio::sync::Mutex<Option<Server>>>,
    place: Place,
    authority: Authority,
    host: Arc<MemoryHost>,
    clock: Arc<MovedClock>,
    watch: Watch,
    /// Ids of the environments that there may be.
    bound: Vec<String>,
    callers: Mutex<BTreeMap<String, Caller>>,
    address: Mutex<SocketAddr>,
}

/// What a client in any language needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    pub address: SocketAddr,
    /// PEM files.
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Builder {
    /// These exist from the start, with their environments; keys do not. `dev/shop`, unless given.
    #[must_use]
    pub fn teams<T: Into<String>>(mut self, teams: impl IntoIterator<Item = T>) -> Self {
        self.teams = teams.into_iter().map(Into::into).collect();
        self
    }

    /// Further environments that may be created: `["staging"]`.
    #[must_use]
    pub fn environments<T: Into<String>>(mut self, environments: impl IntoIterator<Item = T>) -> Self {
        self.environments = environments.into_iter().map(Into::into).collect();
        self
    }

    /// Loopback only; port 0: a free one.
    #[must_use]
    pub fn address(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// Errors: `NotHere` in production, or for an address that is not loopback.
    pub async fn start(self) -> Result<Service, StartError> {
        guard::refuse_production(variable)?;
        let address = guard::loopback(self.address)?;
        let teams: Vec<TeamName> = self.teams.iter().map(|team| team.parse()).collect::<Result<_, _>>()?;
        let mut bound = Vec::new();
        let made = teams.iter().map(TeamName::environment);
        let further = self
            .environments
            .iter()
            .map(|environment| environment.parse::<EnvironmentName>());
        for environment in made.map(Ok).chain(further) {
            let id = environment?.id().to_owned();
            if !bound.contains(&id) {
                bound.push(id);
            }
        }
        let authority = Authority::new().map_err(PlaceError::from)?;
        let clock = Arc::new(MovedClock::default());
        let host = Arc::new(MemoryHost::new(clock.clone())?);
        let service = Service {
            background: Background::start().map_err(StartError::Runtime)?,
            running: Arc::default(),
            place: Place::new(&authority)?,
            authority,
            watch: Watch {
                faults: Faults::new(host.clone()),
                records: Arc::default(),
            },
            host,
            clock,
            bound,
            callers: Mutex::default(),
            address: Mutex::new(address),
        };
        let all = ["admin", "encrypter", "decrypter"];
        service
            .add_caller(Caller::new(ADMIN).roles(all).teams(&self.teams))
            .await?;
        service
            .add_caller(Caller::new("app").roles(["encrypter"]).teams(&self.teams))
            .await?;
        service.start_again().await?;
        let running = service.running.clone();
        let make = async move {
            match running.lock().await.as_ref() {
                Some(server) => first_teams::make(server.node(), &teams).await,
                None => Ok(()),
            }
        };
        service.background.run(make).await?;
        Ok(service)
    }
}

impl Service {
    /// With team `dev/shop`, on a free port of 127.0.0.1.
    pub async fn start() -> Result<Self, StartError> {
        Self::builder().start().await
    }

    pub fn builder() -> Builder {
        Builder {
            teams: vec!["dev/shop".to_owned()],
            environments: Vec::new(),
            address: (Ipv4Addr::LOCALHOST, 0).into(),
        }
    }

    /// The port stays the same when it is stopped and started.
    pub fn address(&self) -> SocketAddr {
        *lock(&self.address)
    }

    /// A client of `admin`, who may do everything, connected.
    pub async fn client(&self) -> Result<Client, ClientError> {
        self.client_of(ADMIN).await
    }

    /// A client of another caller, connected.
    ///
    /// # Panics
    ///
    /// If there is no such caller: see [`Service::add_caller`].
    pub async fn client_of(&self, caller: &str) -> Result<Client, ClientError> {
        Client::connect(self.settings(caller).config()).await
    }

    /// For clients that are made otherwise.
    ///
    /// # Panics
    ///
    /// If there is no such caller: see [`Service::add_caller`].
    pub fn settings(&self, caller: &str) -> Settings {
        assert!(
            lock(&self.callers).contains_key(caller),
            "`{caller}` is no caller of this double: see `add_caller`"
        );
        Settings {
            address: self.address(),
            ca: self.place.ca(),
            certificate: self.place.certificate(caller),
            key: self.place.key(caller),
        }
    }

    /// Another caller; one who is there already gets new rights. Errors: his name, a role or a team is none; nothing is changed.
    pub async fn add_caller(&self, caller: Caller) -> Result<(), StartError> {
        caller.check()?;
        let name = caller.name().to_owned();
        let is_new = !lock(&self.callers).contains_key(&name);
        if is_new {
            let issued = self.authority.client(&caller.spiffe_id()).map_err(PlaceError::from)?;
            issued
                .write(&self.place.certificate(&name), &self.place.key(&name))
                .map_err(PlaceError::from)?;
        }
        let running = self.running.lock().await;
        let mut callers = lock(&self.callers);
        let mut changed = callers.clone();
        changed.insert(name, caller);
        self.place
            .write_identities(changed.values(), &self.bound)
            .map_err(PlaceError::from)?;
        let taken_up = match running.as_ref() {
            Some(server) => server.node().policies.reload().map(drop),
            None => Ok(()),
        };
        match taken_up {
            Ok(()) => *callers = changed,
            Err(_) => self
                .place
                .write_identities(callers.values(), &self.bound)
                .map_err(PlaceError::from)?,
        }
        Ok(taken_up?)
    }

    /// Faults on order.
    pub fn faults(&self) -> Faults {
        self.watch.faults.clone()
    }

    /// What was called so far, and what became of it.
    pub fn calls(&self) -> Vec<Record> {
        self.watch.records.list()
    }

    /// Moves the service's clock forward, at most to the end of its certificates in 2099. What was due meanwhile is done when this
    /// returns: scheduled destruction.
    pub async fn advance(&self, by: Duration) {
        self.clock.advance(by);
        let running = self.running.clone();
        let destroy = async move {
            if let Some(server) = running.lock().await.as_ref() {
                destroy_due(&server.node().keys, &server.node().gate).await;
            }
        };
        self.background.run(destroy).await;
    }

    /// The service is gone, as after SIGTERM: calls under way end, streams end with DRAINING.
    pub async fn stop(&self) {
        let running = self.running.clone();
        let stop = async move {
            if let Some(server) = running.lock().await.take() {
                server.stop().await;
            }
        };
        self.background.run(stop).await;
    }

    /// Serves again, at the address it had before. Keys and all else are as they were.
    pub async fn start_again(&self) -> Result<(), StartError> {
        guard::refuse_production(variable)?;
        let config = self.place.config(self.address(), &self.bound)?;
        let double = InsecureDouble {
            host: self.host.clone(),
            key_ids: marks::new_key_id,
        };
        let (running, watch) = (self.running.clone(), self.watch.clone());
        let clock: Arc<dyn Clock> = self.clock.clone();
        let start = async move {
            let mut running = running.lock().await;
            if let Some(server) = running.as_ref() {
                return Ok(server.address());
            }
            let front = |services| Front::new(services, watch);
            let server = Server::start_insecure_double(&config, clock, &double, front).await?;
            let address = server.address();
            *running = Some(server);
            Ok::<_, ServerError>(address)
        };
        *lock(&self.address) = self.background.run(start).await?;
        guard::warn_once();
        Ok(())
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "keyreeve_testing::Service at {}", self.address())
    }
}

impl Drop for Service {
    /// At once: nothing is drained, for the test may have no thread left that would let go.
    fn drop(&mut self) {
        self.background.end(self.running.clone());
    }
}

impl Settings {
    pub fn config(&self) -> ClientConfig {
        let address = format!("https://{}", self.address);
        ClientConfig::new(address, &self.ca, &self.certificate, &self.key)
    }

    /// Environment variables that make any client, and the command line, find the double.
    pub fn environ(&self) -> [(&'static str, String); 4] {
        let path = |path: &PathBuf| path.display().to_string();
        [
            ("KEYREEVE_ADDR", format!("https://{}", self.address)),
            ("KEYREEVE_CA", path(&self.ca)),
            ("KEYREEVE_CERT", path(&self.certificate)),
            ("KEYREEVE_KEY", path(&self.key)),
        ]
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
