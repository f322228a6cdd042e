//! What to do about an error, by its reason.

use crate::ClientError;

impl ClientError {
    /// For people; the message says what happened. Reasons that this version does not know get a general answer.
    pub fn next_step(&self) -> &'static str {
        match self.reason.as_str() {
            "CONFIGURATION" => "correct the setting or file that the message names",
            "UNREACHABLE" => {
                "check that the service runs, the addresses, and that each side trusts the other's certificate"
            }
            "TRANSPORT" => "look at what stands between this client and the service: a proxy, a load balancer",
            "DEADLINE_EXCEEDED" => {
                "a change may have been made: ask again with the same request_id; allow more time if it stays"
            }
            "CHECKSUM_MISMATCH" => {
                "send it again; if it comes back, suspect the memory of this host or of the service's"
            }
            "CLOSED" => "make a new client",
            "OVERLOADED" => "wait as long as the error says, and send less at once",
            "KEY_CEILING" => "wait as long as the error says, or spread the load over more keys",
            "DRAINING" => "try again on another node, or when this one is back",
            "TOKEN_UNAVAILABLE" | "LOG_UNAVAILABLE" => "try again later; `keyreeve status` shows what is missing",
            "TOKEN_REFUSES" => "ask who runs the service: `keyreeve tokens status` shows why",
            "UNAUTHENTICATED" => {
                "check that the certificate is current, not revoked, and of an authority that the service trusts"
            }
            "PERMISSION_DENIED" => {
                "ask the key's owner for the action that the message names; `who_am_i` shows who you are taken for"
            }
            "NOT_FOUND" => "check the name; the lists of environments, teams and keys show what there is",
            "ALREADY_EXISTS" => "use what exists, or choose another name",
            "CONFLICT" => "read the object again, then decide whether the change is still wanted",
            "STATE_FORBIDS" => "see the key's state (`get_key`): resume it, rotate it, or use another key",
            "ROTATION_REQUIRED" => "have the key rotated (`rotate_key`)",
            "APPROVAL_REQUIRED" => "this needs an approval that the service cannot take yet",
            "DECRYPT_FAILED" => {
                "check key, context and associated data: they must be those of the encryption, and the bytes unchanged"
            }
            "INVALID_ARGUMENT" | "MALFORMED_MESSAGE" => "correct the argument that the message names",
            "MESSAGE_TOO_LARGE" => "send less at once",
            "REQUEST_ID_REUSED" => "give each change a request_id of its own",
            "POSITION_UNKNOWN" => "forget what you know of keys, and watch without a position",
            "MALFORMED_ANSWER" => "check that client and service are of versions that fit together",
            "UNEXPECTED_MESSAGE" => "find out who put another message in the place of the expected one",
            "MESSAGE_TOO_LONG" => "seal it in parts",
            "UNFINISHED" => "seal the message again from its start",
            "IO" => "look at the file or stream that the message names",
            _ => "look the reason up in the service's documentation; the request id leads to the audit log",
        }
    }
}
