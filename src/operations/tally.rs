//! What an item adds to the record of its call: counts and the links from envelopes to later uses, never contents.

use crate::{Result, audit::Draft};

/// One item of a call.
pub trait Tally {
    fn add_to(&self, draft: &mut Draft);
}

/// The only item of its call.
pub(super) fn alone(item: &impl Tally, draft: &mut Draft) {
    start(draft);
    item.add_to(draft);
}

/// The items of a batch.
pub(super) fn all<T: Tally>(items: &[Result<T>], draft: &mut Draft) {
    start(draft);
    for item in items {
        match item {
            Ok(item) => item.add_to(draft),
            Err(_) => {
                draft.items += 1;
                draft.failed += 1;
            }
        }
    }
}

/// What was known when the permit was asked for gives way to what was done.
fn start(draft: &mut Draft) {
    draft.items = 0;
    draft.bytes_in = 0;
}
