//! The caller that the identity layer found, as handlers take it.

use tonic::Request;

use crate::{Error, Result, identity::Caller};

/// The caller and the message. Errors: `Unauthenticated` for a request that did not pass the identity layer.
pub(super) fn take_caller<T>(request: Request<T>) -> Result<(Caller, T)> {
    let (_, mut extensions, message) = request.into_parts();
    let caller = extensions
        .remove::<Caller>()
        .ok_or(Error::Unauthenticated("the connection has no client identity"))?;
    Ok((caller, message))
}
