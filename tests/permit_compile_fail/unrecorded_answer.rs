// fails: E0277
//! What goes to the wire is made of a record; an answer that was not recorded does not convert.
use keyreeve::{operations::Sealed, proto::v1::EncryptResponse};

fn misuse(sealed: Sealed) -> EncryptResponse {
    sealed.into()
}
