//! `Watch`: one stream of changes, in rounds. A commit wakes it; it looks what was changed, and tells of each of its keys in a message of
//! its own. It ends with `DRAINING` when the node stops or the connection is old, and with what a permit was refused for.

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use futures_util::stream;
use keyreeve_proto::v1 as proto;
use tokio::sync::watch;
use tokio_stream::Stream;
use tonic::Status;

use super::{
    status::REQUEST_ID,
    stream_life::{Ending, StreamLife},
};
use crate::{
    Error, Result,
    identity::Caller,
    keys::{Keys, Told, WatchRequest},
    policy::{Context, Gate, Recorded, action},
    store::Applied,
};

/// Time for each message.
const MESSAGE_WITHIN: Duration = Duration::from_secs(10);

pub type WatchStream = Pin<Box<dyn Stream<Item = Result<proto::WatchResponse, Status>> + Send>>;

/// Where one stream stands.
pub(super) struct Watch {
    gate: Gate,
    keys: Arc<Keys>,
    caller: Caller,
    life: StreamLife,
    ending: Ending,
    commits: watch::Receiver<()>,
    request: WatchRequest,
    /// Everything up to here was told, or is in `ready`.
    position: Applied,
    ready: VecDeque<Recorded<Told>>,
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
        let mut position = request.after;
        let mut first = None;
        for name in &request.keys {
            let permit = gate.permit::<action::WatchKey>(&caller, name, Context::none()).await?;
            let begun = keys.begin_watch(permit, position).await?;
            position = Some(begun.as_ref().position);
            first = Some(begun);
        }
        Ok(Self {
            gate,
            keys,
            caller,
            ending: life.ending(),
            life,
            commits,
            position: position.unwrap_or(Applied::NONE),
            request,
            ready: first.into_iter().collect(),
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
        loop {
            if let Some(told) = self.ready.pop_front() {
                return Ok(told);
            }
            self.commits.mark_unchanged();
            if self.look().await? {
                continue;
            }
            tokio::select! {
                biased;
                () = &mut self.ending => return Err(Error::Draining),
                _ = self.commits.changed() => {}
            }
            self.life.check()?;
        }
    }

    /// Makes ready what is to be told of the next changes. `false`: there were none that matter, up to the end.
    async fn look(&mut self) -> Result<bool> {
        let found = self.keys.changed_since(&self.position).await?;
        let mine: Vec<_> = found.keys.intersection(&self.request.keys).collect();
        for (index, name) in mine.iter().enumerate() {
            // Who resumes from the middle of a round is told all of it again.
            let position = if index + 1 == mine.len() {
                found.through
            } else {
                self.position
            };
            let caller = self.caller.for_message(MESSAGE_WITHIN);
            let permit = self
                .gate
                .permit::<action::WatchKey>(&caller, name, Context::none())
                .await?;
            self.ready.push_back(self.keys.tell(permit, position).await?);
        }
        self.position = found.through;
        Ok(found.more || !mine.is_empty())
    }
}
