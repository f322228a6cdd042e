//! What ends a stream that its caller would keep open: the node drains, the connection is too old, the certificate is no longer good.
//!
//! A unary call meets these at its start. A stream outlives them, so it is told.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::watch;

use super::listener::told;
use crate::Result;

/// Goes with a streaming request, in its extensions.
#[derive(Clone)]
pub(super) struct StreamLife {
    ending: watch::Receiver<bool>,
    check: Arc<dyn Fn() -> Result<()> + Send + Sync>,
}

/// Ready once the connection of a stream is to end.
pub(super) type Ending = Pin<Box<dyn Future<Output = ()> + Send>>;

impl StreamLife {
    /// `ending` turns true when the connection is to end; `check`: whether its certificate is still good.
    pub fn new(ending: watch::Receiver<bool>, check: impl Fn() -> Result<()> + Send + Sync + 'static) -> Self {
        let check = Arc::new(check);
        Self { ending, check }
    }

    /// For a stream without a connection, in tests.
    #[cfg(test)]
    pub fn endless() -> Self {
        let (ending, receiver) = watch::channel(false);
        std::mem::forget(ending);
        Self::new(receiver, || Ok(()))
    }

    pub fn ending(&self) -> Ending {
        let mut ending = self.ending.clone();
        Box::pin(async move { told(&mut ending).await })
    }

    /// To be asked for each message. Errors: `Unauthenticated`.
    pub fn check(&self) -> Result<()> {
        (self.check)()
    }
}

/// Whether `ending` is over; afterwards it stays so, and is not polled again.
pub(super) fn is_over(ending: &mut Option<Ending>, context: &mut Context<'_>) -> bool {
    if let Some(waiting) = ending
        && waiting.as_mut().poll(context) == Poll::Ready(())
    {
        *ending = None;
    }
    ending.is_none()
}
