//! Finds calls into the module that do not return (E11). In the thread form nothing can end such a call but the process.

use std::time::Duration;

use keyreeve_pkcs11::Class;

use super::thread_host::Shared;

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Runs until the queue is closed and the host stops, or until a call hangs.
pub(super) fn run(shared: &Shared) {
    while !shared.queue.is_closed() {
        if shared.is_hung() {
            shared.fail(
                Class::Hang,
                &format!(
                    "a call into the PKCS#11 module did not return within {} ms",
                    shared.config.call_deadline_ms
                ),
            );
            return;
        }
        shared.queue.wait_closed(LOOK_EVERY);
    }
}
