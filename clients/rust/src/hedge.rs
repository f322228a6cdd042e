//! A second request while the first is slow: only where the application asked for it (docs/clients.md, rule 5).

use std::{pin::pin, time::Duration};

use tokio::{select, time::timeout};
use tonic::Code;

use crate::ClientError;

/// What a try came to.
pub(crate) struct Outcome<T> {
    pub result: Result<T, ClientError>,
    /// Of the endpoint, and of the certificate that it was shown.
    pub index: usize,
    pub generation: u64,
}

impl<T> Outcome<T> {
    /// Whether the service has said what there is to say. Else another endpoint may know better.
    fn is_answer(&self) -> bool {
        let wait = [Code::Unavailable, Code::ResourceExhausted, Code::DeadlineExceeded];
        self.result
            .as_ref()
            .err()
            .is_none_or(|error| !wait.contains(&error.code))
    }
}

/// What `first` comes to; if that takes longer than `after`, the first answer of it and of what `second` begins. The other is given up.
pub(crate) async fn race<T, F>(first: F, after: Duration, second: impl FnOnce() -> Option<F>) -> Outcome<T>
where
    F: Future<Output = Outcome<T>>,
{
    let mut first = pin!(first);
    if let Ok(outcome) = timeout(after, &mut first).await {
        return outcome;
    }
    let Some(second) = second() else {
        return first.await;
    };
    let mut second = pin!(second);
    select! {
        outcome = &mut first => if outcome.is_answer() { outcome } else { second.await },
        outcome = &mut second => if outcome.is_answer() { outcome } else { first.await },
    }
}
