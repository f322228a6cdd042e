//! Where hung calls wait.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A gate that opens for those who hold a ticket by then, and closes behind them.
#[derive(Default)]
pub struct Gate {
    opened: Mutex<u64>,
    changed: Condvar,
}

/// Lets through at the next opening after it was drawn.
pub struct Ticket(u64);

impl Gate {
    pub fn ticket(&self) -> Ticket {
        Ticket(*self.lock())
    }

    /// Waits for the opening that the ticket is for. Holds no lock meanwhile.
    pub fn wait(&self, ticket: &Ticket) {
        let mut opened = self.lock();
        while *opened == ticket.0 {
            opened = self.changed.wait(opened).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub fn open(&self) {
        *self.lock() += 1;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opening_between_ticket_and_waiting_is_not_missed() {
        let gate = Gate::default();
        let ticket = gate.ticket();
        gate.open();
        gate.wait(&ticket);
    }
}
