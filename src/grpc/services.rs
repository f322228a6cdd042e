//! Which service a call goes to: ours by a plain comparison of the path, health and reflection behind a router.

use hyper::body::Incoming;
use tonic::service::Routes;
use tonic_health::pb::health_server::{Health, HealthServer};

use super::{Answer, Dispatch};

/// Everything that the main port serves.
pub struct Services {
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

    pub fn new<H: Health>(health: HealthServer<H>, reflection: bool) -> Self {
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
            others: others.prepare(),
        }
    }
}

impl Dispatch for Services {
    fn call(&self, request: http::Request<Incoming>) -> Answer {
        self.others.call(request)
    }
}
