// fails: E0277
//! A permit of an action that changes nothing takes no change of the store.
use keyreeve::{
    Result,
    audit::Outcome,
    policy::{Permit, action},
    store::Change,
};

async fn misuse<T: Outcome>(permit: Permit<action::ReadKey>, result: Result<(T, Change)>) {
    let _ = permit.complete_with(result).await;
}
