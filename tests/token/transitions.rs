//! Every change of a breaker with worker processes, from the line of the log that its owner writes for it.

use std::{
    fmt::Debug,
    sync::{Mutex, PoisonError},
};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, filter::LevelFilter, layer::Context, prelude::*};

static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Watches the log of this process, in which one test runs.
pub fn watch() {
    let watching = tracing_subscriber::registry().with(Watch.with_filter(LevelFilter::WARN));
    tracing::subscriber::set_global_default(watching).expect("one test, one process");
}

/// Holds the changes since the last time against `src/token/breaker.rs`. `state`: in which the breaker was then. Returns its state now.
pub fn checked(state: String) -> String {
    let seen = std::mem::take(&mut *SEEN.lock().unwrap_or_else(PoisonError::into_inner));
    seen.into_iter().fold(state, |from, to| {
        let is_legal = match (from.as_str(), to.as_str()) {
            ("latched", _) => false,
            (_, "latched") => true,
            (from, to) => [
                ("closed", "open"),
                ("open", "half_open"),
                ("half_open", "open"),
                ("half_open", "closed"),
            ]
            .contains(&(from, to)),
        };
        assert!(is_legal, "a breaker went from {from} to {to}");
        to
    })
}

struct Watch;

impl<S: Subscriber> Layer<S> for Watch {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        event.record(&mut Breaker);
    }
}

struct Breaker;

impl Visit for Breaker {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "breaker" {
            SEEN.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}
