// fails: E0624
//! Nothing but a permit's completion writes to the log.
use keyreeve::audit::{Draft, Slot};

async fn misuse(slot: Slot, draft: Draft) {
    let _ = slot.commit(vec![draft], None).await;
}
