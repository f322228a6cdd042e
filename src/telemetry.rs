//! What the service says of itself: log lines, metrics, panics. Not the audit log.
//!
//! Log fields are an allowlist: a field that is not in [`FIELDS`] is dropped before the line is made, so that a slip in a log statement
//! cannot print plaintext, keys or credentials (`SECURITY.md`). Other crates' events come through as warnings and
//! errors only, whatever the level: their debug lines print frames and statements.

mod lines;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _};

use crate::config::{LogConfig, LogFormat};

/// Every field a log line may carry, beside time, level, target and message. None may hold bytes of a request.
pub const FIELDS: &[&str] = &[
    // the request
    "request_id",
    "method",
    "code",
    "reason",
    "trace",
    "peer",
    "caller",
    "latency_us",
    // what it was about: resource ids, never contents
    "action",
    "operation",
    "environment",
    "team",
    "key",
    "key_id",
    "key_version",
    "state",
    "rule",
    "policy",
    // the token: never a PIN, label or handle
    "mechanism",
    "return_code",
    "class",
    "serial",
    "model",
    "worker",
    "epoch",
    "thread",
    "threads",
    "queue_depth",
    "cached_handles",
    // the log and the store
    "log",
    "segment",
    "sequence",
    "records",
    "durability",
    "table",
    "object",
    "problem",
    "findings",
    "versions",
    // faults and waits
    "error",
    "detail",
    "fault",
    "attempt",
    "delay_ms",
    "elapsed_ms",
    "location",
    // the process
    "address",
    "local",
    "node",
    "cluster",
    "version",
    "signal",
    "path",
    "setting",
    "count",
    "items",
    "failed",
    "bytes",
    "trust_domain",
    "certificate_sha256",
    "not_after",
];

/// Bounds in seconds. Finer than OpenTelemetry's below 5 ms: a call takes tens of microseconds to a few milliseconds here.
const SECONDS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Bounds of counts: items of a batch, records of a commit, jobs in a queue.
const COUNTS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// Bounds of sizes in bytes: 64 B to 4 MiB.
const BYTES: &[f64] = &[
    64.0,
    256.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
];

/// Sends log lines to standard error. Once per process; a second call changes nothing, as tests start many servers.
pub fn start_log(config: &LogConfig) {
    let filter = EnvFilter::try_new(&config.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = lines::Lines::new(config.format == LogFormat::Json, |line| {
        use std::io::Write as _;
        // Nobody is left to tell when standard error is gone.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    });
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(filter).with(lines));
}

/// Panics are logged by place, never by a text that was put together at run time: it could hold data. No backtrace.
pub fn catch_panics() {
    std::panic::set_hook(Box::new(|info| {
        let location = info.location().map(ToString::to_string).unwrap_or_default();
        let literal = info.payload().downcast_ref::<&'static str>().copied();
        tracing::error!(
            location,
            detail = literal.unwrap_or("(text withheld)"),
            "a task panicked"
        );
    }));
}

/// The same for a process in which a panic is the end: the worker, whose state nobody could vouch for afterwards.
pub fn abort_on_panic() {
    catch_panics();
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        told(info);
        std::process::abort();
    }));
}

/// A recorder with the buckets of this service.
pub fn recorder() -> Result<metrics_exporter_prometheus::PrometheusRecorder, BuildError> {
    let suffix = |end: &str| Matcher::Suffix(end.to_owned());
    Ok(PrometheusBuilder::new()
        .set_buckets(SECONDS)?
        .set_buckets_for_metric(suffix("_seconds"), SECONDS)?
        .set_buckets_for_metric(suffix("_bytes"), BYTES)?
        .set_buckets_for_metric(suffix("_items"), COUNTS)?
        .set_buckets_for_metric(suffix("_records"), COUNTS)?
        .set_buckets_for_metric(suffix("_size"), COUNTS)?
        .set_buckets_for_metric(suffix("_depth"), COUNTS)?
        .build_recorder())
}

/// Installs the recorder of the process, once, and says who we are in `keyreeve_build_info`. `None`: another recorder is installed.
pub fn start_metrics() -> Option<PrometheusHandle> {
    static HANDLE: std::sync::OnceLock<Option<PrometheusHandle>> = std::sync::OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let recorder = recorder().ok()?;
            let handle = recorder.handle();
            metrics::set_global_recorder(recorder).ok()?;
            metrics::describe_gauge!("keyreeve_build_info", "1; the version is in the label");
            metrics::gauge!("keyreeve_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
            Some(handle)
        })
        .clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_histograms_with_our_buckets_and_counts_with_theirs() {
        let recorder = recorder().unwrap();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            metrics::histogram!("keyreeve_rpc_seconds").record(0.000_2);
            metrics::histogram!("keyreeve_audit_commit_records").record(3.0);
        });
        let text = handle.render();
        assert!(text.contains("keyreeve_rpc_seconds_bucket{le=\"0.00025\"} 1"), "{text}");
        assert!(
            text.contains("keyreeve_audit_commit_records_bucket{le=\"4\"} 1"),
            "{text}"
        );
    }

    #[test]
    fn no_field_name_is_listed_twice() {
        let mut names = FIELDS.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FIELDS.len());
    }
}
