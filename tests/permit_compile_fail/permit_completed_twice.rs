// fails: E0382
//! One permit, one record: completing it uses it up.
use keyreeve::{
    Result,
    audit::Outcome,
    policy::{Permit, action},
};

async fn misuse<T: Outcome>(permit: Permit<action::Encrypt>, first: Result<T>, second: Result<T>) {
    let _ = permit.complete(first).await;
    let _ = permit.complete(second).await;
}
