//! Opens the token groups of the configuration, and opens again what was lost.
//!
//! With one token in all, its loss ends the process, for its supervisor to start it again. With several, each runs in worker processes:
//! what is lost is tried again in the background while the others serve, and the environments of a group without any wait for it.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};

use super::ServerError;
use crate::{
    config::{Config, GroupConfig, LogFormat},
    model::EnvironmentName,
    store::Directory,
    token::{
        BreakerState, Buried, Host, Isolation, Members, OpenError, ProcessHost, Program, ThreadHost, TokenConfig,
        ceremony::admit_manifest,
    },
};

/// Turns to the reason once the token cannot be served any more by this process.
pub type Fault = watch::Receiver<Option<Arc<str>>>;

/// How long the hosts may take to end before the process leaves them behind.
const STOP_WITHIN: Duration = Duration::from_secs(10);
const MEASURE_EVERY: Duration = Duration::from_secs(1);
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LAST_DELAY: Duration = Duration::from_secs(30);

/// The groups, open.
pub struct Groups {
    /// In the order of the configuration.
    pub list: Vec<Group>,
    lone_fault: Option<Fault>,
    stop: Arc<Stop>,
    watching: JoinSet<()>,
}

pub struct Group {
    pub name: String,
    pub environments: Vec<EnvironmentName>,
    pub members: Arc<Members>,
}

#[derive(Default)]
struct Stop {
    told: AtomicBool,
    bell: Notify,
}

/// What opening one token needs.
struct Opener {
    config: Config,
    program: Program,
    buried: Buried,
    admitting: Mutex<()>,
}

/// A host, and how it tells that it is lost.
type Opened = (Arc<dyn Host>, Fault);

impl Groups {
    /// Opens every token. `store`: set once it is open, which it cannot be before a token gives its key; until then nothing is
    /// unwrapped.
    ///
    /// Errors: if no token of the home group can be opened, or the only token there is; leaves nothing running.
    pub async fn open(config: &Config, store: &Arc<OnceLock<Directory>>) -> Result<Self, ServerError> {
        let store = store.clone();
        let opener = Arc::new(Opener {
            config: config.clone(),
            program: worker_program(config).map_err(ServerError::Runtime)?,
            buried: Arc::new(move |key, version| store.get().is_some_and(|store| store.is_destroyed(key, version))),
            admitting: Mutex::new(()),
        });
        let mut groups = Self {
            list: Vec::with_capacity(config.groups.len()),
            lone_fault: None,
            stop: Arc::default(),
            watching: JoinSet::new(),
        };
        for group in &config.groups {
            let group = Group {
                name: group.name.clone(),
                environments: environments(group)?,
                members: Arc::new(Members::new(group.tokens.iter().map(TokenConfig::chosen_by))),
            };
            groups.list.push(group);
        }
        let several = config.groups.iter().map(|group| group.tokens.len()).sum::<usize>() > 1;
        let mut first_attempts = JoinSet::new();
        for (group, tokens) in config.groups.iter().enumerate() {
            for (member, token) in tokens.tokens.iter().enumerate() {
                let (opener, token) = (opener.clone(), token.clone());
                first_attempts.spawn(async move { (group, member, opener.open(token).await) });
            }
        }
        let mut home_problem = None;
        while let Some(attempt) = first_attempts.join_next().await {
            let (group, member, outcome) =
                attempt.map_err(|panicked| ServerError::Runtime(std::io::Error::other(panicked)))?;
            let at = &groups.list[group].members.list()[member];
            let fault = match outcome {
                Ok((host, fault)) => {
                    at.open(host);
                    Some(fault)
                }
                Err(error) => {
                    at.lacks(&error.to_string());
                    tracing::error!(group = groups.list[group].name, %error, "a token cannot be opened");
                    if groups.list[group].name == config.home().name {
                        home_problem = Some(error);
                    }
                    None
                }
            };
            match several {
                true => {
                    let token = config.groups[group].tokens[member].clone();
                    let watched = Watched {
                        members: groups.list[group].members.clone(),
                        member,
                        token,
                        opener: opener.clone(),
                        stop: groups.stop.clone(),
                    };
                    groups.watching.spawn(watched.keep(fault));
                }
                false => groups.lone_fault = fault,
            }
        }
        match home_problem {
            Some(error) if !groups.home(config).serves() => {
                groups.close().await;
                Err(error.into())
            }
            _ => Ok(groups),
        }
    }

    /// One token that is open already, as the home group.
    pub fn alone(config: &Config, host: Arc<dyn Host>) -> Result<Self, ServerError> {
        let home = config.home();
        let group = Group {
            name: home.name.clone(),
            environments: environments(home)?,
            members: Arc::new(Members::alone(host)),
        };
        Ok(Self {
            list: vec![group],
            lone_fault: None,
            stop: Arc::default(),
            watching: JoinSet::new(),
        })
    }

    /// The tokens whose keys protect the store and the log.
    pub fn home(&self, config: &Config) -> Arc<Members> {
        let home = self.list.iter().find(|group| group.name == config.home().name);
        home.expect("every group of the configuration is here").members.clone()
    }

    /// Shows the state of each token's breaker, for ever.
    pub fn measure(&self) -> impl Future<Output = ()> + Send + use<> {
        let groups: Vec<_> = self
            .list
            .iter()
            .map(|group| (group.name.clone(), group.members.clone()))
            .collect();
        metrics::describe_gauge!("keyreeve_tokens", "1 for the state in which the breaker of a token is");
        async move {
            let mut interval = tokio::time::interval(MEASURE_EVERY);
            loop {
                interval.tick().await;
                for (group, members) in &groups {
                    for (number, token) in (1..).zip(members.status()) {
                        let place = format!("{group}/{number}");
                        for state in BreakerState::ALL {
                            let is_it = f64::from(u8::from(token.breaker == state));
                            metrics::gauge!("keyreeve_tokens", "breaker" => state.name(), "token" => place.clone())
                                .set(is_it);
                        }
                    }
                }
            }
        }
    }

    /// Where the loss of the only token ends the process: tells of it.
    pub fn lone_fault(&self) -> Option<Fault> {
        self.lone_fault.clone()
    }

    /// Stops every host.
    pub async fn close(mut self) {
        self.stop_all();
        let members: Vec<_> = self.list.iter().map(|group| group.members.clone()).collect();
        let stopped = tokio::task::spawn_blocking(move || members.iter().for_each(|members| members.stop()));
        if tokio::time::timeout(STOP_WITHIN, stopped).await.is_err() {
            tracing::error!("the token's threads do not end: leaving them behind");
        }
        let watching = async { while self.watching.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(STOP_WITHIN, watching).await;
    }

    fn stop_all(&self) {
        self.stop.told.store(true, Ordering::SeqCst);
        self.stop.bell.notify_waiters();
    }
}

impl Drop for Groups {
    /// Also when a start fails halfway: the module crashes a process that ends under its threads. Stopping twice does nothing.
    fn drop(&mut self) {
        self.stop_all();
        for group in &self.list {
            group.members.stop();
        }
    }
}

impl Opener {
    async fn open(self: Arc<Self>, token: TokenConfig) -> Result<Opened, OpenError> {
        let runtime = tokio::runtime::Handle::current();
        let opening = tokio::task::spawn_blocking(move || self.open_blocking(token, &runtime));
        opening
            .await
            .unwrap_or_else(|panicked| Err(OpenError::Thread(std::io::Error::other(panicked))))
    }

    fn open_blocking(&self, token: TokenConfig, runtime: &tokio::runtime::Handle) -> Result<Opened, OpenError> {
        let data = &self.config.store.data_dir;
        {
            // The tokens of a group share the file in which the newest manifest is remembered.
            let _turn = self.admitting.lock().unwrap_or_else(PoisonError::into_inner);
            admit_manifest(&token, &self.config.tombstone_file())?;
        }
        match token.isolation {
            Isolation::Thread => {
                let host = ThreadHost::start(token, data, self.buried.clone())?;
                let fault = host.fault();
                Ok((Arc::new(host), fault))
            }
            Isolation::Process => {
                let tombstones = self.config.tombstone_file();
                let host = ProcessHost::start(self.program.clone(), token, data, &tombstones, runtime)?;
                let fault = host.fault();
                Ok((Arc::new(host), fault))
            }
        }
    }
}

/// One of several tokens.
struct Watched {
    members: Arc<Members>,
    member: usize,
    token: TokenConfig,
    opener: Arc<Opener>,
    stop: Arc<Stop>,
}

impl Watched {
    /// Opens the token again each time it is lost, until the service stops. A refused PIN is not tried again: its latch forbids it.
    async fn keep(self, mut fault: Option<Fault>) {
        let stop = self.stop.clone();
        let mut stopped = std::pin::pin!(stop.bell.notified());
        stopped.as_mut().enable();
        let mut delay = FIRST_DELAY;
        while !self.stop.told.load(Ordering::SeqCst) {
            if let Some(lost) = &mut fault {
                let why = tokio::select! {
                    () = &mut stopped => return,
                    why = lost.wait_for(Option::is_some) => why.ok().and_then(|why| why.clone()).unwrap_or_default(),
                };
                if let Some(host) = self.at().close(&why) {
                    let _ = tokio::task::spawn_blocking(move || host.stop()).await;
                }
                fault = None;
                delay = FIRST_DELAY;
            }
            tokio::select! {
                () = &mut stopped => return,
                () = tokio::time::sleep(jittered(delay)) => {}
            }
            match self.opener.clone().open(self.token.clone()).await {
                Ok((host, new)) => {
                    tracing::info!(serial = &*host.status().serial, "the token serves again");
                    self.at().open(host.clone());
                    if self.stop.told.load(Ordering::SeqCst) {
                        let _ = tokio::task::spawn_blocking(move || host.stop()).await;
                        return;
                    }
                    fault = Some(new);
                }
                Err(error) => {
                    self.at().lacks(&error.to_string());
                    delay = (delay * 2).min(LAST_DELAY);
                }
            }
        }
    }

    fn at(&self) -> &crate::token::Seat {
        &self.members.list()[self.member]
    }
}

/// Between half of `delay` and all of it, so that nodes that lost one token do not come back as one.
fn jittered(delay: Duration) -> Duration {
    let mut random = [0; 2];
    // Without randomness the whole delay is as good.
    let part = aws_lc_rs::rand::fill(&mut random).map_or(1.0, |()| f64::from(u16::from_be_bytes(random)) / 65_536.0);
    delay.mul_f64(0.5 + part / 2.0)
}

fn environments(group: &GroupConfig) -> Result<Vec<EnvironmentName>, ServerError> {
    let parse = |name: &String| {
        name.parse().map_err(|source| ServerError::Environment {
            name: name.clone(),
            source,
        })
    };
    group.environments().iter().map(parse).collect()
}

/// This program, as a worker that logs as the server does.
fn worker_program(config: &Config) -> std::io::Result<Program> {
    let format = match config.log.format {
        LogFormat::Json => "json",
        LogFormat::Text => "text",
    };
    Ok(Program {
        path: std::env::current_exe()?,
        arguments: ["token-worker", "--log-level", &config.log.level, "--log-format", format]
            .map(Into::into)
            .to_vec(),
    })
}
