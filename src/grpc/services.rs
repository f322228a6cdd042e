//! Which service a call goes to: ours by a plain comparison of the path, health and reflection behind a router.

use hyper::body::{Body, Bytes, Incoming};
use keyreeve_proto::v1::{
    crypto_service_server::CryptoServiceServer, event_service_server::EventServiceServer,
    key_service_server::KeyServiceServer, system_service_server::SystemServiceServer,
};
use tonic::service::Routes;
use tonic_health::pb::health_server::{Health, HealthServer};

use super::{Answer, CryptoService, Dispatch, EventService, KeyService, SystemService, limits::MESSAGE_BYTES};

/// Everything that the main port serves.
pub struct Services {
    crypto: CryptoServiceServer<CryptoService>,
    keys: KeyServiceServer<KeyService>,
    events: EventServiceServer<EventService>,
    system: SystemServiceServer<SystemService>,
    others: Routes,
}

impl Services {
    /// Descriptor sets of all of them, for the names of methods.
    pub const DESCRIPTORS: &[&[u8]] = &[
        keyreeve_proto::DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];

    pub fn new<H: Health>(
        crypto: CryptoService,
        keys: KeyService,
        events: EventService,
        system: SystemService,
        health: HealthServer<H>,
        reflection: bool,
    ) -> Self {
        let mut others = Routes::new(health);
        if reflection {
            let describe = || {
                tonic_reflection::server::Builder::configure()
                    .register_encoded_file_descriptor_set(keyreeve_proto::DESCRIPTOR_SET)
                    .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            };
            // Both: grpcurl and older tools still ask for the alpha.
            if let (Ok(v1), Ok(v1alpha)) = (describe().build_v1(), describe().build_v1alpha()) {
                others = others.add_service(v1).add_service(v1alpha);
            }
        }
        Self {
            crypto: CryptoServiceServer::new(crypto).max_decoding_message_size(MESSAGE_BYTES),
            events: EventServiceServer::new(events).max_decoding_message_size(MESSAGE_BYTES),
            keys: KeyServiceServer::new(keys).max_decoding_message_size(MESSAGE_BYTES),
            system: SystemServiceServer::new(system).max_decoding_message_size(MESSAGE_BYTES),
            others: others.prepare(),
        }
    }

    /// Calls the service of the path.
    pub fn route<B>(&self, request: http::Request<B>) -> Answer
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send> + Send + 'static,
    {
        // A clone of a service is a clone of an `Arc`; a router would box the call once more.
        let path = request.uri().path();
        if path.starts_with("/keyreeve.v1.CryptoService/") {
            tower::Service::call(&mut self.crypto.clone(), request)
        } else if path.starts_with("/keyreeve.v1.KeyService/") {
            tower::Service::call(&mut self.keys.clone(), request)
        } else if path.starts_with("/keyreeve.v1.EventService/") {
            tower::Service::call(&mut self.events.clone(), request)
        } else if path.starts_with("/keyreeve.v1.SystemService/") {
            tower::Service::call(&mut self.system.clone(), request)
        } else {
            Box::pin(tower::Service::call(&mut self.others.clone(), request))
        }
    }
}

impl Dispatch for Services {
    fn call(&self, request: http::Request<Incoming>) -> Answer {
        self.route(request)
    }
}
