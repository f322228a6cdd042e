//! SPIFFE IDs: `spiffe://{trust domain}/{path}`. Parsed strictly, built only by parsing. Source: SPIFFE-ID, section 2.

use std::{fmt, str::FromStr, sync::Arc};

const SCHEME: &str = "spiffe://";
/// Bytes of a whole ID, and of a trust domain.
const MAX_LENGTH: usize = 2048;
const MAX_DOMAIN: usize = 255;

/// Why a text is not a SPIFFE ID, a trust domain, or a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpiffeId {
    #[error("it does not start with `spiffe://`")]
    Scheme,
    #[error("it is longer than 2048 bytes")]
    TooLong,
    #[error(
        "its trust domain is empty, longer than 255 bytes, or has characters other than a-z, 0-9, `.`, `-` and `_`"
    )]
    TrustDomain,
    #[error("it has no path: a workload is named `spiffe://{{trust domain}}/{{path}}`")]
    NoPath,
    #[error(
        "a part of its path is empty, `.`, `..`, or has characters other than a-z, A-Z, 0-9, `.`, `-` and `_` (`*` may only be the last part of a pattern)"
    )]
    Path,
}

/// The name of one workload.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    text: Arc<str>,
    /// Where the path begins, its `/` included.
    path: usize,
}

/// Who vouches for a workload: the domain whose CAs issued its certificate.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

/// One workload, or all below a path: `spiffe://acme.dev/ns/pay/*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SpiffePattern {
    Exact(SpiffeId),
    /// Every ID that starts with this text, which ends in `/`.
    Below(Arc<str>),
}

impl SpiffeId {
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn trust_domain(&self) -> TrustDomain {
        TrustDomain(self.text[SCHEME.len()..self.path].into())
    }

    pub fn path(&self) -> &str {
        &self.text[self.path..]
    }
}

impl FromStr for SpiffeId {
    type Err = InvalidSpiffeId;

    fn from_str(text: &str) -> Result<Self, InvalidSpiffeId> {
        if text.len() > MAX_LENGTH {
            return Err(InvalidSpiffeId::TooLong);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(InvalidSpiffeId::Scheme)?;
        let (domain, path) = match rest.split_once('/') {
            Some((domain, path)) => (domain, Some(path)),
            None => (rest, None),
        };
        if !is_domain(domain) {
            return Err(InvalidSpiffeId::TrustDomain);
        }
        let path = path.ok_or(InvalidSpiffeId::NoPath)?;
        if path.is_empty() {
            return Err(InvalidSpiffeId::NoPath);
        }
        if !path.split('/').all(is_segment) {
            return Err(InvalidSpiffeId::Path);
        }
        Ok(Self {
            text: text.into(),
            path: SCHEME.len() + domain.len(),
        })
    }
}

impl TrustDomain {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = InvalidSpiffeId;

    fn from_str(text: &str) -> Result<Self, InvalidSpiffeId> {
        if is_domain(text) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidSpiffeId::TrustDomain)
        }
    }
}

impl SpiffePattern {
    pub fn matches(&self, id: &str) -> bool {
        match self {
            Self::Exact(exact) => exact.as_str() == id,
            Self::Below(prefix) => id.len() > prefix.len() && id.starts_with(&**prefix),
        }
    }

    /// How much of an ID the pattern fixes: of several that match, the greatest wins.
    pub fn weight(&self) -> usize {
        match self {
            Self::Exact(_) => usize::MAX,
            Self::Below(prefix) => prefix.len(),
        }
    }
}

impl FromStr for SpiffePattern {
    type Err = InvalidSpiffeId;

    fn from_str(text: &str) -> Result<Self, InvalidSpiffeId> {
        let Some(prefix) = text.strip_suffix('*').filter(|prefix| prefix.ends_with('/')) else {
            return text.parse().map(Self::Exact);
        };
        // A stand-in for the last part: what is before the wildcard obeys the rules of an ID.
        format!("{prefix}x").parse::<SpiffeId>()?;
        Ok(Self::Below(prefix.into()))
    }
}

fn is_domain(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_DOMAIN
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_'))
}

fn is_segment(text: &str) -> bool {
    !matches!(text, "" | "." | "..")
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

macro_rules! shown_as_text {
    ($($name:ident),+) => { $(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )+ };
}
shown_as_text!(SpiffeId, TrustDomain);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_id_is_taken_apart() {
        let id: SpiffeId = "spiffe://acme.dev/ns/pay/sa/api".parse().unwrap();
        assert_eq!(id.trust_domain().as_str(), "acme.dev");
        assert_eq!(id.path(), "/ns/pay/sa/api");
    }

    #[test]
    fn what_breaks_the_standard_is_refused() {
        use InvalidSpiffeId::*;
        let long = format!("spiffe://acme.dev/{}", "a".repeat(2048 - 17));
        let domain = format!("spiffe://{}/x", "a".repeat(256));
        for (text, why) in [
            ("", Scheme),
            ("https://acme.dev/x", Scheme),
            ("SPIFFE://acme.dev/x", Scheme),
            (&long, TooLong),
            (&domain, TrustDomain),
            ("spiffe:///x", TrustDomain),
            ("spiffe://Acme.dev/x", TrustDomain),
            ("spiffe://user@acme.dev/x", TrustDomain),
            ("spiffe://acme.dev:443/x", TrustDomain),
            ("spiffe://acme.dev", NoPath),
            ("spiffe://acme.dev/", NoPath),
            ("spiffe://acme.dev/x/", Path),
            ("spiffe://acme.dev//x", Path),
            ("spiffe://acme.dev/./x", Path),
            ("spiffe://acme.dev/../x", Path),
            ("spiffe://acme.dev/x?y", Path),
            ("spiffe://acme.dev/x#y", Path),
            ("spiffe://acme.dev/%41", Path),
            ("spiffe://acme.dev/*", Path),
            ("spiffe://acme.dev/x\0", Path),
            ("spiffe://acme.dev/\u{e9}", Path),
        ] {
            assert_eq!(text.parse::<SpiffeId>().unwrap_err(), why, "{text}");
        }
    }

    #[test]
    fn a_pattern_covers_what_is_below_its_path_and_nothing_else() {
        let pattern: SpiffePattern = "spiffe://acme.dev/ns/pay/*".parse().unwrap();
        assert!(pattern.matches("spiffe://acme.dev/ns/pay/api"));
        assert!(pattern.matches("spiffe://acme.dev/ns/pay/sa/api"));
        assert!(!pattern.matches("spiffe://acme.dev/ns/pay"));
        assert!(!pattern.matches("spiffe://acme.dev/ns/pay/"));
        assert!(!pattern.matches("spiffe://acme.dev/ns/payroll"));
        for text in [
            "spiffe://acme.dev/ns/pay*",
            "spiffe://*/ns",
            "spiffe://acme.dev/*/api",
            "*",
            "spiffe://*",
        ] {
            assert!(text.parse::<SpiffePattern>().is_err(), "{text}");
        }
    }
}
