//! Free text that people attach to keys: reasons, owners, labels. Bounded, and without control characters, since it is shown in
//! terminals and logs.

use std::collections::BTreeMap;

use crate::{Error, Result};

const MAX_REASON_LEN: usize = 1_024;
const MAX_OWNER_LEN: usize = 256;
const MAX_LABELS: usize = 32;
const MAX_LABEL_LEN: usize = 128;

/// Why a state was changed: kept with the version and in the audit log. May be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reason(String);

/// Who answers for a key: a SPIFFE ID or a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner(Option<String>);

/// Labels of a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(BTreeMap<String, String>);

impl Reason {
    /// At most 1,024 B.
    pub fn new(text: String) -> Result<Self> {
        checked("reason", text, 0, MAX_REASON_LEN).map(Self)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Owner {
    /// At most 256 B; empty: the caller.
    pub fn new(text: String) -> Result<Self> {
        let text = checked("owner", text, 0, MAX_OWNER_LEN)?;
        Ok(Self((!text.is_empty()).then_some(text)))
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl Labels {
    /// At most 32; keys and values 1–128 B.
    pub fn new(labels: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        let mut checked_labels = BTreeMap::new();
        for (key, value) in labels {
            let key = checked("labels", key, 1, MAX_LABEL_LEN)?;
            let value = checked("labels", value, 1, MAX_LABEL_LEN)?;
            checked_labels.insert(key, value);
        }
        if checked_labels.len() > MAX_LABELS {
            return Err(Error::invalid(
                "labels",
                format_args!("there are {}: at most {MAX_LABELS} are allowed", checked_labels.len()),
            ));
        }
        Ok(Self(checked_labels))
    }

    pub(super) fn as_map(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

fn checked(field: &'static str, text: String, least: usize, most: usize) -> Result<String> {
    if !(least..=most).contains(&text.len()) {
        return Err(Error::invalid(
            field,
            format_args!("a text of {} bytes: {least} to {most} are allowed", text.len()),
        ));
    }
    if text.chars().any(char::is_control) {
        return Err(Error::invalid(field, "it has a control character: leave it out"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(count: usize) -> impl Iterator<Item = (String, String)> {
        (0..count).map(|at| (format!("k{at}"), "v".to_owned()))
    }

    #[test]
    fn labels_have_limits() {
        assert!(Labels::new(labels(32)).is_ok());
        assert!(Labels::new(labels(33)).is_err());
        for (key, value) in [("", "v"), ("k", ""), ("k", "line\nbreak")] {
            assert!(
                Labels::new([(key.to_owned(), value.to_owned())]).is_err(),
                "{key}={value}"
            );
        }
        assert!(Labels::new([("k".repeat(129), "v".to_owned())]).is_err());
    }

    #[test]
    fn reasons_are_bounded_and_printable() {
        assert!(Reason::new("x".repeat(1_024)).is_ok());
        assert!(Reason::new("x".repeat(1_025)).is_err());
        assert!(Reason::new("\u{1b}[2J".to_owned()).is_err());
    }
}
