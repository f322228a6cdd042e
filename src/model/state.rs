//! States of a key version and their transitions: NIST SP 800-57 part 1 rev. 5, section 7, with `PendingDestruction` of our own.

use std::fmt;

/// State of one key version. A key's state is its primary version's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyState {
    PreActivation,
    Active,
    Suspended,
    Deactivated,
    Compromised,
    PendingDestruction,
    Destroyed,
    DestroyedCompromised,
}

/// What may be asked of a version's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    Activate,
    Suspend,
    Resume,
    Deactivate,
    Compromise,
    ScheduleDestruction,
    CancelDestruction,
    Destroy,
}

/// What a version is worked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Encrypt, sign, wrap, make data keys.
    Protect,
    /// Decrypt, verify, unwrap.
    Process,
}

impl KeyState {
    pub const ALL: [Self; 8] = [
        Self::PreActivation,
        Self::Active,
        Self::Suspended,
        Self::Deactivated,
        Self::Compromised,
        Self::PendingDestruction,
        Self::Destroyed,
        Self::DestroyedCompromised,
    ];

    /// The name in rows, records and output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PreActivation => "PRE_ACTIVATION",
            Self::Active => "ACTIVE",
            Self::Suspended => "SUSPENDED",
            Self::Deactivated => "DEACTIVATED",
            Self::Compromised => "COMPROMISED",
            Self::PendingDestruction => "PENDING_DESTRUCTION",
            Self::Destroyed => "DESTROYED",
            Self::DestroyedCompromised => "DESTROYED_COMPROMISED",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// May a *primary* version in this state encrypt, sign, wrap, make data keys?
    pub const fn protects(self) -> bool {
        matches!(self, Self::Active)
    }

    /// May a version in this state decrypt, verify, unwrap? Suspended and Compromised only by a policy or grant, and neither exists yet.
    pub const fn processes(self) -> bool {
        matches!(self, Self::Active | Self::Deactivated)
    }

    /// Is key material still held?
    pub const fn holds_key(self) -> bool {
        !matches!(self, Self::Destroyed | Self::DestroyedCompromised)
    }

    /// The state after `transition`, or `None` if it is not allowed from here.
    ///
    /// `before`: the state from which destruction was scheduled; used in `PendingDestruction` only.
    pub fn after(self, transition: Transition, before: Option<Self>) -> Option<Self> {
        use KeyState::*;
        match (transition, self) {
            (Transition::Activate, PreActivation) => Some(Active),
            (Transition::Suspend, Active) => Some(Suspended),
            (Transition::Resume, Suspended) => Some(Active),
            (Transition::Deactivate, Active | Suspended) => Some(Deactivated),
            (Transition::Compromise, state) if state.holds_key() && state != Compromised => Some(Compromised),
            (Transition::Compromise, Destroyed) => Some(DestroyedCompromised),
            (Transition::ScheduleDestruction, Suspended | Deactivated | Compromised) => Some(PendingDestruction),
            (Transition::CancelDestruction, PendingDestruction) => before,
            (Transition::Destroy, PreActivation) => Some(Destroyed),
            (Transition::Destroy, PendingDestruction) if before == Some(Compromised) => Some(DestroyedCompromised),
            (Transition::Destroy, PendingDestruction) => Some(Destroyed),
            _ => None,
        }
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Transition {
    /// The verb, for errors: "may not …".
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Activate => "be activated",
            Self::Suspend => "be suspended",
            Self::Resume => "be resumed",
            Self::Deactivate => "be deactivated",
            Self::Compromise => "be marked compromised",
            Self::ScheduleDestruction => "be scheduled for destruction",
            Self::CancelDestruction => "have its destruction cancelled",
            Self::Destroy => "be destroyed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{KeyState::*, Transition::*, *};

    /// The table of `docs/formats.md`, "Key states", spelled out a second time.
    #[test]
    fn every_state_goes_only_where_the_table_says() {
        let allowed = |state: KeyState| -> Vec<(Transition, KeyState)> {
            match state {
                PreActivation => vec![(Activate, Active), (Compromise, Compromised), (Destroy, Destroyed)],
                Active => vec![
                    (Suspend, Suspended),
                    (Deactivate, Deactivated),
                    (Compromise, Compromised),
                ],
                Suspended => vec![
                    (Resume, Active),
                    (Deactivate, Deactivated),
                    (Compromise, Compromised),
                    (ScheduleDestruction, PendingDestruction),
                ],
                Deactivated => vec![(Compromise, Compromised), (ScheduleDestruction, PendingDestruction)],
                Compromised => vec![(ScheduleDestruction, PendingDestruction)],
                PendingDestruction => vec![
                    (Compromise, Compromised),
                    (CancelDestruction, Deactivated),
                    (Destroy, Destroyed),
                ],
                Destroyed => vec![(Compromise, DestroyedCompromised)],
                DestroyedCompromised => vec![],
            }
        };
        let transitions = [
            Activate,
            Suspend,
            Resume,
            Deactivate,
            Compromise,
            ScheduleDestruction,
            CancelDestruction,
            Destroy,
        ];
        for state in KeyState::ALL {
            let expected = allowed(state);
            for transition in transitions {
                let next = expected.iter().find(|(t, _)| *t == transition).map(|(_, next)| *next);
                assert_eq!(
                    state.after(transition, Some(Deactivated)),
                    next,
                    "{state} {transition:?}"
                );
            }
        }
        assert_eq!(
            PendingDestruction.after(Destroy, Some(Compromised)),
            Some(DestroyedCompromised)
        );
    }

    #[test]
    fn only_active_protects_and_only_active_and_deactivated_process() {
        assert_eq!(
            KeyState::ALL.into_iter().filter(|s| s.protects()).collect::<Vec<_>>(),
            [Active]
        );
        assert_eq!(
            KeyState::ALL.into_iter().filter(|s| s.processes()).collect::<Vec<_>>(),
            [Active, Deactivated]
        );
    }

    #[test]
    fn names_parse_back() {
        for state in KeyState::ALL {
            assert_eq!(KeyState::parse(state.as_str()), Some(state));
        }
    }
}
