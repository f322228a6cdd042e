//! Groups of functions that a rule can name at once.

use crate::function::Function;
use serde::{Deserialize, Serialize};

macro_rules! classes {
    ($($(#[$doc:meta])* $class:ident, $text:literal: $($function:ident)*;)*) => {
        /// A group of functions; in a schedule its name in lower case, such as `sign`. A function may be in several.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Class { $($(#[$doc])* $class),* }

        impl Class {
            pub const ALL: &[Class] = &[$(Class::$class),*];

            pub fn name(self) -> &'static str {
                match self { $(Class::$class => $text),* }
            }

            pub fn functions(self) -> &'static [Function] {
                match self { $(Class::$class => &[$(Function::$function),*]),* }
            }
        }
    };
}

classes! {
    /// Asking about slots and tokens.
    Slot, "slot": C_GetSlotList C_GetSlotInfo C_GetTokenInfo C_GetMechanismList C_GetMechanismInfo C_WaitForSlotEvent;
    /// Opening, asking about and closing sessions.
    Session, "session": C_OpenSession C_CloseSession C_CloseAllSessions C_GetSessionInfo C_SessionCancel;
    Login, "login": C_Login C_LoginUser C_Logout;
    /// Making, reading, changing and destroying objects, and searching for them.
    Object, "object": C_CreateObject C_CopyObject C_DestroyObject C_GetObjectSize C_GetAttributeValue
        C_SetAttributeValue C_FindObjectsInit C_FindObjects C_FindObjectsFinal;
    Find, "find": C_FindObjectsInit C_FindObjects C_FindObjectsFinal;
    Encrypt, "encrypt": C_EncryptInit C_Encrypt C_EncryptUpdate C_EncryptFinal C_MessageEncryptInit C_EncryptMessage
        C_EncryptMessageBegin C_EncryptMessageNext C_MessageEncryptFinal;
    Decrypt, "decrypt": C_DecryptInit C_Decrypt C_DecryptUpdate C_DecryptFinal C_MessageDecryptInit C_DecryptMessage
        C_DecryptMessageBegin C_DecryptMessageNext C_MessageDecryptFinal;
    Digest, "digest": C_DigestInit C_Digest C_DigestUpdate C_DigestKey C_DigestFinal;
    Sign, "sign": C_SignInit C_Sign C_SignUpdate C_SignFinal C_SignRecoverInit C_SignRecover C_MessageSignInit
        C_SignMessage C_SignMessageBegin C_SignMessageNext C_MessageSignFinal;
    Verify, "verify": C_VerifyInit C_Verify C_VerifyUpdate C_VerifyFinal C_VerifyRecoverInit C_VerifyRecover
        C_MessageVerifyInit C_VerifyMessage C_VerifyMessageBegin C_VerifyMessageNext C_MessageVerifyFinal
        C_VerifySignatureInit C_VerifySignature C_VerifySignatureUpdate C_VerifySignatureFinal;
    /// Making keys, by the token or by derivation.
    Generate, "generate": C_GenerateKey C_GenerateKeyPair C_DeriveKey;
    Wrap, "wrap": C_WrapKey C_WrapKeyAuthenticated C_EncapsulateKey;
    Unwrap, "unwrap": C_UnwrapKey C_UnwrapKeyAuthenticated C_DecapsulateKey;
    Random, "random": C_GenerateRandom C_SeedRandom;
    /// What opens or checks something that was sealed before, so that a failure may be the input's fault or the token's.
    Open, "open": C_Decrypt C_DecryptFinal C_DecryptMessage C_Verify C_VerifyFinal C_VerifyMessage C_VerifySignature
        C_VerifySignatureFinal C_UnwrapKey C_UnwrapKeyAuthenticated C_DecapsulateKey;
}

impl Class {
    pub fn contains(self, function: Function) -> bool {
        self.functions().contains(&function)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_class_is_how_json_writes_it() {
        for class in Class::ALL {
            assert_eq!(serde_json::to_string(class).unwrap(), format!("\"{}\"", class.name()));
        }
    }
}
