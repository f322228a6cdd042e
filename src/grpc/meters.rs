//! Figures of each method: calls by code, time, calls under way. Handles are made once; a call touches three atomics.

use std::{collections::HashMap, sync::Arc, time::Instant};

use metrics::{Counter, Gauge, Histogram};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::Code;

use super::status::code_name;

/// All methods of the service by path. What is not in here is counted as `other`, so that callers cannot make labels.
pub struct Meters {
    methods: HashMap<String, Arc<Method>>,
    other: Arc<Method>,
}

/// Name of the methods that do not exist.
const OTHER: &str = "other";

/// One method and its figures.
pub struct Method {
    /// `/package.Service/Method`.
    pub path: String,
    /// A call may last: no deadline unless the caller names one, and its place is held until the answer's body ends.
    pub streams: bool,
    codes: [Counter; 17],
    seconds: Histogram,
    under_way: Gauge,
}

impl Meters {
    /// `descriptors`: encoded `FileDescriptorSet`s of everything that is served.
    pub fn new(descriptors: &[&[u8]]) -> Self {
        metrics::describe_counter!("keyreeve_rpc_total", "calls by method and gRPC code");
        metrics::describe_histogram!(
            "keyreeve_rpc_seconds",
            metrics::Unit::Seconds,
            "time from a call's headers to its answer's"
        );
        metrics::describe_gauge!("keyreeve_rpc_under_way", "calls under way");
        let mut methods = HashMap::new();
        for set in descriptors {
            let set = FileDescriptorSet::decode(*set).unwrap_or_default();
            for (path, streams) in set.file.iter().flat_map(paths) {
                methods.insert(path.clone(), Arc::new(Method::new(path, streams)));
            }
        }
        Self {
            methods,
            other: Arc::new(Method::new(OTHER.to_owned(), false)),
        }
    }

    pub fn of(&self, path: &str) -> &Arc<Method> {
        self.methods.get(path).unwrap_or(&self.other)
    }
}

impl Method {
    fn new(path: String, streams: bool) -> Self {
        // The label is OpenTelemetry's `rpc.method`: the path without its slash.
        let name = path.trim_start_matches('/').to_owned();
        let codes = std::array::from_fn(|code| {
            metrics::counter!("keyreeve_rpc_total",
                "method" => name.clone(), "code" => code_name(Code::from_i32(code as i32)))
        });
        Self {
            codes,
            seconds: metrics::histogram!("keyreeve_rpc_seconds", "method" => name.clone()),
            under_way: metrics::gauge!("keyreeve_rpc_under_way", "method" => name),
            path,
            streams,
        }
    }

    pub fn begin(self: &Arc<Self>, started: Instant) -> UnderWay {
        self.under_way.increment(1.0);
        UnderWay {
            method: self.clone(),
            started,
            ended: false,
        }
    }
}

/// A call under way. Counted out when dropped; as cancelled, if it never came to its end.
pub struct UnderWay {
    method: Arc<Method>,
    started: Instant,
    ended: bool,
}

impl UnderWay {
    pub fn method(&self) -> &Arc<Method> {
        &self.method
    }

    /// Not a method of ours.
    pub fn is_stranger(&self) -> bool {
        self.method.path == OTHER
    }

    /// The first word stands.
    pub fn end(&mut self, code: Code) {
        if !std::mem::replace(&mut self.ended, true) {
            let elapsed = self.started.elapsed();
            self.method.codes[code as usize].increment(1);
            self.method.seconds.record(elapsed.as_secs_f64());
            tracing::debug!(
                method = self.method.path,
                code = code_name(code),
                latency_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
                "answered"
            );
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
        self.method.under_way.decrement(1.0);
    }
}

/// Paths of a file's methods, and whether either side streams.
fn paths(file: &prost_types::FileDescriptorProto) -> impl Iterator<Item = (String, bool)> {
    file.service.iter().flat_map(move |service| {
        service.method.iter().map(move |method| {
            let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
            (path, method.client_streaming() || method.server_streaming())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_known_by_path_and_strangers_share_one_label() {
        let meters = Meters::new(&[keyreeve_proto::DESCRIPTOR_SET]);
        let encrypt = meters.of("/keyreeve.v1.CryptoService/Encrypt");
        assert_eq!(encrypt.path, "/keyreeve.v1.CryptoService/Encrypt");
        assert!(!encrypt.streams);
        assert!(meters.of("/keyreeve.v1.CryptoService/Crypt").streams);
        assert_eq!(meters.of("/evil/$(id)").path, "other");
    }
}
