//! What may be said of a key, and under which condition: the words of `docs/formats.md`, "Claims", as data.
//!
//! Evidence says these sentences and no others. "As the token reports" is part of them: a dishonest module can report anything.

use crate::model::{IvSource, Residency, Suite, TokenAttributes};

/// One sentence, and when it is true.
struct Claim<F> {
    words: &'static str,
    holds: fn(&F) -> bool,
}

/// What is known of a version key.
pub(super) struct VersionFacts {
    pub(super) at_birth: TokenAttributes,
    /// As reported now, after the token recomputed its key check value; `None` for destroyed versions.
    pub(super) in_use: Option<TokenAttributes>,
    pub(super) suite: Suite,
    pub(super) residency: Residency,
    pub(super) iv_source: Option<IvSource>,
    pub(super) destroyed: bool,
    /// Nothing of it is kept any more, in the store or in the token.
    pub(super) removed: bool,
    pub(super) software_token: bool,
}

/// What is known of a group's KEK.
pub(super) struct MasterKeyFacts {
    pub(super) attributes: TokenAttributes,
    pub(super) software_token: bool,
}

impl VersionFacts {
    fn is_wrapped(&self) -> bool {
        self.residency == Residency::Wrapped
    }
}

const VERSION: &[Claim<VersionFacts>] = &[
    Claim {
        words: RESIDENT,
        holds: |facts| {
            let stays = |now: TokenAttributes| {
                now.local && now.always_sensitive && now.never_extractable && now.sensitive && !now.extractable
            };
            !facts.is_wrapped() && facts.in_use.is_some_and(stays)
        },
    },
    Claim {
        words: "one token holds it: it is lost with that token",
        holds: |facts| !facts.is_wrapped() && !facts.destroyed,
    },
    Claim {
        words: "made in a token: at birth LOCAL=1, ALWAYS_SENSITIVE=1, EXTRACTABLE=1, as the token reported",
        holds: |facts| {
            facts.is_wrapped() && facts.at_birth.local && facts.at_birth.always_sensitive && facts.at_birth.extractable
        },
    },
    Claim {
        words: "outside a token only under AES-256 key wrap (RFC 3394) by the master key",
        holds: |facts| facts.is_wrapped() && facts.at_birth.sensitive,
    },
    Claim {
        words: "the copy in use is SENSITIVE and not EXTRACTABLE, as the token reports",
        holds: |facts| facts.is_wrapped() && facts.in_use.is_some_and(|now| now.sensitive && !now.extractable),
    },
    Claim {
        words: "its key check value at birth equals its key check value in use",
        holds: |facts| facts.in_use.is_some(),
    },
    Claim {
        words: "suite 0002: the long-lived key never leaves the token in clear; a per-message key and the plaintext pass through \
                service memory",
        holds: |facts| !facts.destroyed && facts.suite == Suite::PrfCommit,
    },
    Claim {
        words: "suite 0001: messages are encrypted and decrypted in the token, and nothing derived from the key leaves it; the plaintext \
                passes through service memory; a ciphertext does not commit to its key",
        holds: |facts| !facts.destroyed && facts.suite == Suite::TokenGcm,
    },
    Claim {
        words: "its ivs are 96 random bits that the token makes in the sealing call",
        holds: |facts| !facts.destroyed && facts.iv_source == Some(IvSource::TokenMessage),
    },
    Claim {
        words: "its ivs are 96 random bits of the token's generator that the service hands back to the token: not for an approved-only \
                profile",
        holds: |facts| !facts.destroyed && facts.iv_source == Some(IvSource::TokenRandom),
    },
    Claim {
        words: "all copies in service stores are deleted and the version is refused for ever; irrecoverable when the last backup \
                that holds the wrapped key expires, or its KEK epoch is destroyed",
        holds: |facts| facts.destroyed && facts.is_wrapped(),
    },
    Claim {
        words: "the version is refused for ever",
        holds: |facts| facts.destroyed && !facts.is_wrapped(),
    },
    Claim {
        words: "its object is removed from the token; a copy of the whole token that somebody made before, by the token's own means, is \
                not reached",
        holds: |facts| facts.destroyed && !facts.is_wrapped() && facts.removed,
    },
    Claim {
        words: "attributes are as reported by the module at the time shown; a session object is invisible to other tools",
        holds: VersionFacts::is_wrapped,
    },
    Claim {
        words: "attributes are as reported by the module at the time shown; they can be checked with any PKCS#11 tool",
        holds: |facts| !facts.is_wrapped(),
    },
    Claim {
        words: "software token",
        holds: |facts| facts.software_token,
    },
];

/// The one claim of a version key that says NEVER_EXTRACTABLE.
const RESIDENT: &str = "made in the token and kept there: LOCAL, ALWAYS_SENSITIVE, NEVER_EXTRACTABLE, not EXTRACTABLE, as the token reports";

const MASTER_KEY: &[Claim<MasterKeyFacts>] = &[
    Claim {
        words: "made in the token; LOCAL, ALWAYS_SENSITIVE, NEVER_EXTRACTABLE as the token reports",
        holds: |facts| {
            let now = &facts.attributes;
            now.local && now.always_sensitive && now.never_extractable && now.sensitive && !now.extractable
        },
    },
    Claim {
        words: "single-token group: what it protects is lost with its token",
        holds: |facts| facts.attributes.local,
    },
    // A KEK that was not made here was imported: only a ceremony does that, from a transfer file that the manifest vouches for.
    Claim {
        words: "made in a token during a ceremony; left it only wrapped to transport keys that custodians authenticated; this copy is \
                SENSITIVE and not EXTRACTABLE, as the token reports",
        holds: |facts| {
            let now = &facts.attributes;
            !now.local && now.sensitive && !now.extractable
        },
    },
    Claim {
        words: "attributes are as reported by the module at the time shown; they can be checked with any PKCS#11 tool",
        holds: |_| true,
    },
    Claim {
        words: "software token",
        holds: |facts| facts.software_token,
    },
];

pub(super) fn of_version(facts: &VersionFacts) -> Vec<&'static str> {
    that_hold(VERSION, facts)
}

pub(super) fn of_master_key(facts: &MasterKeyFacts) -> Vec<&'static str> {
    that_hold(MASTER_KEY, facts)
}

fn that_hold<F>(claims: &[Claim<F>], facts: &F) -> Vec<&'static str> {
    claims
        .iter()
        .filter(|claim| (claim.holds)(facts))
        .map(|claim| claim.words)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::software_host::at_birth;

    fn version(in_use: Option<TokenAttributes>) -> VersionFacts {
        VersionFacts {
            at_birth: at_birth(),
            suite: Suite::PrfCommit,
            residency: Residency::Wrapped,
            iv_source: None,
            destroyed: in_use.is_none(),
            removed: in_use.is_none(),
            in_use,
            software_token: true,
        }
    }

    fn copy_in_use() -> TokenAttributes {
        TokenAttributes {
            local: false,
            always_sensitive: false,
            extractable: false,
            ..at_birth()
        }
    }

    #[test]
    fn no_claim_uses_words_that_must_not_be_said() {
        let every = VERSION
            .iter()
            .map(|claim| claim.words)
            .chain(MASTER_KEY.iter().map(|claim| claim.words));
        for words in every {
            for forbidden in [
                "hardware",
                "HSM",
                "inside the HSM",
                "cryptographically erased",
                "backed up",
                "replicated",
                "immutable",
                "never left the device",
            ] {
                assert!(!words.contains(forbidden), "{words}");
            }
        }
        for claim in VERSION.iter().filter(|claim| claim.words != RESIDENT) {
            assert!(!claim.words.contains("NEVER_EXTRACTABLE"), "{}", claim.words);
        }
    }

    #[test]
    fn only_a_resident_key_that_never_could_leave_is_called_so() {
        let kept = TokenAttributes {
            never_extractable: true,
            extractable: false,
            ..at_birth()
        };
        let resident = |in_use| {
            let facts = VersionFacts {
                residency: Residency::TokenResident,
                ..version(in_use)
            };
            of_version(&facts).join("\n")
        };
        let said = resident(Some(kept));
        assert!(
            said.contains(RESIDENT) && said.contains("lost with that token"),
            "{said}"
        );
        assert!(!said.contains("key wrap") && !said.contains("session object"), "{said}");
        assert!(!resident(Some(copy_in_use())).contains("NEVER_EXTRACTABLE"));
        assert!(resident(None).contains("removed from the token"));
        let not_yet = VersionFacts {
            residency: Residency::TokenResident,
            removed: false,
            ..version(None)
        };
        let not_yet = of_version(&not_yet).join("\n");
        assert!(
            not_yet.contains("refused for ever") && !not_yet.contains("removed"),
            "{not_yet}"
        );
        assert!(
            !of_version(&version(Some(kept)))
                .join("\n")
                .contains("NEVER_EXTRACTABLE")
        );
    }

    #[test]
    fn each_suite_has_its_own_words_and_only_suite_0001_speaks_of_ivs() {
        let prf = of_version(&version(Some(copy_in_use()))).join("\n");
        assert!(prf.contains("suite 0002") && !prf.contains("suite 0001") && !prf.contains("ivs"));
        let gcm = VersionFacts {
            suite: Suite::TokenGcm,
            iv_source: Some(IvSource::TokenRandom),
            ..version(Some(copy_in_use()))
        };
        let gcm = of_version(&gcm).join("\n");
        assert!(gcm.contains("suite 0001") && !gcm.contains("suite 0002"));
        assert!(gcm.contains("does not commit") && gcm.contains("not for an approved-only"));
    }

    #[test]
    fn a_copy_that_is_extractable_is_not_called_otherwise() {
        let says = |facts: &VersionFacts| of_version(facts).iter().any(|words| words.contains("not EXTRACTABLE"));
        assert!(says(&version(Some(copy_in_use()))));
        let extractable = TokenAttributes {
            extractable: true,
            ..copy_in_use()
        };
        assert!(!says(&version(Some(extractable))));
        assert!(!says(&version(None)));
    }

    #[test]
    fn a_master_key_that_was_ever_extractable_is_not_called_made_in_the_token() {
        let facts = |never_extractable| MasterKeyFacts {
            attributes: TokenAttributes {
                never_extractable,
                extractable: false,
                ..at_birth()
            },
            software_token: true,
        };
        assert!(of_master_key(&facts(true))[0].starts_with("made in the token"));
        assert!(!of_master_key(&facts(false))[0].starts_with("made in the token"));
    }

    #[test]
    fn a_master_key_that_was_imported_is_called_a_ceremonys_and_not_a_single_tokens() {
        let imported = TokenAttributes {
            local: false,
            always_sensitive: false,
            never_extractable: false,
            extractable: false,
            ..at_birth()
        };
        let says = of_master_key(&MasterKeyFacts {
            attributes: imported,
            software_token: false,
        });
        assert!(says[0].starts_with("made in a token during a ceremony"), "{says:?}");
        assert!(!says.iter().any(|words| words.contains("single-token")), "{says:?}");
    }
}
