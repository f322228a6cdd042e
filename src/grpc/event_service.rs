//! `EventService`: what happens, told to those who wait for it.

use std::sync::Arc;

use keyreeve_proto::v1::{self as proto, event_service_server};
use tonic::{Request, Response, Status};

use super::{
    caller::take_caller,
    stream_life::StreamLife,
    watch_stream::{Watch, WatchStream},
};
use crate::{
    Error, Result,
    keys::{Keys, WatchRequest},
    policy::Gate,
};

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct EventService {
    gate: Gate,
    keys: Arc<Keys>,
}

impl EventService {
    pub fn new(gate: Gate, keys: Arc<Keys>) -> Self {
        Self { gate, keys }
    }
}

#[tonic::async_trait]
impl event_service_server::EventService for EventService {
    type WatchStream = WatchStream;

    async fn watch(&self, mut request: Request<proto::WatchRequest>) -> Result<Response<WatchStream>, Status> {
        let life = request.extensions_mut().remove::<StreamLife>();
        let life = life.ok_or(Error::Unauthenticated("the connection has no client identity"))?;
        let (caller, request) = take_caller(request)?;
        let request = WatchRequest::try_from(request)?;
        let watch = Watch::begin(self.gate.clone(), self.keys.clone(), caller, life, request).await?;
        Ok(Response::new(watch.into_stream()))
    }
}
