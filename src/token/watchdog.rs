//! Finds calls into the module that do not return (E11), and keeps an idle token awake.
//!
//! In the thread form nothing can end a hung call but the process. Some tokens drop a session that was idle for 30 s; a known
//! answer every 10 s also finds a token that died in its sleep before a caller does.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{Call, Job, Lane, thread_host::Shared, work};

const LOOK_EVERY: Duration = Duration::from_millis(50);
const PROBE_EVERY: Duration = Duration::from_secs(10);

/// Runs until the queue is closed and the host stops, or until a call hangs.
pub(super) fn run(shared: &Shared) {
    let mut probe = Probing::new();
    while !shared.queue.is_closed() {
        if shared.fail_if_hung() {
            return;
        }
        probe.when_due(shared);
        shared.queue.wait_closed(LOOK_EVERY);
    }
}

struct Probing {
    next: Instant,
    /// Held so that the probe counts as waited for; its outcome acts by itself: a wrong answer latches.
    answer: Option<oneshot::Receiver<Result<super::Answer, super::TokenError>>>,
}

impl Probing {
    fn new() -> Self {
        Self {
            next: Instant::now() + PROBE_EVERY,
            answer: None,
        }
    }

    fn when_due(&mut self, shared: &Shared) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next = now + PROBE_EVERY;
        let (reply, answer) = oneshot::channel();
        self.answer = Some(answer);
        let deadline = now + PROBE_EVERY;
        let job = Job {
            call: Call::Probe,
            lane: Lane::OWN,
            deadline,
            reply,
        };
        // A queue too full for a probe is a token at work: no probe is needed.
        work::answer_refused(shared.queue.push(work::split(job), deadline), &shared.meters);
    }
}
