//! What an opener demands of a message before he believes it.

use keyreeve_envelope::{
    EncryptionContext, MessageId,
    sealed::{Header, Identity},
};

use crate::ClientError;

/// The context that a message must have, and, if its caller knows, which message it must be.
///
/// There is no default: a message that says its own context was given it by whoever could write the file.
#[derive(Debug, Clone)]
pub struct Expectation {
    context: Context,
    message_id: Option<MessageId>,
    identity: Option<Identity>,
}

#[derive(Debug, Clone)]
enum Context {
    Whole(EncryptionContext),
    Includes(EncryptionContext),
    Stored,
}

impl Expectation {
    /// This whole context, whether the message stores it or not.
    pub fn context(context: EncryptionContext) -> Self {
        Self::of(Context::Whole(context))
    }

    /// A stored context that has these pairs among others. Messages that store none do not open.
    pub fn context_including(pairs: EncryptionContext) -> Self {
        Self::of(Context::Includes(pairs))
    }

    /// Whatever context the message stores: **whoever replaces the message chooses it**. Messages that store none do not open.
    pub fn accept_stored_context() -> Self {
        Self::of(Context::Stored)
    }

    /// Only the message of this id. Its payload may still be an older one that its sealer made under the same id, if he ever does:
    /// [`Self::identity`] is stricter.
    #[must_use]
    pub fn message_id(mut self, message_id: MessageId) -> Self {
        self.message_id = Some(message_id);
        self
    }

    /// Only this very message, by id and commitment (T26). Its wrapped keys may be others.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    fn of(context: Context) -> Self {
        Self {
            context,
            message_id: None,
            identity: None,
        }
    }

    /// The context to open with. Errors: another message than expected; the one error for another context.
    pub(super) fn check(&self, header: &Header, commitment: &[u8; 32]) -> Result<EncryptionContext, ClientError> {
        let id = header.message_id();
        let expected_id = self.message_id.is_none_or(|expected| expected == id);
        let expected_identity = self
            .identity
            .is_none_or(|expected| expected.message_id == id && expected.commitment == *commitment);
        if !(expected_id && expected_identity) {
            return Err(ClientError::wrong_message());
        }
        match (&self.context, header.stored_context()) {
            (Context::Whole(context), None) => Ok(context.clone()),
            (Context::Whole(context), Some(stored)) if context == stored => Ok(context.clone()),
            (Context::Includes(pairs), Some(stored)) if includes(stored, pairs) => Ok(stored.clone()),
            (Context::Stored, Some(stored)) => Ok(stored.clone()),
            (Context::Whole(_) | Context::Includes(_), Some(_)) | (Context::Includes(_) | Context::Stored, None) => {
                Err(ClientError::decrypt_failed())
            }
        }
    }
}

/// Whether each of `pairs` is in `stored` with the same value.
fn includes(stored: &EncryptionContext, pairs: &EncryptionContext) -> bool {
    pairs.pairs().all(|pair| stored.pairs().any(|other| other == pair))
}
