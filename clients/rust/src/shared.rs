//! What all clones of a client have in common, and the tries of all its calls.

use std::time::Duration;

use crate::{budget::Budget, channels::Channels, endpoints::Endpoints, events::Events};

#[derive(Debug)]
pub(crate) struct Shared {
    pub endpoints: Endpoints,
    pub channels: Channels,
    pub budget: Budget,
    pub events: Events,
    /// `None`: no hedging.
    pub hedge_after: Option<Duration>,
}
