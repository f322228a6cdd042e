//! `Watch`: one stream of changes, in rounds. A commit wakes it; it looks what was changed, and tells of each of its keys in a message of
//! its own. It ends with `DRAINING` when the node stops or the connection is old, and with what a permit was refused for.

use std::{collections::VecDeque, future::poll_fn, pin::Pin, sync::Arc, task::Poll, time::Duration};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use keyreeve_proto::v1 as proto;
use tokio::sync::watch;
use tokio_stream::Stream;
use tonic::Status;

use super::{
    status::REQUEST_ID,
    stream_life::{Ending, StreamLife, is_over},
};
use crate::{
    Error, Result,
    identity::Caller,
    keys::{Keys, Told, WatchRequest},
    model::KeyName,
    policy::{Context, Gate, Recorded, action},
    store::Applied,
};

/// Permits asked for at once at the beginning.
const BEGIN_AT_ONCE: usize = 16;
/// Time for each message.
const MESSAGE_WITHIN: Duration = Duration::from_secs(10);

pub type WatchStream = Pin<Box<dyn Stream<Item = Result<proto::WatchResponse, Status>> + Send>>;

/// Where one stream stands.
pub(super) struct Watch {
    gate: Gate,
    keys: Arc<Keys>,
    caller: Caller,
    life: StreamLife,
    /// `None` once the connection is to end.
    ending: Option<Ending>,
    commits: watch::Receiver<()>,
    request: WatchRequest,
    /// Where the last look at the changes ended.
    position: Applied,
    /// Said before all else.
    first: Option<Recorded<Told>>,
    /// Keys that have changed up to there, with what is told when each was.
    changed: VecDeque<(KeyName, Applied)>,
}

impl Watch {
    /// Asks for a permit for each key. Errors: the first refusal; `PositionUnknown`.
    pub async fn begin(
        gate: Gate,
        keys: Arc<Keys>,
        caller: Caller,
        life: StreamLife,
        request: WatchRequest,
    ) -> Result<Self> {
        // Before the position is read: no change falls between.
        let commits = keys.changes();
        let begin = |name: KeyName, after| {
            let (gate, keys, caller) = (&gate, &keys, &caller);
            async move {
                let permit = gate.permit::<action::WatchKey>(caller, &name, Context::none()).await?;
                keys.begin_watch(permit, after).await
            }
        };
        let mut names = request.keys.iter().cloned();
        let first = names.next().expect("a request names a key");
        let first = begin(first, request.after).await?;
        let position = first.as_ref().position;
        let begun = names.map(|name| begin(name, Some(position)));
        let mut begun = stream::iter(begun).buffer_unordered(BEGIN_AT_ONCE);
        while begun.try_next().await?.is_some() {}
        drop(begun);
        Ok(Self {
            gate,
            keys,
            caller,
            ending: Some(life.ending()),
            life,
            commits,
            position,
            request,
            first: Some(first),
            changed: VecDeque::new(),
        })
    }

    pub fn into_stream(self) -> WatchStream {
        Box::pin(stream::unfold(Some(self), async |watching| {
            let mut watching = watching?;
            match watching.next().await {
                Ok(told) => Some((Ok(told.into()), Some(watching))),
                Err(error) => {
                    let request_id = watching.caller.facts().request_id.clone();
                    let status = REQUEST_ID.sync_scope(request_id, || Status::from(error));
                    Some((Err(status), None))
                }
            }
        }))
    }

    async fn next(&mut self) -> Result<Recorded<Told>> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        loop {
            if poll_fn(|context| Poll::Ready(is_over(&mut self.ending, context))).await {
                return Err(Error::Draining);
            }
            self.life.check()?;
            if let Some((name, position)) = self.changed.pop_front() {
                return self.tell(&name, position).await;
            }
            self.commits.mark_unchanged();
            if self.look().await? {
                continue;
            }
            let over = poll_fn(|context| match is_over(&mut self.ending, context) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            });
            tokio::select! {
                () = over => {}
                _ = self.commits.changed() => {}
            }
        }
    }

    /// Decided anew, and of the key as it is now.
    async fn tell(&mut self, name: &KeyName, position: Applied) -> Result<Recorded<Told>> {
        let caller = self.caller.for_message(MESSAGE_WITHIN);
        let permit = self
            .gate
            .permit::<action::WatchKey>(&caller, name, Context::none())
            .await?;
        self.keys.tell(permit, position).await
    }

    /// Notes which keys have changed since the last look. `false`: there were no changes.
    async fn look(&mut self) -> Result<bool> {
        let found = self.keys.changed_since(&self.position).await?;
        let mine: Vec<_> = found.keys.intersection(&self.request.keys).cloned().collect();
        let last = mine.len().saturating_sub(1);
        for (index, name) in mine.into_iter().enumerate() {
            // Who resumes from the middle of a round is told all of it again.
            let position = if index == last { found.through } else { self.position };
            self.changed.push_back((name, position));
        }
        self.position = found.through;
        Ok(found.more || !self.changed.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::testing::{Site, app};

    /// All that has happened to the key of a site, on a connection whose end is told by `ending`.
    async fn from_the_beginning(gate: &Gate, keys: &Arc<Keys>, life: StreamLife) -> WatchStream {
        let orders = ["dev/shop/orders".parse().unwrap()].into();
        let request = WatchRequest::new(orders, Some(Applied::NONE)).unwrap();
        let begun = Watch::begin(gate.clone(), keys.clone(), app(), life, request).await;
        begun.unwrap_or_else(|error| panic!("{error}")).into_stream()
    }

    #[tokio::test]
    async fn a_stream_with_much_to_tell_obeys_the_end_of_its_connection_and_of_its_certificate() {
        let Site {
            gate,
            keys,
            place: _place,
            host: _host,
            ..
        } = Site::new().await;
        let keys = Arc::new(keys);
        let mut whole = from_the_beginning(&gate, &keys, StreamLife::endless()).await;
        assert!(whole.next().await.unwrap().ok().unwrap().key.is_none());
        assert!(
            whole.next().await.unwrap().ok().unwrap().key.is_some(),
            "there is something to tell"
        );

        let (end, ending) = watch::channel(false);
        let mut drained = from_the_beginning(&gate, &keys, StreamLife::new(ending, || Ok(()))).await;
        drained.next().await.unwrap().ok().unwrap();
        end.send(true).unwrap();
        let last = drained.next().await.unwrap().err().unwrap();
        assert_eq!(last.code(), tonic::Code::Unavailable);
        assert!(drained.next().await.is_none());

        let (_end, ending) = watch::channel(false);
        let revoked = || Err(Error::Unauthenticated("the client certificate is revoked"));
        let mut expired = from_the_beginning(&gate, &keys, StreamLife::new(ending, revoked)).await;
        expired.next().await.unwrap().ok().unwrap();
        let last = expired.next().await.unwrap().err().unwrap();
        assert_eq!(last.code(), tonic::Code::Unauthenticated);
    }
}
