//! The tokens of one group, which all hold the same root keys: which of them gets a call, and who takes over when it fails.
//!
//! Load goes to the member with the least under way. What a member could not do because *it* failed is done by another one within
//! the caller's deadline; every typed call may be made twice. What the caller, the key or the queue is the reason of is the answer.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use arc_swap::ArcSwapOption;
use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::{Answer, Call, Host, Job, KeyUses, Lane, TokenError, host::HostStatus, thread_host::lock};

/// The tokens of one group. At least one.
pub struct Members(Box<[Seat]>);

/// One token: its host while there is one, else the reason.
pub struct Seat {
    host: ArcSwapOption<Opened>,
    /// While there is no host: what the configuration calls the token, and what is wrong.
    absent: Mutex<(Arc<str>, Arc<str>)>,
    under_way: AtomicUsize,
}

struct Opened {
    host: Arc<dyn Host>,
    /// Read once: it does not change.
    serial: Arc<str>,
}

/// An answer, and which run of which token gave it.
pub struct Worked {
    pub answer: Answer,
    pub serial: Arc<str>,
    pub worker_epoch: u64,
}

impl Members {
    /// `names`: how the configuration chooses each. None is open yet.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().map(|name| Seat::absent(name.into())).collect())
    }

    /// One token, open.
    pub fn alone(host: Arc<dyn Host>) -> Self {
        let members = Self::new([String::new()]);
        members.0[0].open(host);
        members
    }

    pub fn list(&self) -> &[Seat] {
        &self.0
    }

    pub fn serves(&self) -> bool {
        self.0.iter().any(Seat::serves)
    }

    pub fn status(&self) -> Vec<HostStatus> {
        self.0.iter().map(Seat::status).collect()
    }

    /// Works `call` on one of the tokens. Errors: of the last token that was tried; `Unavailable` if there is none to try.
    pub async fn run(&self, call: Call, lane: Lane, deadline: Instant) -> Result<Worked, TokenError> {
        if let [alone] = &*self.0 {
            return alone.run(call, lane, deadline).await;
        }
        self.run_where(|_| true, call, lane, deadline).await
    }

    /// The same on a token with another serial number than `not`: a second opinion. `None`: the group has one token only.
    pub async fn run_elsewhere(
        &self,
        not: &str,
        call: Call,
        lane: Lane,
        deadline: Instant,
    ) -> Option<Result<Worked, TokenError>> {
        if self.0.len() == 1 {
            return None;
        }
        Some(self.run_where(|serial| serial != not, call, lane, deadline).await)
    }

    /// Works `call` on every token that is open: what each must know, or is asked about. Each with its serial number.
    pub async fn run_on_all(
        &self,
        call: &Call,
        lane: &Lane,
        deadline: Instant,
    ) -> Vec<(Arc<str>, Result<Answer, TokenError>)> {
        let open = self.0.iter().filter(|seat| seat.host.load().is_some());
        let asked = open.map(async |seat| {
            let outcome = seat.run(call.clone(), lane.clone(), deadline).await;
            (seat.name(), outcome.map(|worked| worked.answer))
        });
        join_all(asked).await
    }

    /// Of each token that is open: see [`Host::take_uses`].
    pub fn take_uses(&self) -> Vec<(Arc<str>, KeyUses)> {
        let open = self.0.iter().filter_map(|seat| seat.host.load_full());
        open.map(|opened| (Arc::clone(&opened.serial), opened.host.take_uses()))
            .collect()
    }

    /// The tokens that are not open, each with the reason.
    pub fn absent(&self) -> Vec<(Arc<str>, TokenError)> {
        let absent = self.0.iter().filter(|seat| seat.host.load().is_none());
        absent.map(|seat| (seat.name(), seat.unavailable())).collect()
    }

    /// Latches every token (E13): of several answers to one question one is wrong, and nobody can say whose.
    pub fn distrust(&self, why: &str) -> TokenError {
        let hosts = self.0.iter().filter_map(|member| member.host.load_full());
        hosts
            .map(|opened| opened.host.distrust(why))
            .last()
            .unwrap_or_else(|| TokenError::WrongAnswer(why.into()))
    }

    /// Stops every host: see [`Host::stop`].
    pub fn stop(&self) {
        std::thread::scope(|scope| {
            for opened in self.0.iter().filter_map(|member| member.host.load_full()) {
                scope.spawn(move || opened.host.stop());
            }
        });
    }

    async fn run_where(
        &self,
        may: impl Fn(&str) -> bool,
        call: Call,
        lane: Lane,
        deadline: Instant,
    ) -> Result<Worked, TokenError> {
        let mut tried = vec![false; self.0.len()];
        let mut failed = None;
        while let Some(index) = self.choose(&tried, &may) {
            tried[index] = true;
            match self.0[index].run(call.clone(), lane.clone(), deadline).await {
                Err(error @ (TokenError::Unavailable(_) | TokenError::WrongAnswer(_))) if Instant::now() < deadline => {
                    tracing::debug!(%error, "the call goes to another token of the group");
                    failed = Some(error);
                }
                outcome => return outcome,
            }
        }
        Err(failed.unwrap_or_else(|| self.none_serves()))
    }

    /// The one to try next: of those that serve the one with the least under way; else one that may come back in time.
    fn choose(&self, tried: &[bool], may: &impl Fn(&str) -> bool) -> Option<usize> {
        let candidates = self.0.iter().enumerate().filter(|(index, _)| !tried[*index]);
        candidates
            .filter_map(|(index, member)| {
                let opened = member.host.load();
                let opened = opened.as_ref().filter(|opened| may(&opened.serial))?;
                Some((!opened.host.serves(), member.under_way.load(Ordering::Relaxed), index))
            })
            .min()
            .map(|(_, _, index)| index)
    }

    fn none_serves(&self) -> TokenError {
        let reasons: Vec<_> = self.0.iter().filter_map(|member| member.status().fault).collect();
        match reasons.is_empty() {
            true => {
                TokenError::Unavailable("a second token is needed for this, and the group's others are not open".into())
            }
            false => TokenError::Unavailable(reasons.join("; ").into()),
        }
    }
}

impl Seat {
    fn absent(name: Arc<str>) -> Self {
        Self {
            host: ArcSwapOption::empty(),
            absent: Mutex::new((name, "it is not open yet".into())),
            under_way: AtomicUsize::new(0),
        }
    }

    /// From now on this host gets its share of the calls.
    pub fn open(&self, host: Arc<dyn Host>) {
        let serial = host.status().serial;
        lock(&self.absent).0 = Arc::clone(&serial);
        self.host.store(Some(Arc::new(Opened { host, serial })));
    }

    /// Takes the host out; calls that are with it get its answers.
    pub fn close(&self, why: &str) -> Option<Arc<dyn Host>> {
        self.lacks(why);
        self.host.swap(None).map(|opened| Arc::clone(&opened.host))
    }

    /// Why there is no host.
    pub fn lacks(&self, why: &str) {
        lock(&self.absent).1 = why.into();
    }

    /// The serial number once it is known; before, how the configuration chooses it.
    fn name(&self) -> Arc<str> {
        Arc::clone(&lock(&self.absent).0)
    }

    fn unavailable(&self) -> TokenError {
        let (name, why) = lock(&self.absent).clone();
        TokenError::Unavailable(format!("token {name}: {why}").into())
    }

    fn serves(&self) -> bool {
        self.host.load().as_ref().is_some_and(|opened| opened.host.serves())
    }

    fn status(&self) -> HostStatus {
        match self.host.load().as_ref() {
            Some(opened) => opened.host.status(),
            None => {
                let (serial, why) = lock(&self.absent).clone();
                HostStatus::absent(serial, why)
            }
        }
    }

    async fn run(&self, call: Call, lane: Lane, deadline: Instant) -> Result<Worked, TokenError> {
        let Some(opened) = self.host.load_full() else {
            return Err(self.unavailable());
        };
        let _counted = Counted::new(&self.under_way);
        let (reply, answer) = oneshot::channel();
        opened.host.submit(Job {
            call,
            lane,
            deadline,
            reply,
        });
        match answer.await {
            Ok(answer) => Ok(Worked {
                answer: answer?,
                serial: Arc::clone(&opened.serial),
                worker_epoch: opened.host.worker_epoch(),
            }),
            Err(_) => Err(TokenError::Unavailable(
                "the token host stopped before it answered".into(),
            )),
        }
    }
}

/// Counts a call that is under way, also if its caller goes away.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(under_way: &'a AtomicUsize) -> Self {
        under_way.fetch_add(1, Ordering::Relaxed);
        Self(under_way)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
