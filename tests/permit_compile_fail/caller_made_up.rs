// fails: E0451
//! A caller comes from a certificate or a job; nobody writes one down.
use std::sync::Arc;

use keyreeve::identity::{Caller, Identity, RequestFacts};

fn misuse(identity: Arc<Identity>, facts: RequestFacts) -> Caller {
    Caller {
        identity,
        facts,
        certificate_expires: None,
    }
}
